//! Which program is started: the launcher's one decision, without IO.

use protocol::agent_release::{AgentVersion, MAX_STARTS, UpdatePhase};

use super::Runs;
use super::record::{Held, Record, Turn, update};

/// What is started, and what is written down before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choice {
    /// What.
    pub runs: Runs,
    /// None: nothing has changed.
    pub record: Option<Record>,
    /// What is started where the record cannot be written: nothing is tried whose starts cannot be counted.
    pub otherwise: Runs,
}

/// Whether the package was exchanged since a program was brought, for a newer one than that: then an operator has spoken.
#[must_use]
pub fn package_wins(package: &AgentVersion, held: &Held) -> bool {
    *package != held.package && *package > held.version
}

/// Chooses for the agent. A start that ended with the board's boot is not the program's fault, and not counted. `is_usable` says whether a program is in its place, whole and nobody else's.
#[must_use]
pub fn agent(
    record: &Record,
    package: &AgentVersion,
    boot_id: &str,
    is_usable: impl Fn(&Held) -> bool,
) -> Choice {
    let next = without_overtaken(record, package);
    let former = match &next.held {
        Some(held) if is_usable(held) => Runs::Slot(held.slot),
        Some(_) | None => Runs::Package,
    };
    let (runs, next) = match &next.trial {
        None => (former, next),
        Some(trial) if trial.turn == Turn::Former => (former, next),
        Some(trial) if !is_usable(&trial.held) => {
            (former, next.reverted("its file cannot be used any more"))
        }
        Some(trial) if trial.starts_in(boot_id) >= MAX_STARTS => {
            let why = format!("it ended or hung {MAX_STARTS} times before it was confirmed");
            (former, next.reverted(&why))
        }
        Some(trial) => {
            let mut counted = next.clone();
            let runs = Runs::Slot(trial.held.slot);
            if let Some(trial) = &mut counted.trial {
                trial.starts = trial.starts_in(boot_id) + 1;
                boot_id.clone_into(&mut trial.boot_id);
            }
            (runs, counted)
        }
    };
    Choice { runs, record: (next != *record).then_some(next), otherwise: former }
}

/// Chooses for the proxy: what is confirmed for the agent, until `failed` says that it does not serve as a proxy.
#[must_use]
pub fn proxy(
    record: &Record,
    package: &AgentVersion,
    has_failed: bool,
    is_usable: impl Fn(&Held) -> bool,
) -> Runs {
    match &record.held {
        Some(held) if !has_failed && !package_wins(package, held) && is_usable(held) => {
            Runs::Slot(held.slot)
        }
        Some(_) | None => Runs::Package,
    }
}

/// Without what the package has overtaken.
fn without_overtaken(record: &Record, package: &AgentVersion) -> Record {
    let mut next = record.clone();
    if next.held.as_ref().is_some_and(|held| package_wins(package, held)) {
        next.held = None;
    }
    if let Some(trial) = next.trial.take_if(|trial| package_wins(package, &trial.held)) {
        let why = format!("the package on the board is {package}, which is newer");
        next.last = Some(update(&trial.held, UpdatePhase::Refused, Some(&why)));
    }
    next
}
