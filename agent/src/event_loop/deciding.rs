//! From what is seen to what is done: asks the planner, sets the table where a route differs, else begins one step per
//! service.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::sync::Arc;

use planner::Now;
use planner::node::{Decision, History, LedgerChange, Probed, Step, Verdict, decide};
use protocol::id::{ReleaseId, ServiceName, Template};
use protocol::manifest::HookRun;
use protocol::release::{Image, Pin};
use proxy::{Applied, ClientError, Fleet, Route, Snapshot, Table};
use tracing::{debug, info, warn};

use super::acts::{Act, Surroundings};
use super::agent::Agent;
use crate::engine::ContainerState;
use crate::observe::gather::Scope;
use crate::observe::{self};
use crate::probe::ProbeTarget;
use crate::routes::{self, Addresses, Reach};

/// A verdict that gives up on a release is taken only on facts this fresh: an engine that hangs must not look like an
/// application that does not start.
const FRESH_MS: u64 = 1_000;
/// Between two tries to listen on an address that was refused.
const CLOSED_RETRY_MS: u64 = 5_000;
/// After a proxy that did not take the table.
const PROXY_RETRY_MS: u64 = 250;
/// A moment that the planner names and that is over already is looked at again after this.
const OVERDUE_PAUSE_MS: u64 = 100;

impl Agent {
    /// Images that assignments and history need on this node.
    pub(super) fn needed_images(&self) -> Vec<Image> {
        let Some(wanted) = &self.wanted else { return Vec::new() };
        let hooks = wanted.hooks.values().map(|hook| &hook.release);
        let assigned = wanted.assignments.values().flat_map(|a| a.releases()).chain(hooks);
        let held = wanted.held.values().map(|held| &held.kept);
        let kept = self.histories.values().flat_map(History::kept).chain(held);
        let ids: BTreeSet<_> = assigned.chain(kept.map(|k| &k.release)).collect();
        ids.into_iter().filter_map(|id| wanted.releases.get(id)).map(|r| r.image.clone()).collect()
    }

    /// The same, with those that were pulled and stay while there is room: an undo to an old revision finds them.
    pub(super) fn known_images(&self) -> Vec<Image> {
        let mut images = self.needed_images();
        let pulled = self.writing.images_pulled().iter().cloned();
        let here = self.facts.images.iter().filter(|(_, image)| image.is_some());
        // What no registry gave is asked for by its id alone.
        let local = here.filter(|(pin, _)| matches!(pin, Pin::ImageId(_)));
        let local = local.map(|(pin, _)| Image { reference: String::new(), pin: pin.clone() });
        for image in pulled.chain(local) {
            if images.iter().all(|known| known.pin != image.pin) {
                images.push(image);
            }
        }
        images
    }

    /// After a gathering: notes what happened since the last one and says whom to probe.
    pub(super) fn remember(&mut self, around: &dyn Surroundings, now: Now) {
        let probed = |id: &str| around.probed(id).unwrap_or_default();
        for (service, ended) in self.memory.see(&self.facts, probed, now) {
            if ended.is_at_once() {
                self.examine(&ended.id, None);
            }
            let why = if ended.oom { "killed for its memory" } else { "ended by itself" };
            warn!(%service, container = ended.name, code = ended.code, oom = ended.oom, "instance ended");
            let message = format!("{} {why}, code {}", ended.name, ended.code);
            self.tell(Some(service), None, &message);
        }
        let services = self.facts.containers.iter().flatten().map(|c| c.identity.service.clone());
        for name in services.collect::<BTreeSet<_>>() {
            self.memory.service(&name, now);
        }
        let containers = self.facts.containers.iter().flatten();
        let targets = containers.filter_map(|container| {
            let ContainerState::Running { .. } = container.state else { return None };
            let wanted = self.wanted.as_ref()?;
            let hook = wanted.hooks.get(&container.identity.service);
            let is_hook =
                |run: &HookRun| run.template(&self.node.environment) == container.identity.template;
            if hook.is_some_and(is_hook) {
                return None;
            }
            let release = wanted.releases.get(&container.identity.release)?;
            let spec = release.spec(&self.node.environment);
            Some(ProbeTarget {
                container: container.id.clone(),
                // In the node's own network it answers where the node does.
                address: match spec.host.network {
                    true => Ipv4Addr::LOCALHOST,
                    false => container.address?,
                },
                started: self.memory.containers.get(&container.id)?.started,
                health: Arc::new(spec.health.clone()),
                targets: spec.ports.iter().map(|port| port.target).collect(),
            })
        });
        let targets = targets.collect();
        self.acts.push(Act::Probe(targets));
    }

    /// Decides, and begins what was decided. Without a manifest nothing is decided: what runs goes on.
    pub(super) fn decide(&mut self, around: &dyn Surroundings, now: Now) {
        if self.gathering.away_since.is_some() || !self.is_everything_known() {
            return;
        }
        self.voice.has_news = true;
        self.look_at_progress(around, now);
        self.look_at_pulls(now);
        self.look_at_damage();
        let Some(wanted) = &self.wanted else { return };
        let probed = |id: &str| -> Probed { around.probed(id).unwrap_or_default() };
        let pulled = self.writing.images_pulled().iter().map(|image| image.pin.clone());
        let pulled = if self.settings.remove_images { pulled.collect() } else { BTreeSet::new() };
        let environment = &self.node.environment;
        self.observed = observe::assemble(&self.facts, &self.memory, environment, probed, pulled);
        self.observed.memory_available = around.memory_available();
        self.observed.policy = self.policy_state().unwrap_or_default();
        self.observed.secrets = self.copies.keys().cloned().collect();
        let decisions = decide(wanted, &self.observed, &self.histories, now);
        self.is_undecided = false;
        let names: BTreeSet<&ServiceName> = decisions.services.keys().collect();
        self.verdicts.retain(|name, _| names.contains(name));
        self.plans.retain(|name, _| names.contains(name));
        for (service, verdict) in decisions.services {
            self.note(service, verdict);
        }
        let rerouted = self.set_routes(now);
        for service in self.verdicts.keys().cloned().collect::<Vec<_>>() {
            if !rerouted.contains(&service) && !self.is_busy(&service) {
                self.follow(&service, now);
            }
        }
        for step in decisions.images {
            self.image_step(step, now);
        }
    }

    /// Whether every fact that a decision needs was gathered at least once, and every image that is needed was looked for.
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

    /// What of the verdict holds although a step may be under way.
    fn note(&mut self, service: ServiceName, verdict: Verdict) {
        let before = self.verdicts.get(&service).map(|verdict| verdict.phase);
        if before != Some(verdict.phase) {
            info!(%service, phase = ?verdict.phase, "phase");
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

    /// The last instance that became available moves a rollout's clock, and so it is with the candidate's.
    fn look_at_progress(&mut self, around: &dyn Surroundings, now: Now) {
        let Some(wanted) = &self.wanted else { return };
        for (name, history) in &self.histories {
            if let Some(running) = &history.running {
                let known = (&running.release, &running.template);
                let available_at = self.available_at(name, known, around, now);
                let service = self.memory.service(name, now);
                service.progress_at = service.progress_at.max(available_at.unwrap_or_default());
            }
        }
        for (name, assignment) in &wanted.assignments {
            let Some(candidate) = &assignment.candidate else { continue };
            let environment = &self.node.environment;
            let template = candidate.template(environment);
            let known = (&candidate.release, &template);
            let available_at = self.available_at(name, known, around, now);
            let service = self.memory.service(name, now);
            let before = service.candidate_progress_at;
            service.candidate_progress_at = before.max(available_at.unwrap_or_default());
        }
    }

    /// When the last instance of a template became available.
    fn available_at(
        &self,
        service: &ServiceName,
        (release, template): (&ReleaseId, &Template),
        around: &dyn Surroundings,
        now: Now,
    ) -> Option<Now> {
        let release = self.wanted.as_ref()?.releases.get(release)?;
        let min_ready_ms = release.spec(&self.node.environment).rollout.min_ready.0;
        let containers = self.facts.containers.iter().flatten();
        containers
            .filter(|c| c.identity.service == *service && c.identity.template == *template)
            .filter_map(|c| around.probed(&c.id)?.ready_since)
            .map(|since| since.plus(min_ready_ms))
            .filter(|at| *at <= now)
            .max()
    }

    /// Sets the table where it is not what the plans say; returns the services that must wait for it.
    fn set_routes(&mut self, now: Now) -> BTreeSet<ServiceName> {
        let Some(snapshot) = &self.facts.proxy else { return BTreeSet::new() };
        let environment = &self.node.environment;
        let (gateways, containers) = (self.facts.gateways(environment), self.facts.addresses());
        let addresses = Addresses {
            fleet: &self.node.fleet,
            environment,
            listen: &self.settings.listen,
            gateways: &gateways,
            containers: &containers,
            own: self.settings.address,
        };
        let wanted = routes::routes(&self.plans, addresses);
        let fleet = self.wanted.as_ref().and_then(|wanted| {
            let (listen, between) = (&self.settings.listen, &self.settings.between);
            routes::fleet(listen, between, &self.node.fleet, &wanted.peers)
        });
        let is_foreign = |route: &Route| routes::parse_route_id(environment, &route.id).is_none();
        let is_other =
            snapshot.table.routes.iter().any(is_foreign) || snapshot.table.fleet != fleet;
        let (mut waiting, closed) =
            (routes::differing(environment, &wanted, &snapshot.table), self.closed_ports(snapshot));
        // At the start nobody has said yet why a port is not open, and the planner must know before it begins anything.
        let is_explained = |name: &&ServiceName| {
            let remembered = self.memory.services.get(*name);
            remembered.is_some_and(|r| !r.refused.is_empty() || r.unreachable_inside.is_some())
        };
        waiting.extend(closed.iter().filter(|name| !is_explained(name)).cloned());
        let is_closed = !closed.is_empty() || routes::is_fleet_port_closed(snapshot);
        let is_retry_due = is_closed && now >= self.closed_at;
        if waiting.is_empty() && !is_other && !is_retry_due {
            if is_closed {
                self.decide_by(self.closed_at);
            }
            return BTreeSet::new();
        }
        if self.routing.is_some() {
            return waiting;
        }
        if now < self.route_at {
            self.decide_by(self.route_at);
            return waiting;
        }
        self.begin_routing((wanted, fleet), waiting.clone(), now);
        waiting
    }

    /// Services with an address that the table names and the proxy does not listen on.
    fn closed_ports(&self, snapshot: &Snapshot) -> BTreeSet<ServiceName> {
        let closed = routes::unheard(snapshot);
        let service = |(id, _): &(String, _)| routes::parse_route_id(&self.node.environment, id);
        closed.iter().filter_map(service).map(|(service, _)| service).collect()
    }

    fn begin_routing(
        &mut self,
        (routes, fleet): (Vec<Route>, Option<Fleet>),
        services: BTreeSet<ServiceName>,
        now: Now,
    ) {
        let snapshot_version = self.facts.proxy.as_ref().map_or(0, |s| s.table.version);
        self.table_version = self.table_version.max(snapshot_version) + 1;
        let table = Table { version: self.table_version, routes, fleet };
        let names = services.iter().map(ServiceName::as_str).collect::<Vec<_>>().join(" ");
        debug!(services = names, version = table.version, "table set");
        self.closed_at = now.plus(CLOSED_RETRY_MS);
        self.acts.push(Act::SetTable { services: services.clone(), table });
        self.routing = Some(services);
    }

    pub(super) fn table_set(&mut self, result: Result<(Applied, Snapshot), ClientError>, now: Now) {
        let services = self.routing.take().unwrap_or_default();
        self.decide_by(now);
        let (applied, snapshot) = match result {
            Ok(done) => done,
            Err(error) => {
                warn!(%error, "the table could not be set");
                self.route_at = now.plus(PROXY_RETRY_MS);
                self.gathering.want(Scope { proxy: true, ..Scope::NOTHING }, self.route_at);
                return;
            }
        };
        self.facts.proxy = Some(snapshot);
        self.tell_fleet_port(&applied);
        let gateways = self.facts.gateways(&self.node.environment);
        let troubles = routes::troubles(&self.node.environment, &gateways, &applied.refused);
        for service in self.memory.services.values_mut() {
            service.refused.clear();
            service.unreachable_inside = None;
        }
        for trouble in troubles {
            let routes::Trouble { service, refusal, reach } = trouble;
            if services.contains(&service) {
                warn!(%service, reason = %refusal.reason, message = refusal.message, "port not open");
            }
            let remembered = self.memory.service(&service, now);
            match reach {
                Reach::Node => remembered.refused.push(refusal),
                Reach::Containers => remembered.unreachable_inside = Some(refusal),
            }
        }
    }

    /// Why other nodes cannot reach this one, once for each reason.
    fn tell_fleet_port(&mut self, applied: &Applied) {
        let trouble = routes::fleet_port_trouble(&applied.refused);
        if let Some((reason, message)) = &trouble
            && self.fleet_port_trouble != trouble
        {
            warn!(%reason, message, "the fleet port is not open");
            let text = format!("other nodes cannot call services of this one: {message}");
            self.tell(None, Some(*reason), &text);
        }
        self.fleet_port_trouble = trouble;
    }

    /// Begins the step of a service's verdict, or notes when to decide anew.
    fn follow(&mut self, service: &ServiceName, now: Now) {
        let pause = self.memory.services.get(service).and_then(|s| s.pause_until);
        if let Some(until) = pause.filter(|until| now < *until) {
            self.decide_by(until);
            return;
        }
        let Some(verdict) = self.verdicts.get(service) else { return };
        match &verdict.decision {
            Decision::Settled | Decision::GaveUp(_) => {}
            Decision::Wait { until: None } => {}
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
                if is_final(&step) && !self.is_fresh(now) {
                    self.gathering.want(Scope { containers: true, ..Scope::NOTHING }, now);
                    return;
                }
                self.begin(service, step, now);
            }
        }
    }

    fn is_fresh(&self, now: Now) -> bool {
        self.gathering.fresh_at.is_some_and(|at| now.since(at) <= FRESH_MS)
    }
}

/// Gives a release up.
fn is_final(step: &Step) -> bool {
    matches!(step, Step::Record(LedgerChange::GiveUp { .. }))
}
