//! The agent's process: a stepping loop after `agent::event_loop`, which itself waits on sockets and a runtime.
//!
//! What can be had without them is the agent's own: inbox, ledger rules, memory, probe windows, routes, report, and of course
//! `planner::node::decide`. The order is the loop's: one step in flight per service, the route before the step, nothing
//! acted on before it is durable, nothing decided from facts older than the last step.

mod deciding;
mod gathering;
mod pulling;
mod saying;
mod stepping;
mod writing;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::Ipv4Addr;

use agent::engine::{EngineError, PullUpdate};
use agent::execute::{Done, StepError};
use agent::inbox::{Inbox, Received};
use agent::link::{Incoming, Outgoing};
use agent::observe::Facts;
use agent::observe::gather::{Gathered, Scope};
use agent::observe::memory::Memory;
use planner::Now;
use planner::node::{History, LedgerChange, Observed, RoutePlan, Verdict, Wanted};
use protocol::acceptance::Seen;
use protocol::id::ServiceName;
use protocol::release::Pin;
use proxy::{Applied, Snapshot};

use super::hardware::{Hardware, Reply};
use gathering::Gathering;
use saying::Voice;
use stepping::Underway;
use writing::Writing;

/// What happens at once is looked at together.
const COALESCE_MS: u64 = 5;
/// Of a hundred hints of the engine so many are lost.
const LOST_HINTS: u64 = 3;

/// Something that the process waits for.
#[derive(Debug)]
enum Event {
    Gathered(Box<Gathered>),
    StepDone(ServiceName, Result<Done, StepError>),
    ImageRemoved(Pin, Result<(), EngineError>),
    TableSet(Box<(Applied, Snapshot)>),
    Pull(Pin, u64, PullUpdate),
    Written,
}

/// See the file's head.
#[derive(Debug)]
pub struct Process {
    /// Tells processes apart.
    pub run: u64,
    inbox: Inbox,
    seen: Option<Seen>,
    /// The newest durable manifest.
    pub wanted: Option<Wanted>,
    is_undecided: bool,
    /// What the ledger remembers.
    pub histories: BTreeMap<ServiceName, History>,
    manifests: VecDeque<Vec<u8>>,
    facts: Facts,
    memory: Memory,
    probes: BTreeMap<String, gathering::Probing>,
    /// What was decided from last.
    pub observed: Observed,
    /// What was decided last.
    pub verdicts: BTreeMap<ServiceName, Verdict>,
    plans: BTreeMap<ServiceName, RoutePlan>,
    busy: BTreeSet<ServiceName>,
    seen_from: BTreeMap<ServiceName, u64>,
    routing: Option<BTreeSet<ServiceName>>,
    closed_at: Now,
    table_version: u64,
    pulls: BTreeMap<Pin, u64>,
    removing_images: BTreeSet<Pin>,
    decide_at: Option<Now>,
    steps: BTreeMap<ServiceName, Underway>,
    last_addresses: BTreeMap<ServiceName, Ipv4Addr>,
    gathering: Gathering,
    writing: Writing,
    voice: Voice,
    events: BTreeMap<(Now, u64), Event>,
    next_event: u64,
}

impl Process {
    /// Takes over what the disk remembers.
    #[must_use]
    pub fn start(run: u64, board: &Hardware) -> Self {
        let now = board.local();
        let mut process = Self {
            run,
            inbox: Inbox::new(board.root.clone(), board.identity.clone()),
            seen: board.disk.seen(),
            wanted: None,
            is_undecided: false,
            histories: BTreeMap::new(),
            manifests: VecDeque::new(),
            facts: Facts::default(),
            memory: Memory::default(),
            probes: BTreeMap::new(),
            observed: Observed::default(),
            verdicts: BTreeMap::new(),
            plans: BTreeMap::new(),
            busy: BTreeSet::new(),
            seen_from: BTreeMap::new(),
            routing: None,
            closed_at: now,
            table_version: 0,
            pulls: BTreeMap::new(),
            removing_images: BTreeSet::new(),
            decide_at: None,
            steps: BTreeMap::new(),
            last_addresses: BTreeMap::new(),
            gathering: Gathering::new(now),
            writing: Writing::new(board),
            voice: Voice::new(board),
            events: BTreeMap::new(),
            next_event: 0,
        };
        process.histories = process.writing.histories(board);
        for name in process.histories.keys().cloned().collect::<Vec<_>>() {
            process.memory.service(&name, now);
        }
        process.recall(board);
        process
    }

    /// Something from the broker.
    pub fn hear(&mut self, message: Incoming, now: Now) {
        match message {
            Incoming::Up => self.voice.is_up(now),
            Incoming::Down => self.voice.is_down(),
            Incoming::Manifest(bytes) => self.manifests.push_back(bytes),
        }
    }

    /// An answer of the hardware to this process.
    pub fn answered(&mut self, reply: Reply, board: &Hardware) {
        let now = board.local();
        let (at, event) = match reply {
            Reply::Engine(service, result, at_ms) => {
                let at = Now(at_ms.saturating_sub(board.boot_at_ms));
                (at, Event::StepDone(service, result))
            }
            Reply::ImageRemoved(pin, result) => (now.plus(1), Event::ImageRemoved(pin, result)),
            Reply::Disk => (now.plus(1), Event::Written),
            Reply::Table(done) => (now.plus(1), Event::TableSet(done)),
        };
        self.later(at, event);
    }

    /// Everything that is due now; returns when to be woken at the latest. Stops in between where the agent is killed.
    pub fn turn(&mut self, board: &mut Hardware) -> Now {
        let now = board.local();
        self.take_hints(board, now);
        while let Some(entry) = self.events.first_entry() {
            if entry.key().0 > now || board.kills_now() {
                break;
            }
            let event = entry.remove();
            self.has_news();
            self.handle(event, board, now);
        }
        if board.kills_now() {
            return now;
        }
        self.probe(board, now);
        self.read_manifests(board);
        self.begin_gathering(board, now);
        if self.decide_at.is_some_and(|at| now >= at) {
            self.decide_at = None;
            self.has_news();
            self.decide(board, now);
            self.begin_gathering(board, now);
        }
        self.begin_writing(board);
        self.say(board, now);
        let moments = [
            self.decide_at,
            self.gathering.wake_at(),
            self.next_probe(),
            Some(self.voice.wake_at(now)),
            self.events.first_key_value().map(|((at, _), _)| *at),
        ];
        moments.into_iter().flatten().min().unwrap_or(now).max(now.plus(1))
    }

    /// What it says, since the last time.
    pub fn take_said(&mut self) -> Vec<Outgoing> {
        std::mem::take(&mut self.voice.said)
    }

    /// Whether nothing is under way.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.busy.is_empty()
            && self.steps.is_empty()
            && self.writing.is_idle()
            && self.routing.is_none()
            && !self.is_undecided
            && self.manifests.is_empty()
            && self.voice.is_told()
    }

    fn handle(&mut self, event: Event, board: &mut Hardware, now: Now) {
        match event {
            Event::Gathered(gathered) => self.gathered(*gathered, board, now),
            Event::StepDone(service, result) => self.step_done(&service, result, board, now),
            Event::ImageRemoved(pin, result) => self.image_removed(&pin, &result, now),
            Event::TableSet(done) => {
                self.table_set(done.0, done.1, &board.identity.environment, now);
            }
            Event::Pull(pin, pull, update) => self.pulled(&pin, pull, update, board, now),
            Event::Written => self.written(board, now),
        }
    }

    fn later(&mut self, at: Now, event: Event) {
        self.events.insert((at, self.next_event), event);
        self.next_event += 1;
    }

    fn decide_by(&mut self, at: Now) {
        self.decide_at = Some(self.decide_at.map_or(at, |before| before.min(at)));
    }

    fn read_manifests(&mut self, board: &mut Hardware) {
        while !self.writing.is_accepting() {
            let Some(bytes) = self.manifests.pop_front() else { return };
            let running = self.histories.keys().cloned().collect();
            match self.inbox.receive(&bytes, self.seen.as_ref(), &running) {
                Received::New { accepted, envelope } => {
                    let generation = accepted.manifest.version.generation;
                    board.act(|| format!("takes manifest {generation}"));
                    self.writing.push(writing::Job::Accept { accepted, envelope });
                }
                Received::Same => {}
                Received::Refused { code, message, .. } => {
                    board.act(|| format!("refuses a manifest: {code}: {message}"));
                }
            }
        }
    }

    /// The engine tells what happened, as a rule.
    fn take_hints(&mut self, board: &mut Hardware, now: Now) {
        let hints = board.docker.take_events();
        if !hints.is_empty() && !board.random.chance(LOST_HINTS) {
            let scope = Scope { containers: true, ..Scope::NOTHING };
            self.gathering.want(scope, now.plus(COALESCE_MS));
        }
        let draining = board.proxy.statuses(board.now_ms);
        if let Some(snapshot) = &mut self.facts.proxy
            && snapshot.table.version == board.proxy.table().version
            && snapshot.backends != draining
        {
            snapshot.backends = draining;
            self.decide_by(now.plus(COALESCE_MS));
        }
    }

    fn needed_change(change: &LedgerChange) -> &'static str {
        match change {
            LedgerChange::Begin { .. } => "begin",
            LedgerChange::Complete(_) => "complete",
            LedgerChange::GiveUp { .. } => "give up",
            LedgerChange::Forget => "forget",
        }
    }
}
