//! What the application in an image does, and how good a release is.

use agent::engine::fake::{Behaviour, Ending};

/// An application.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Application {
    /// What it does on the nodes where it is bad, or everywhere.
    pub nature: Nature,
    /// Nodes (by their number) where it is bad; elsewhere it is good. None: everywhere.
    pub bad_on: Option<Vec<usize>>,
    /// Ready this long after its start where it is good.
    pub ready_ms: u64,
    /// Docker takes this long to start it.
    pub start_ms: u64,
    /// Ends this long after being asked to; none: only when killed.
    pub stops_ms: Option<u64>,
}

/// What may be wrong with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Nature {
    /// Nothing.
    Good,
    /// Runs and never answers well.
    NeverReady,
    /// Ends this long after each start, before it is ready.
    Exits {
        /// After its start.
        after_ms: u64,
        /// Killed for its memory.
        oom: bool,
    },
    /// Gets ready, and ends this long after each start.
    Dies(u64),
    /// Gets ready, and fails its readiness from this long after each start.
    Sickens(u64),
    /// Gets ready, and fails its liveness from this long after each start.
    Hangs(u64),
    /// Ready, and of its answers so many in a hundred are errors.
    Errs(u64),
    /// No registry has its image.
    NoImage,
    /// The engine refuses to create it; for good or for now.
    CannotCreate {
        /// Trying again cannot mend it.
        permanent: bool,
    },
    /// The engine cannot start it; for good or for now.
    CannotStart {
        /// Trying again cannot mend it.
        permanent: bool,
    },
}

impl Nature {
    /// Whether it can become complete and stay so.
    #[must_use]
    pub const fn is_lasting(self) -> bool {
        matches!(self, Self::Good | Self::Errs(_))
    }
}

impl Application {
    /// One that works.
    #[must_use]
    pub const fn good() -> Self {
        let (nature, bad_on) = (Nature::Good, None);
        Self { nature, bad_on, ready_ms: 50, start_ms: 0, stops_ms: Some(20) }
    }

    /// One with this fault everywhere.
    #[must_use]
    pub fn of(nature: Nature) -> Self {
        Self { nature, ..Self::good() }
    }

    /// What it is on the node of this number.
    #[must_use]
    pub fn on(&self, node: usize) -> Nature {
        match &self.bad_on {
            Some(nodes) if !nodes.contains(&node) => Nature::Good,
            Some(_) | None => self.nature,
        }
    }

    /// The engine's side of it on a node.
    #[must_use]
    pub fn behaviour(&self, node: usize) -> Behaviour {
        let ends = match self.on(node) {
            Nature::Exits { after_ms, oom } => Some(Ending { after_ms, code: 1, oom }),
            Nature::Dies(after_ms) => Some(Ending { after_ms, code: 2, oom: false }),
            Nature::Good
            | Nature::NeverReady
            | Nature::Sickens(_)
            | Nature::Hangs(_)
            | Nature::Errs(_)
            | Nature::NoImage
            | Nature::CannotCreate { .. }
            | Nature::CannotStart { .. } => None,
        };
        let never = matches!(self.on(node), Nature::NeverReady | Nature::Exits { .. });
        Behaviour {
            start_ms: self.start_ms,
            ready_after_ms: (!never).then_some(self.ready_ms),
            ends,
            stops_after_ms: self.stops_ms,
            logs: Vec::new(),
            exec_code: 0,
            memory_percent: None,
        }
    }

    /// Whether its readiness passes this long after its start.
    #[must_use]
    pub fn is_ready(&self, node: usize, age_ms: u64) -> bool {
        let is_sick = matches!(self.on(node), Nature::Sickens(from_ms) if age_ms >= from_ms);
        let after_ms = self.behaviour(node).ready_after_ms;
        !is_sick && after_ms.is_some_and(|after_ms| age_ms >= after_ms)
    }

    /// Whether its liveness passes this long after its start.
    #[must_use]
    pub fn is_alive(&self, node: usize, age_ms: u64) -> bool {
        !matches!(self.on(node), Nature::Hangs(from_ms) if age_ms >= from_ms)
    }
}
