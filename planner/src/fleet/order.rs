//! What is to be rolled out, and how far that is.

use protocol::id::NodeName;
use protocol::spec::{Analysis, CanaryStep, OnFailure, Share};

use super::waves::Wave;

/// What is to be rolled out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Order {
    /// The new revision.
    pub revision: u64,
    /// The revision to go back to; none for a first deploy.
    pub from_revision: Option<u64>,
    /// The nodes in the order in which they move.
    pub waves: Vec<Wave>,
    /// What it must show beside the old release before any node moves; nothing where there is no old one.
    pub trial: Option<Trial>,
    /// Of a wave's reachable nodes so many must have moved before the next one does.
    pub success_threshold: Share,
    /// So many nodes may go back without ending it.
    pub errors_allowed: u32,
    /// What failing does.
    pub on_failure: OnFailure,
    /// Failing within this time of success goes back, in milliseconds.
    pub soak_ms: u64,
    /// One-shot containers around it, each on one node.
    pub hooks: Hooks,
}

/// Which one-shot containers a rollout has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Hooks {
    /// One before any node moves.
    pub pre_deploy: bool,
    /// One after every node has moved.
    pub post_deploy: bool,
}

/// What a release does beside the old one first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trial {
    /// A whole set on every node that runs the old one, without requests.
    Green {
        /// Which nodes.
        nodes: Vec<NodeName>,
        /// Switch when it is complete, without asking.
        auto_promote: bool,
    },
    /// A share of the requests of some nodes, growing by steps.
    Canary {
        /// Which nodes.
        nodes: Vec<NodeName>,
        /// One after another.
        steps: Vec<CanaryStep>,
        /// How it is judged.
        analysis: Analysis,
    },
}

/// How far a rollout is, besides its nodes: what has to be kept to go on after a restart.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Stage {
    /// The hook before it has run well.
    pub pre_done: bool,
    /// The hook after it has run well.
    pub post_done: bool,
    /// The node that runs a hook: it is run by one node, once.
    pub hook_on: Option<NodeName>,
    /// Canary steps behind it.
    pub step: usize,
    /// The trial is over: nodes move.
    pub promoted: bool,
    /// Gates behind it.
    pub gates_passed: usize,
    /// Measurements that were bad.
    pub failed_measurements: u32,
    /// An operator holds it, rather than a failure.
    pub held: bool,
}

impl Stage {
    /// Canary steps, the promotion after them, and gates that are behind it: each that is passed makes it another number.
    #[must_use]
    pub fn passed(&self) -> usize {
        self.step + usize::from(self.promoted) + self.gates_passed
    }
}

impl Order {
    /// Every node, in its order.
    pub fn nodes(&self) -> impl Iterator<Item = &NodeName> {
        self.waves.iter().flat_map(|wave| &wave.nodes)
    }
}
