//! What people and scripts are shown; these types are the answers of the API and what `-o json` prints.

use std::collections::{BTreeMap, BTreeSet};

use protocol::hello::{Capacity, Load};
use protocol::id::{EnvironmentName, FleetId, NodeId, NodeName, ReleaseId, ServiceName};
use protocol::manifest::Version;
use protocol::reason::Reason;
use protocol::report::{InstanceReport, Phase};
use protocol::spec::ServiceSpec;
use serde::{Deserialize, Serialize};

use super::records::{Failure, Happened, Kind};

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
    /// Nodes that are away and take it when they return.
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
    /// `waiting`, `updating`, `updated`, `offline`, `rolled_back`, `reverting`, `reverted`.
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
}

/// `pith rollout history --revision N`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RevisionInFull {
    /// Where its rollout stands or how it ended.
    pub rollout: RolloutShown,
    /// The service file as written.
    pub file: String,
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
    /// Its instances.
    pub instances: Vec<InstanceReport>,
}

/// `pith node ls`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NodesShown {
    /// By name.
    pub nodes: Vec<NodeShown>,
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
    /// `ready`, `offline`, or `engine unavailable`.
    pub status: String,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Where its proxy listens.
    pub address: String,
    /// The agent's version.
    pub agent_version: String,
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
}

/// `pith plan`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanShown {
    /// The service.
    pub service: ServiceName,
    /// Where.
    pub environment: EnvironmentName,
    /// The revision that stands.
    pub from_revision: Option<u64>,
    /// What is written differently, by dotted path.
    pub changes: Vec<ChangeShown>,
    /// What that means per node.
    pub nodes: Vec<NodePlanShown>,
    /// What happens, in its order, and why.
    pub steps: Vec<String>,
    /// Instances no node could take.
    pub unplaced: u32,
    /// What the file implies without saying it.
    pub notes: Vec<String>,
    /// Whether a deploy would do anything.
    pub anything: bool,
}

/// One difference.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChangeShown {
    /// Dotted path into the service.
    pub path: String,
    /// None where it is new.
    pub before: Option<String>,
    /// None where it goes.
    pub after: Option<String>,
}

/// What a node would do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodePlanShown {
    /// Which.
    pub node: NodeName,
    /// Whether it is heard of.
    pub online: bool,
    /// Instances now.
    pub before: u32,
    /// Instances then.
    pub after: u32,
    /// `create`, `replace`, `scale`, `remove`, `keep`.
    pub action: String,
}

/// A service as `pith deploy NAME` needs it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredService {
    /// The file of the revision that stands.
    pub file: String,
    /// Its image.
    pub image: String,
    /// The highest counter accepted.
    pub counter: u64,
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
}

/// `pith events`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventsShown {
    /// For `?after=` of the wait.
    pub version: u64,
    /// Ascending.
    pub events: Vec<Happened>,
}
