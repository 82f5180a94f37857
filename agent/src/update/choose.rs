//! Which program is started: the launcher's one decision, without IO.

use protocol::agent_release::{AgentVersion, MAX_STARTS, UpdatePhase};
use protocol::id::Digest;
use serde::{Deserialize, Serialize};

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

/// What is kept of the proxy's starts from a program that the agent brought.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProxyStarts {
    /// Of the program.
    pub digest: Digest,
    /// How many there were since the board's.
    pub starts: u32,
    /// It has served for a while.
    pub is_proven: bool,
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

/// Chooses for the proxy: what is confirmed for the agent, until it has ended too often without ever having served for a while. With
/// that comes what is written down before; where it cannot be, the package runs.
#[must_use]
pub fn proxy(
    record: &Record,
    package: &AgentVersion,
    known: Option<ProxyStarts>,
    is_usable: impl Fn(&Held) -> bool,
) -> (Runs, Option<ProxyStarts>) {
    let confirmed = record.held.as_ref().filter(|held| !package_wins(package, held));
    let Some(held) = confirmed else { return (Runs::Package, None) };
    let fresh = ProxyStarts { digest: held.digest.clone(), starts: 0, is_proven: false };
    let of_it = known.filter(|known| known.digest == held.digest).unwrap_or(fresh);
    let runs = if is_usable(held) { Runs::Slot(held.slot) } else { Runs::Package };
    match of_it {
        ProxyStarts { is_proven: true, .. } => (runs, None),
        ProxyStarts { starts, .. } if starts >= MAX_STARTS => (Runs::Package, None),
        ProxyStarts { starts, .. } => (runs, Some(ProxyStarts { starts: starts + 1, ..of_it })),
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
