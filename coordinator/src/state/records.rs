//! What the coordinator knows, as it is kept: nodes, what each must run, services, revisions, events.
//!
//! Plain data. Written whole by [`crate::store`], changed only by [`super::State`].

use std::collections::{BTreeMap, BTreeSet};

use planner::fleet::{NodeProgress, NodeState, RolloutState, Stage};
use protocol::envelope::Envelope;
use protocol::hello::Capacity;
use protocol::id::{EnvironmentName, NodeId, NodeName, ReleaseId, ServiceId, ServiceName};
use protocol::keys::PublicKey;
use protocol::manifest::{HookKind, Version};
use protocol::peers::Peers;
use protocol::reason::Reason;
use protocol::release::Release;
use protocol::report::{Evidence, Report};
use protocol::units::Millis;
use serde::{Deserialize, Serialize};

/// A node as it was last heard.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NodeRecord {
    /// From its key.
    pub id: NodeId,
    /// The key.
    pub key: PublicKey,
    /// Unique in the fleet; `name-2` for the second board that claims one.
    pub name: NodeName,
    /// What it calls itself.
    pub claimed_name: NodeName,
    /// Its one environment.
    pub environment: EnvironmentName,
    /// Labels that placements select by.
    pub labels: BTreeMap<String, String>,
    /// Where its proxy listens.
    pub address: String,
    /// The port there for other nodes' proxies; none: it has nothing to do with them.
    #[serde(default)]
    pub fleet_port: Option<u16>,
    /// The agent's version.
    pub agent_version: String,
    /// Formats the agent reads.
    pub formats: Vec<u32>,
    /// What it has.
    pub capacity: Capacity,
    /// The boot it spoke from.
    pub boot_id: String,
    /// The newest manifest it holds durably.
    pub seen: Version,
    /// Whether it is heard of.
    pub online: bool,
    /// Unix milliseconds of the last word.
    pub heard_ms: u64,
    /// What it said of itself last.
    pub report: Option<Report>,
}

/// What a node must run, and the manifest that says so.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Intent {
    /// Counts its manifests; never goes back.
    pub generation: u64,
    /// What runs there.
    pub assigned: BTreeMap<ServiceName, Assigned>,
    /// One-shot containers it is to run.
    #[serde(default)]
    pub hooks: BTreeMap<ServiceName, AssignedHook>,
    /// What was taken off, with the generation that said so first; forgotten once the node has confirmed.
    pub removed: BTreeMap<ServiceName, u64>,
    /// The other nodes that it was told of last.
    #[serde(default)]
    pub peers: Peers,
    /// The signed manifest of `generation`; empty before the first.
    #[serde(skip)]
    pub manifest: Vec<u8>,
}

impl Intent {
    /// Every release that it names.
    pub fn releases(&self) -> impl Iterator<Item = &ReleaseId> {
        let hooks = self.hooks.values().map(|hook| &hook.release);
        let assigned = self.assigned.values().flat_map(|assigned| {
            let beside = assigned.candidate.as_ref().map(|candidate| &candidate.release);
            std::iter::once(&assigned.release).chain(beside)
        });
        assigned.chain(hooks)
    }
}

/// A one-shot container on a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AssignedHook {
    /// Which hook.
    pub kind: HookKind,
    /// Of which revision.
    pub revision: u64,
    /// What it is made from.
    pub release: ReleaseId,
    /// The coordinator's count of tries.
    pub attempt: u32,
}

/// One service on one node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Assigned {
    /// For people and reports.
    pub revision: u64,
    /// What it is made from.
    pub release: ReleaseId,
    /// Instances.
    pub count: u32,
    /// The coordinator's count of tries.
    pub attempt: u32,
    /// Part of the template.
    pub restarts: u32,
    /// An operator holds it.
    #[serde(default)]
    pub paused: bool,
    /// What runs beside it.
    #[serde(default)]
    pub candidate: Option<AssignedCandidate>,
}

/// A second release of a service on a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AssignedCandidate {
    /// The revision it would become.
    pub revision: u64,
    /// What it is made from.
    pub release: ReleaseId,
    /// Instances.
    pub count: u32,
    /// The coordinator's count of tries.
    pub attempt: u32,
    /// Part of the template.
    pub restarts: u32,
    /// Of ten thousand requests so many.
    pub share: u32,
    /// How often the node tells what it counts.
    pub sample_every: Millis,
}

/// A service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceRecord {
    /// Environment and name.
    pub id: ServiceId,
    /// An operator's count, which survives deploys.
    pub count_override: Option<u32>,
    /// The number the next deploy or undo gets.
    pub next_revision: u64,
    /// The highest release counter accepted.
    pub counter: u64,
    /// The newest revision whose rollout succeeded.
    pub stable: Option<u64>,
}

/// A deploy or an undo.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Revision {
    /// 1, 2, 3 …
    pub number: u64,
    /// What it points at.
    pub release: ReleaseId,
    /// The service file as written.
    pub file: String,
    /// The count of tries of this release.
    pub attempt: u32,
    /// The revision to go back to.
    pub from: Option<u64>,
    /// The revision whose release this is again.
    pub undo_to: Option<u64>,
    /// What made it.
    #[serde(default)]
    pub kind: Kind,
    /// Part of the template: raised by a restart.
    #[serde(default)]
    pub restarts: u32,
    /// Why, in a person's words.
    pub cause: Option<String>,
    /// Who.
    pub by: String,
    /// Unix milliseconds.
    pub started_ms: u64,
    /// Unix milliseconds; none while it runs.
    pub ended_ms: Option<u64>,
    /// Where the rollout stands.
    #[serde(with = "state_name")]
    pub state: RolloutState,
    /// How far it is.
    #[serde(default)]
    pub stage: StageRecord,
    /// Why it stands there, by code.
    pub reason: Option<Reason>,
    /// Why it stands there, for a person.
    pub message: String,
    /// Instances per node; also after `pith scale`.
    pub placement: BTreeMap<NodeName, u32>,
    /// Instances no node could take.
    pub unplaced: u32,
    /// The order in which nodes move.
    pub order: Vec<NodeName>,
    /// Where each stands.
    pub nodes: BTreeMap<NodeName, Progress>,
    /// What was seen where it failed.
    pub failures: Vec<Failure>,
}

/// What makes a revision.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A new release.
    #[default]
    Deploy,
    /// An old release again: every node goes back at once.
    Undo,
    /// The same release, started anew.
    Restart,
    /// A release that another environment ran.
    Promote,
}

/// [`Stage`] as it is kept.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct StageRecord {
    /// The hook before it has run well.
    #[serde(default)]
    pub pre_done: bool,
    /// The hook after it has run well.
    #[serde(default)]
    pub post_done: bool,
    /// The node that runs a hook.
    #[serde(default)]
    pub hook_on: Option<NodeName>,
    /// Canary steps behind it.
    pub step: usize,
    /// The trial is over.
    pub promoted: bool,
    /// Gates behind it.
    pub gates_passed: usize,
    /// Measurements that were bad.
    pub failed_measurements: u32,
    /// An operator holds it.
    pub held: bool,
}

impl StageRecord {
    /// From the planner's.
    #[must_use]
    pub fn of(stage: &Stage) -> Self {
        let Stage {
            pre_done,
            post_done,
            hook_on,
            step,
            promoted,
            gates_passed,
            failed_measurements,
            held,
        } = stage.clone();
        Self {
            pre_done,
            post_done,
            hook_on,
            step,
            promoted,
            gates_passed,
            failed_measurements,
            held,
        }
    }

    /// As the planner's.
    #[must_use]
    pub fn to_planner(&self) -> Stage {
        let Self {
            pre_done,
            post_done,
            hook_on,
            step,
            promoted,
            gates_passed,
            failed_measurements,
            held,
        } = self.clone();
        Stage {
            pre_done,
            post_done,
            hook_on,
            step,
            promoted,
            gates_passed,
            failed_measurements,
            held,
        }
    }
}

/// [`NodeProgress`] as it is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// By its name.
    pub state: String,
    /// By code.
    pub reason: Option<Reason>,
    /// For a person.
    pub message: Option<String>,
}

/// A node where a release failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// Which.
    pub node: NodeName,
    /// Why, by code.
    pub reason: Reason,
    /// Why, for a person.
    pub message: String,
    /// What was seen.
    pub evidence: Option<Evidence>,
}

/// A release with the envelope that proves it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredRelease {
    /// As signed.
    pub envelope: Envelope,
    /// What it says.
    pub release: Release,
}

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Happened {
    /// Ascending.
    pub id: u64,
    /// Unix milliseconds by the coordinator's clock.
    pub at_ms: u64,
    /// Where.
    pub environment: Option<EnvironmentName>,
    /// To which service.
    pub service: Option<ServiceName>,
    /// On which node.
    pub node: Option<NodeName>,
    /// By code.
    pub reason: Option<Reason>,
    /// For a person.
    pub message: String,
}

/// One write to the store.
#[derive(Debug, Clone, PartialEq)]
pub enum Change {
    /// A node as it is now.
    Node(Box<NodeRecord>),
    /// What a node must run now.
    Intent(NodeId, Intent),
    /// A service as it is now.
    Service(ServiceRecord),
    /// A revision as it is now.
    Revision(ServiceId, Box<Revision>),
    /// A revision is forgotten.
    ForgetRevision(ServiceId, u64),
    /// A service is forgotten, with its revisions.
    ForgetService(ServiceId),
    /// A release.
    Release(ReleaseId, Box<StoredRelease>),
    /// Releases that nothing names any more.
    ForgetReleases(BTreeSet<ReleaseId>),
    /// Something happened.
    Event(Happened),
}

/// All that the store holds.
#[derive(Debug, Default)]
pub struct Kept {
    /// Nodes.
    pub nodes: Vec<NodeRecord>,
    /// What each must run.
    pub intents: Vec<(NodeId, Intent)>,
    /// Services.
    pub services: Vec<ServiceRecord>,
    /// Revisions.
    pub revisions: Vec<(ServiceId, Revision)>,
    /// Releases.
    pub releases: Vec<(ReleaseId, StoredRelease)>,
    /// The newest events, ascending.
    pub events: Vec<Happened>,
}

impl Progress {
    /// From the planner's.
    #[must_use]
    pub fn of(progress: &NodeProgress) -> Self {
        Self {
            state: progress.state.as_str().to_owned(),
            reason: progress.reason,
            message: progress.message.clone(),
        }
    }

    /// As the planner's; an unknown state counts as not moved yet.
    #[must_use]
    pub fn to_planner(&self) -> NodeProgress {
        NodeProgress {
            state: NodeState::parse(&self.state).unwrap_or(NodeState::Waiting),
            reason: self.reason,
            message: self.message.clone(),
        }
    }
}

mod state_name {
    use planner::fleet::RolloutState;
    use serde::{Deserialize as _, Deserializer, Serializer};

    #[expect(clippy::trivially_copy_pass_by_ref, reason = "the form serde asks for")]
    pub(super) fn serialize<S: Serializer>(state: &RolloutState, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(state.as_str())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<RolloutState, D::Error> {
        let name = String::deserialize(d)?;
        RolloutState::parse(&name).ok_or_else(|| serde::de::Error::custom("unknown rollout state"))
    }
}
