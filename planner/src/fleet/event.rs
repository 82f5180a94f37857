//! What happens to a rollout, and what it wants done.

use protocol::id::NodeName;
use protocol::manifest::HookKind;
use protocol::reason::Reason;
use protocol::report::{HookOutcome, Phase};

use super::analysis::Sample;
use super::state::{NodeState, RolloutState};

/// A node's place in a rollout, with why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeProgress {
    /// Where it stands.
    pub state: NodeState,
    /// What it waits for or why it went back, by code.
    pub reason: Option<Reason>,
    /// The same for a person.
    pub message: Option<String>,
}

/// A service on a node, as it reports it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeReport {
    /// The revision of its newest manifest.
    pub revision: u64,
    /// Where the service stands there.
    pub phase: Phase,
    /// Its reason.
    pub reason: Option<Reason>,
    /// Its sentence.
    pub message: Option<String>,
    /// What runs beside it.
    pub candidate: Option<CandidateProgress>,
    /// The one-shot container that it was asked for.
    pub hook: Option<HookProgress>,
    /// Root of the node holds it there: what is asked of it waits until it is released.
    pub is_held: bool,
}

/// A one-shot container on a node, as it reports it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HookProgress {
    /// Which hook.
    pub kind: HookKind,
    /// Of which revision.
    pub revision: u64,
    /// How it goes or went.
    pub outcome: HookOutcome,
    /// Its reason.
    pub reason: Option<Reason>,
    /// Its sentence.
    pub message: Option<String>,
}

/// A candidate on a node, as it reports it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CandidateProgress {
    /// The revision it would become.
    pub revision: u64,
    /// Its requests of ten thousand.
    pub share: u32,
    /// Where it stands.
    pub phase: Phase,
    /// Its reason.
    pub reason: Option<Reason>,
    /// Its sentence.
    pub message: Option<String>,
}

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FleetEvent {
    /// A node reported on this service.
    Report {
        /// Which node.
        node: NodeName,
        /// What it says.
        report: NodeReport,
    },
    /// A node told what its proxy counted.
    Traffic {
        /// Which node.
        node: NodeName,
        /// Of both releases, since the proxy's start.
        sample: Sample,
    },
    /// A node is heard of.
    Online(NodeName),
    /// A node is not heard of any more.
    Offline(NodeName),
    /// An operator lets it go on: past the step or gate it is at, or past all steps.
    Promote {
        /// Past all steps.
        full: bool,
    },
    /// An operator holds it.
    Pause,
    /// An operator lets what was held go on.
    Resume,
    /// An operator ends it.
    Abort,
    /// `next_wakeup` has come.
    Tick,
}

/// How large a candidate is on a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CandidateSize {
    /// As the service will be there: a green set.
    Whole,
    /// As its share of the requests needs, at least one: a canary.
    ByShare,
}

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FleetAction {
    /// Give this node the new revision beside the old one.
    Try {
        /// Which node.
        node: NodeName,
        /// Of ten thousand of its requests so many.
        share: u32,
        /// How many instances that takes.
        size: CandidateSize,
    },
    /// Give this node the new revision.
    Assign(NodeName),
    /// Give this node the old revision again, alone.
    Revert(NodeName),
    /// Let this node stand still in the middle of what it does, or go on.
    Hold {
        /// Which node.
        node: NodeName,
        /// Stand still.
        paused: bool,
    },
    /// Let this node run a one-shot container.
    RunHook {
        /// Which node.
        node: NodeName,
        /// Which hook.
        kind: HookKind,
    },
    /// The one-shot container of this node is not asked for any more.
    EndHook(NodeName),
    /// The rollout's state has changed.
    Enter {
        /// To this.
        state: RolloutState,
        /// By code.
        reason: Option<Reason>,
        /// For a person.
        message: String,
    },
    /// Why it stands where it stands.
    Note {
        /// By code.
        reason: Option<Reason>,
        /// For a person.
        message: String,
    },
}
