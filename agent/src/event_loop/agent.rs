//! The state of the loop, and who hears which event. Without IO: what it hears comes as arguments, what follows from it goes
//! out as [`Act`]s, and what it asks at the moment of a decision it asks [`Surroundings`].
//!
//! ```text
//! hear, handle, turn --> Agent --> take_acts: done in this order by whoever drives it (the shell, the simulation)
//! ```

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::Ipv4Addr;

use planner::Now;
use planner::node::{History, Observed, RoutePlan, Verdict, Wanted};
use protocol::acceptance::{Known, Seen};
use protocol::id::{SecretName, ServiceName};
use protocol::join::Coordinators;
use protocol::reason::Reason;
use protocol::release::Pin;
use protocol::retirement::Floors;
use protocol::secret;
use tracing::debug;

use super::acts::{Act, Surroundings};
use super::commanding::MAX_COMMANDS;
use super::examining::RefusedStart;
use super::freshness::{Freshness, MAX_TIMES};
use super::gathering::Gathering;
use super::measuring::MemoryPercents;
use super::saying::{Intervals, Voice};
use super::stepping::{Collecting, Underway};
use super::updating::Updates;
use super::writing::{Job, Writing};
use super::{Beginning, Event, Settings};
use crate::commands::Commands;
use crate::engine::EngineEvent;
use crate::inbox::{Inbox, Received, ReceivedRoots};
use crate::ledger::Hold;
use crate::link::Incoming;
use crate::observe::Facts;
use crate::observe::gather::Scope;
use crate::observe::memory::Memory;
use crate::policy::Looked;

/// Manifests that wait for the one before them to be written.
const MAX_MANIFESTS: usize = 8;
/// What happens at once is looked at together.
pub(super) const COALESCE_MS: u64 = 5;

/// The node.
#[derive(Debug)]
pub struct Agent {
    /// What is to be done, in this order.
    pub(super) acts: Vec<Act>,
    pub(super) settings: Settings,
    /// What the file says that `trust_root` names.
    pub(super) first_root: protocol::keys::Root,
    pub(super) node: protocol::acceptance::NodeIdentity,
    pub(super) inbox: Inbox,
    pub(super) voice: Voice,
    pub(super) freshness: Freshness,
    pub(super) writing: Writing,
    pub(super) gathering: Gathering,

    /// The newest durable manifest and what the ledger remembers, as of the last write.
    pub(super) seen: Option<Seen>,
    pub(super) floors: Floors,
    pub(super) wanted: Option<Wanted>,
    /// Copies of secrets that are durable and that this node can open, by name and version.
    pub(super) copies: BTreeMap<(SecretName, u64), secret::Copy>,
    /// Copies that open and are logins for pulls, by registry.
    pub(super) logins: BTreeMap<String, secret::Copy>,
    /// Nothing was decided under it yet.
    pub(super) is_undecided: bool,
    pub(super) histories: BTreeMap<ServiceName, History>,
    /// Services that root of the node holds, as of the last write.
    pub(super) holds: BTreeMap<ServiceName, Hold>,
    /// Trust roots not looked at yet: each chain is whole, the last one counts.
    pub(super) roots: Option<Vec<u8>>,
    /// Manifests not looked at yet.
    pub(super) manifests: VecDeque<Vec<u8>>,
    /// Signed times not looked at yet.
    pub(super) times: VecDeque<Vec<u8>>,
    /// Where the coordinator is, not looked at yet: the last one counts.
    pub(super) addresses: Option<Vec<u8>>,
    /// What of it is on its way to the disk.
    pub(super) learning: Option<Coordinators>,
    /// Commands not looked at yet.
    pub(super) incoming_commands: VecDeque<Vec<u8>>,
    pub(super) commands: Commands,
    /// Which agent this one is, and is to become.
    pub(super) updates: Updates,

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
    /// The number of each pull under way: what an earlier one of the image still says is not about it.
    pub(super) pulls: BTreeMap<Pin, u64>,
    pub(super) last_pull: u64,
    /// Images that were pulled, each seen only by a gathering of at least this number.
    pub(super) images_seen_from: BTreeMap<Pin, u64>,
    pub(super) removing_images: BTreeSet<Pin>,
    /// What the node lets containers have of it; none: not looked at yet.
    pub(super) policy: Option<Looked>,
    /// As measured before the last load that a canary is judged by.
    pub(super) memory_percents: MemoryPercents,
    /// When to decide anew.
    pub(super) decide_at: Option<Now>,
    /// What each step under way is for.
    pub(super) steps: BTreeMap<ServiceName, Underway>,
    /// The address given out last, per service: the next one is another.
    pub(super) last_addresses: BTreeMap<ServiceName, Ipv4Addr>,
    /// Failures that are written down once their evidence is there.
    pub(super) collecting: BTreeMap<ServiceName, Collecting>,
    /// Containers whose end is looked into, with the start that the engine refused, where it did.
    pub(super) examining: BTreeMap<String, Option<RefusedStart>>,
}

impl Agent {
    /// Takes over what the ledger remembers.
    #[must_use]
    pub fn new(beginning: Beginning, now: Now) -> Self {
        let Beginning { node, key, root, settings, ledger, boot_id, opened_at, .. } = beginning;
        let floor = settings.between.floor.clone();
        let intervals = Intervals::of(settings.metered);
        let updates = Updates::new(settings.own.clone(), now);
        let mut agent = Self {
            acts: Vec::new(),
            settings,
            inbox: Inbox::new(ledger.trust(&root), node.clone()).raising(floor),
            first_root: root,
            node,
            voice: Voice::new(key, &boot_id, (beginning.unix_ms, beginning.cores), intervals, now),
            seen: ledger.seen(),
            floors: ledger.floors().clone(),
            wanted: None,
            copies: BTreeMap::new(),
            logins: BTreeMap::new(),
            is_undecided: false,
            histories: ledger.histories(&boot_id, opened_at),
            holds: ledger.holds(),
            writing: Writing::new(ledger, boot_id, opened_at),
            freshness: Freshness::new(now),
            gathering: Gathering::new(now),
            roots: None,
            manifests: VecDeque::new(),
            times: VecDeque::new(),
            addresses: None,
            learning: None,
            incoming_commands: VecDeque::new(),
            commands: Commands::default(),
            updates,
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
            last_pull: 0,
            images_seen_from: BTreeMap::new(),
            removing_images: BTreeSet::new(),
            policy: None,
            memory_percents: MemoryPercents::new(),
            decide_at: None,
            steps: BTreeMap::new(),
            last_addresses: BTreeMap::new(),
            collecting: BTreeMap::new(),
            examining: BTreeMap::new(),
        };
        for name in agent.histories.keys().cloned().collect::<Vec<_>>() {
            agent.memory.service(&name, now);
        }
        agent.recall();
        agent
    }

    /// Something from the broker.
    pub fn hear(&mut self, message: Incoming, now: Now) {
        match message {
            Incoming::Up => {
                self.voice.is_up(now);
                self.freshness.is_up(now);
            }
            Incoming::Down => {
                self.voice.is_down();
                self.freshness.is_down(now);
            }
            Incoming::Root(bytes) => self.roots = Some(bytes),
            Incoming::Manifest(bytes) => {
                if self.manifests.len() == MAX_MANIFESTS {
                    // The newest counts; the broker keeps it.
                    self.manifests.pop_front();
                }
                self.manifests.push_back(bytes);
            }
            Incoming::Time(bytes) => {
                if self.times.len() == MAX_TIMES {
                    self.times.pop_front();
                }
                self.times.push_back(bytes);
            }
            Incoming::Addresses(bytes) => self.addresses = Some(bytes),
            Incoming::AgentRelease(bytes) => self.updates.hear(bytes),
            Incoming::Command(bytes) => {
                if self.incoming_commands.len() == MAX_COMMANDS {
                    self.incoming_commands.pop_front();
                }
                self.incoming_commands.push_back(bytes);
            }
        }
    }

    /// Something that was done, or that happened.
    pub fn handle(&mut self, event: Event, around: &dyn Surroundings, now: Now) {
        // What a command writes is not news of the node.
        self.voice.has_news |= !matches!(event, Event::Stream(..));
        match event {
            Event::Gathered(gathered) => self.gathered(*gathered, around, now),
            Event::Engine(event) => self.engine_event(&event, now),
            Event::Probe(changed) => {
                debug!(container = changed.container, probed = ?changed.probed, "probe");
                self.decide_by(now);
            }
            Event::Proxy(event) => self.proxy_event(event, now),
            Event::TableSet(result) => self.table_set(*result, now),
            Event::StepDone { service, result } => self.step_done(&service, result, now),
            Event::Evidence { service, log } => self.evidence_is_there(service, log),
            Event::Written { write, result } => self.written(*write, result, now),
            Event::Pull { pin, number, update } => self.pulled(pin, number, update, now),
            Event::Policy(looked) => self.policy_changed(*looked, now),
            Event::Measured(percents) => self.memory_percents = percents,
            Event::ImageRemoved { pin, result } => self.image_removed(&pin, result, now),
            Event::ImageDiscarded { pin, result } => self.image_discarded(pin, result, now),
            Event::Examined { container, result } => self.examined(&container, result, now),
            Event::Learned(result) => self.learned(result, now),
            Event::Asked(asked) => self.asked(*asked, now),
            Event::Stream(id, told) => self.streamed(&id, told, now),
            Event::Update(news) => self.update_news(news, now),
            Event::Unsaid(subject) => self.voice.unsaid(subject),
        }
    }

    /// Everything that follows from what was heard; returns when to be woken at the latest.
    pub fn turn(&mut self, around: &mut dyn Surroundings, now: Now) -> Now {
        self.read_roots();
        self.read_manifests(now);
        self.read_times(now);
        self.read_addresses();
        self.read_agent_release();
        self.read_commands(now);
        self.look_for_alarms(now);
        self.begin_gathering(now);
        if self.decide_at.is_some_and(|at| now >= at) {
            self.decide_at = None;
            self.decide(around, now);
            // A step that changes what is known may be followed by another gathering at once.
            self.begin_gathering(now);
        }
        self.begin_writing(now);
        self.look_for_updates(now);
        self.say(around, now);
        let moments = [
            self.decide_at,
            self.gathering.wake_at(),
            self.writing.wake_at(),
            self.freshness.wake_at(),
            self.commands.wake_at(),
            self.updates.wake_at(),
            Some(self.voice.wake_at(now)),
        ];
        moments.into_iter().flatten().min().unwrap_or(now)
    }

    /// What is to be done, in this order, since the last time.
    #[must_use]
    pub fn take_acts(&mut self) -> Vec<Act> {
        std::mem::take(&mut self.acts)
    }

    /// The newest durable manifest, with its releases.
    #[must_use]
    pub const fn wanted(&self) -> Option<&Wanted> {
        self.wanted.as_ref()
    }

    /// What the ledger remembers of each service.
    #[must_use]
    pub const fn histories(&self) -> &BTreeMap<ServiceName, History> {
        &self.histories
    }

    /// What was decided from last.
    #[must_use]
    pub const fn observed(&self) -> &Observed {
        &self.observed
    }

    /// What was decided last.
    #[must_use]
    pub const fn verdicts(&self) -> &BTreeMap<ServiceName, Verdict> {
        &self.verdicts
    }

    /// Whether nothing is under way, and what there is to say is said.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.busy.is_empty()
            && self.steps.is_empty()
            && self.examining.is_empty()
            && self.writing.is_idle()
            && self.routing.is_none()
            && !self.is_undecided
            && self.roots.is_none()
            && self.manifests.is_empty()
            && self.times.is_empty()
            && self.addresses.is_none()
            && self.learning.is_none()
            && self.updates.is_quiet()
            && self.incoming_commands.is_empty()
            && self.voice.is_told()
    }

    pub(super) fn decide_by(&mut self, at: Now) {
        self.decide_at = Some(self.decide_at.map_or(at, |before| before.min(at)));
    }

    /// Before the manifests that may be signed under them.
    fn read_roots(&mut self) {
        if self.writing.is_accepting() {
            return;
        }
        let Some(bytes) = self.roots.take() else { return };
        let ReceivedRoots { newest, proofs, refused } = self.inbox.receive_roots(&bytes);
        if let Some(refusal) = refused {
            self.voice.has_news = true;
            self.tell_refused(Reason::RootRefused, &refusal);
        }
        if let Some(root) = newest {
            let before = Box::new(self.inbox.trust().root.clone());
            self.writing.push(Job::Succeed { root, before, proofs });
        }
    }

    fn read_manifests(&mut self, now: Now) {
        while !self.writing.is_accepting() {
            let Some(bytes) = self.manifests.pop_front() else { return };
            self.voice.has_news = true;
            let running = self.histories.keys().cloned().collect();
            let (seen, floors) = (self.seen.as_ref(), &self.floors);
            match self.inbox.receive(&bytes, Known { seen, running: &running, floors }) {
                Received::New { accepted, envelope } => {
                    self.writing.push(Job::Accept { accepted, envelope });
                }
                Received::Same => {
                    debug!("manifest seen before");
                    self.ask_who_is_there(now);
                }
                Received::Refused(refusal) => {
                    self.tell_refused(Reason::ManifestRefused, &refusal);
                }
            }
        }
    }

    fn engine_event(&mut self, event: &EngineEvent, now: Now) {
        let scope = match event {
            EngineEvent::Container { id, action } if self.is_own_doing(id, *action) => return,
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
