//! The agent exchanges itself: two places for programs beside the packaged one, a record of which runs, and a trial that ends in
//! confirming the new one or going back.
//!
//! ```text
//! release -> fetch (a | b, whichever is free) -> self-test -> record: trial, durable -> the agent ends, and is started again:
//! launch (packaged, never exchanged): record -> choose -> counted, durable -> exec
//!   trial: hello answered, Docker listed, a minute since -> confirmed: it runs from now on, and the proxy is exchanged
//!          3 starts that ended before that               -> back, and never again this program
//!          10 minutes without                            -> the former one is asked: it has neither -> nobody is to blame, again
//!                                                                                    it has both    -> once more; then back
//! ```
//! `record` says which; `choose` and `trial` decide and do no IO; `fetch` brings programs; [`crate::launch`] starts them.

pub mod choose;
pub mod fetch;
pub mod record;
pub mod self_test;
#[cfg(test)]
mod tests;
pub mod trial;

use std::path::Path;

use protocol::agent_release::AgentVersion;

use record::{Record, Slot};

/// Which program a process was started from, as `launch` tells it.
pub const RUNS_VARIABLE: &str = "PITH_AGENT_RUNS";
/// The packaged program, which starts the others.
pub const LAUNCHER_VARIABLE: &str = "PITH_AGENT_LAUNCHER";

/// Which program runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Runs {
    /// That of the package.
    Package,
    /// One that the agent brought.
    Slot(Slot),
}

/// What the loop knows of its own program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Own {
    /// Its version.
    pub version: AgentVersion,
    /// None: nothing started it that could start another, so it takes no releases.
    pub launched: Option<Launched>,
}

/// How it was started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Launched {
    /// From where.
    pub runs: Runs,
    /// The version of the package.
    pub package: AgentVersion,
    /// As it was at the start.
    pub record: Record,
}

impl Runs {
    /// As the variable says it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Package => "package",
            Self::Slot(slot) => slot.as_str(),
        }
    }

    fn parse(text: &str) -> Option<Self> {
        [Self::Package, Self::Slot(Slot::A), Self::Slot(Slot::B)]
            .into_iter()
            .find(|runs| runs.as_str() == text)
    }
}

impl Own {
    /// Of this process: by what `launch` said to it, which is the version of the package behind the place.
    #[must_use]
    pub fn of_process(state_dir: &Path) -> Self {
        let said = std::env::var(RUNS_VARIABLE).unwrap_or_default();
        let launched = said.split_once('@').and_then(|(runs, package)| {
            let (runs, package) = (Runs::parse(runs)?, package.parse().ok()?);
            Some(Launched { runs, package, record: record::read(state_dir).unwrap_or_default() })
        });
        Self { version: crate::version::own(), launched }
    }

    /// Of a process that nothing launched.
    #[must_use]
    pub fn alone() -> Self {
        Self { version: crate::version::own(), launched: None }
    }
}
