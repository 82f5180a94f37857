//! The fleet's intent and what nodes said of it. Pure: events and requests come in, changes to store and manifests to
//! publish come out ([`State::take_effects`]); time is an argument.
//!
//! ```text
//!  heard.rs    hello, report, load, presence, event      deploy.rs   deploy and undo
//!  rollouts.rs what planner::fleet asks for               scale.rs    scale, rm, nodes that join
//!  manifests.rs intent -> signed manifest per node        views.rs    what people are shown
//!  peers.rs     which nodes' proxies serve each other   retiring.rs security floors
//!  trust.rs    the next trust root       conflict.rs, reconcile.rs nodes that have seen what was not signed here
//!  freshness.rs signed times, and what nodes miss      commands.rs logs, exec
//!  secrets.rs   sealed copies of secrets
//!  members.rs   tokens, the lobby, who is admitted       clones.rs    two boards with one identity
//!  operators.rs people from afar                         answers.rs   requests that are sent again
//!  agents.rs    releases of the agent, node after node    watching.rs  who tells its load in detail
//!  measured.rs what /metrics says
//!  notices.rs   what people are told without asking
//!  whereabouts.rs where nodes look for the coordinator   recovering.rs what nodes bring back to one that was lost
//! ```
//! Decides nothing that `planner::fleet` decides: placement and order are asked of it.

pub mod agents;
pub mod answers;
mod archives;
mod clones;
pub mod commands;
pub mod conflict;
mod deploy;
mod explain;
mod forgetting;
mod freshness;
pub mod heard;
mod judging;
mod keeping;
mod live;
mod manifests;
pub mod measured;
pub mod members;
pub mod notices;
mod on_board;
mod operators;
mod orders;
mod peers;
mod plan;
pub mod reconcile;
pub mod records;
mod recovering;
mod replacing;
pub mod requests;
mod restarting;
mod retiring;
mod rollouts;
mod scale;
mod secrets;
pub mod shown;
mod steering;
pub mod trust;
pub mod views;
pub(crate) mod watching;
pub mod whereabouts;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use planner::Now;
use planner::fleet::{NodeFacts, Rollout};
use protocol::command::Part;
use protocol::envelope::Envelope;
use protocol::hello::{Load, METERED_LOAD_INTERVAL_SECS};
use protocol::id::{
    CommandId, EnvironmentName, FleetId, NodeId, NodeName, OperatorName, ReleaseId, SecretName,
    ServiceId, ServiceName,
};
use protocol::keys::{RoleName, Root, SecretKey};
use protocol::reason::Reason;
use protocol::succession::{self, Chain};

use protocol::join::TokenId;
use records::{
    AgentsRecord, AnswerKey, Change, Happened, Intent, Kept, KeptAnswer, Line, Member, NodeRecord,
    Operator, Revision, SecretRecord, ServiceRecord, StoredRelease, TokenRecord, WhereaboutsRecord,
};
pub use requests::Refused;

/// Events kept for `pith events`.
pub const MAX_EVENTS: usize = 10_000;
/// A node is offline when nothing was heard for this long: three intervals of load.
pub const SILENCE_MS: u64 = 3 * 60_000;
/// The same for a node whose link is metered; the broker says sooner where its connection ends.
pub const METERED_SILENCE_MS: u64 = 3 * METERED_LOAD_INTERVAL_SECS * 1_000;

/// Both clocks at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct At {
    /// For spans.
    pub now: Now,
    /// For people, in Unix milliseconds.
    pub unix_ms: u64,
}

/// Who this coordinator is.
#[derive(Debug)]
pub struct Director {
    /// The fleet.
    pub fleet: FleetId,
    /// Its newest trust root.
    pub root: Root,
    /// Every one since version 2.
    pub chain: Chain,
    /// Signs manifests.
    pub key: SecretKey,
}

/// What environments take.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Policy {
    /// An environment takes only releases that have succeeded in another.
    pub only_from: BTreeMap<EnvironmentName, EnvironmentName>,
}

/// What has to be done after a step: first stored, then published.
#[derive(Debug, Default)]
pub struct Effects {
    /// A trust root to keep, before anything signed under it is said.
    pub root: Option<Envelope>,
    /// For the store, in order.
    pub changes: Vec<Change>,
    /// Nodes that are told the trust roots (again), before their manifests.
    pub publish_roots: BTreeSet<NodeId>,
    /// Nodes whose manifest is to be published (again).
    pub publish: BTreeSet<NodeId>,
    /// Nodes that are told (again) where the coordinator is.
    pub publish_addresses: BTreeSet<NodeId>,
    /// Nodes that are told (again) which agent to run.
    pub publish_agents: BTreeSet<NodeId>,
    /// Signed times, each for the node that asked; after the manifests, one of which it names.
    pub times: Vec<(NodeId, Vec<u8>)>,
    /// Signed commands, each for its node.
    pub commands: Vec<(NodeId, Vec<u8>)>,
    /// Answers to commands, for whoever waits for them.
    pub parts: Vec<Part>,
    /// What people are told of.
    pub notices: Vec<notices::Notice>,
    /// Whether anything that a view shows has changed.
    pub visible: bool,
    /// Nodes that may come in from now on.
    pub admit: BTreeSet<NodeId>,
    /// Nodes whose sessions end now, and that are refused from now on.
    pub revoke: BTreeSet<NodeId>,
}

/// The fleet.
#[derive(Debug)]
pub struct State {
    director: Director,
    /// Trust roots of a lower epoch than the newest, newest first: see [`recovering`].
    former: Vec<Root>,
    policy: Policy,
    nodes: BTreeMap<NodeId, Node>,
    members: BTreeMap<NodeId, Member>,
    tokens: BTreeMap<TokenId, TokenRecord>,
    operators: BTreeMap<OperatorName, Operator>,
    /// What requests of the last day were answered.
    answers: BTreeMap<AnswerKey, KeptAnswer>,
    clones: clones::Clones,
    /// Nonces of hellos that are not answered yet.
    asked: BTreeMap<NodeId, String>,
    /// Commands whose streams are not over.
    commands: BTreeMap<CommandId, commands::Sent>,
    /// Messages of nodes that are not admitted, since the start.
    ignored: u64,
    /// Rollouts that have ended since the start, by the name of how.
    rollouts_ended: BTreeMap<&'static str, u64>,
    services: BTreeMap<ServiceId, Service>,
    releases: BTreeMap<ReleaseId, StoredRelease>,
    lines: BTreeMap<ServiceName, Line>,
    /// Those of them that no key of the trust root vouches for.
    distrusted: BTreeSet<ReleaseId>,
    secrets: BTreeMap<(EnvironmentName, SecretName), SecretRecord>,
    whereabouts: WhereaboutsRecord,
    agents: AgentsRecord,
    events: VecDeque<Happened>,
    next_event: u64,
    version: u64,
    effects: Effects,
    touched: BTreeSet<NodeId>,
    /// Something may have changed who has to know whom.
    are_peers_stale: bool,
}

#[derive(Debug)]
struct Node {
    record: NodeRecord,
    /// As it was last given to the store; none: never.
    kept: Option<Box<NodeRecord>>,
    intent: Intent,
    load: Option<Load>,
    /// Until when it was told to say its load in detail, and how often (milliseconds).
    watched: Option<(Now, u32)>,
    heard_at: Now,
    accord: conflict::Accord,
    /// The nonce of its newest hello, and when that was heard first.
    hello: Option<(String, Now)>,
    /// It has said hello since its last report: the next one counts whatever its clock says.
    is_greeted: bool,
}

#[derive(Debug)]
struct Service {
    record: ServiceRecord,
    revisions: BTreeMap<u64, Revision>,
    rollout: Option<Rollout>,
}

impl State {
    /// The fleet as it was kept. Every node gets the full time of silence before it counts as lost.
    #[must_use]
    pub fn restore(director: Director, kept: Kept, at: At) -> Self {
        let mut intents: BTreeMap<NodeId, Intent> = kept.intents.into_iter().collect();
        let node = |record: NodeRecord| {
            let intent = intents.remove(&record.id).unwrap_or_default();
            (record.id.clone(), Node::restored(record, intent, at.now))
        };
        let nodes = kept.nodes.into_iter().map(node).collect();
        let mut services: BTreeMap<ServiceId, Service> = kept
            .services
            .into_iter()
            .map(|record| {
                let service = Service { record, revisions: BTreeMap::new(), rollout: None };
                (service.record.id.clone(), service)
            })
            .collect();
        for (id, revision) in kept.revisions {
            if let Some(service) = services.get_mut(&id) {
                service.revisions.insert(revision.number, revision);
            }
        }
        let next_event = kept.events.last().map_or(1, |event| event.id + 1);
        let mut state = Self {
            former: former_roots(&director),
            director,
            policy: Policy::default(),
            nodes,
            members: kept.members.into_iter().map(|m| (m.id.clone(), m)).collect(),
            tokens: kept.tokens.into_iter().map(|t| (t.id.clone(), t)).collect(),
            operators: kept.operators.into_iter().map(|o| (o.name.clone(), o)).collect(),
            answers: kept.answers.into_iter().map(|a| (a.of.clone(), a)).collect(),
            clones: clones::Clones::new(),
            asked: BTreeMap::new(),
            commands: BTreeMap::new(),
            ignored: 0,
            rollouts_ended: BTreeMap::new(),
            services,
            releases: kept.releases.into_iter().collect(),
            lines: kept.lines.into_iter().map(|line| (line.service.clone(), line)).collect(),
            distrusted: BTreeSet::new(),
            secrets: kept
                .secrets
                .into_iter()
                .map(|secret| ((secret.environment.clone(), secret.name.clone()), secret))
                .collect(),
            whereabouts: kept.whereabouts.unwrap_or_default(),
            agents: kept.agents.unwrap_or_default(),
            events: kept.events.into(),
            next_event,
            version: 1,
            effects: Effects::default(),
            touched: BTreeSet::new(),
            are_peers_stale: true,
        };
        state.count_known_releases();
        // The trust root may be another than when the coordinator ran last.
        for of_it in state.examine_releases() {
            tracing::warn!(service = %of_it.service, revision = of_it.revision, "{of_it}");
        }
        state.sign_anew();
        state.notice_absent(at);
        state.resume_rollouts(at);
        state.publish_everything();
        state
    }

    /// The same under a policy.
    #[must_use]
    pub fn with_policy(self, policy: Policy) -> Self {
        Self { policy, ..self }
    }

    /// What has to be stored and published since the last call. Manifests are signed here, once per node and step, and
    /// the times that were asked for.
    pub fn take_effects(&mut self, at: At) -> Effects {
        let touched = std::mem::take(&mut self.touched);
        self.tell_peers(&touched);
        for node in touched {
            if !self.is_admitted(&node) {
                continue;
            }
            if self.is_agreed(&node) {
                self.sign_manifest(&node, at);
            } else {
                self.keep_unsigned(&node);
            }
        }
        self.answer_times(at);
        let mut effects = std::mem::take(&mut self.effects);
        effects.publish.retain(|node| self.is_agreed(node));
        effects.publish_roots.retain(|node| self.takes_roots(node));
        effects.publish_addresses.retain(|node| self.is_admitted(node));
        effects.publish_agents.retain(|node| self.is_admitted(node));
        if effects.visible || !effects.changes.is_empty() {
            self.version += 1;
        }
        effects
    }

    /// Counts what views show; a view taken at one version is right until it changes.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.version
    }

    /// The signed manifest of a node; none before the first.
    #[must_use]
    pub fn manifest(&self, node: &NodeId) -> Option<&[u8]> {
        let intent = &self.nodes.get(node)?.intent;
        (!intent.manifest.is_empty()).then_some(intent.manifest.as_slice())
    }

    /// Trust roots and manifests are published again, to nodes that were heard: the broker is a lossy pipe. What it keeps for
    /// the others may be newer than what we have.
    pub fn publish_everything(&mut self) {
        let heard = self.nodes.iter().filter(|(_, node)| node.is_heard()).map(|(id, _)| id);
        let admitted = heard.filter(|id| self.is_admitted(id)).cloned();
        let admitted: Vec<NodeId> = admitted.collect();
        self.effects.publish_roots.extend(admitted);
        self.publish_addresses();
        let ids: Vec<NodeId> = self.nodes.keys().cloned().collect();
        ids.iter().for_each(|id| self.remind_of_agent(id));
        let with_manifest = self
            .nodes
            .values()
            .filter(|node| !node.intent.manifest.is_empty() && self.is_admitted(&node.record.id));
        let with_manifest: Vec<NodeId> = with_manifest.map(|node| node.record.id.clone()).collect();
        self.effects.publish.extend(with_manifest);
    }

    /// Time has passed: who has been silent for too long, which rollouts wait no longer.
    pub fn tick(&mut self, at: At) {
        let allowed =
            |node: &Node| if node.record.metered { METERED_SILENCE_MS } else { SILENCE_MS };
        let silent =
            |node: &&Node| node.record.online && at.now.since(node.heard_at) >= allowed(node);
        let silent = self.nodes.values().filter(silent);
        let silent: Vec<(NodeId, u64)> =
            silent.map(|node| (node.record.id.clone(), allowed(node) / 60_000)).collect();
        for (id, minutes) in silent {
            self.lose(&id, &format!("nothing heard for {minutes} minutes"), at);
        }
        self.wake_rollouts(at);
        self.renew_peers();
        self.go_on_with_agents(at);
    }

    /// The nightly backup was not made.
    pub fn backup_failed(&mut self, reason: &str, at: At) {
        self.note_fleet(format!("the nightly backup failed: {reason}"), at);
        self.notice_fleet(notices::NoticeKind::BackupFailed, reason, at);
    }

    fn node_named(&self, name: &NodeName) -> Option<&Node> {
        self.nodes.values().find(|node| node.record.name == *name)
    }

    fn id_of(&self, name: &NodeName) -> Option<NodeId> {
        self.node_named(name).map(|node| node.record.id.clone())
    }

    /// The nodes of an environment as placement looks at them.
    fn node_facts(&self, environment: &EnvironmentName) -> Vec<NodeFacts> {
        let of_it = self.nodes.values().filter(|node| {
            node.record.environment == *environment && self.is_admitted(&node.record.id)
        });
        let fact = |node: &Node| NodeFacts {
            name: node.record.name.clone(),
            labels: node.record.labels.clone(),
            online: node.record.online,
            policy: node.record.policy.clone().unwrap_or_default(),
        };
        let mut facts: Vec<NodeFacts> = of_it.map(fact).collect();
        facts.sort_by_key(|fact| natural(fact.name.as_str()));
        facts
    }

    fn note(&mut self, event: Happened) {
        let event = Happened { id: self.next_event, ..event };
        self.next_event += 1;
        self.events.push_back(event.clone());
        if self.events.len() > MAX_EVENTS {
            self.events.pop_front();
        }
        self.effects.changes.push(Change::Event(event));
    }

    fn note_fleet(&mut self, message: String, at: At) {
        self.note(Happened {
            id: 0,
            at_ms: at.unix_ms,
            environment: None,
            service: None,
            node: None,
            reason: None,
            message,
        });
    }

    fn note_service(&mut self, id: &ServiceId, reason: Option<Reason>, message: String, at: At) {
        self.note(Happened {
            id: 0,
            at_ms: at.unix_ms,
            environment: Some(id.environment.clone()),
            service: Some(id.name.clone()),
            node: None,
            reason,
            message,
        });
    }

    fn note_node(&mut self, node: &NodeId, message: String, at: At) {
        let record = self.nodes.get(node).map(|node| &node.record);
        self.note(Happened {
            id: 0,
            at_ms: at.unix_ms,
            environment: record.map(|record| record.environment.clone()),
            service: None,
            node: record.map(|record| record.name.clone()),
            reason: None,
            message,
        });
    }
}

impl Node {
    /// As it was kept: it has the full time of silence from now on.
    fn restored(record: NodeRecord, intent: Intent, now: Now) -> Self {
        let (kept, accord) = (Some(Box::new(record.clone())), conflict::Accord::default());
        let (load, hello, is_greeted) = (None, None, false);
        let watched = None;
        Self { record, kept, intent, load, watched, heard_at: now, accord, hello, is_greeted }
    }
}

impl Service {
    /// The revision that stands for the service: that of a rollout under way, else the newest that succeeded, else
    /// the newest.
    fn current(&self) -> Option<&Revision> {
        let number = self.active().or(self.record.stable);
        match number {
            Some(number) => self.revisions.get(&number),
            None => self.revisions.values().next_back(),
        }
    }

    /// The revision whose rollout has not ended.
    fn active(&self) -> Option<u64> {
        let open = self.rollout.as_ref().filter(|rollout| !rollout.state().is_final());
        open.map(|rollout| rollout.order().revision)
    }

    /// The revision whose rollout has not ended or still soaks.
    fn watched(&self) -> Option<u64> {
        self.rollout.as_ref().map(|rollout| rollout.order().revision)
    }
}

/// Those whose directors' manifests a newer one has ended, one for each director.
fn former_roots(director: &Director) -> Vec<Root> {
    let newest = director.root.epoch;
    let chain = director.chain.roots.iter().rev();
    let read = chain.filter_map(|one| Some(succession::first(one).ok()?.into_inner()));
    let mut former: Vec<Root> = read.filter(|root| root.epoch < newest).collect();
    let director_of = |root: &Root| root.roles.get(&RoleName::Director).cloned();
    former.dedup_by(|older, newer| director_of(older) == director_of(newer));
    former
}

/// `node-2` before `node-10`.
fn natural(name: &str) -> (String, u64, String) {
    let head = name.trim_end_matches(|c: char| c.is_ascii_digit());
    let number = name[head.len()..].parse().unwrap_or(0);
    (head.to_owned(), number, name.to_owned())
}

#[cfg(test)]
mod tests;
