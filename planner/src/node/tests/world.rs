//! A node without Docker, proxy or disk: it takes verdicts, does their steps and lets time pass.

use std::collections::BTreeMap;

use protocol::id::{ReleaseId, ServiceName, Template};
use protocol::manifest::HookKind;
use protocol::peers::Peers;
use protocol::reason::Reason;
use protocol::report::Phase;
use protocol::retirement::Floors;

use super::wishes::name;
use crate::Now;
use crate::node::retired;
use crate::node::{
    BackendState, Decision, Decisions, Exit, Finding, History, ImageState, ImageStep, Instance,
    LedgerChange, Life, Observed, Probed, Routing, Step, StepFailure, Verdict, Wanted, decide,
};

/// How the application of one release behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum App {
    /// Ready this long after its start.
    Ready(u64),
    /// Ready after that long, and not any more this long after its start.
    ReadyUntil(u64, u64),
    /// Answers, never ready.
    NeverReady,
    /// Exits this long after its start.
    Exits(u64),
    /// The registry does not know its image.
    NoImage,
    /// Docker refuses to create it.
    CannotCreate,
    /// Docker cannot start it.
    CannotStart,
}

pub(super) struct World {
    pub(super) now: Now,
    pub(super) wanted: Wanted,
    pub(super) observed: Observed,
    pub(super) history: BTreeMap<ServiceName, History>,
    pub(super) apps: BTreeMap<ReleaseId, App>,
    pub(super) told: Vec<String>,
    /// An instance that is told to stop takes this long.
    pub(super) stop_ms: u64,
    /// Connections that stay on an instance when it begins to drain.
    pub(super) lingering: u64,
    /// Instances that were told to stop, whether or not the agent still knows.
    pub(super) doomed: BTreeMap<String, Now>,
    containers: u32,
}

impl World {
    pub(super) fn new() -> Self {
        let environment = "default".parse().expect("a valid name");
        Self {
            now: Now(1_000_000),
            wanted: Wanted {
                environment,
                assignments: BTreeMap::new(),
                held: BTreeMap::new(),
                hooks: BTreeMap::new(),
                releases: BTreeMap::new(),
                floors: Floors::new(),
                peers: Peers::default(),
            },
            observed: Observed::default(),
            history: BTreeMap::new(),
            apps: BTreeMap::new(),
            told: Vec::new(),
            stop_ms: 100,
            lingering: 0,
            doomed: BTreeMap::new(),
            containers: 0,
        }
    }

    pub(super) fn decide(&self) -> Decisions {
        decide(&self.wanted, &self.observed, &self.history, self.now)
    }

    pub(super) fn verdict(&self, service: &str) -> Verdict {
        self.decide().services.remove(&name(service)).expect("the service is decided")
    }

    pub(super) fn instances(&self, service: &str) -> &[Instance] {
        self.observed.services.get(&name(service)).map_or(&[], |f| &f.instances)
    }

    /// One pass: for each service the route where it differs, else one step. Says whether anything was done.
    pub(super) fn pass(&mut self) -> bool {
        let mut acted = false;
        let decisions = self.decide();
        for step in decisions.images {
            if let ImageStep::Discard(image) = step {
                self.told.push(format!("discard {}", image.reference));
                self.observed.images.remove(&image.pin);
                acted = true;
            }
        }
        for (service, verdict) in decisions.services {
            if self.set_route(&service, &verdict) {
                acted = true;
                continue;
            }
            if let Decision::Do(step) = verdict.decision {
                self.step(&service, step);
                acted = true;
            }
        }
        acted
    }

    /// Passes until nothing is left to do now, then lets `ms` go by.
    pub(super) fn tick(&mut self, ms: u64) {
        let mut passes = 0;
        while self.pass() {
            passes += 1;
            assert!(passes < 500, "never comes to rest: {:#?}", self.told);
        }
        self.pass_time(ms);
    }

    pub(super) fn run(&mut self, ms: u64) {
        for _ in 0..ms / 50 {
            self.tick(50);
        }
    }

    pub(super) fn pass_time(&mut self, ms: u64) {
        self.now = self.now.plus(ms);
        let (now, stop_ms) = (self.now, self.stop_ms);
        for facts in self.observed.services.values_mut() {
            for instance in &mut facts.instances {
                let app = self.apps[&instance.release];
                let told = self.doomed.get(&instance.container);
                if instance.is_up() && told.is_some_and(|at| now.since(*at) >= stop_ms) {
                    self.doomed.remove(&instance.container);
                    end(instance, now);
                } else {
                    if live(instance, app, now) {
                        facts.progress_at = Some(now);
                        facts.candidate_progress_at = Some(now);
                    }
                }
            }
        }
    }

    /// The agent is killed and starts again: what it only remembered is gone.
    pub(super) fn kill_agent(&mut self) {
        let now = self.now;
        for facts in self.observed.services.values_mut() {
            facts.failure = None;
            facts.progress_at = Some(now);
            facts.candidate_progress_at = Some(now);
            for instance in &mut facts.instances {
                instance.exits = 0;
                if let Life::Stopping { since } = instance.life {
                    instance.life = Life::Running { since };
                }
                if let Routing::Draining { since } = &mut instance.routing {
                    *since = now;
                }
            }
        }
    }

    fn set_route(&mut self, service: &ServiceName, verdict: &Verdict) -> bool {
        let Some(facts) = self.observed.services.get_mut(service) else { return false };
        let port = verdict.route.as_ref().and_then(|route| route.ports.first());
        let mut changed = false;
        for instance in &mut facts.instances {
            let backend =
                port.and_then(|p| p.backends.iter().find(|b| b.container == instance.container));
            let routing = match (backend.map(|b| b.state), instance.routing) {
                (None, _) => Routing::Absent,
                (Some(BackendState::Active), _) => Routing::Active,
                (Some(BackendState::Suspended), _) => Routing::Suspended,
                (Some(BackendState::Draining), Routing::Draining { since }) => {
                    Routing::Draining { since }
                }
                (Some(BackendState::Draining), _) => {
                    instance.in_flight = self.lingering;
                    Routing::Draining { since: self.now }
                }
            };
            if routing != instance.routing {
                let word = match routing {
                    Routing::Absent => "unroute",
                    Routing::Active => "route",
                    Routing::Suspended => "suspend",
                    Routing::Draining { .. } => "drain",
                };
                self.told.push(format!("{word} {}", instance.name));
                instance.routing = routing;
                changed = true;
            }
        }
        changed
    }

    fn step(&mut self, service: &ServiceName, step: Step) {
        let now = self.now;
        match step {
            Step::Record(change) => self.record(service, change),
            Step::Pull(image) => {
                self.told.push(format!("pull {}", image.reference));
                let missing = self.apps.iter().any(|(release, app)| {
                    *app == App::NoImage && self.wanted.releases[release].image.pin == image.pin
                });
                let state = if missing {
                    let message = "no such image".to_owned();
                    ImageState::Failed {
                        reason: Reason::ImageNotFound,
                        message,
                        permanent: true,
                        retry_at: now,
                    }
                } else {
                    ImageState::Present
                };
                self.observed.images.insert(image.pin, state);
            }
            Step::Create { release, template, slot, hook } => {
                self.create(service, release, template, slot, hook)
            }
            Step::Start { container } => self.start(service, &container),
            Step::Terminate { container } => {
                let instance = self.instance(service, &container);
                assert!(instance.is_up(), "terminated what is not up");
                let since = now;
                instance.life = Life::Stopping { since };
                let text = format!("stop {}", instance.name);
                self.told.push(text);
                self.doomed.entry(container).or_insert(now);
            }
            Step::Kill { container } => {
                let instance = self.instance(service, &container);
                end(instance, now);
                let text = format!("kill {}", instance.name);
                self.told.push(text);
            }
            Step::Remove { container } => {
                let instance = self.instance(service, &container);
                assert!(!instance.is_up(), "removed what runs");
                let text = format!("remove {}", instance.name);
                self.told.push(text);
                let facts = self.observed.services.get_mut(service).expect("known");
                facts.instances.retain(|i| i.container != container);
            }
            Step::CreateNetwork => {
                self.observed.services.entry(service.clone()).or_default().network = true;
                self.told.push("create network".into());
            }
            Step::RemoveNetwork => {
                self.observed.services.remove(service);
                self.told.push("remove network".into());
            }
        }
    }

    fn create(
        &mut self,
        service: &ServiceName,
        release: ReleaseId,
        template: Template,
        slot: u32,
        hook: Option<HookKind>,
    ) {
        let version = self.wanted.releases[&release].counter;
        if self.apps[&release] == App::CannotCreate {
            return self.fail(service, template, Reason::CreateFailed);
        }
        self.containers += 1;
        let instance = Instance {
            container: format!("c{}", self.containers),
            name: match hook {
                None => format!("v{version}-{slot}"),
                Some(kind) => format!("v{version}-{}", kind.as_str()),
            },
            slot,
            release,
            template,
            address: None,
            life: Life::Created,
            probed: Probed::default(),
            routing: Routing::Absent,
            in_flight: 0,
            exits: 0,
            finding: Finding::Nothing,
        };
        self.told.push(format!("create {}", instance.name));
        let facts = self.observed.services.entry(service.clone()).or_default();
        let twin = |i: &Instance| i.name == instance.name && i.template == instance.template;
        assert!(!facts.instances.iter().any(twin), "{} exists twice", instance.name);
        facts.network = true;
        facts.instances.push(instance);
    }

    fn start(&mut self, service: &ServiceName, container: &str) {
        let (now, apps) = (self.now, self.apps.clone());
        let instance = self.instance(service, container);
        if apps[&instance.release] == App::CannotStart {
            let template = instance.template.clone();
            return self.fail(service, template, Reason::StartFailed);
        }
        assert!(!instance.is_up(), "started twice");
        instance.life = Life::Running { since: now };
        instance.probed = Probed::default();
        let text = format!("start {}", instance.name);
        self.told.push(text);
    }

    fn fail(&mut self, service: &ServiceName, template: Template, reason: Reason) {
        let at = self.now;
        let facts = self.observed.services.entry(service.clone()).or_default();
        let failures = facts.failure.as_ref().map_or(0, |f| f.failures) + 1;
        let message = "the engine refused".to_owned();
        facts.failure =
            Some(StepFailure { template, reason, message, permanent: false, failures, at });
    }

    fn instance(&mut self, service: &ServiceName, container: &str) -> &mut Instance {
        let facts = self.observed.services.get_mut(service).expect("known service");
        facts.instances.iter_mut().find(|i| i.container == container).expect("known container")
    }

    fn record(&mut self, service: &ServiceName, change: LedgerChange) {
        self.told.push(match &change {
            LedgerChange::Begin { kept, room, .. } => {
                let manner = if room.stop_first { " stop-first" } else { "" };
                format!("begin v{}{manner}", kept.revision)
            }
            LedgerChange::Complete(_) => "complete".into(),
            LedgerChange::GiveUp { failed, reason, .. } => {
                format!("give up v{}: {reason}", failed.revision)
            }
            LedgerChange::Forget => "forget".into(),
        });
        if matches!(change, LedgerChange::Begin { .. }) {
            let facts = self.observed.services.entry(service.clone()).or_default();
            (facts.progress_at, facts.failure) = (Some(self.now), None);
        }
        if change == LedgerChange::Forget {
            self.history.remove(service);
        } else {
            let history = self.history.entry(service.clone()).or_default();
            *history = history.after(&change, None);
        }
        self.forget_retired();
    }

    /// As the ledger keeps nothing to go back to that is retired.
    pub(super) fn forget_retired(&mut self) {
        self.history = retired::without(&self.wanted, &self.history).into_owned();
    }

    pub(super) fn check_told(&mut self, expected: &str) {
        let told = std::mem::take(&mut self.told).join(", ");
        assert_eq!(told, expected.split_whitespace().collect::<Vec<_>>().join(" "));
    }

    pub(super) fn phase(&self, service: &str) -> Phase {
        self.verdict(service).phase
    }
}

fn end(instance: &mut Instance, now: Now) {
    instance.life = Life::Exited(Exit { at: now, code: 0, oom: false });
    instance.probed = Probed::default();
    instance.in_flight = 0;
}

/// What one instance does as time passes; whether it became ready.
fn live(instance: &mut Instance, app: App, now: Now) -> bool {
    match instance.life {
        Life::Running { since } => {
            let age = now.since(since);
            let ready = match app {
                App::Ready(after) => age >= after,
                App::ReadyUntil(after, until) => age >= after && age < until,
                App::Exits(after) if age >= after => {
                    instance.life = Life::Exited(Exit { at: now, code: 1, oom: false });
                    instance.exits += 1;
                    return false;
                }
                App::NeverReady
                | App::Exits(_)
                | App::NoImage
                | App::CannotCreate
                | App::CannotStart => false,
            };
            if !ready {
                instance.probed.ready_since = None;
                if instance.probed.was_ready {
                    instance.probed.unready_since.get_or_insert(now);
                }
                instance.probed.last_failure = Some("HTTP 503".into());
            } else if instance.probed.ready_since.is_none() {
                instance.probed =
                    Probed { ready_since: Some(now), was_ready: true, ..Probed::default() };
                return true;
            }
            false
        }
        Life::Created | Life::Stopping { .. } | Life::Exited(_) => false,
    }
}
