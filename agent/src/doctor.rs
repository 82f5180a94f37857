//! What is odd about this board, and the line that mends it.
//!
//! ```text
//! look: files under a root, a few programs, statvfs, the engine, the ledger -> Facts -> one module per subject, pure -> Examination
//! ```
//! Each module says which files and programs it wants (`FILES`, `PROGRAMS`) and judges what came of them. What could not be read is
//! told as such: a check that does not know never says `ok`. Nothing here changes the board.

mod board;
mod clock;
mod disk;
mod engine;
pub mod facts;
mod firewall;
pub(crate) mod heat;
mod identity;
mod images;
mod kernel;
pub mod look;
mod neighbours;
mod ports;
#[cfg(test)]
mod testing;

pub use board::{BOARD_FILE, record};
pub use facts::{Facts, Subject};
pub use look::{Installed, Tools, examine};

use protocol::doctor::{Examination, Finding, Severity};

/// What root sees and the agent's user does not.
const AS_ROOT: &str = "`sudo pith-agent doctor` on the board";

/// All checks, in the order in which they are looked at.
#[must_use]
pub fn findings(facts: &Facts) -> Examination {
    let checks: [fn(&Facts) -> Vec<Finding>; 9] = [
        identity::check,
        kernel::check,
        engine::check,
        images::check,
        neighbours::check,
        ports::check,
        clock::check,
        disk::check,
        heat::check,
    ];
    let found = checks.into_iter().flat_map(|check| check(facts));
    Examination {
        board: facts.subject.name.clone(),
        agent_version: crate::version::text().to_owned(),
        as_root: facts.as_root,
        findings: found.chain(firewall::check(facts)).collect(),
    }
    .sorted()
}

fn ok(id: &str, seen: impl Into<String>) -> Finding {
    Finding::new(id, Severity::Ok, seen)
}

fn note(id: &str, seen: impl Into<String>) -> Finding {
    Finding::new(id, Severity::Note, seen)
}

fn warning(id: &str, seen: impl Into<String>) -> Finding {
    Finding::new(id, Severity::Warning, seen)
}

fn problem(id: &str, seen: impl Into<String>) -> Finding {
    Finding::new(id, Severity::Problem, seen)
}

fn unknown(id: &str, why: &str) -> Finding {
    Finding::new(id, Severity::Unknown, format!("cannot be read here: {why}"))
}
