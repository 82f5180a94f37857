//! A fleet in virtual time: boards, the broker between, the coordinator. Nothing sleeps; the next thing that happens is what
//! happens next.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use agent::link::{Incoming, Outgoing};
use coordinator::link::said_by;
use coordinator::state::requests::{Accepted, Deploy, Refused};
use coordinator::state::{At, State};
use mqtt::Event;
use mqtt::backoff::Pace;
use mqtt::fake::{Client, ClientId, FakeBroker, Faults};
use protocol::FORMAT;
use protocol::envelope::Envelope;
use protocol::hello::Presence;
use protocol::id::{ReleaseId, ServiceName};
use protocol::release::{Image, Pin, Release};
use protocol::spec::ServiceSpec;
use protocol::topic::{Down, Subject, Topic, Up};

use crate::application::{Application, Nature};
use crate::board::Board;
use crate::board::hardware::{Known, Releases};
use crate::control::Control;
use crate::fleet;
use crate::random::Random;
use crate::trace::Trace;

/// When every world begins; the engine's fake begins then too.
pub const BEGINNING_MS: u64 = 1_000_000;
/// The coordinator looks at its rollouts this often.
const TICK_MS: u64 = 1_000;

/// Whose session it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Whose {
    Coordinator,
    Board(usize),
}

/// See the file's head.
#[derive(Debug)]
pub struct World {
    /// Its time.
    pub now_ms: u64,
    /// Nodes.
    pub boards: Vec<Board>,
    /// The coordinator.
    pub control: Control,
    /// The broker.
    pub broker: FakeBroker,
    /// Chance.
    pub random: Random,
    /// What happened.
    pub trace: Trace,
    /// When the coordinator starts again.
    pub control_starts_at_ms: Option<u64>,
    /// When the broker starts again.
    pub broker_starts_at_ms: Option<u64>,
    sessions: Vec<Whose>,
    of_board: BTreeMap<usize, ClientId>,
    of_control: Option<ClientId>,
    releases: Releases,
    counter: u64,
    tick_at_ms: u64,
}

impl World {
    /// A fleet of so many nodes that have just been switched on.
    #[must_use]
    pub fn new(seed: u64, nodes: usize, faults: Faults, trace: Trace) -> Self {
        let mut random = Random::new(seed);
        let now_ms = BEGINNING_MS;
        let releases: Releases = Rc::new(RefCell::new(BTreeMap::new()));
        let boards = (0..nodes).map(|number| {
            Board::new(number, now_ms, Rc::clone(&releases), random.fork(), trace.clone())
        });
        let boards = boards.collect();
        let broker = FakeBroker::new(random.draw() >> 1, faults);
        let control = Control::new(now_ms, trace.clone());
        let mut world = Self {
            now_ms,
            boards,
            control,
            broker,
            random,
            trace,
            control_starts_at_ms: None,
            broker_starts_at_ms: None,
            sessions: Vec::new(),
            of_board: BTreeMap::new(),
            of_control: None,
            releases,
            counter: 0,
            tick_at_ms: now_ms,
        };
        world.admit_boards();
        world.connect_control();
        world
    }

    /// By their ids, as an operator would without a port to join at.
    fn admit_boards(&mut self) {
        for index in 0..self.boards.len() {
            let node = self.boards[index].hardware.identity.node.clone();
            let admitted = self.ask(|state, at| state.admit(&node, at));
            assert!(matches!(admitted, Ok(Some(Ok(())))), "a new fleet takes its boards");
        }
    }

    /// Lets time pass.
    ///
    /// # Errors
    /// Names an invariant that does not hold.
    pub fn run(&mut self, ms: u64) -> Result<(), String> {
        let until_ms = self.now_ms + ms;
        loop {
            let next_ms = self.next_moment().max(self.now_ms);
            if next_ms > until_ms {
                self.now_ms = until_ms;
                return Ok(());
            }
            self.now_ms = next_ms;
            self.happen()?;
        }
    }

    fn next_moment(&self) -> u64 {
        let boards = self.boards.iter().map(|board| board.wake_at_ms).min();
        let moments = [
            boards,
            self.broker.next_wakeup(),
            self.control.state.as_ref().map(|_| self.tick_at_ms),
            self.control_starts_at_ms,
            self.broker_starts_at_ms,
        ];
        moments.into_iter().flatten().min().unwrap_or(u64::MAX)
    }

    /// Everything that is due.
    fn happen(&mut self) -> Result<(), String> {
        let now_ms = self.now_ms;
        if self.broker_starts_at_ms.is_some_and(|at_ms| at_ms <= now_ms) {
            self.broker_starts_at_ms = None;
            self.broker.start();
            self.trace.note(now_ms, "broker", || "starts".to_owned());
        }
        if self.control_starts_at_ms.is_some_and(|at_ms| at_ms <= now_ms) {
            self.start_control()?;
        }
        for delivery in self.broker.poll(now_ms) {
            self.deliver(delivery.client, delivery.event)?;
        }
        if self.control.state.is_some() && self.tick_at_ms <= now_ms {
            self.tick_at_ms = now_ms + TICK_MS;
            self.ask(|state, at| state.tick(at))?;
        }
        for index in 0..self.boards.len() {
            if self.boards[index].wake_at_ms <= now_ms {
                self.advance(index)?;
            }
        }
        Ok(())
    }

    fn advance(&mut self, index: usize) -> Result<(), String> {
        let now_ms = self.now_ms;
        let board = &mut self.boards[index];
        board.hardware.now_ms = now_ms;
        if board.starts_at_ms.is_some_and(|at_ms| at_ms <= now_ms) {
            board.start();
            self.connect_board(index);
        }
        let said = self.boards[index].advance(now_ms)?;
        for outgoing in said {
            self.publish(index, outgoing);
        }
        if self.boards[index].process.is_none()
            && let Some(session) = self.of_board.remove(&index)
        {
            self.broker.crash(session, now_ms);
        }
        Ok(())
    }

    fn publish(&mut self, index: usize, outgoing: Outgoing) {
        let Some(session) = self.of_board.get(&index) else { return };
        let topic = self.topic(index, Subject::Up(outgoing.subject));
        self.broker.publish(*session, topic, outgoing.payload, self.now_ms);
    }

    fn topic(&self, index: usize, subject: Subject) -> Topic {
        let node = self.boards[index].hardware.identity.node.clone();
        Topic { fleet: fleet::fleet(), node, subject }
    }

    fn connect_board(&mut self, index: usize) {
        let hardware = &self.boards[index].hardware;
        let presence = |online| {
            let presence = Presence { online, boot_id: hardware.boot_id() };
            serde_json::to_vec(&presence).expect("plain data serialises")
        };
        let settings = Client {
            subscriptions: Topic::node_subscriptions(&fleet::fleet(), &hardware.identity.node),
            presence: Some(mqtt::Presence {
                topic: self.topic(index, Subject::Up(Up::Presence)),
                online: presence(true),
                offline: presence(false),
            }),
            pace: pace(),
            ..Client::default()
        };
        let session = self.broker.connect(settings, self.now_ms);
        self.sessions.push(Whose::Board(index));
        self.of_board.insert(index, session);
    }

    fn connect_control(&mut self) {
        let subscriptions = Topic::coordinator_subscriptions(&fleet::fleet());
        let settings = Client { subscriptions, pace: pace(), ..Client::default() };
        self.of_control = Some(self.broker.connect(settings, self.now_ms));
        self.sessions.push(Whose::Coordinator);
    }

    fn start_control(&mut self) -> Result<(), String> {
        self.control_starts_at_ms = None;
        self.trace.note(self.now_ms, "coordinator", || "starts".to_owned());
        self.control.start(self.now_ms);
        self.connect_control();
        self.ask(|_, _| ())?;
        Ok(())
    }

    /// The coordinator is killed, and starts again after a while.
    pub fn crash_control(&mut self, for_ms: u64) {
        self.trace.note(self.now_ms, "coordinator", || "is killed".to_owned());
        self.control.crash();
        if let Some(session) = self.of_control.take() {
            self.broker.crash(session, self.now_ms);
        }
        self.control_starts_at_ms = Some(self.now_ms + for_ms);
    }

    /// The broker dies with what it kept, and starts again after a while.
    pub fn crash_broker(&mut self, for_ms: u64) {
        self.trace.note(self.now_ms, "broker", || "dies".to_owned());
        self.broker.stop(self.now_ms);
        self.broker_starts_at_ms = Some(self.now_ms + for_ms);
    }

    /// Cuts a node off, or lets it through again.
    pub fn cut_off(&mut self, index: usize, is_cut: bool) {
        let Some(session) = self.of_board.get(&index) else { return };
        let name = &self.boards[index].hardware.name;
        self.trace.note(self.now_ms, name, || format!("cut off: {is_cut}"));
        match is_cut {
            true => self.broker.partition(*session, self.now_ms),
            false => self.broker.heal(*session, self.now_ms),
        }
    }

    fn deliver(&mut self, client: ClientId, event: Event) -> Result<(), String> {
        let whose = match (self.of_control == Some(client), self.of_board.iter()) {
            (true, _) => Whose::Coordinator,
            (false, mut boards) => match boards.find(|(_, session)| **session == client) {
                Some((index, _)) => Whose::Board(*index),
                None => return Ok(()),
            },
        };
        match (whose, event) {
            (Whose::Board(index), event) => {
                let message = match event {
                    Event::Up => Incoming::Up,
                    Event::Down { .. } | Event::Refused { .. } => Incoming::Down,
                    Event::Message { topic, payload, .. } => match topic.subject {
                        Subject::Down(Down::Root) => Incoming::Root(payload.to_vec()),
                        Subject::Down(Down::Manifest) => Incoming::Manifest(payload.to_vec()),
                        Subject::Down(Down::Addresses | Down::AgentRelease) => return Ok(()),
                        Subject::Down(Down::Time) => Incoming::Time(payload.to_vec()),
                        Subject::Down(Down::Command) => Incoming::Command(payload.to_vec()),
                        Subject::Up(_) => return Ok(()),
                    },
                };
                self.boards[index].hardware.now_ms = self.now_ms;
                self.boards[index].hear(message);
            }
            (Whose::Coordinator, Event::Up) => {
                self.ask(|state, _| state.publish_everything())?;
            }
            (Whose::Coordinator, Event::Down { .. } | Event::Refused { .. }) => {}
            (Whose::Coordinator, Event::Message { topic, payload, .. }) => {
                let Some((node, up)) = said_by(&topic, &fleet::fleet()) else { return Ok(()) };
                let heard = self.ask(|state, at| state.heard(&node, up, &payload, at))?;
                if let Some(Err(reason)) = heard {
                    self.trace.note(self.now_ms, "coordinator", || {
                        format!("does not take {up:?} of {}: {reason}", node.short())
                    });
                }
            }
        }
        Ok(())
    }

    /// Asks something of the coordinator; none while it is down.
    ///
    /// # Errors
    /// Names an invariant that does not hold.
    pub fn ask<T>(
        &mut self,
        request: impl FnOnce(&mut State, At) -> T,
    ) -> Result<Option<T>, String> {
        let Some((answer, published)) = self.control.ask(self.now_ms, request)? else {
            return Ok(None);
        };
        if let Some(session) = self.of_control {
            for (topic, manifest) in published {
                self.broker.publish(session, topic, manifest, self.now_ms);
            }
        }
        Ok(Some(answer))
    }

    /// Signs a release of this service whose application behaves so.
    pub fn sign(&mut self, spec: &ServiceSpec, application: Application) -> (ReleaseId, Envelope) {
        self.counter += 1;
        let reference = format!("{}:v{}", spec.name, self.counter);
        let digest = format!("sha256:{}", protocol::id::sha256_hex(reference.as_bytes()));
        let pin = Pin::Digest(digest.parse().expect("64 digits"));
        let image = Image { reference, pin };
        let release = Release {
            format: FORMAT,
            fleet: fleet::fleet(),
            counter: self.counter,
            image: image.clone(),
            base: spec.clone(),
            environments: BTreeMap::new(),
        };
        let envelope = Envelope::sign(&release, &[&fleet::release_key()]);
        let payload = serde_json::to_vec(&release).expect("plain data serialises");
        let id = ReleaseId::of_payload(&payload);
        self.trace.note(self.now_ms, "operator", || {
            format!("signs {} as {}: {application:?}", image.reference, id.short())
        });
        for board in &mut self.boards {
            let number = board.hardware.number;
            if application.on(number) == Nature::NoImage {
                continue;
            }
            let takes_ms = board.hardware.random.between(100, 3_000);
            let outcome = agent::engine::fake::PullOutcome::Comes { takes_ms, bytes: 1 << 20 };
            board.hardware.docker.set_registry(&image, outcome, application.behaviour(number));
        }
        let known = Known { image, spec: spec.clone().into(), application };
        self.releases.borrow_mut().insert(id.clone(), known);
        (id, envelope)
    }

    /// Signs and deploys; none while the coordinator is down.
    ///
    /// # Errors
    /// Names an invariant that does not hold.
    pub fn deploy(
        &mut self,
        spec: &ServiceSpec,
        application: Application,
    ) -> Result<Option<Result<Accepted, Refused>>, String> {
        let (_, release) = self.sign(spec, application);
        let environment = fleet::environment();
        let (file, by) = (String::new(), "operator".to_owned());
        let deploy = Deploy { environment, release, file, cause: None, by, if_revision: None };
        self.ask(|state, at| state.deploy(deploy, at))
    }

    /// What a release is.
    #[must_use]
    pub fn known(&self, release: &ReleaseId) -> Option<Known> {
        self.releases.borrow().get(release).cloned()
    }

    /// Which names a service has.
    ///
    /// # Panics
    /// Never: the name is valid.
    #[must_use]
    pub fn service(number: usize) -> ServiceName {
        ["web", "api", "db"][number % 3].parse().expect("a valid name")
    }
}

/// Sessions come back soon, or most of the virtual time would be waiting.
fn pace() -> Pace {
    Pace {
        base: Duration::from_millis(500),
        network_cap: Duration::from_secs(10),
        ..Pace::default()
    }
}
