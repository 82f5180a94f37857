//! The state of the loop, and who hears which event.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::Ipv4Addr;

use planner::Now;
use planner::node::{History, Observed, RoutePlan, Verdict, Wanted};
use protocol::acceptance::Seen;
use protocol::id::ServiceName;
use protocol::reason::Reason;
use protocol::release::Pin;
use proxy::Client;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use tracing::{debug, info};

use super::gathering::{Gathering, Watching};
use super::measuring::MemoryPercents;
use super::saying::Voice;
use super::stepping::Underway;
use super::writing::{Job, Writing};
use super::{Event, Parts, Settings, Shared};
use crate::engine::{Engine, EngineEvent};
use crate::inbox::{Inbox, Received};
use crate::link::Incoming;
use crate::observe::Facts;
use crate::observe::gather::Scope;
use crate::observe::memory::Memory;
use crate::probe::Prober;
use crate::registries::Registries;

/// Manifests that wait for the one before them to be written.
const MAX_MANIFESTS: usize = 8;
/// What happens at once is looked at together.
pub(super) const COALESCE_MS: u64 = 5;

/// The node.
pub(super) struct Agent<E: Engine> {
    pub(super) events: mpsc::Sender<Event>,
    pub(super) executor: Shared<E>,
    pub(super) proxy: Client,
    pub(super) registries: Registries,
    pub(super) settings: Settings,
    pub(super) root: protocol::keys::Root,
    pub(super) node: protocol::acceptance::NodeIdentity,
    pub(super) inbox: Inbox,
    pub(super) prober: Prober,
    pub(super) voice: Voice,
    pub(super) writing: Writing,
    pub(super) gathering: Gathering,

    /// The newest durable manifest and what the ledger remembers, as of the last write.
    pub(super) seen: Option<Seen>,
    pub(super) wanted: Option<Wanted>,
    /// Nothing was decided under it yet.
    pub(super) is_undecided: bool,
    pub(super) histories: BTreeMap<ServiceName, History>,
    /// Manifests not looked at yet.
    pub(super) manifests: VecDeque<Vec<u8>>,

    pub(super) facts: Facts,
    pub(super) memory: Memory,
    pub(super) observed: Observed,
    pub(super) verdicts: BTreeMap<ServiceName, Verdict>,
    /// What the table is made of.
    pub(super) plans: BTreeMap<ServiceName, RoutePlan>,
    /// Services with a step under way.
    pub(super) busy: BTreeSet<ServiceName>,
    /// Services whose last step is seen only by a gathering of at least this number.
    pub(super) seen_from: BTreeMap<ServiceName, u64>,
    /// Services whose routes are being set.
    pub(super) routing: Option<BTreeSet<ServiceName>>,
    /// No table is set before this.
    pub(super) route_at: Now,
    /// No address that was refused is tried again before this.
    pub(super) closed_at: Now,
    pub(super) table_version: u64,
    /// Why the fleet port is not open.
    pub(super) fleet_port_trouble: Option<(Reason, String)>,
    pub(super) pulls: BTreeMap<Pin, AbortHandle>,
    pub(super) removing_images: BTreeSet<Pin>,
    /// As measured before the last load that a canary is judged by.
    pub(super) memory_percents: MemoryPercents,
    /// When to decide anew.
    pub(super) decide_at: Option<Now>,
    /// What each step under way is for.
    pub(super) steps: BTreeMap<ServiceName, Underway>,
    /// The address given out last, per service: the next one is another.
    pub(super) last_addresses: BTreeMap<ServiceName, Ipv4Addr>,
    _watching: Vec<Watching>,
}

impl<E: Engine> Agent<E> {
    /// Takes over what the ledger remembers and begins to watch engine, proxy and probes.
    pub(super) fn start(
        parts: Parts<E>,
        events: mpsc::Sender<Event>,
        now: Now,
    ) -> (Self, mpsc::Receiver<Incoming>) {
        let Parts { node, key, root, ledger, executor, proxy, registries, settings, .. } = parts;
        for damage in ledger.damage() {
            tracing::error!(
                damage,
                "ledger damaged: what runs goes on, and the next manifest is waited for"
            );
        }
        let executor = Shared::new(executor);
        let (prober, watching) = super::gathering::watch(&executor, &proxy, &events);
        let voice = Voice::new(key, parts.outgoing, (parts.clock.unix_ms)(), now);
        let mut agent = Self {
            events,
            executor,
            proxy,
            registries,
            settings,
            inbox: Inbox::new(root.clone(), node.clone()),
            root,
            node,
            prober,
            voice,
            seen: ledger.seen(),
            wanted: None,
            is_undecided: false,
            histories: ledger.histories(),
            writing: Writing::new(ledger),
            gathering: Gathering::new(now),
            manifests: VecDeque::new(),
            facts: Facts::default(),
            memory: Memory::default(),
            observed: Observed::default(),
            verdicts: BTreeMap::new(),
            plans: BTreeMap::new(),
            busy: BTreeSet::new(),
            seen_from: BTreeMap::new(),
            routing: None,
            route_at: now,
            closed_at: now,
            table_version: 0,
            fleet_port_trouble: None,
            pulls: BTreeMap::new(),
            removing_images: BTreeSet::new(),
            memory_percents: MemoryPercents::new(),
            decide_at: None,
            steps: BTreeMap::new(),
            last_addresses: BTreeMap::new(),
            _watching: watching,
        };
        for name in agent.histories.keys().cloned().collect::<Vec<_>>() {
            agent.memory.service(&name, now);
        }
        agent.recall();
        (agent, parts.incoming)
    }

    /// Something from the broker.
    pub(super) fn hear(&mut self, message: Incoming, now: Now) {
        match message {
            Incoming::Up => self.voice.is_up(now),
            Incoming::Down => self.voice.is_down(),
            Incoming::Manifest(bytes) => {
                if self.manifests.len() == MAX_MANIFESTS {
                    // The newest counts; the broker keeps it.
                    self.manifests.pop_front();
                }
                self.manifests.push_back(bytes);
            }
        }
    }

    pub(super) fn handle(&mut self, event: Event, now: Now) {
        match event {
            Event::Gathered(gathered) => self.gathered(*gathered, now),
            Event::Engine(event) => self.engine_event(&event, now),
            Event::Probe(changed) => {
                debug!(container = changed.container, probed = ?changed.probed, "probe");
                self.decide_by(now.plus(COALESCE_MS));
            }
            Event::Proxy(event) => self.proxy_event(event, now),
            Event::TableSet { number, result } => self.table_set(number, result, now),
            Event::StepDone { service, number, result } => {
                self.step_done(&service, number, result, now);
            }
            Event::Evidence { service, number, change, evidence } => {
                let evidence = Some(evidence);
                self.writing.push(Job::Record { service, number, change, evidence });
            }
            Event::Written { ledger, job, result } => self.written(*ledger, job, result, now),
            Event::Pull { pin, update } => self.pulled(pin, update, now),
            Event::Measured(percents) => self.memory_percents = percents,
            Event::ImageRemoved { pin, result } => self.image_removed(&pin, result, now),
        }
    }

    /// Everything that follows from what was heard; returns when to be woken at the latest.
    pub(super) fn turn(&mut self, now: Now) -> Now {
        self.read_manifests();
        self.begin_gathering(now);
        if self.decide_at.is_some_and(|at| now >= at) {
            self.decide_at = None;
            self.decide(now);
            // A step that changes what is known may be followed by another gathering at once.
            self.begin_gathering(now);
        }
        self.begin_writing(now);
        self.say(now);
        let moments = [
            self.decide_at,
            self.gathering.wake_at(),
            self.writing.wake_at(),
            Some(self.voice.wake_at(now)),
        ];
        moments.into_iter().flatten().min().unwrap_or(now)
    }

    /// Ends in order: what is being written is written.
    pub(super) async fn finish(self) {
        for pull in self.pulls.values() {
            pull.abort();
        }
        info!("agent ends; what runs goes on");
    }

    pub(super) fn decide_by(&mut self, at: Now) {
        self.decide_at = Some(self.decide_at.map_or(at, |before| before.min(at)));
    }

    fn read_manifests(&mut self) {
        while !self.writing.is_accepting() {
            let Some(bytes) = self.manifests.pop_front() else { return };
            let running = self.histories.keys().cloned().collect();
            match self.inbox.receive(&bytes, self.seen.as_ref(), &running) {
                Received::New { accepted, envelope } => {
                    self.writing.push(Job::Accept { accepted, envelope });
                }
                Received::Same => debug!("manifest seen before"),
                Received::Refused { code, message, count } => {
                    self.voice.refused(code, &message, count);
                }
            }
        }
    }

    fn engine_event(&mut self, event: &EngineEvent, now: Now) {
        let scope = match event {
            EngineEvent::Container { .. } | EngineEvent::Lost => {
                Scope { containers: true, ..Scope::NOTHING }
            }
            EngineEvent::Restored => Scope::ALL,
        };
        debug!(?event, "engine");
        self.gathering.want(scope, now.plus(COALESCE_MS));
    }

    fn proxy_event(&mut self, event: proxy::Event, now: Now) {
        let proxy::Event::Changed(changed) = event;
        match &mut self.facts.proxy {
            Some(snapshot) if snapshot.table.version == changed.version => {
                snapshot.backends = changed.backends;
                self.decide_by(now.plus(COALESCE_MS));
            }
            Some(_) | None if self.routing.is_some() => {}
            Some(_) | None => {
                self.gathering.want(Scope { proxy: true, ..Scope::NOTHING }, now);
            }
        }
    }
}
