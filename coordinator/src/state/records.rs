//! What the coordinator knows, as it is kept: nodes, what each must run, services, revisions, events.
//!
//! Plain data. Written whole by [`crate::store`], changed only by [`super::State`].

mod agents;
mod answers;
mod line;
mod membership;
mod people;
mod secrets;
mod stage;
mod whereabouts;

use std::collections::{BTreeMap, BTreeSet};

use planner::fleet::{NodeProgress, NodeState, RolloutState, Stage};
use protocol::envelope::Envelope;
use protocol::hello::Capacity;
use protocol::id::{EnvironmentName, NodeId, NodeName, ReleaseId, ServiceId, ServiceName};
use protocol::join::{SealKey, TokenId};
use protocol::keys::PublicKey;
use protocol::manifest::{HookKind, Version};
use protocol::peers::Peers;
use protocol::policy::PolicyState;
use protocol::reason::Reason;
use protocol::release::Release;
use protocol::report::{Evidence, Report};
use protocol::secret::SecretVersions;
use protocol::units::Millis;
use protocol::whereabouts::Learned;
use serde::{Deserialize, Serialize};

pub use self::agents::{AgentReleaseRecord, AgentRollout, AgentRolloutState, AgentsRecord};
pub use self::answers::{AnswerKey, KeptAnswer};
pub use self::membership::{IssuedCertificate, Member, Renewal, Standing, TokenRecord};
pub use self::people::{Invitation, Operator, OperatorCertificate};
pub use self::secrets::{NodeCopy, OperatorCopy, SecretRecord, VersionRecord};
use self::stage::StageRecord;
pub use self::whereabouts::WhereaboutsRecord;
pub use line::{Line, Retired};

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
    /// What secrets are sealed to; none: it has not said it.
    #[serde(default)]
    pub seal_key: Option<SealKey>,
    /// What it lets containers have of it; none: nothing.
    #[serde(default)]
    pub policy: Option<PolicyState>,
    /// The agent's version.
    pub agent_version: String,
    /// Formats the agent reads.
    pub formats: Vec<u32>,
    /// What it has.
    pub capacity: Capacity,
    /// The trust root it knows; none: the first.
    #[serde(default)]
    pub root_version: Option<u64>,
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
    /// Where it looks for this coordinator, once it has learned that from it.
    #[serde(default)]
    pub learned: Option<Learned>,
    /// Its link is metered: it says little, and is well meanwhile.
    #[serde(default)]
    pub metered: bool,
}

/// What a node must run, and the manifest that says so.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Intent {
    /// The epoch that its newest manifest was signed under; 0 before the first.
    #[serde(default = "first_epoch")]
    pub epoch: u64,
    /// Counts its manifests; never goes back within an epoch.
    pub generation: u64,
    /// It has changed since its newest manifest was signed, which has to wait: the node is in conflict or was not heard.
    #[serde(default)]
    pub is_unsigned: bool,
    /// What runs there.
    pub assigned: BTreeMap<ServiceName, Assigned>,
    /// One-shot containers it is to run.
    #[serde(default)]
    pub hooks: BTreeMap<ServiceName, AssignedHook>,
    /// Restarts of a service on this node alone, beyond those of its revisions.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub restarts: BTreeMap<ServiceName, u32>,
    /// What was taken off, with the generation that said so first; forgotten once the node has confirmed.
    pub removed: BTreeMap<ServiceName, u64>,
    /// The other nodes that it was told of last.
    #[serde(default)]
    pub peers: Peers,
    /// Of a coordinator that was recovered: nodes that it was told of before, which may still come back.
    #[serde(default, skip_serializing_if = "Peers::is_empty")]
    pub absent: Peers,
    /// Every service that it was ever told to run: it may hold releases of it.
    #[serde(default)]
    pub known: BTreeSet<ServiceName>,
    /// The signed manifest of `generation`; empty before the first.
    #[serde(skip)]
    pub manifest: Vec<u8>,
}

/// What was kept before epochs were is of the first.
const fn first_epoch() -> u64 {
    1
}

impl Intent {
    /// Whether the node runs a service or ever ran it.
    #[must_use]
    pub fn knows(&self, service: &ServiceName) -> bool {
        self.known.contains(service)
            || self.assigned.contains_key(service)
            || self.hooks.contains_key(service)
            || self.removed.contains_key(service)
    }

    /// Every release that it names.
    pub fn releases(&self) -> impl Iterator<Item = &ReleaseId> {
        let hooks = self.hooks.values().map(|hook| &hook.release);
        let assigned = self.assigned.values().flat_map(|assigned| {
            let beside = assigned.candidate.as_ref().map(|candidate| &candidate.release);
            std::iter::once(&assigned.release).chain(beside)
        });
        assigned.chain(hooks)
    }

    /// With which versions of secrets everything is made that it names.
    pub fn secrets(&self) -> impl Iterator<Item = &SecretVersions> {
        let candidates = self.assigned.values().filter_map(|a| a.candidate.as_ref());
        let assigned = self.assigned.values().map(|assigned| &assigned.secrets);
        let hooks = self.hooks.values().map(|hook| &hook.secrets);
        let all = assigned.chain(candidates.map(|c| &c.secrets)).chain(hooks);
        all.filter(|versions| !versions.is_empty())
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
    /// The version of each secret.
    #[serde(default)]
    pub secrets: SecretVersions,
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
    /// The version of each secret; part of the template.
    #[serde(default)]
    pub secrets: SecretVersions,
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
    /// The version of each secret; part of the template.
    #[serde(default)]
    pub secrets: SecretVersions,
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
    /// The highest release counter accepted here.
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
    /// The version of each secret; part of the template.
    #[serde(default)]
    pub secrets: SecretVersions,
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
    #[serde(default, with = "StageRecord")]
    pub stage: Stage,
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
    Intent(NodeId, Box<Intent>),
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
    /// A member as it is now.
    Member(Box<Member>),
    /// A token as it is now.
    Token(Box<TokenRecord>),
    /// A token is forgotten.
    ForgetToken(TokenId),
    /// A node whose identity is revoked gives its name to another: it is forgotten with its intent.
    ForgetNode(NodeId),
    /// What holds of a service's releases everywhere.
    Line(Box<Line>),
    /// A secret as it is now.
    Secret(Box<SecretRecord>),
    /// Something happened.
    Event(Happened),
    /// An operator as it is now.
    Operator(Box<Operator>),
    /// What a request was answered, for its repetition.
    Answer(Box<KeptAnswer>),
    /// Its time is over.
    ForgetAnswer(AnswerKey),
    /// Where nodes are told to look for the coordinator.
    Whereabouts(WhereaboutsRecord),
    /// Releases of the agent, and which nodes are brought to one.
    Agents(Box<AgentsRecord>),
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
    /// What holds of each service's releases.
    pub lines: Vec<Line>,
    /// Releases.
    pub releases: Vec<(ReleaseId, StoredRelease)>,
    /// The newest events, ascending.
    pub events: Vec<Happened>,
    /// Members.
    pub members: Vec<Member>,
    /// Tokens.
    pub tokens: Vec<TokenRecord>,
    /// Operators.
    pub operators: Vec<Operator>,
    /// Answers of the last day.
    pub answers: Vec<KeptAnswer>,
    /// Secrets.
    pub secrets: Vec<SecretRecord>,
    /// Where nodes are told to look for the coordinator.
    pub whereabouts: Option<WhereaboutsRecord>,
    /// Releases of the agent.
    pub agents: Option<AgentsRecord>,
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
