//! Security floors: what holds of a service's releases in every environment, also once it is removed.
//!
//! A floor rises only by a signature of the release role, and never falls. What stands, is being rolled out or runs is
//! never retired: the request is refused and says what is in the way.

use std::collections::BTreeSet;

use planner::fleet::Rollout;
use protocol::acceptance::verify_retirement;
use protocol::envelope::{Envelope, MAX_ENVELOPE_BYTES};
use protocol::id::{EnvironmentName, NodeId, NodeName, ReleaseId, ServiceId, ServiceName};
use protocol::report::{InstanceReport, InstanceState};

use super::records::{Change, Happened, Intent, Line, Retired, Revision};
use super::requests::{Refused, Retire};
use super::shown::RetiredShown;
use super::{At, Service, State};

/// A release that something still needs.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Use {
    environment: EnvironmentName,
    revision: u64,
    counter: u64,
    /// Where it was seen to run although it should not.
    node: Option<NodeName>,
}

impl State {
    /// Raises the floor of a service; one that is not higher changes nothing.
    ///
    /// # Errors
    /// Where it is not properly signed, is of no known service, is above what could be a slip of the finger, or would
    /// retire what is needed.
    pub fn retire(&mut self, retire: Retire, at: At) -> Result<RetiredShown, Refused> {
        let (root, fleet) = (&self.director.root, &self.director.fleet);
        let verified = verify_retirement(&retire.retirement, root, fleet);
        let retirement = verified.map_err(Refused::Retirement)?.into_inner();
        let (service, below) = (retirement.service, retirement.below);
        let line = self.lines.get(&service).ok_or(Refused::NoReleases(service.clone()))?.clone();
        if below <= line.floor() {
            return Ok(self.show_retired(&service, true));
        }
        let newest = line.counter;
        if below > newest.saturating_add(1) {
            return Err(Refused::FloorTooHigh { service, below, newest });
        }
        if let Some(needed) = self.uses_below(&service, below).into_iter().next() {
            let Use { environment, revision, counter, node } = needed;
            return Err(Refused::StillRuns {
                service,
                environment,
                revision,
                counter,
                below,
                node,
            });
        }
        let Retire { retirement: envelope, cause, by } = retire;
        let why = cause.as_ref().map_or(String::new(), |cause| format!(": {cause}"));
        let message = format!("releases below {below} are retired by {by}{why}");
        let retired = Some(Retired { below, envelope, by, cause, at_ms: at.unix_ms });
        self.lines.insert(service.clone(), Line { retired, ..line.clone() });
        let told = self.nodes_that_know(&service);
        if let Some(refused) = told.iter().find_map(|node| self.no_longer_fits(node, at)) {
            self.lines.insert(service, line);
            return Err(refused);
        }
        self.keep_line(&service);
        self.touched.extend(told);
        self.end_soaks(&service);
        self.note_retired(&service, &message, at);
        tracing::info!(%service, below, "releases retired");
        Ok(self.show_retired(&service, false))
    }

    /// Refuses what is below the floor of its service.
    pub(super) fn check_floor(&self, service: &ServiceName, counter: u64) -> Result<(), Refused> {
        let floor = self.lines.get(service).map_or(0, Line::floor);
        if counter >= floor {
            return Ok(());
        }
        Err(Refused::Retired { service: service.clone(), counter, floor })
    }

    /// Whether a release lies below its service's floor.
    pub(super) fn is_retired(&self, release: &ReleaseId) -> bool {
        self.releases.get(release).is_some_and(|stored| {
            self.check_floor(stored.release.service(), stored.release.counter).is_err()
        })
    }

    /// Whether what a revision would go back to is retired.
    pub(super) fn goes_back_to_retired(&self, id: &ServiceId, revision: &Revision) -> bool {
        let from = revision.from.and_then(|from| self.services.get(id)?.revisions.get(&from));
        from.is_some_and(|from| self.is_retired(&from.release))
    }

    /// The counter that its release was signed under.
    pub(super) fn counter_of(&self, release: &ReleaseId) -> Option<u64> {
        self.releases.get(release).map(|stored| stored.release.counter)
    }

    /// Remembers that a release of this counter was accepted.
    pub(super) fn count_release(&mut self, service: &ServiceName, counter: u64) {
        let fresh = Line { service: service.clone(), counter: 0, retired: None };
        let line = self.lines.entry(service.clone()).or_insert(fresh);
        if counter > line.counter {
            line.counter = counter;
            self.keep_line(service);
        }
    }

    /// A database of before may have no lines yet.
    pub(super) fn count_known_releases(&mut self) {
        let counted = self.services.iter().map(|(id, s)| (id.name.clone(), s.record.counter));
        for (service, counter) in counted.collect::<Vec<_>>() {
            self.count_release(&service, counter);
        }
    }

    /// The retirements that a node is told: of all services that run there or ever ran there.
    pub(super) fn retirements_for(&self, intent: &Intent) -> Vec<Envelope> {
        let lines = self.lines.values().filter(|line| intent.knows(&line.service));
        let envelopes = lines.filter_map(|line| Some(&line.retired.as_ref()?.envelope));
        // One that only a replaced key signed would refuse the whole manifest; the floor holds here all the same.
        let is_trusted = |envelope: &&Envelope| {
            verify_retirement(envelope, &self.director.root, &self.director.fleet).is_ok()
        };
        envelopes.filter(is_trusted).cloned().collect()
    }

    fn nodes_that_know(&self, service: &ServiceName) -> BTreeSet<NodeId> {
        let nodes = self.nodes.values().filter(|node| node.intent.knows(service));
        nodes.map(|node| node.record.id.clone()).collect()
    }

    fn no_longer_fits(&self, id: &NodeId, at: At) -> Option<Refused> {
        let size = self.manifest_size(id, at)?;
        let node = self.nodes.get(id)?.record.name.to_string();
        let max = MAX_ENVELOPE_BYTES;
        (size > max).then_some(Refused::ManifestTooLarge { node, size, max })
    }

    pub(super) fn keep_line(&mut self, service: &ServiceName) {
        if let Some(line) = self.lines.get(service) {
            self.effects.changes.push(Change::Line(Box::new(line.clone())));
        }
    }

    /// What stands, what rollouts move from and to, what nodes are told to run, and what reachable ones run.
    fn uses_below(&self, name: &ServiceName, below: u64) -> BTreeSet<Use> {
        let of_it = || self.services.iter().filter(|(id, _)| id.name == *name);
        let stands = of_it().flat_map(|(id, service)| {
            let open = service.rollout.as_ref().filter(|rollout| !rollout.state().is_final());
            let order = open.map(Rollout::order);
            let from = order.and_then(|order| order.from_revision);
            let numbers = [service.record.stable, order.map(|order| order.revision), from];
            let revisions = numbers.into_iter().flatten().filter_map(|n| service.revisions.get(&n));
            revisions.map(|revision| (&id.environment, revision.number, &revision.release, None))
        });
        let told = self.nodes.values().flat_map(|node| {
            let environment = &node.record.environment;
            let assigned = node.intent.assigned.get(name).into_iter().flat_map(|assigned| {
                let beside = assigned.candidate.as_ref().map(|c| (c.revision, &c.release));
                std::iter::once((assigned.revision, &assigned.release)).chain(beside)
            });
            let hook = node.intent.hooks.get(name).map(|hook| (hook.revision, &hook.release));
            assigned.chain(hook).map(move |(number, release)| (environment, number, release, None))
        });
        let online = self.nodes.values().filter(|node| node.record.online);
        let seen = online.flat_map(|node| {
            let (environment, node_name) = (&node.record.environment, &node.record.name);
            let services = node.record.report.iter().flat_map(|report| &report.services);
            let of_it = services.filter(|of_it| of_it.service == *name);
            let instances = of_it.flat_map(|of_it| &of_it.instances).filter(|i| serves(i));
            instances.map(move |instance| {
                let id = ServiceId { environment: environment.clone(), name: name.clone() };
                let number = self.services.get(&id).and_then(|s| s.number_of(&instance.release));
                (environment, number.unwrap_or(0), &instance.release, Some(node_name.clone()))
            })
        });
        let uses =
            stands.chain(told).chain(seen).filter_map(|(environment, revision, release, node)| {
                let counter = self.counter_of(release).filter(|counter| *counter < below)?;
                Some(Use { environment: environment.clone(), revision, counter, node })
            });
        uses.collect()
    }

    /// A rollout that soaks goes nowhere any more once what it would go back to is retired.
    fn end_soaks(&mut self, name: &ServiceName) {
        let soaks = |(id, service): (&ServiceId, &Service)| {
            let number = service.watched().filter(|_| service.active().is_none())?;
            let revision = service.revisions.get(&number)?;
            (id.name == *name && self.goes_back_to_retired(id, revision)).then(|| id.clone())
        };
        let over: Vec<ServiceId> = self.services.iter().filter_map(soaks).collect();
        for id in over {
            if let Some(service) = self.services.get_mut(&id) {
                service.rollout = None;
            }
        }
    }

    /// Said in every environment that has the service, so that whoever looks at it there sees it.
    fn note_retired(&mut self, name: &ServiceName, message: &str, at: At) {
        let ids: Vec<ServiceId> =
            self.services.keys().filter(|id| id.name == *name).cloned().collect();
        for id in &ids {
            self.note_service(id, None, message.to_owned(), at);
        }
        if ids.is_empty() {
            self.note(Happened {
                id: 0,
                at_ms: at.unix_ms,
                environment: None,
                service: Some(name.clone()),
                node: None,
                reason: None,
                message: message.to_owned(),
            });
        }
    }

    fn show_retired(&self, service: &ServiceName, unchanged: bool) -> RetiredShown {
        let knowing = self.nodes.values().filter(|node| node.intent.knows(service));
        let is_told = |node: &&super::Node| node.record.online && node.conflict().is_none();
        let (online, offline): (Vec<_>, Vec<_>) = knowing.partition(is_told);
        let names = |nodes: Vec<&super::Node>| {
            nodes.into_iter().map(|node| node.record.name.clone()).collect()
        };
        RetiredShown {
            service: service.clone(),
            below: self.lines.get(service).map_or(0, Line::floor),
            unchanged,
            told: names(online),
            offline: names(offline),
        }
    }
}

/// What rests for a way back, or is on its way out, is needed by nobody.
fn serves(instance: &InstanceReport) -> bool {
    match instance.state {
        InstanceState::Starting
        | InstanceState::Ready
        | InstanceState::Unready
        | InstanceState::Crashed => true,
        InstanceState::Created
        | InstanceState::Draining
        | InstanceState::Stopping
        | InstanceState::Warm
        | InstanceState::Kept => false,
    }
}

impl Service {
    /// The newest revision of a release.
    fn number_of(&self, release: &ReleaseId) -> Option<u64> {
        let of_it = self.revisions.values().rev().find(|revision| revision.release == *release);
        of_it.map(|revision| revision.number)
    }
}
