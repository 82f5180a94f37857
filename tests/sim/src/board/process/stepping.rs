//! One step of one service: what it needs, and what its end means.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::sync::Arc;

use agent::engine::EngineError;
use agent::execute::{Creation, Done, StepError, Task};
use agent::observe::gather::Scope;
use agent::observe::memory::Blame;
use planner::Now;
use planner::node::{Instance, Step};
use protocol::id::{ReleaseId, ServiceName, Template};
use protocol::manifest::HookKind;
use protocol::reason::Reason;

use super::Process;
use super::deciding::short;
use super::writing::Job;
use crate::board::hardware::{Hardware, Request};

/// After a step that failed and that the planner has no pause for.
const FAILED_PAUSE_MS: u64 = 1_000;
/// An engine that was away refuses starts that it was interrupted in, for a while.
const SETTLING_MS: u64 = 20_000;

/// What a step under way was for, to judge its end by.
#[derive(Debug, Clone)]
pub(super) struct Underway {
    began: Now,
    template: Option<Template>,
    otherwise: Reason,
    kind: Kind,
}

#[derive(Debug, Clone)]
enum Kind {
    Create,
    Start(String),
    Stop(String, Blame),
    Remove,
    RemoveNetwork,
}

impl Process {
    pub(super) fn begin(
        &mut self,
        service: &ServiceName,
        step: Step,
        board: &mut Hardware,
        now: Now,
    ) {
        let task = match step {
            Step::Record(change) => {
                board.act(|| format!("{service}: {}", told(&change)));
                self.busy.insert(service.clone());
                let service = service.clone();
                return self.writing.push(Job::Record { service, change });
            }
            Step::Pull(image) => return self.begin_pull(service, image, board, now),
            Step::Create { release, template, slot, hook } => {
                match self.creation(service, release, (template, slot), hook, board) {
                    Some(creation) => Task::Create(Box::new(creation)),
                    None => return,
                }
            }
            Step::Start { container } => Task::Start { container },
            Step::Terminate { container } => Task::Terminate { container },
            Step::Kill { container } => Task::Kill { container },
            Step::Remove { container } => Task::Remove { container },
            Step::CreateNetwork => Task::CreateNetwork { service: service.clone() },
            Step::RemoveNetwork => {
                let network = self.facts.network(&board.identity.environment, service);
                Task::RemoveNetwork { network: network.map(|network| network.id.clone()) }
            }
        };
        board.act(|| format!("{service}: {}", self.describe(service, &task)));
        let underway = self.underway(service, &task, now);
        self.busy.insert(service.clone());
        self.steps.insert(service.clone(), underway);
        board.send(self.run, Request::Engine { service: service.clone(), task });
    }

    fn describe(&self, service: &ServiceName, task: &Task) -> String {
        let named = |id: &str| {
            let name = self.instance(service, id).map(|i| i.name.clone()).unwrap_or_default();
            format!("{} {name}", short(id))
        };
        match task {
            Task::Create(creation) => {
                let (template, slot) = &creation.template;
                format!("create {}-{slot}", template.short())
            }
            Task::Start { container } => format!("start {}", named(container)),
            Task::Terminate { container } => format!("stop {}", named(container)),
            Task::Kill { container } => format!("kill {}", named(container)),
            Task::Remove { container } => format!("remove {}", named(container)),
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
                (Some(creation.template.0.clone()), Reason::CreateFailed, Kind::Create)
            }
            Task::Start { container } => {
                (template(container), Reason::StartFailed, Kind::Start(container.clone()))
            }
            Task::Terminate { container } | Task::Kill { container } => {
                let kind = Kind::Stop(container.clone(), blame(container));
                (None, Reason::WaitingForStop, kind)
            }
            Task::Remove { .. } => (None, Reason::WaitingForStop, Kind::Remove),
            Task::CreateNetwork { .. } | Task::RemoveNetwork { .. } => {
                (None, Reason::WaitingForStop, Kind::RemoveNetwork)
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
        board: &Hardware,
    ) -> Option<Creation> {
        let document = self.wanted.as_ref()?.releases.get(&release)?;
        let network = self.facts.network(&board.identity.environment, service).cloned();
        let mut used: BTreeSet<Ipv4Addr> = self.facts.used_addresses();
        used.extend(network.iter().map(|network| network.gateway));
        Some(Creation {
            service: service.clone(),
            release: (release, Arc::clone(document)),
            template: (template, slot),
            hook,
            network,
            used,
            last_address: self.last_addresses.get(service).copied(),
        })
    }

    pub(super) fn step_done(
        &mut self,
        service: &ServiceName,
        result: Result<Done, StepError>,
        board: &mut Hardware,
        now: Now,
    ) {
        self.busy.remove(service);
        self.seen_from.insert(service.clone(), self.gathering.next_number());
        let Some(underway) = self.steps.remove(service) else { return };
        let scope = match (&underway.kind, &result) {
            (Kind::Create | Kind::RemoveNetwork, Ok(_)) => {
                Scope { containers: true, networks: true, ..Scope::NOTHING }
            }
            (Kind::Start(_) | Kind::Stop(..) | Kind::Remove, Ok(_)) => {
                Scope { containers: true, ..Scope::NOTHING }
            }
            (_, Err(_)) => Scope { images: true, ..Scope::USUAL },
        };
        self.gathering.want(scope, now);
        match result {
            Ok(done) => self.step_succeeded(service, &underway.kind, &done, now),
            Err(error) => {
                board.act(|| format!("{service}: step failed: {error}"));
                self.step_failed(service, &underway, &error, now);
            }
        }
    }

    fn step_succeeded(&mut self, service: &ServiceName, kind: &Kind, done: &Done, now: Now) {
        match kind {
            Kind::Start(_) if self.gathering.away_since.is_some() => {}
            Kind::Start(container) => self.memory.started(container),
            Kind::Stop(container, blame) => self.memory.told_to_stop(container, *blame, now),
            Kind::Create | Kind::Remove | Kind::RemoveNetwork => {}
        }
        if let Done::Created { address } = done {
            self.last_addresses.insert(service.clone(), *address);
        }
        let remembered = self.memory.service(service, now);
        remembered.failure = None;
        remembered.pause_until = None;
    }

    fn step_failed(
        &mut self,
        service: &ServiceName,
        underway: &Underway,
        error: &StepError,
        now: Now,
    ) {
        if let StepError::Engine(EngineError::Unavailable(_)) = error {
            self.engine_away(Scope::ALL, underway.began, now);
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
}

fn told(change: &planner::node::LedgerChange) -> String {
    use planner::node::LedgerChange;
    match change {
        LedgerChange::Begin { kept, room } => {
            format!(
                "begin r{} {} try {} {room:?}",
                kept.revision,
                kept.template.short(),
                kept.attempt
            )
        }
        LedgerChange::Complete(_) => "complete".to_owned(),
        LedgerChange::GiveUp { failed, reason, message, then, .. } => {
            let (revision, template) = (failed.revision, failed.template.short());
            format!(
                "give up r{revision} {template} try {}: {reason}: {message}, then {then:?}",
                failed.attempt
            )
        }
        LedgerChange::Forget => "forget".to_owned(),
    }
}
