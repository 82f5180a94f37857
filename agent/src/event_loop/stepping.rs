//! One step of one service: what it needs, its doing in a task, and what its end means.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::sync::Arc;

use planner::Now;
use planner::node::{History, Instance, LedgerChange, Life, Step};
use protocol::id::{ReleaseId, SecretName, ServiceName, Template};
use protocol::manifest::HookKind;
use protocol::reason::Reason;
use protocol::secret;
use tracing::{info, warn};

use super::acts::Act;
use super::agent::Agent;
use super::examining::RefusedStart;
use super::writing::Job;
use crate::engine::{Action, EngineError};
use crate::execute::{self, Creation, Done, StepError, Task, ToUnseal};
use crate::observe::gather::Scope;
use crate::observe::memory::Blame;

/// After a step that failed and that the planner has no pause for.
const FAILED_PAUSE_MS: u64 = 1_000;
/// An engine that was away refuses starts that it was interrupted in, for a while: no release is blamed for that.
const SETTLING_MS: u64 = 20_000;

/// What a step under way was for, to judge its end by.
#[derive(Debug, Clone)]
pub(super) struct Underway {
    pub(super) began: Now,
    template: Option<Template>,
    otherwise: Reason,
    kind: Kind,
}

/// A failure that waits for its evidence, with what is known of it already.
#[derive(Debug)]
pub(super) struct Collecting {
    change: LedgerChange,
    probe: Option<String>,
    /// Code, and whether it was killed for its memory.
    exit: Option<(i64, bool)>,
}

#[derive(Debug, Clone)]
enum Kind {
    /// And whether the network of the service is made first.
    Create {
        makes_network: bool,
    },
    Start(String),
    Stop(String, Blame),
    Remove(String),
    Network,
}

impl Agent {
    pub(super) fn begin(&mut self, service: &ServiceName, step: Step, now: Now) {
        let task = match step {
            Step::Record(change) => return self.begin_record(service, change),
            Step::Pull(image) => return self.begin_pull(service, image, now),
            Step::Create { release, template, slot, hook } => {
                match self.creation(service, release, (template, slot), hook) {
                    Some(creation) => Task::Create(Box::new(creation)),
                    None => return,
                }
            }
            Step::Start { container } => {
                let secrets = self.to_unseal(service, &container).map(Box::new);
                Task::Start { container, secrets }
            }
            Step::Terminate { container } => Task::Terminate { container },
            Step::Kill { container } => Task::Kill { container },
            Step::Remove { container } => {
                let name = self.instance(service, &container).map(|i| i.name.clone());
                Task::Remove { name: name.unwrap_or_default(), container }
            }
            Step::CreateNetwork => Task::CreateNetwork { service: service.clone() },
            Step::RemoveNetwork => {
                let network = self.facts.network(&self.node.environment, service);
                Task::RemoveNetwork { network: network.map(|network| network.id.clone()) }
            }
        };
        self.run(service, task, now);
    }

    fn run(&mut self, service: &ServiceName, task: Task, now: Now) {
        let name = self.describe(service, &task);
        info!(%service, step = name, "step");
        let underway = self.underway(service, &task, now);
        self.busy.insert(service.clone());
        self.steps.insert(service.clone(), underway);
        self.acts.push(Act::Execute { service: service.clone(), name, task });
    }

    fn describe(&self, service: &ServiceName, task: &Task) -> String {
        let named =
            |id: &str| self.instance(service, id).map_or_else(|| id.to_owned(), |i| i.name.clone());
        match task {
            Task::Create(creation) => {
                let (template, slot) = &creation.template;
                match creation.hook {
                    None => format!("create {}-{slot}", template.short()),
                    Some(kind) => format!("create {}", kind.as_str()),
                }
            }
            Task::Start { container, .. } => format!("start {}", named(container)),
            Task::Terminate { container } => format!("stop {}", named(container)),
            Task::Kill { container } => format!("kill {}", named(container)),
            Task::Remove { container, .. } => format!("remove {}", named(container)),
            Task::CreateNetwork { .. } => "create network".to_owned(),
            Task::RemoveNetwork { .. } => "remove network".to_owned(),
        }
    }

    fn underway(&self, service: &ServiceName, task: &Task, began: Now) -> Underway {
        let template = |id: &str| self.instance(service, id).map(|i| i.template.clone());
        let blame = |id: &str| match self.instance(service, id) {
            Some(instance) if instance.probed.dead => Blame::Itself,
            Some(_) | None => Blame::Nobody,
        };
        let (template, otherwise, kind) = match task {
            Task::Create(creation) => {
                let kind = Kind::Create { makes_network: creation.network.is_none() };
                (Some(creation.template.0.clone()), Reason::CreateFailed, kind)
            }
            Task::Start { container, .. } => {
                (template(container), Reason::StartFailed, Kind::Start(container.clone()))
            }
            Task::Terminate { container } | Task::Kill { container } => {
                let kind = Kind::Stop(container.clone(), blame(container));
                (None, Reason::WaitingForStop, kind)
            }
            Task::Remove { container, .. } => {
                (None, Reason::WaitingForStop, Kind::Remove(container.clone()))
            }
            Task::CreateNetwork { .. } | Task::RemoveNetwork { .. } => {
                (None, Reason::WaitingForStop, Kind::Network)
            }
        };
        Underway { began, template, otherwise, kind }
    }

    fn instance(&self, service: &ServiceName, container: &str) -> Option<&Instance> {
        let facts = self.observed.services.get(service)?;
        facts.instances.iter().find(|instance| instance.container == container)
    }

    fn creation(
        &self,
        service: &ServiceName,
        release: ReleaseId,
        (template, slot): (Template, u32),
        hook: Option<HookKind>,
    ) -> Option<Creation> {
        let document = self.wanted.as_ref()?.releases.get(&release)?;
        let network = self.facts.network(&self.node.environment, service).cloned();
        let mut used: BTreeSet<Ipv4Addr> = self.facts.used_addresses();
        used.extend(network.iter().map(|network| network.gateway));
        Some(Creation {
            copies: self.copies_for(service, &template),
            service: service.clone(),
            release: (release, Arc::clone(document)),
            template: (template, slot),
            hook,
            network,
            used,
            last_address: self.last_addresses.get(service).copied(),
        })
    }

    fn to_unseal(&self, service: &ServiceName, container: &str) -> Option<ToUnseal> {
        let instance = self.instance(service, container)?;
        let release = self.wanted.as_ref()?.releases.get(&instance.release)?;
        let copies = self.copies_for(service, &instance.template);
        Some(ToUnseal { name: instance.name.clone(), release: Arc::clone(release), copies })
    }

    /// Copies of the versions that a template is made with.
    fn copies_for(&self, service: &ServiceName, template: &Template) -> Vec<secret::Copy> {
        let environment = &self.node.environment;
        let kept = self.histories.get(service).into_iter().flat_map(History::kept);
        let kept = kept.map(|kept| (kept.template.clone(), &kept.secrets));
        let wanted = self.wanted.as_ref();
        let assignment = wanted.and_then(|wanted| wanted.assignments.get(service));
        let candidate = assignment.and_then(|a| a.candidate.as_ref());
        let hook = wanted.and_then(|wanted| wanted.hooks.get(service));
        let asked = assignment.map(|a| (a.template(environment), &a.secrets)).into_iter();
        let asked = asked.chain(candidate.map(|c| (c.template(environment), &c.secrets)));
        let asked = asked.chain(hook.map(|h| (h.template(environment), &h.secrets)));
        let mut known = kept.chain(asked);
        let Some((_, versions)) = known.find(|(of_it, _)| of_it == template) else {
            return Vec::new();
        };
        let copy = |(name, version): (&SecretName, &u64)| {
            self.copies.get(&(name.clone(), *version)).cloned()
        };
        versions.iter().filter_map(copy).collect()
    }

    pub(super) fn step_done(
        &mut self,
        service: &ServiceName,
        result: Result<Done, StepError>,
        now: Now,
    ) {
        self.busy.remove(service);
        self.seen_from.insert(service.clone(), self.gathering.next_number());
        let Some(underway) = self.steps.remove(service) else { return };
        let scope = match (&underway.kind, &result) {
            (Kind::Create { makes_network: true } | Kind::Network, Ok(_)) => {
                Scope { containers: true, networks: true, ..Scope::NOTHING }
            }
            (
                Kind::Create { makes_network: false }
                | Kind::Start(_)
                | Kind::Stop(..)
                | Kind::Remove(_),
                Ok(_),
            ) => Scope { containers: true, ..Scope::NOTHING },
            (_, Err(_)) => Scope { images: true, ..Scope::USUAL },
        };
        self.gathering.want(scope, now);
        if result.as_ref().err().is_none_or(|error| !error.is_engine_away()) {
            self.engine_answered(underway.began, now);
        }
        match result {
            Ok(done) => self.step_succeeded(service, &underway.kind, &done, now),
            Err(error) => self.step_failed(service, &underway, &error, now),
        }
    }

    /// News of what a step under way does: its end is followed by a look in any case, and one for the news would only
    /// have to be waited for before that.
    pub(super) fn is_own_doing(&self, container: &str, action: Action) -> bool {
        self.steps.values().any(|step| match (&step.kind, action) {
            (Kind::Create { .. }, Action::Create) => true,
            (Kind::Start(own), Action::Start) | (Kind::Remove(own), Action::Destroy) => {
                own == container
            }
            _ => false,
        })
    }

    fn step_succeeded(&mut self, service: &ServiceName, kind: &Kind, done: &Done, now: Now) {
        match kind {
            // An engine that went away right after it may have stopped the container itself.
            Kind::Start(_) if self.gathering.away_since.is_some() => {}
            Kind::Start(container) => self.memory.started(container),
            Kind::Stop(container, blame) => self.memory.told_to_stop(container, *blame, now),
            Kind::Create { .. } | Kind::Remove(_) | Kind::Network => {}
        }
        if let Done::Created { address } = done {
            self.last_addresses.insert(service.clone(), *address);
        }
        let remembered = self.memory.service(service, now);
        remembered.failure = None;
        remembered.pause_until = None;
    }

    /// An engine that is away says nothing about the release.
    fn step_failed(
        &mut self,
        service: &ServiceName,
        underway: &Underway,
        error: &StepError,
        now: Now,
    ) {
        if let StepError::Engine(engine @ EngineError::Unavailable(_)) = error {
            let since = self.gathering.silent_since(underway.began);
            self.engine_away(engine, Scope::ALL, since, now);
            return;
        }
        warn!(%service, %error, "step failed");
        if self.is_looked_into(service, underway, error, now) {
            return;
        }
        let is_settling = self.gathering.back_at.is_some_and(|at| now.since(at) < SETTLING_MS);
        match &underway.template {
            Some(template) if error.is_permanent() || !is_settling => {
                let reason = error.reason(underway.otherwise);
                let failure = (reason, error.to_string(), error.is_permanent());
                self.memory.failed(service, template, failure, now);
            }
            Some(_) | None => {
                let until = now.plus(FAILED_PAUSE_MS);
                self.memory.service(service, now).pause_until = Some(until);
            }
        }
    }

    /// `exec format error` is what the kernel says of a damaged program too: the program is looked at first.
    fn is_looked_into(
        &mut self,
        service: &ServiceName,
        underway: &Underway,
        error: &StepError,
        now: Now,
    ) -> bool {
        let (Kind::Start(container), Some(template)) = (&underway.kind, &underway.template) else {
            return false;
        };
        let StepError::Engine(EngineError::WrongPlatform(message)) = error else { return false };
        let refused = RefusedStart { template: template.clone(), message: message.clone() };
        self.memory.service(service, now).pause_until = Some(now.plus(FAILED_PAUSE_MS));
        self.examine(container, Some(refused));
        true
    }

    /// Evidence is collected before a failure is written down.
    fn begin_record(&mut self, service: &ServiceName, change: LedgerChange) {
        self.busy.insert(service.clone());
        let service = service.clone();
        let LedgerChange::GiveUp { evidence_of: Some(container), .. } = &change else {
            self.writing.push(Job::Record { service, change, evidence: None });
            return;
        };
        let seen = self.instance(&service, container);
        let probe = seen.and_then(|instance| instance.probed.last_failure.clone());
        let exit = seen.and_then(|instance| match &instance.life {
            Life::Exited(exit) => Some((exit.code, exit.oom)),
            Life::Created | Life::Running { .. } | Life::Stopping { .. } => None,
        });
        let container = container.clone();
        self.acts.push(Act::CollectEvidence { service: service.clone(), container });
        self.collecting.insert(service, Collecting { change, probe, exit });
    }

    pub(super) fn evidence_is_there(&mut self, service: ServiceName, log: Vec<String>) {
        let Some(Collecting { change, probe, exit }) = self.collecting.remove(&service) else {
            return;
        };
        let evidence = Some(execute::evidence(probe, exit, log));
        self.writing.push(Job::Record { service, change, evidence });
    }

    /// A change of a service's history is durable.
    pub(super) fn recorded(&mut self, service: &ServiceName, change: LedgerChange, now: Now) {
        self.busy.remove(service);
        match change {
            LedgerChange::Begin { kept, room, .. } => {
                info!(%service, revision = kept.revision, release = kept.release.short(), ?room, "begun");
                let remembered = self.memory.service(service, now);
                remembered.progress_at = now;
                remembered.failure = None;
                self.tell(
                    Some(service.clone()),
                    None,
                    &match room.stop_first {
                        false => format!("revision {} begun", kept.revision),
                        true => format!(
                            "revision {} begun: without room for one more, one stops before the next starts",
                            kept.revision
                        ),
                    },
                );
            }
            LedgerChange::Complete(_) => {
                info!(%service, "complete");
                self.tell(Some(service.clone()), None, "complete");
            }
            LedgerChange::GiveUp { failed, reason, message, .. } => {
                warn!(%service, revision = failed.revision, %reason, message, "given up");
                let text = format!("revision {} given up: {message}", failed.revision);
                self.tell(Some(service.clone()), Some(reason), &text);
            }
            LedgerChange::Forget => {
                info!(%service, "removed");
                self.tell(Some(service.clone()), None, "removed");
                self.memory.services.remove(service);
                self.last_addresses.remove(service);
                self.seen_from.remove(service);
            }
        }
    }
}
