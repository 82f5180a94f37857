//! What `make board-test` runs. Each case ends with rows of the table, or fails with what the board said last.

mod agent;
mod away;
mod budget;
mod clock;
mod doctor;
mod full;
mod install;
mod leak;
mod ledger;
mod power;

use std::panic::AssertUnwindSafe;

use super::lab::Parts;
use super::results::{Results, Row};

/// A case.
#[derive(Debug, Clone, Copy)]
pub struct Case {
    /// As `CASE=` names it.
    pub name: &'static str,
    /// What it shows, in one line.
    pub what: &'static str,
    run: fn(&Parts, &Results) -> Vec<Row>,
}

/// Every case, in the order in which all are run: `install` makes what the others start from.
pub const ALL: &[Case] = &[
    Case {
        name: "install",
        what: "a blank board: package, token, first deploy, a rollout under load",
        run: install::run,
    },
    Case {
        name: "budget",
        what: "memory, writes, wakeups and bytes of an idle board",
        run: budget::run,
    },
    Case {
        name: "instances",
        what: "memory with ten instances, wakeups of probes, writes of a deploy",
        run: budget::instances,
    },
    Case { name: "clock-1970", what: "booted in 1970, without network", run: clock::in_1970 },
    Case { name: "clock-2099", what: "booted in 2099, without network", run: clock::in_2099 },
    Case { name: "away", what: "the coordinator is away for five minutes", run: away::run },
    Case { name: "full", what: "the disk is full", run: full::run },
    Case { name: "read-only", what: "the disk stops taking writes", run: full::read_only },
    Case { name: "leak", what: "applications take all memory", run: leak::run },
    Case { name: "doctor", what: "what the board finds of itself, and a mend", run: doctor::run },
    Case {
        name: "agent",
        what: "a good agent stays; one that panics and one that hangs are reverted",
        run: agent::run,
    },
    Case {
        name: "agent-away",
        what: "the coordinator is away while a good agent is tried",
        run: agent::away,
    },
    Case {
        name: "ledger",
        what: "10,000 states of a disk after a cut, beside the board",
        run: ledger::run,
    },
    Case {
        name: "power",
        what: "the power is cut at random moments of rollouts and installs",
        run: power::run,
    },
];

impl Case {
    /// Runs it and keeps what it showed; whether it held to its end. What did not hold stands in the table, and cases after it are run.
    #[must_use]
    pub fn run(&self, parts: &Parts, results: &Results) -> bool {
        let run = AssertUnwindSafe(|| (self.run)(parts, results));
        let rows = std::panic::catch_unwind(run);
        let held = rows.is_ok();
        results.put(self.name, rows.unwrap_or_else(|_| vec![Row::broken("the case ended early")]));
        held
    }
}
