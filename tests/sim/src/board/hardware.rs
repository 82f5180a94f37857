//! What outlives the agent's process: the engine, the disk, the proxy, and requests that are on their way to them.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::Arc;

use agent::engine::fake::FakeDocker;
use agent::engine::{ContainerSpec, EngineError, Network, NetworkSpec, Ours, Signal};
use agent::execute::{Creation, Done, StepError, Task};
use agent::ledger::Contents;
use agent::network::{SERVICE_PREFIX, choose_address, choose_subnet};
use planner::Now;
use planner::node::{AfterGivingUp, LedgerChange};
use protocol::acceptance::NodeIdentity;
use protocol::id::{ReleaseId, ServiceName, Template};
use protocol::keys::Root;
use protocol::release::{Image, Pin};
use protocol::spec::ServiceSpec;
use proxy::{Applied, Snapshot, Table};

use super::proxy::Proxy;
use crate::application::{Application, Nature};
use crate::fleet;
use crate::random::Random;
use crate::trace::Trace;

/// A release as the world knows it.
#[derive(Debug, Clone)]
pub struct Known {
    /// Its image.
    pub image: Image,
    /// What runs.
    pub spec: Arc<ServiceSpec>,
    /// What its application does.
    pub application: Application,
}

/// Every release.
pub type Releases = Rc<RefCell<BTreeMap<ReleaseId, Known>>>;

/// A table is in force this long after it was asked for, at most.
pub const TABLE_MS: u64 = 3;

/// Something on its way to engine, disk or proxy.
#[derive(Debug)]
pub enum Request {
    /// A step.
    Engine {
        /// Of this service.
        service: ServiceName,
        /// What.
        task: Task,
    },
    /// An image goes.
    RemoveImage(Image),
    /// The ledger's next contents.
    Disk {
        /// All of them.
        contents: Arc<Contents>,
        /// What was decided for a service, where that is what changes.
        change: Option<(ServiceName, LedgerChange)>,
    },
    /// The proxy's next table.
    Table(Table),
}

/// What came of it.
#[derive(Debug)]
pub enum Reply {
    /// Of a step; the moment is when the engine answers.
    Engine(ServiceName, Result<Done, StepError>, u64),
    /// Of an image.
    ImageRemoved(Pin, Result<(), EngineError>),
    /// It is durable.
    Disk,
    /// It is in force.
    Table(Box<(Applied, Snapshot)>),
}

/// A board without its agent.
#[derive(Debug)]
pub struct Hardware {
    /// Its number in the fleet.
    pub number: usize,
    /// Who it is.
    pub identity: NodeIdentity,
    /// Whom it trusts.
    pub root: Root,
    /// The world's time.
    pub now_ms: u64,
    /// When this boot began.
    pub boot_at_ms: u64,
    /// Counts boots.
    pub boot: u32,
    /// How far its wall clock is ahead.
    pub skew_ms: i64,
    /// The engine.
    pub docker: FakeDocker,
    /// The ledger.
    pub disk: Arc<Contents>,
    /// The proxy.
    pub proxy: Proxy,
    /// Bytes that are free.
    pub memory_available: Option<u64>,
    /// Of the disk.
    pub disk_used_percent: Option<u8>,
    /// No registry answers before this.
    pub registry_away_until_ms: u64,
    /// What releases are.
    pub releases: Releases,
    /// What was promised by verified manifests that are durable.
    pub allowed: BTreeSet<ReleaseId>,
    /// What each container was made from.
    made_from: BTreeMap<String, ReleaseId>,
    /// When each container started last, in the world's time.
    pub started_at_ms: BTreeMap<String, u64>,
    /// Containers that were told to stop since their last start.
    pub doomed: BTreeSet<String>,
    /// How often each template of a service went back by itself, by attempt.
    pub went_back: BTreeMap<(ServiceName, Template, u32), u32>,
    /// On their way, by the time they arrive, with the process that sent them.
    requests: BTreeMap<(u64, u64), (u64, Request)>,
    next_request: u64,
    /// When something happens by itself.
    moments: BTreeSet<u64>,
    /// Chance.
    pub random: Random,
    /// Acts that are left before the agent is killed.
    pub kill_after: Option<u32>,
    /// For people.
    pub trace: Trace,
    /// What the trace calls it.
    pub name: String,
}

impl Hardware {
    /// A new board that boots now.
    #[must_use]
    pub fn new(
        (number, name): (usize, String),
        now_ms: u64,
        releases: Releases,
        (random, trace): (Random, Trace),
    ) -> Self {
        let identity = fleet::identity(number);
        Self {
            number,
            identity,
            root: fleet::root(),
            now_ms,
            boot_at_ms: now_ms,
            boot: 1,
            skew_ms: 0,
            docker: FakeDocker::default(),
            disk: Arc::default(),
            proxy: Proxy::default(),
            memory_available: None,
            disk_used_percent: Some(10),
            registry_away_until_ms: 0,
            releases,
            allowed: BTreeSet::new(),
            made_from: BTreeMap::new(),
            started_at_ms: BTreeMap::new(),
            doomed: BTreeSet::new(),
            went_back: BTreeMap::new(),
            requests: BTreeMap::new(),
            next_request: 0,
            moments: BTreeSet::new(),
            random,
            kill_after: None,
            trace,
            name,
        }
    }

    /// Whose containers it has.
    #[must_use]
    pub fn ours(&self) -> Ours {
        Ours { fleet: self.identity.fleet.clone(), node: self.identity.node.clone() }
    }

    /// Its clock of spans.
    #[must_use]
    pub const fn local(&self) -> Now {
        Now(self.now_ms - self.boot_at_ms)
    }

    /// Its boot, by name.
    #[must_use]
    pub fn boot_id(&self) -> String {
        format!("{}-boot-{}", self.name, self.boot)
    }

    /// What the wall shows.
    #[must_use]
    pub const fn unix_ms(&self) -> u64 {
        (1_700_000_000_000 + self.now_ms).saturating_add_signed(self.skew_ms)
    }

    /// One more act of the agent is done; whether it is killed right after it.
    pub fn act(&mut self, text: impl FnOnce() -> String) {
        self.trace.note(self.now_ms, &self.name, text);
        self.kill_after = self.kill_after.map(|left| left.saturating_sub(1));
    }

    /// Whether the agent is to be killed now.
    #[must_use]
    pub const fn kills_now(&self) -> bool {
        matches!(self.kill_after, Some(0))
    }

    /// Sends a request, which arrives a little later.
    pub fn send(&mut self, run: u64, request: Request) {
        let slowest_ms = match request {
            Request::Engine { .. } | Request::RemoveImage(_) => 30,
            Request::Disk { .. } => 15,
            Request::Table(_) => TABLE_MS,
        };
        let at_ms = self.now_ms + self.random.between(1, slowest_ms);
        self.requests.insert((at_ms, self.next_request), (run, request));
        self.next_request += 1;
    }

    /// The next moment at which something happens by itself.
    #[must_use]
    pub fn next_moment(&self) -> Option<u64> {
        let arrival = self.requests.first_key_value().map(|((at_ms, _), _)| *at_ms);
        [arrival, self.moments.first().copied()].into_iter().flatten().min()
    }

    /// Lets time pass; requests that have arrived by then are done. The next of their answers, if there is one.
    pub fn pass(&mut self, now_ms: u64) -> Option<(u64, Reply)> {
        self.now_ms = now_ms;
        let behind_ms = now_ms.saturating_sub(self.docker.now_ms());
        self.docker.advance(behind_ms);
        while self.moments.first().is_some_and(|at_ms| *at_ms <= now_ms) {
            self.moments.pop_first();
        }
        let arrival = self.requests.first_key_value().map(|((at_ms, _), _)| *at_ms)?;
        if arrival > now_ms {
            return None;
        }
        let (_, (run, request)) = self.requests.pop_first()?;
        Some((run, self.fulfil(request)))
    }

    /// The agent died: a write or a table that was on its way arrives or does not; the engine's requests arrive, or
    /// were never sent.
    pub fn settle_requests(&mut self) {
        for (key, (run, request)) in std::mem::take(&mut self.requests) {
            if self.random.chance(50) {
                continue;
            }
            match request {
                Request::Disk { .. } | Request::Table(_) => drop(self.fulfil(request)),
                Request::Engine { .. } | Request::RemoveImage(_) => {
                    self.requests.insert(key, (run, request));
                }
            }
        }
    }

    /// The machine loses power and starts again: every process is gone, the clock of spans begins anew.
    pub fn reboot(&mut self) {
        self.settle_requests();
        self.requests.clear();
        let containers = self.docker.containers(&self.ours()).unwrap_or_default();
        for container in containers {
            self.docker.crash(&container.id, 255);
        }
        self.proxy.reboot();
        self.boot += 1;
        self.boot_at_ms = self.now_ms;
    }

    /// A release, by its id.
    #[must_use]
    pub fn known(&self, release: &ReleaseId) -> Option<Known> {
        self.releases.borrow().get(release).cloned()
    }

    /// How long a container runs; none: it does not.
    #[must_use]
    pub fn age_ms(&self, container: &str) -> Option<u64> {
        self.now_ms.checked_sub(*self.started_at_ms.get(container)?)
    }

    /// Whether a container's process runs.
    #[must_use]
    pub fn is_running(&self, container: &str) -> bool {
        self.docker.is_running(container)
    }

    /// Whether an instance would pass its readiness now.
    #[must_use]
    pub fn is_ready(&self, container: &str) -> bool {
        let (Some(application), Some(age_ms)) =
            (self.application_in(container), self.age_ms(container))
        else {
            return false;
        };
        self.is_running(container) && application.is_ready(self.number, age_ms)
    }

    /// Whether an instance is ready and will stay so.
    #[must_use]
    pub fn is_lastingly_ready(&self, container: &str) -> bool {
        let application = self.application_in(container);
        application.is_some_and(|a| a.on(self.number).is_lasting()) && self.is_ready(container)
    }

    /// Whether an instance would pass its liveness now.
    #[must_use]
    pub fn is_alive(&self, container: &str) -> bool {
        let (Some(application), Some(age_ms)) =
            (self.application_in(container), self.age_ms(container))
        else {
            return false;
        };
        self.is_running(container) && application.is_alive(self.number, age_ms)
    }

    /// Requests are counted up to now.
    pub fn count_requests(&mut self) {
        let releases = self.releases.borrow();
        let errors = |release: &str| {
            let known = releases.iter().find(|(id, _)| id.as_str() == release);
            match known.map(|(_, of_it)| of_it.application.on(self.number)) {
                Some(Nature::Errs(percent)) => percent,
                Some(_) | None => 0,
            }
        };
        self.proxy.count(self.now_ms, errors);
    }

    fn fulfil(&mut self, request: Request) -> Reply {
        match request {
            Request::Engine { service, task } => {
                let done = self.execute(&task);
                let at_ms = match (&task, &done) {
                    (Task::Start { container, .. }, Ok(_)) => {
                        self.started_at_ms.get(container).copied().unwrap_or(0)
                    }
                    _ => 0,
                };
                let at_ms = at_ms.max(self.now_ms + self.random.between(1, 10));
                Reply::Engine(service, done, at_ms)
            }
            Request::RemoveImage(image) => {
                let result = self.docker.remove_image(&image);
                Reply::ImageRemoved(image.pin, result)
            }
            Request::Disk { contents, change } => {
                self.disk = contents;
                if let Some((service, change)) = change {
                    self.note_change(&service, &change);
                }
                Reply::Disk
            }
            Request::Table(table) => {
                let (applied, ends) = self.proxy.set(table, self.now_ms, &mut self.random);
                self.moments.extend(ends);
                Reply::Table(Box::new((applied, self.proxy.snapshot(self.now_ms))))
            }
        }
    }

    /// Remembers what is decided once and for all, for the safety of it.
    fn note_change(&mut self, service: &ServiceName, change: &LedgerChange) {
        if let LedgerChange::GiveUp { failed, then: AfterGivingUp::GoBack, .. } = change {
            let key = (service.clone(), failed.template.clone(), failed.attempt);
            *self.went_back.entry(key).or_default() += 1;
        }
        if *change == LedgerChange::Forget {
            self.went_back.retain(|(name, ..), _| name != service);
        }
    }

    /// As `agent::execute` does it.
    fn execute(&mut self, task: &Task) -> Result<Done, StepError> {
        match task {
            Task::Create(creation) => return self.create(creation),
            Task::Start { container, .. } => self.start(container)?,
            Task::Terminate { container } => self.signal(container, Signal::Term)?,
            Task::Kill { container } => self.signal(container, Signal::Kill)?,
            Task::Remove { container, .. } => self.docker.remove(container)?,
            Task::CreateNetwork { service } => drop(self.create_network(service)?),
            Task::RemoveNetwork { network: Some(id) } => self.docker.remove_network(id)?,
            Task::RemoveNetwork { network: None } => {}
        }
        Ok(Done::Plain)
    }

    fn create(&mut self, creation: &Creation) -> Result<Done, StepError> {
        let nature = self.known(&creation.release.0).map(|of_it| of_it.application.on(self.number));
        if let Some(Nature::CannotCreate { permanent }) = nature {
            return Err(refusal(permanent).into());
        }
        let network = match &creation.network {
            Some(network) => network.clone(),
            None => self.create_network(&creation.service)?,
        };
        let subnet = network.subnet;
        let address = choose_address(subnet, &creation.used, creation.last_address)
            .ok_or(StepError::SubnetUsedUp { subnet })?;
        let (release, (template, slot)) = (&creation.release, &creation.template);
        let spec = ContainerSpec::of_release(
            &self.ours(),
            &self.identity.environment,
            (&release.0, &release.1),
            (template, *slot),
            (address, "hosts".into()),
        );
        let container = self.docker.create(&spec)?;
        self.made_from.insert(container, spec.identity.release);
        Ok(Done::Created { address })
    }

    fn create_network(&mut self, service: &ServiceName) -> Result<Network, StepError> {
        let pool = "10.215.0.0/16".parse().expect("a network");
        let taken: Vec<_> =
            self.docker.networks(&self.ours())?.into_iter().map(|network| network.subnet).collect();
        let subnet =
            choose_subnet(pool, SERVICE_PREFIX, &taken).ok_or(StepError::PoolUsedUp { pool })?;
        let environment = self.identity.environment.clone();
        let (ours, service) = (self.ours(), service.clone());
        Ok(self.docker.create_network(&NetworkSpec { ours, environment, service, subnet })?)
    }

    fn start(&mut self, container: &str) -> Result<(), EngineError> {
        let application = self.application_in(container);
        if let Some(Nature::CannotStart { permanent }) =
            application.as_ref().map(|a| a.on(self.number))
        {
            return Err(refusal(permanent));
        }
        let since_ms = self.docker.start(container)?;
        self.started_at_ms.insert(container.to_owned(), since_ms);
        self.doomed.remove(container);
        self.moments.insert(since_ms);
        let ends = application.and_then(|a| a.behaviour(self.number).ends);
        self.moments.extend(ends.map(|ending| since_ms + ending.after_ms));
        Ok(())
    }

    fn signal(&mut self, container: &str, signal: Signal) -> Result<(), EngineError> {
        self.docker.signal(container, signal)?;
        self.doomed.insert(container.to_owned());
        let stops_ms = self.application_in(container).and_then(|a| a.stops_ms);
        self.moments.extend(stops_ms.map(|ms| self.now_ms + ms));
        Ok(())
    }

    fn application_in(&self, container: &str) -> Option<Application> {
        Some(self.known(self.made_from.get(container)?)?.application)
    }
}

fn refusal(permanent: bool) -> EngineError {
    if permanent {
        EngineError::BadRequest("refused for good".to_owned())
    } else {
        EngineError::Other("refused for now".to_owned())
    }
}
