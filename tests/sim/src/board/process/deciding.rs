//! From what is seen to what is done: asks the planner, sets the table where a route differs, else begins one step per
//! service.

use std::collections::BTreeSet;

use agent::observe::assemble;
use agent::observe::gather::Scope;
use agent::routes::{self, Addresses};
use planner::Now;
use planner::node::{Decision, LedgerChange, Probed, Step, Verdict, decide};
use protocol::id::{ReleaseId, ServiceName, Template};
use protocol::release::Image;
use proxy::{Applied, Route, Snapshot, Table};

use super::Process;
use crate::board::hardware::{Hardware, Request};

/// A verdict that gives up on a release is taken only on facts this fresh.
const FRESH_MS: u64 = 1_000;
/// Between two tries to listen on an address that was refused.
const CLOSED_RETRY_MS: u64 = 5_000;
/// A moment that the planner names and that is over already is looked at again after this.
const OVERDUE_PAUSE_MS: u64 = 100;

impl Process {
    pub(super) fn needed_images(&self) -> Vec<Image> {
        let Some(wanted) = &self.wanted else { return Vec::new() };
        let assigned = wanted.assignments.values().flat_map(|a| a.releases());
        let kept = self.histories.values().flat_map(|h| [&h.running, &h.last_good]);
        let ids: BTreeSet<_> = assigned.chain(kept.flatten().map(|k| &k.release)).collect();
        ids.into_iter().filter_map(|id| wanted.releases.get(id)).map(|r| r.image.clone()).collect()
    }

    pub(super) fn decide(&mut self, board: &mut Hardware, now: Now) {
        if self.gathering.away_since.is_some() || !self.is_everything_known() {
            return;
        }
        self.look_at_progress(board, now);
        self.look_at_pulls(now);
        let Some(wanted) = &self.wanted else { return };
        let probed = |id: &str| -> Probed { self.probed(id).unwrap_or_default() };
        let pulled = self.writing.images_pulled().iter().map(|image| image.pin.clone()).collect();
        let environment = &board.identity.environment;
        self.observed = assemble(&self.facts, &self.memory, environment, probed, pulled);
        self.observed.memory_available = board.memory_available;
        let decisions = decide(wanted, &self.observed, &self.histories, now);
        self.is_undecided = false;
        let names: BTreeSet<&ServiceName> = decisions.services.keys().collect();
        self.verdicts.retain(|name, _| names.contains(name));
        self.plans.retain(|name, _| names.contains(name));
        for (service, verdict) in decisions.services {
            self.note(service, verdict, board);
        }
        let rerouted = self.set_routes(board, now);
        for service in self.verdicts.keys().cloned().collect::<Vec<_>>() {
            if board.kills_now() {
                return;
            }
            if !rerouted.contains(&service) && !self.is_busy(&service) {
                self.follow(&service, board, now);
            }
        }
        for step in decisions.images {
            self.image_step(step, board, now);
        }
    }

    fn is_everything_known(&mut self) -> bool {
        let facts = &self.facts;
        if facts.containers.is_none() || facts.networks.is_none() || facts.proxy.is_none() {
            return false;
        }
        let is_known = |image: &Image| facts.images.contains_key(&image.pin);
        if self.needed_images().iter().all(is_known) {
            return true;
        }
        let scope = Scope { images: true, ..Scope::NOTHING };
        self.gathering.want(scope, Now::default());
        false
    }

    fn note(&mut self, service: ServiceName, verdict: Verdict, board: &Hardware) {
        let before = self.verdicts.get(&service).map(|verdict| verdict.phase);
        if before != Some(verdict.phase) {
            board.trace.note(board.now_ms, &board.name, || {
                let why = verdict.waiting.as_ref().map_or("", |w| w.message.as_str());
                format!("{service}: {:?} {why}", verdict.phase)
            });
        }
        if !self.is_busy(&service) {
            match &verdict.route {
                Some(route) => drop(self.plans.insert(service.clone(), route.clone())),
                None => drop(self.plans.remove(&service)),
            }
        }
        self.verdicts.insert(service, verdict);
    }

    /// A step of the service is under way, or was and is not seen yet.
    fn is_busy(&self, service: &ServiceName) -> bool {
        let is_unseen = |from: &u64| self.gathering.number < *from;
        self.busy.contains(service) || self.seen_from.get(service).is_some_and(is_unseen)
    }

    fn look_at_progress(&mut self, board: &Hardware, now: Now) {
        let Some(wanted) = &self.wanted else { return };
        let environment = &board.identity.environment;
        for (name, history) in &self.histories {
            if let Some(running) = &history.running {
                let (release, template) = (&running.release, &running.template);
                let available_at = self.available_at(name, release, template, board, now);
                let service = self.memory.service(name, now);
                service.progress_at = service.progress_at.max(available_at.unwrap_or_default());
            }
        }
        for (name, assignment) in &wanted.assignments {
            let Some(candidate) = &assignment.candidate else { continue };
            let template = Template::of(&candidate.release, environment, candidate.restarts);
            let available_at = self.available_at(name, &candidate.release, &template, board, now);
            let service = self.memory.service(name, now);
            let before = service.candidate_progress_at;
            service.candidate_progress_at = before.max(available_at.unwrap_or_default());
        }
    }

    fn available_at(
        &self,
        service: &ServiceName,
        release: &ReleaseId,
        template: &Template,
        board: &Hardware,
        now: Now,
    ) -> Option<Now> {
        let release = self.wanted.as_ref()?.releases.get(release)?;
        let min_ready_ms = release.spec(&board.identity.environment).rollout.min_ready.0;
        let containers = self.facts.containers.iter().flatten();
        containers
            .filter(|c| c.identity.service == *service && c.identity.template == *template)
            .filter_map(|c| self.probed(&c.id)?.ready_since)
            .map(|since| since.plus(min_ready_ms))
            .filter(|at| *at <= now)
            .max()
    }

    fn set_routes(&mut self, board: &mut Hardware, now: Now) -> BTreeSet<ServiceName> {
        let Some(snapshot) = &self.facts.proxy else { return BTreeSet::new() };
        let environment = &board.identity.environment;
        let (gateways, containers) = (self.facts.gateways(environment), self.facts.addresses());
        let listen = ["127.0.0.1".parse().expect("an address")];
        let addresses = Addresses {
            environment,
            listen: &listen,
            gateways: &gateways,
            containers: &containers,
            own: None,
        };
        let wanted = routes::routes(&self.plans, addresses);
        let closed = routes::unheard(snapshot);
        let service = |(id, _): &(String, _)| routes::parse_route_id(environment, id);
        let closed: BTreeSet<ServiceName> =
            closed.iter().filter_map(service).map(|(service, _)| service).collect();
        let mut waiting = routes::differing(environment, &wanted, &snapshot.table);
        let is_explained = |name: &&ServiceName| {
            let remembered = self.memory.services.get(*name);
            remembered.is_some_and(|r| !r.refused.is_empty() || r.unreachable_inside.is_some())
        };
        waiting.extend(closed.iter().filter(|name| !is_explained(name)).cloned());
        let is_retry_due = !closed.is_empty() && now >= self.closed_at;
        if waiting.is_empty() && !is_retry_due {
            if !closed.is_empty() {
                self.decide_by(self.closed_at);
            }
            return BTreeSet::new();
        }
        if self.routing.is_none() {
            self.begin_routing(wanted, waiting.clone(), board, now);
        }
        waiting
    }

    fn begin_routing(
        &mut self,
        routes: Vec<Route>,
        services: BTreeSet<ServiceName>,
        board: &mut Hardware,
        now: Now,
    ) {
        let in_force = self.facts.proxy.as_ref().map_or(0, |s| s.table.version);
        self.table_version = self.table_version.max(in_force) + 1;
        let table = Table { version: self.table_version, routes, fleet: None };
        board.act(|| format!("sets the table: {}", told(&table)));
        self.routing = Some(services);
        self.closed_at = now.plus(CLOSED_RETRY_MS);
        board.send(self.run, Request::Table(table));
    }

    pub(super) fn table_set(
        &mut self,
        applied: Applied,
        snapshot: Snapshot,
        environment: &protocol::id::EnvironmentName,
        now: Now,
    ) {
        self.routing = None;
        self.decide_by(now);
        self.facts.proxy = Some(snapshot);
        let gateways = self.facts.gateways(environment);
        for service in self.memory.services.values_mut() {
            service.refused.clear();
            service.unreachable_inside = None;
        }
        for trouble in routes::troubles(environment, &gateways, &applied.refused) {
            let routes::Trouble { service, refusal, reach } = trouble;
            let remembered = self.memory.service(&service, now);
            match reach {
                routes::Reach::Node => remembered.refused.push(refusal),
                routes::Reach::Containers => remembered.unreachable_inside = Some(refusal),
            }
        }
    }

    fn follow(&mut self, service: &ServiceName, board: &mut Hardware, now: Now) {
        let pause = self.memory.services.get(service).and_then(|s| s.pause_until);
        if let Some(until) = pause.filter(|until| now < *until) {
            self.decide_by(until);
            return;
        }
        let Some(verdict) = self.verdicts.get(service) else { return };
        match &verdict.decision {
            Decision::Settled | Decision::GaveUp(_) | Decision::Wait { until: None } => {}
            Decision::Wait { until: Some(until) } => {
                self.decide_by((*until).max(now.plus(OVERDUE_PAUSE_MS)));
            }
            Decision::Do(step) => {
                let step = step.clone();
                // A newer manifest is on its way to the disk, and the ledger may forget the release with the one before.
                let is_begin = matches!(step, Step::Record(LedgerChange::Begin { .. }));
                if is_begin && self.writing.is_accepting() {
                    return;
                }
                let is_final = matches!(step, Step::Record(LedgerChange::GiveUp { .. }));
                let is_fresh = self.gathering.fresh_at.is_some_and(|at| now.since(at) <= FRESH_MS);
                if is_final && !is_fresh {
                    self.gathering.want(Scope { containers: true, ..Scope::NOTHING }, now);
                    return;
                }
                self.begin(service, step, board, now);
            }
        }
    }
}

fn told(table: &Table) -> String {
    let backend = |b: &proxy::Backend| {
        let state = match (b.state, b.weight) {
            (proxy::BackendState::Draining, _) => "drains",
            (proxy::BackendState::Active, 0) => "rests",
            (proxy::BackendState::Active, _) => "serves",
        };
        format!("{} {state}", short(&b.id))
    };
    let route = |route: &Route| {
        let backends: Vec<String> = route.backends.iter().map(backend).collect();
        let split =
            route.split.as_ref().map_or_else(String::new, |s| format!(" share {}", s.share));
        format!("{}{split}: {}", route.id, backends.join(", "))
    };
    table.routes.iter().map(route).collect::<Vec<_>>().join("; ")
}

/// A container's id without its leading zeros.
pub(super) fn short(container: &str) -> String {
    format!("c{}", container.trim_start_matches('0'))
}
