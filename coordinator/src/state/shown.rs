//! What people and scripts are shown; these types are the answers of the API and what `-o json` prints.

mod agents;
mod live;
mod people;
mod plans;
mod reconcile;
mod replacing;
mod secrets;
mod streams;
mod trust;
mod whereabouts;

use std::collections::{BTreeMap, BTreeSet};

use protocol::hello::{Capacity, Load};
use protocol::id::{EnvironmentName, FleetId, NodeId, NodeName, ReleaseId, ServiceName};
use protocol::manifest::Version;
use protocol::policy::PolicyState;
use protocol::reason::Reason;
use protocol::report::{Detail, HeldReport, InstanceReport, Phase};
use protocol::spec::ServiceSpec;
use serde::{Deserialize, Serialize};

use super::agents::AgentTarget;
use super::records::{Failure, Happened, Kind};
pub use agents::{AgentNodeShown, AgentReleaseShown, AgentRolloutShown, AgentsShown};
pub use live::{CallerShown, LiveRollout, LiveShown, LiveTrial};
pub use people::{AuditShown, InvitationShown, LoggedIn, OperatorShown, OperatorsShown};
pub use plans::{ChangeShown, NodePlanShown, PlanShown, PullShown};
pub use reconcile::{NodeReconciled, ReconcileShown, Reconciling, RunShown, ServiceReconciled};
pub use replacing::{LostVolume, ReplacementShown};
pub use secrets::{
    LackingShown, RecipientShown, SecretRemoved, SecretSet, SecretShown, SecretToRotate,
    SecretsShown, SyncShown, UnsyncedShown,
};
pub use streams::StreamShown;
pub use trust::{BehindShown, DistrustedShown, RootShown};
pub use whereabouts::{AddressesShown, NodeLearned};

/// The fleet at a glance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FleetShown {
    /// Its id.
    pub fleet: FleetId,
    /// The coordinator's version.
    pub coordinator_version: String,
    /// Environments that have nodes or services.
    pub environments: BTreeSet<EnvironmentName>,
    /// Nodes known.
    pub nodes: usize,
    /// Messages of nodes that are not admitted, since the coordinator's start.
    #[serde(default)]
    pub ignored: u64,
}

/// `pith rollout status`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RolloutShown {
    /// For `?after=`.
    pub version: u64,
    /// The service.
    pub service: ServiceName,
    /// Where.
    pub environment: EnvironmentName,
    /// Which revision.
    pub revision: u64,
    /// What it replaces.
    pub from_revision: Option<u64>,
    /// DESIGN §8.
    pub state: String,
    /// By code.
    pub reason: Option<Reason>,
    /// For a person.
    pub message: String,
    /// As a person wrote it.
    pub image: String,
    /// What decides.
    pub pinned: String,
    /// The release.
    pub release: ReleaseId,
    /// The number of the release: what `pith release retire --below` compares.
    pub counter: u64,
    /// Why it was asked for.
    pub cause: Option<String>,
    /// By whom.
    pub by: String,
    /// Unix milliseconds.
    pub started_ms: u64,
    /// Unix milliseconds.
    pub ended_ms: Option<u64>,
    /// In the order in which they move.
    pub nodes: Vec<NodeProgressShown>,
    /// Nodes that are away and take it when they return, and those held locally, which take it when they are released.
    pub pending: Vec<NodeName>,
    /// Instances no node could take.
    pub unplaced: u32,
    /// What was seen where it failed.
    pub failures: Vec<Failure>,
}

/// One node in a rollout.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeProgressShown {
    /// Which.
    pub name: NodeName,
    /// `waiting`, `updating`, `updated`, `offline`, `held_locally`, `rolled_back`, `reverting`, `reverted`, `conflict`.
    pub state: String,
    /// By code.
    pub reason: Option<Reason>,
    /// For a person.
    pub message: Option<String>,
    /// Instances of the new template.
    pub updated: u32,
    /// Instances that answer.
    pub ready: u32,
    /// Instances wanted.
    pub desired: u32,
}

/// `pith rollout history`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HistoryShown {
    /// The service.
    pub service: ServiceName,
    /// Where.
    pub environment: EnvironmentName,
    /// The revision that stands.
    pub current: Option<u64>,
    /// Oldest first.
    pub revisions: Vec<RevisionShown>,
}

/// One revision.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RevisionShown {
    /// 1, 2, 3 …
    pub revision: u64,
    /// DESIGN §8.
    pub state: String,
    /// As a person wrote it.
    pub image: String,
    /// The release.
    pub release: ReleaseId,
    /// The number of the release: what `pith release retire --below` compares.
    pub counter: u64,
    /// Whether the release is below the security floor: nothing goes back to it.
    pub retired: bool,
    /// The service file as written.
    pub file: String,
    /// What made it.
    pub kind: Kind,
    /// The revision it repeats.
    pub undo_to: Option<u64>,
    /// Why it was asked for.
    pub cause: Option<String>,
    /// By whom.
    pub by: String,
    /// Unix milliseconds.
    pub started_ms: u64,
    /// Unix milliseconds.
    pub ended_ms: Option<u64>,
    /// Why it ended as it did.
    pub reason: Option<Reason>,
    /// The same for a person.
    pub message: String,
    /// Where its image is still: going back to it there needs no network.
    #[serde(default)]
    pub on_board: OnBoard,
}

/// On how many of the nodes that a revision was for its image still is, as they report it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct OnBoard {
    /// On so many.
    pub here: usize,
    /// Of so many that say which images they have.
    pub of: usize,
    /// So many more do not say, or were not heard yet.
    pub silent: usize,
}

/// `pith rollout history --revision N`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RevisionInFull {
    /// Where its rollout stands or how it ended.
    pub rollout: RolloutShown,
    /// The service file as written.
    pub file: String,
}

/// `pith release retire`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RetiredShown {
    /// The service, in every environment.
    pub service: ServiceName,
    /// The counter that every release must reach from now on.
    pub below: u64,
    /// True where the floor was as high already.
    pub unchanged: bool,
    /// Nodes that run or ran it and are told.
    pub told: Vec<NodeName>,
    /// Those of them that are away or in conflict, and are told afterwards.
    pub offline: Vec<NodeName>,
}

/// `pith rollout diff`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DifferenceShown {
    /// The service.
    pub service: ServiceName,
    /// Where.
    pub environment: EnvironmentName,
    /// Compared from.
    pub from: u64,
    /// Compared to.
    pub to: u64,
    /// What is written differently, by dotted path.
    pub changes: Vec<ChangeShown>,
}

/// `pith ps`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PsShown {
    /// For `?after=`.
    pub version: u64,
    /// By environment and name.
    pub services: Vec<ServiceShown>,
}

/// One service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceShown {
    /// Where.
    pub environment: EnvironmentName,
    /// Its name.
    pub name: ServiceName,
    /// The revision that stands.
    pub revision: u64,
    /// Its image.
    pub image: String,
    /// The state of its rollout.
    pub rollout: String,
    /// Instances wanted over the fleet, those no node could take included.
    pub desired: u32,
    /// Instances that answer on nodes that are heard of.
    pub ready: u32,
    /// An operator's count.
    pub count_override: Option<u32>,
    /// Whether every reachable node runs exactly what it should.
    pub settled: bool,
    /// What is missing and why; empty where nothing is.
    pub why: String,
    /// Per node.
    pub nodes: Vec<ServiceOnNode>,
}

/// A service on a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceOnNode {
    /// Which.
    pub node: NodeName,
    /// Whether it is heard of.
    pub online: bool,
    /// Unix milliseconds of its last word.
    pub heard_ms: u64,
    /// Instances wanted.
    pub desired: u32,
    /// Instances that answer.
    pub ready: u32,
    /// Where it stands; none before its first report.
    pub phase: Option<Phase>,
    /// Why, by code.
    pub reason: Option<Reason>,
    /// Why, for a person.
    pub message: Option<String>,
    /// Whether the node holds the newest manifest and runs it.
    pub settled: bool,
    /// Whether it holds the newest manifest.
    #[serde(default)]
    pub holds_newest: bool,
    /// Its instances.
    pub instances: Vec<InstanceReport>,
    /// Root of the node holds it there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held: Option<HeldReport>,
    /// What is wrong with the node as a whole: `withheld`, `no_time`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub alarms: Vec<Detail>,
}

/// `pith node ls`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NodesShown {
    /// By name.
    pub nodes: Vec<NodeShown>,
    /// Members that have not said hello: the lobby, and those let in or revoked before they did.
    #[serde(default)]
    pub lobby: Vec<MemberShown>,
    /// Nodes that others were told of by a coordinator that was lost, and that have not come back.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub absent: Vec<AbsentShown>,
}

/// A node that others were told of.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct AbsentShown {
    /// As they were told it; none: only as one that may call them.
    pub name: Option<NodeName>,
    /// Its id.
    pub id: NodeId,
}

/// A member of the fleet, or one that asks to be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberShown {
    /// Its id.
    pub id: NodeId,
    /// Its name; the id where it has said none.
    pub name: String,
    /// `pending`, `admitted` or `revoked`.
    pub status: String,
    /// Its environment.
    pub environment: EnvironmentName,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Unix milliseconds of the last change of status.
    pub since_ms: u64,
    /// Unix seconds; none: it has no certificate.
    pub certificate_expires_at: Option<u64>,
    /// What it was told to run by a coordinator that was lost, while it waits to come back.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub runs: Vec<RunsShown>,
}

/// A service that a member was told to run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunsShown {
    /// Its name.
    pub service: ServiceName,
    /// Of which revision.
    pub revision: u64,
    /// Instances.
    pub count: u32,
}

/// A token, once: its secret is not kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenShown {
    /// Which.
    pub id: String,
    /// The line to paste.
    pub token: String,
    /// Unix milliseconds.
    pub expires_ms: u64,
    /// Whether it lets in by itself.
    pub approve: bool,
    /// Where the node will look for the coordinator.
    pub addresses: Vec<String>,
}

/// What an external broker must refuse.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RevokedCertificates {
    /// Serial numbers, hexadecimal.
    pub serials: Vec<String>,
}

/// A node that was revoked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RevokedShown {
    /// Its id.
    pub id: NodeId,
    /// Its name.
    pub name: String,
    /// It was revoked before.
    pub already: bool,
    /// What it was to run.
    pub services: Vec<ServiceName>,
    /// What was sealed to it.
    #[serde(default)]
    pub secrets: Vec<SecretToRotate>,
}

/// One node.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NodeShown {
    /// Its id.
    pub id: NodeId,
    /// Its name.
    pub name: NodeName,
    /// Its environment.
    pub environment: EnvironmentName,
    /// `ready`, `offline`, `engine unavailable`, `pending` (its certificate is over), `cloned`, `conflict` or `revoked`.
    pub status: String,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Where its proxy listens.
    pub address: String,
    /// What it lets containers have of it; none: nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<PolicyState>,
    /// The agent's version.
    pub agent_version: String,
    /// The one that it is brought to; none: it is there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent_target: Option<AgentTarget>,
    /// What it has.
    pub capacity: Capacity,
    /// The newest sample.
    pub load: Option<Load>,
    /// Unix milliseconds of its last word.
    pub heard_ms: u64,
    /// The newest manifest it holds.
    pub seen: Version,
    /// The generation it should hold.
    pub generation: u64,
    /// Manifests it refused, by code.
    pub refused: BTreeMap<String, u64>,
    /// Services it is to run.
    pub services: Vec<ServiceName>,
    /// Services that root of the node holds there.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub held: BTreeMap<ServiceName, HeldReport>,
    /// What it misses, while everything runs on: `withheld`, `no_time`.
    #[serde(default)]
    pub alarms: Vec<Detail>,
    /// Two boards take turns under its identity.
    #[serde(default)]
    pub cloned: bool,
    /// It has seen what this coordinator did not sign: nothing is signed for it until `pith fleet reconcile`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub conflict: Option<String>,
    /// Unix seconds; none: it has no certificate.
    #[serde(default)]
    pub certificate_expires_at: Option<u64>,
}

/// A service as `pith deploy NAME` needs it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredService {
    /// The file of the revision that stands.
    pub file: String,
    /// Its image.
    pub image: String,
    /// The revision that stands.
    pub revision: u64,
    /// Its spec.
    pub spec: ServiceSpec,
}

/// Everything deployed in an environment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deployed {
    /// By service.
    pub services: BTreeMap<ServiceName, StoredService>,
    /// The number that the next release of each service must exceed, whatever its environment.
    pub counters: BTreeMap<ServiceName, u64>,
}

/// `pith rm`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Removed {
    /// Named volumes that stay, by their Docker names.
    pub volumes: Vec<String>,
}

/// How far a removal is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemovalShown {
    /// For `?after=`.
    pub version: u64,
    /// Nodes that are heard of and still hold something of it.
    pub waiting: Vec<NodeName>,
    /// Nodes that are away and remove it when they return.
    pub offline: Vec<NodeName>,
    /// Nodes on which root holds it, and that remove it when it is released there.
    #[serde(default)]
    pub held: Vec<NodeName>,
}

/// `pith events`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventsShown {
    /// For `?after=` of the wait.
    pub version: u64,
    /// Ascending.
    pub events: Vec<Happened>,
}
