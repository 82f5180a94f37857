//! What a decision is made from.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::sync::Arc;

use protocol::id::{EnvironmentName, ReleaseId, SecretName, ServiceName, Template};
use protocol::manifest::{Assignment, HookRun};
use protocol::peers::Peers;
use protocol::policy::PolicyState;
use protocol::reason::Reason;
use protocol::release::{Pin, Release};
use protocol::retirement::Floors;

use super::holding::Held;
use crate::Now;

/// What the newest accepted manifest wants, and every release the ledger still holds.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// The node's environment.
    pub environment: EnvironmentName,
    /// Per service what must run. A service that is known otherwise (history, instances) and not named here is removed.
    pub assignments: BTreeMap<ServiceName, Assignment>,
    /// Per service that root of the node holds, what it is held at; it stands before `assignments`.
    pub held: BTreeMap<ServiceName, Held>,
    /// Per service the one-shot container that is asked for.
    pub hooks: BTreeMap<ServiceName, HookRun>,
    /// Releases by id: those of the manifest and those that `history` names.
    pub releases: BTreeMap<ReleaseId, Arc<Release>>,
    /// The security floors: releases below them are not begun, nor gone back to.
    pub floors: Floors,
    /// Other nodes that run what is called or run here.
    pub peers: Peers,
}

/// What is seen on the node right now.
#[derive(Debug, Clone, Default)]
pub struct Observed {
    /// Per service; absent: nothing of it exists.
    pub services: BTreeMap<ServiceName, ServiceFacts>,
    /// Images by pin; absent: not on the node and not on its way.
    pub images: BTreeMap<Pin, ImageState>,
    /// Images this node pulled for a release, which alone may ever be removed.
    pub images_pulled: BTreeSet<Pin>,
    /// Percent of the disk in use where images are kept; none: not known.
    pub disk_used_percent: Option<u8>,
    /// Bytes of memory that could be used without swapping; none: not known.
    pub memory_available: Option<u64>,
    /// What the node lets containers have of it.
    pub policy: PolicyState,
    /// Secrets, by name and version, whose copies are here and can be opened.
    pub secrets: BTreeSet<(SecretName, u64)>,
}

/// What is seen of one service.
#[derive(Debug, Clone, Default)]
pub struct ServiceFacts {
    /// Its containers, of any template, in any state.
    pub instances: Vec<Instance>,
    /// Whether its network exists.
    pub network: bool,
    /// Addresses that could not be listened on for the route as last set.
    pub refused: Vec<Refusal>,
    /// The last step that the engine refused or could not do; cleared when a step of the service succeeds.
    pub failure: Option<StepFailure>,
    /// When the rollout last moved on: the later of its beginning, the agent's start, and the last instance that
    /// became available.
    pub progress_at: Option<Now>,
    /// The same for the candidate.
    pub candidate_progress_at: Option<Now>,
}

/// A step that could not be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StepFailure {
    /// The template it was for.
    pub template: Template,
    /// `CreateFailed`, `StartFailed`, `WrongPlatform`, `NoSpace`, …
    pub reason: Reason,
    /// One sentence for a person, with what the engine said.
    pub message: String,
    /// Whether trying again cannot mend it.
    pub permanent: bool,
    /// How often in a row.
    pub failures: u32,
    /// When last.
    pub at: Now,
}

/// One container of the service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Instance {
    /// Docker's id.
    pub container: String,
    /// The container's name.
    pub name: String,
    /// Its slot within its template, from 0.
    pub slot: u32,
    /// Its release.
    pub release: ReleaseId,
    /// Its template.
    pub template: Template,
    /// Its fixed address in the service's network.
    pub address: Option<Ipv4Addr>,
    /// Whether it runs.
    pub life: Life,
    /// What its probes say.
    pub probed: Probed,
    /// How the proxy treats it.
    pub routing: Routing,
    /// Requests and connections on it, as the proxy counts them.
    pub in_flight: u64,
    /// Times it ended by itself, or was stopped because its liveness or startup probe had failed, since it was last ready
    /// for long, as this agent saw; 0 after an agent's restart.
    pub exits: u32,
    /// Why it ended as soon as it had started, or was refused its start.
    pub finding: Finding,
}

/// What was found in an instance that ended as soon as it had started, or was refused its start. Damage is the image's:
/// [`ImageState::Damaged`].
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Finding {
    /// Nothing, or nobody has looked.
    #[default]
    Nothing,
    /// Somebody is looking.
    Sought,
    /// Its program cannot run on this node, however often it is started.
    Unrunnable {
        /// `WrongPlatform` or `StartFailed`.
        reason: Reason,
        /// One sentence for a person.
        message: String,
    },
}

/// Whether a container runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Life {
    /// Never started.
    Created,
    /// Runs.
    Running {
        /// When it started.
        since: Now,
    },
    /// Runs, was told to stop. Not known any more after an agent's restart: the proxy's draining mark is.
    Stopping {
        /// When it was told.
        since: Now,
    },
    /// Ended, by itself or because it was told to.
    Exited(Exit),
}

/// How a container ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exit {
    /// When.
    pub at: Now,
    /// With which code.
    pub code: i64,
    /// Whether the kernel killed it for its memory.
    pub oom: bool,
}

/// What the probes of an instance say since its last start.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Probed {
    /// Passes its readiness (and has passed its startup probe) since then.
    pub ready_since: Option<Now>,
    /// Was ready at some time since its last start.
    pub was_ready: bool,
    /// Was ready, and fails its readiness since then.
    pub unready_since: Option<Now>,
    /// Its liveness probe, or its startup probe for good, has failed.
    pub dead: bool,
    /// The last failing answer, for people.
    pub last_failure: Option<String>,
}

/// How the proxy treats an instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Routing {
    /// The table does not name it.
    #[default]
    Absent,
    /// Gets new requests.
    Active,
    /// Named with weight 0: nothing new, comes back when ready.
    Suspended,
    /// Finishes what it has; never gets new requests again.
    Draining {
        /// Since when, as far as this agent knows.
        since: Now,
    },
}

/// An image on the node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ImageState {
    /// Usable.
    Present,
    /// There, and what is to run in it is not whole.
    Damaged {
        /// What was seen, for people.
        what: String,
        /// Whether it was fetched again already.
        repair: Repair,
    },
    /// On its way.
    Pulling {
        /// One sentence for a person: bytes so far, or why it stands still.
        progress: String,
        /// Whether bytes moved lately.
        stalled: bool,
    },
    /// A pull ended badly.
    Failed {
        /// Why.
        reason: Reason,
        /// One sentence for a person.
        message: String,
        /// Whether trying again cannot mend it.
        permanent: bool,
        /// When it is tried again, unless permanent.
        retry_at: Now,
    },
}

/// How far the repair of a damaged image came in this agent's life.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Repair {
    /// Not tried yet, or under way.
    Due,
    /// It was fetched again, and is damaged all the same.
    InVain,
    /// The engine did not remove it.
    Refused(String),
}

/// An address that could not be listened on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The port's name.
    pub port: protocol::id::PortName,
    /// `PortTaken` or `AddressNotAvailable`.
    pub reason: Reason,
    /// Names the address and who holds it.
    pub message: String,
}
