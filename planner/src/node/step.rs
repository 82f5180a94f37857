//! What a decision is.

use std::net::SocketAddr;

use protocol::id::{NodeId, NodeName, PortName, ReleaseId, Template};
use protocol::manifest::HookKind;
use protocol::reason::Reason;
use protocol::release::{Image, Pin};
use protocol::report::{HookOutcome, Phase};
use protocol::spec::{Cohort, Listen, PortProtocol};
use protocol::units::Millis;

use super::history::Kept;
use crate::Now;

/// The answer for one service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// What to do next.
    pub decision: Decision,
    /// What the route must be now. Level-triggered: where the proxy has another, setting it comes before `decision`,
    /// which is then made anew from what is seen afterwards. None: the service has no route (any more).
    pub route: Option<RoutePlan>,
    /// Where the service stands, for the report.
    pub phase: Phase,
    /// What it waits for or why it went back, for the report.
    pub waiting: Option<Waiting>,
    /// Where its candidate stands, for the report; none: there is none.
    pub candidate: Option<CandidateVerdict>,
    /// Where its one-shot container stands, for the report; none: none is asked for.
    pub hook: Option<HookVerdict>,
}

/// Where a one-shot container stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HookVerdict {
    /// How it goes or went.
    pub outcome: HookOutcome,
    /// What it waits for, or why it failed.
    pub waiting: Option<Waiting>,
}

/// Where a candidate stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CandidateVerdict {
    /// `Updating`, `Running`, `Degraded` or `Failed`.
    pub phase: Phase,
    /// What it waits for.
    pub waiting: Option<Waiting>,
}

/// What to do next for one service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// Everything is as wanted.
    Settled,
    /// Take this one step, then decide anew.
    Do(Step),
    /// Nothing to do until something is seen or `until` has come.
    Wait {
        /// Decide anew then at the latest; none: only when something changes.
        until: Option<Now>,
    },
    /// The wanted template was given up and what can run runs.
    GaveUp(Reason),
}

/// Why a service waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waiting {
    /// The stable code.
    pub reason: Reason,
    /// One sentence for a person.
    pub message: String,
    /// When it is decided anew.
    pub until: Option<Now>,
}

/// One action. The executor makes no choice in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Write to the ledger, durably.
    Record(LedgerChange),
    /// Begin to pull; ends at once, how it goes is observed.
    Pull(Image),
    /// Create a container (and the service's network where it is missing); does not start it.
    Create {
        /// Made from this release.
        release: ReleaseId,
        /// Labelled with this template.
        template: Template,
        /// In this slot.
        slot: u32,
        /// Not an instance, but this one-shot container of the release.
        hook: Option<HookKind>,
    },
    /// Start a created or ended container.
    Start {
        /// Docker's id.
        container: String,
    },
    /// Send SIGTERM; ends at once.
    Terminate {
        /// Docker's id.
        container: String,
    },
    /// Send SIGKILL.
    Kill {
        /// Docker's id.
        container: String,
    },
    /// Remove an ended or never started container; never its named volumes.
    Remove {
        /// Docker's id.
        container: String,
    },
    /// Create the network of a service that runs elsewhere: its gateway is the service's address here.
    CreateNetwork,
    /// Remove the service's network.
    RemoveNetwork,
}

/// An action on images, which services share.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ImageStep {
    /// Stop pulling what nothing wants any more.
    CancelPull(Pin),
    /// Remove an image that this node pulled for a release and that nothing wants or pins any more.
    Remove(Pin),
    /// Remove an image whose files are damaged, under all its names: its layers go, and whoever needs it pulls it anew.
    Discard(Image),
}

/// A change of what the ledger remembers of one service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LedgerChange {
    /// Move to this template.
    Begin {
        /// What is moved to.
        kept: Kept,
        /// What the memory of this moment allows; never decided anew for this template and attempt.
        room: Room,
        /// What it goes back to when this template fails.
        last_good: Option<Kept>,
    },
    /// `running` is complete, as of this moment.
    Complete(Now),
    /// `running` (or what was being prepared) failed: remembered as given up.
    GiveUp {
        /// What failed.
        failed: Kept,
        /// The code.
        reason: Reason,
        /// One sentence for a person.
        message: String,
        /// The instance whose probe answer, exit and log are kept as evidence.
        evidence_of: Option<String>,
        /// Whether `running` goes back to `last_good` (`on_failure = "rollback"`) or everything stands still.
        then: AfterGivingUp,
    },
    /// The service is gone: forget it.
    Forget,
}

/// How a replacement goes with the memory there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Room {
    /// One goes before the next starts: there is no room for one more.
    pub stop_first: bool,
    /// What ran before stays warm for a while.
    pub warm: bool,
}

/// What giving up does to `running`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AfterGivingUp {
    /// It becomes `last_good`, or nothing.
    GoBack,
    /// It stays: a person decides.
    StandStill,
    /// It was never begun, so it stays what it is.
    Unchanged,
}

/// The whole route of a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoutePlan {
    /// One entry per port.
    pub ports: Vec<PortPlan>,
}

/// The route of one port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PortPlan {
    /// The port's name.
    pub name: PortName,
    /// Where it is open on the node, besides the service's own address.
    pub listen: Vec<Listen>,
    /// The port on the service's own address (for other containers); none where an earlier port has taken it.
    pub service_port: Option<u16>,
    /// How it is balanced.
    pub protocol: PortProtocol,
    /// tcp only: PROXY protocol v2 to the backend.
    pub proxy_protocol: bool,
    /// How long a request waits for a ready instance.
    pub hold: Millis,
    /// What share of the requests is a candidate's; none: there is no candidate.
    pub split: Option<Split>,
    /// The instances behind it.
    pub backends: Vec<Backend>,
    /// Other nodes, which serve what no instance of this one takes.
    pub elsewhere: Vec<OtherNode>,
}

/// Another node that runs the service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OtherNode {
    /// Its name.
    pub name: NodeName,
    /// Whose certificate its proxy must show.
    pub id: NodeId,
    /// Its fleet port.
    pub fleet_port: SocketAddr,
}

/// How requests are split between a candidate and the rest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Split {
    /// The candidate's release.
    pub release: ReleaseId,
    /// Its requests of ten thousand.
    pub share: u32,
    /// How clients are told apart.
    pub cohort: Cohort,
}

/// An instance behind a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backend {
    /// Docker's id of the instance.
    pub container: String,
    /// The port inside it.
    pub target: u16,
    /// Its release, for counters.
    pub release: ReleaseId,
    /// How it is treated.
    pub state: BackendState,
}

/// How a backend is treated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BackendState {
    /// Gets new requests.
    Active,
    /// Weight 0: nothing new for now.
    Suspended,
    /// Finishes what it has.
    Draining,
}
