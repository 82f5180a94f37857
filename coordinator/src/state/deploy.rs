//! A deploy and an undo: checked, placed, numbered, and handed to a rollout.

use std::collections::BTreeMap;

use planner::fleet::{PlaceRequest, Placed, RolloutState, place};
use protocol::acceptance::verify_release;
use protocol::envelope::Envelope;
use protocol::id::{NodeName, ReleaseId, ServiceId};
use protocol::release::Release;
use protocol::spec::ServiceSpec;

use super::records::{Assigned, Change, Kind, Revision, ServiceRecord, StageRecord, StoredRelease};
use super::requests::{Accepted, Deploy, Promote, Refused, Undo};
use super::{At, Service, State};

/// What a new revision is made from.
struct Draft {
    release: ReleaseId,
    file: String,
    kind: Kind,
    restarts: u32,
    undo_to: Option<u64>,
    cause: Option<String>,
    by: String,
}

impl State {
    /// Accepts a signed release and starts rolling it out.
    ///
    /// # Errors
    /// Where it is not properly signed, is old, fits nowhere, or collides with another service.
    pub fn deploy(&mut self, deploy: Deploy, at: At) -> Result<Accepted, Refused> {
        let verified = verify_release(&deploy.release, &self.director.root, &self.director.fleet)?;
        let release_id = ReleaseId::of_payload(verified.payload());
        let release = verified.into_inner();
        let id =
            ServiceId { environment: deploy.environment.clone(), name: release.service().clone() };
        self.check_revision(&id, deploy.if_revision)?;
        if let Some(accepted) = self.same_as_running(&id, &release) {
            return Ok(accepted);
        }
        self.check_policy(&id, &release_id)?;
        let newest = self.services.get(&id).map_or(0, |service| service.record.counter);
        if release.counter <= newest {
            return Err(Refused::OldCounter { found: release.counter, newest });
        }
        let spec = release.spec(&id.environment);
        let placed = self.place_service(&id, spec)?;
        self.check_placed(&id, spec, (&release_id, &deploy.release), &placed, at)?;
        let stored = StoredRelease { envelope: deploy.release, release };
        let counter = stored.release.counter;
        let change = Change::Release(release_id.clone(), Box::new(stored.clone()));
        self.effects.changes.push(change);
        self.releases.insert(release_id.clone(), stored);
        let service = self.services.entry(id.clone()).or_insert_with(|| new_service(&id));
        service.record.counter = counter;
        let draft = Draft {
            release: release_id,
            file: deploy.file,
            kind: Kind::Deploy,
            restarts: 0,
            undo_to: None,
            cause: deploy.cause,
            by: deploy.by,
        };
        Ok(self.begin(&id, draft, placed, at))
    }

    /// Points a new revision at an old release. Needs no release key: the release is signed already.
    ///
    /// # Errors
    /// Where there is nothing to go back to, or no node fits any more.
    pub fn undo(&mut self, id: &ServiceId, undo: Undo, at: At) -> Result<Accepted, Refused> {
        self.check_revision(id, undo.if_revision)?;
        let service = self.services.get(id).ok_or_else(|| Refused::NoService(id.clone()))?;
        let target = match undo.to_revision {
            Some(number) => service
                .revisions
                .get(&number)
                .ok_or_else(|| Refused::NoRevision { service: id.clone(), revision: number })?,
            None => service.revision_before().ok_or_else(|| Refused::NothingToUndo(id.clone()))?,
        };
        let runs_it = service.current().is_some_and(|current| current.release == target.release);
        if let Some(current) = service.current().filter(|_| runs_it && service.active().is_none()) {
            return Ok(unchanged(id, current));
        }
        let draft = Draft {
            release: target.release.clone(),
            file: target.file.clone(),
            kind: Kind::Undo,
            restarts: target.restarts,
            undo_to: Some(target.number),
            cause: undo.cause,
            by: undo.by,
        };
        let spec = self.releases.get(&draft.release);
        let spec = spec.map(|stored| stored.release.spec(&id.environment).clone());
        let spec = spec.ok_or_else(|| Refused::NothingToUndo(id.clone()))?;
        let placed = self.place_service(id, &spec)?;
        Ok(self.begin(id, draft, placed, at))
    }

    /// Refuses what was meant for another revision than stands.
    fn check_revision(&self, id: &ServiceId, expected: Option<u64>) -> Result<(), Refused> {
        let Some(expected) = expected else { return Ok(()) };
        let newest = self.services.get(id).map_or(0, |service| service.record.next_revision - 1);
        if newest == expected {
            return Ok(());
        }
        Err(Refused::RevisionChanged { service: id.clone(), expected, newest })
    }

    /// Refuses what has not succeeded where the environment takes its releases from.
    fn check_policy(&self, id: &ServiceId, release: &ReleaseId) -> Result<(), Refused> {
        let Some(from) = self.policy.only_from.get(&id.environment) else { return Ok(()) };
        let source = ServiceId { environment: from.clone(), name: id.name.clone() };
        let ran = |revision: &Revision| {
            revision.release == *release && revision.state == RolloutState::Succeeded
        };
        if self.services.get(&source).is_some_and(|s| s.revisions.values().any(ran)) {
            return Ok(());
        }
        let (name, from, to) = (id.name.clone(), from.clone(), id.environment.clone());
        Err(Refused::OnlyFrom { name, from, to })
    }

    /// Starts every instance of a service anew, as its rollout policy says.
    ///
    /// # Errors
    /// Where there is no such service, nothing of it runs, or it is being rolled out.
    pub fn restart(&mut self, id: &ServiceId, undo: Undo, at: At) -> Result<Accepted, Refused> {
        self.check_revision(id, undo.if_revision)?;
        let service = self.services.get(id).ok_or_else(|| Refused::NoService(id.clone()))?;
        if let Some(revision) = service.active() {
            return Err(Refused::Busy { service: id.clone(), revision });
        }
        let current = service.current().ok_or_else(|| Refused::NoService(id.clone()))?;
        let most = service.revisions.values().map(|revision| revision.restarts).max();
        let draft = Draft {
            release: current.release.clone(),
            file: current.file.clone(),
            kind: Kind::Restart,
            restarts: most.unwrap_or(0) + 1,
            undo_to: None,
            cause: undo.cause,
            by: undo.by,
        };
        let spec = self.releases.get(&draft.release);
        let spec = spec.map(|stored| stored.release.spec(&id.environment).clone());
        let spec = spec.ok_or_else(|| Refused::NoService(id.clone()))?;
        let placed = self.place_service(id, &spec)?;
        Ok(self.begin(id, draft, placed, at))
    }

    /// Rolls the very release that stands in one environment out in another.
    ///
    /// # Errors
    /// Where nothing has succeeded there, or as [`State::deploy`].
    pub fn promote(&mut self, promote: Promote, at: At) -> Result<Accepted, Refused> {
        let source = ServiceId { environment: promote.from, name: promote.service.clone() };
        let id = ServiceId { environment: promote.to, name: promote.service };
        let service = self.services.get(&source).ok_or(Refused::NoService(source.clone()))?;
        let stable = service.record.stable.and_then(|number| service.revisions.get(&number));
        let stable = stable.ok_or(Refused::NothingToPromote(source.clone()))?;
        let (release, file) = (stable.release.clone(), stable.file.clone());
        let stored = self.releases.get(&release).cloned();
        let stored = stored.ok_or(Refused::NothingToPromote(source))?;
        if let Some(accepted) = self.same_as_running(&id, &stored.release) {
            return Ok(accepted);
        }
        self.check_policy(&id, &release)?;
        let spec = stored.release.spec(&id.environment);
        let placed = self.place_service(&id, spec)?;
        self.check_placed(&id, spec, (&release, &stored.envelope), &placed, at)?;
        let service = self.services.entry(id.clone()).or_insert_with(|| new_service(&id));
        service.record.counter = service.record.counter.max(stored.release.counter);
        let (kind, restarts, undo_to) = (Kind::Promote, 0, None);
        let (cause, by) = (promote.cause, promote.by);
        let draft = Draft { release, file, kind, restarts, undo_to, cause, by };
        Ok(self.begin(&id, draft, placed, at))
    }

    fn begin(&mut self, id: &ServiceId, draft: Draft, placed: Placed, at: At) -> Accepted {
        let order = self.order_nodes(id, &placed);
        let service = self.services.entry(id.clone()).or_insert_with(|| new_service(id));
        let number = service.record.next_revision;
        service.record.next_revision += 1;
        let from = service.record.stable;
        let failed_before = service
            .revisions
            .values()
            .filter(|r| {
                r.release == draft.release && r.restarts == draft.restarts && r.has_failed()
            })
            .count();
        let revision = Revision {
            number,
            release: draft.release,
            file: draft.file,
            attempt: 1 + u32::try_from(failed_before).unwrap_or(u32::MAX - 1),
            from,
            kind: draft.kind,
            restarts: draft.restarts,
            undo_to: draft.undo_to,
            cause: draft.cause,
            by: draft.by,
            started_ms: at.unix_ms,
            ended_ms: None,
            state: RolloutState::Pending,
            stage: StageRecord::default(),
            reason: None,
            message: String::new(),
            placement: placed.counts,
            unplaced: placed.unplaced,
            order,
            nodes: BTreeMap::new(),
            failures: Vec::new(),
        };
        service.revisions.insert(number, revision);
        self.keep_service(id);
        self.keep_revision(id, number);
        self.start_rollout(id, number, at);
        Accepted {
            service: id.clone(),
            revision: number,
            from_revision: from,
            unchanged: false,
            unplaced: placed.unplaced,
        }
    }

    /// Where a spec would run, given where the service runs now.
    pub(super) fn place_service(
        &self,
        id: &ServiceId,
        spec: &ServiceSpec,
    ) -> Result<Placed, Refused> {
        let count_override = self.services.get(id).and_then(|s| s.record.count_override);
        let request = PlaceRequest {
            scheduling: spec.scheduling,
            count_override,
            placement: &spec.placement,
            exclusive: spec.is_exclusive(),
        };
        Ok(place(&request, &self.node_facts(&id.environment), &self.counts_of(id))?)
    }

    /// How many instances each node is to run now.
    pub(super) fn counts_of(&self, id: &ServiceId) -> BTreeMap<NodeName, u32> {
        let of_it = self.nodes.values().filter(|n| n.record.environment == id.environment);
        of_it
            .filter_map(|node| {
                let assigned = node.intent.assigned.get(&id.name)?;
                Some((node.record.name.clone(), assigned.count))
            })
            .collect()
    }

    /// Nodes in the order of their names.
    pub(super) fn order_nodes(&self, id: &ServiceId, placed: &Placed) -> Vec<NodeName> {
        let facts = self.node_facts(&id.environment).into_iter();
        facts.map(|fact| fact.name).filter(|name| placed.counts.contains_key(name)).collect()
    }

    fn check_placed(
        &self,
        id: &ServiceId,
        spec: &ServiceSpec,
        (release, envelope): (&ReleaseId, &Envelope),
        placed: &Placed,
        at: At,
    ) -> Result<(), Refused> {
        for (name, count) in &placed.counts {
            let Some(node) = self.node_named(name) else { continue };
            self.check_ports(id, spec, node)?;
            let assigned = Assigned {
                revision: u64::MAX,
                release: release.clone(),
                count: *count,
                attempt: 1,
                restarts: 0,
                paused: false,
                candidate: None,
            };
            self.check_manifest_fits(&node.record.id, &id.name, &assigned, envelope, at)?;
        }
        Ok(())
    }

    /// Two services of a node cannot open the same port.
    pub(super) fn check_ports(
        &self,
        id: &ServiceId,
        spec: &ServiceSpec,
        node: &super::Node,
    ) -> Result<(), Refused> {
        let others = node.intent.assigned.iter().filter(|(name, _)| **name != id.name);
        for (other, assigned) in others {
            let Some(stored) = self.releases.get(&assigned.release) else { continue };
            let theirs =
                stored.release.spec(&id.environment).ports.iter().filter_map(|p| p.listen.as_ref());
            for listen in theirs {
                let clash = |ours: &protocol::spec::Listen| {
                    let same_address = match (ours.address, listen.address) {
                        (Some(ours), Some(theirs)) => ours == theirs,
                        (None, _) | (_, None) => true,
                    };
                    ours.port == listen.port && same_address
                };
                if spec.ports.iter().filter_map(|p| p.listen.as_ref()).any(clash) {
                    let (port, other) = (listen.port, other.to_string());
                    let node = node.record.name.to_string();
                    return Err(Refused::PortUsed { port, other, node });
                }
            }
        }
        Ok(())
    }

    /// Equal content means nothing to do, unless the last try of it failed or is still under way.
    fn same_as_running(&self, id: &ServiceId, release: &Release) -> Option<Accepted> {
        let service = self.services.get(id)?;
        let current = service.current()?;
        let newest = service.revisions.values().next_back()?;
        let runs = self.releases.get(&current.release)?;
        let same = runs.release.base == release.base
            && runs.release.environments == release.environments
            && runs.release.image == release.image;
        let settled = service.active().is_none() && current.state == RolloutState::Succeeded;
        (same && settled && newest.state != RolloutState::Paused).then(|| unchanged(id, current))
    }
}

fn unchanged(id: &ServiceId, current: &Revision) -> Accepted {
    Accepted {
        service: id.clone(),
        revision: current.number,
        from_revision: current.from,
        unchanged: true,
        unplaced: current.unplaced,
    }
}

fn new_service(id: &ServiceId) -> Service {
    let record = ServiceRecord {
        id: id.clone(),
        count_override: None,
        next_revision: 1,
        counter: 0,
        stable: None,
    };
    Service { record, revisions: BTreeMap::new(), rollout: None }
}

impl Revision {
    /// Whether the release itself was found bad by this rollout.
    fn has_failed(&self) -> bool {
        !self.failures.is_empty()
            || matches!(self.state, RolloutState::RolledBack | RolloutState::Failed)
    }
}

impl Service {
    /// The newest revision that succeeded with another release than the one that stands now.
    fn revision_before(&self) -> Option<&Revision> {
        let current = self.current()?;
        self.revisions
            .values()
            .rev()
            .filter(|revision| revision.number < current.number)
            .find(|r| r.state == RolloutState::Succeeded && r.release != current.release)
    }
}
