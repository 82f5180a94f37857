//! The coordinator: the real state, and a store in memory that survives it.

use std::collections::BTreeMap;

use coordinator::link::{manifest_topic, time_topic};
use coordinator::state::records::{
    Change, Happened, Intent, Kept, Line, Member, NodeRecord, Revision,
};
use coordinator::state::records::{ServiceRecord, StoredRelease};
use coordinator::state::{At, State};
use planner::Now;
use protocol::id::{NodeId, ReleaseId, ServiceId, ServiceName};
use protocol::topic::Topic;

use crate::fleet;
use crate::trace::Trace;

/// What is durable.
#[derive(Debug, Clone, Default)]
pub struct Store {
    nodes: BTreeMap<NodeId, NodeRecord>,
    /// What each node must run.
    pub intents: BTreeMap<NodeId, Intent>,
    /// Services.
    pub services: BTreeMap<ServiceId, ServiceRecord>,
    /// Revisions.
    pub revisions: BTreeMap<(ServiceId, u64), Revision>,
    releases: BTreeMap<ReleaseId, StoredRelease>,
    members: BTreeMap<NodeId, Member>,
    lines: BTreeMap<ServiceName, Line>,
    last_event: Option<Happened>,
}

/// Manifests and times to publish.
pub type Published = Vec<(Topic, Vec<u8>)>;

/// See the file's head.
#[derive(Debug)]
pub struct Control {
    /// The state; none while the coordinator is down.
    pub state: Option<State>,
    /// What is durable.
    pub store: Store,
    /// How far its wall clock is ahead.
    pub skew_ms: i64,
    /// How often each rollout went back without being asked to.
    pub went_back: BTreeMap<(ServiceId, u64), u32>,
    trace: Trace,
}

impl Store {
    fn apply(&mut self, change: Change) {
        match change {
            Change::Node(node) => drop(self.nodes.insert(node.id.clone(), *node)),
            Change::Intent(node, intent) => drop(self.intents.insert(node, *intent)),
            Change::Service(record) => drop(self.services.insert(record.id.clone(), record)),
            Change::Revision(id, revision) => {
                self.revisions.insert((id, revision.number), *revision);
            }
            Change::ForgetRevision(id, number) => drop(self.revisions.remove(&(id, number))),
            Change::ForgetService(id) => {
                self.services.remove(&id);
                self.revisions.retain(|(of, _), _| *of != id);
            }
            Change::Release(id, release) => drop(self.releases.insert(id, *release)),
            Change::ForgetReleases(ids) => self.releases.retain(|id, _| !ids.contains(id)),
            Change::Member(member) => drop(self.members.insert(member.id.clone(), *member)),
            Change::ForgetNode(id) => {
                self.nodes.remove(&id);
                self.intents.remove(&id);
            }
            // Nobody joins here: boards are admitted by their ids.
            Change::Token(_) | Change::ForgetToken(_) => {}
            // Nobody asks from afar, or twice.
            Change::Operator(_) | Change::Answer(_) | Change::ForgetAnswer(_) => {}
            Change::Line(line) => drop(self.lines.insert(line.service.clone(), *line)),
            // No board here has a secret.
            Change::Secret(_) => {}
            // The coordinator stays where it is.
            Change::Whereabouts(_) => {}
            // Boards here run one agent.
            Change::Agents(_) => {}
            Change::Event(event) => self.last_event = Some(event),
        }
    }

    fn kept(&self) -> Kept {
        let pairs = self.revisions.iter();
        Kept {
            nodes: self.nodes.values().cloned().collect(),
            intents: self.intents.iter().map(|(id, i)| (id.clone(), i.clone())).collect(),
            services: self.services.values().cloned().collect(),
            revisions: pairs.map(|((id, _), r)| (id.clone(), r.clone())).collect(),
            releases: self.releases.iter().map(|(id, r)| (id.clone(), r.clone())).collect(),
            lines: self.lines.values().cloned().collect(),
            events: self.last_event.iter().cloned().collect(),
            members: self.members.values().cloned().collect(),
            tokens: Vec::new(),
            operators: Vec::new(),
            answers: Vec::new(),
            secrets: Vec::new(),
            whereabouts: None,
            agents: None,
        }
    }

    /// The newest revision of a service.
    #[must_use]
    pub fn newest(&self, id: &ServiceId) -> Option<&Revision> {
        let of_it = (id.clone(), 0)..=(id.clone(), u64::MAX);
        self.revisions.range(of_it).next_back().map(|(_, revision)| revision)
    }
}

impl Control {
    /// A coordinator that knows nobody.
    #[must_use]
    pub fn new(now_ms: u64, trace: Trace) -> Self {
        let (store, went_back) = (Store::default(), BTreeMap::new());
        let mut control = Self { state: None, store, skew_ms: 0, went_back, trace };
        control.start(now_ms);
        control
    }

    /// It starts from what is durable.
    pub fn start(&mut self, now_ms: u64) {
        let at = self.at(now_ms);
        self.state = Some(State::restore(fleet::director(), self.store.kept(), at));
    }

    /// It is gone, with all that was not stored.
    pub fn crash(&mut self) {
        self.state = None;
    }

    /// Both of its clocks.
    #[must_use]
    pub const fn at(&self, now_ms: u64) -> At {
        let unix_ms = (1_700_000_000_000 + now_ms).saturating_add_signed(self.skew_ms);
        At { now: Now(now_ms), unix_ms }
    }

    /// Asks something of the state, stores what has changed by it, and returns what to publish.
    ///
    /// # Errors
    /// Names an invariant that does not hold.
    pub fn ask<T>(
        &mut self,
        now_ms: u64,
        request: impl FnOnce(&mut State, At) -> T,
    ) -> Result<Option<(T, Published)>, String> {
        let at = self.at(now_ms);
        let Some(state) = &mut self.state else { return Ok(None) };
        let answer = request(state, at);
        let effects = state.take_effects(at);
        let manifest = |node: &NodeId| {
            let bytes = state.manifest(node)?.to_vec();
            Some((manifest_topic(&fleet::fleet(), node), bytes))
        };
        let times = effects.times.into_iter();
        let times = times.map(|(node, time)| (time_topic(&fleet::fleet(), &node), time));
        let published = effects.publish.iter().filter_map(manifest).chain(times).collect();
        for change in effects.changes {
            self.check(&change)?;
            if let Change::Event(event) = &change {
                self.trace.note(now_ms, "coordinator", || {
                    let of = event.service.as_ref().map_or("", |service| service.as_str());
                    let node = event.node.as_ref().map_or("", |node| node.as_str());
                    format!("{of} {node} {}", event.message)
                });
            }
            self.store.apply(change);
        }
        Ok(Some((answer, published)))
    }

    /// Numbers of manifests never go back, and a rollout goes back by itself once.
    fn check(&mut self, change: &Change) -> Result<(), String> {
        match change {
            Change::Intent(node, intent) => {
                let before = self.store.intents.get(node).map(Intent::version);
                let now = intent.version();
                if before.is_some_and(|before| now < before) {
                    return Err(format!("the number of {node} went back to {now:?}"));
                }
            }
            Change::Revision(id, revision) => {
                let key = (id.clone(), revision.number);
                let before = self.store.revisions.get(&key).map(|revision| revision.state);
                let goes_back = planner::fleet::RolloutState::RollingBack;
                if revision.state == goes_back && before != Some(goes_back) {
                    let count = self.went_back.entry(key).or_default();
                    *count += 1;
                    // Once by itself, and once more by an operator's abort.
                    if *count > 2 {
                        return Err(format!("{id} r{} goes back again and again", revision.number));
                    }
                }
            }
            Change::Node(_)
            | Change::Service(_)
            | Change::ForgetRevision(..)
            | Change::ForgetService(_)
            | Change::Release(..)
            | Change::ForgetReleases(_)
            | Change::Secret(_)
            | Change::Member(_)
            | Change::Token(_)
            | Change::ForgetToken(_)
            | Change::Operator(_)
            | Change::Answer(_)
            | Change::ForgetAnswer(_)
            | Change::ForgetNode(_)
            | Change::Line(_)
            | Change::Whereabouts(_)
            | Change::Agents(_)
            | Change::Event(_) => {}
        }
        Ok(())
    }
}
