//! A deploy and an undo: checked, placed, numbered, and handed to a rollout.

use std::collections::BTreeMap;

use planner::fleet::{PlaceRequest, Placed, Refusing, RolloutState, Stage, place};
use protocol::acceptance::verify_release;
use protocol::envelope::Envelope;
use protocol::id::{NodeName, ReleaseId, ServiceId};
use protocol::release::Release;
use protocol::secret::SecretVersions;
use protocol::spec::ServiceSpec;

use super::records::{Assigned, Change, Kind, Revision, ServiceRecord, StoredRelease};
use super::requests::{Accepted, Deploy, Promote, Refused, Undo};
use super::{At, Service, State};

/// What a new revision is made from.
struct Draft {
    release: ReleaseId,
    file: String,
    kind: Kind,
    restarts: u32,
    secrets: SecretVersions,
    undo_to: Option<u64>,
    cause: Option<String>,
    by: String,
}

/// The release that stands, to be started anew.
pub(super) struct Again {
    pub(super) cause: Option<String>,
    pub(super) by: String,
    /// How many restarts are added.
    pub(super) restarts: u32,
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
        self.check_agreed(&id, [])?;
        if let Some(accepted) = self.same_as_running(&id, &release) {
            return Ok(accepted);
        }
        self.check_policy(&id, &release_id)?;
        self.check_floor(&id.name, release.counter)?;
        self.check_counter(&id, &release_id, release.counter)?;
        let spec = release.spec(&id.environment);
        let secrets = self.secret_versions(&id.environment, spec)?;
        let placed = self.place_service(&id, spec)?;
        self.check_placed(&id, spec, (&release_id, &deploy.release), &placed, at)?;
        let stored = StoredRelease { envelope: deploy.release, release };
        let counter = stored.release.counter;
        let change = Change::Release(release_id.clone(), Box::new(stored.clone()));
        self.effects.changes.push(change);
        self.releases.insert(release_id.clone(), stored);
        let service = self.services.entry(id.clone()).or_insert_with(|| new_service(&id));
        service.record.counter = counter;
        self.count_release(&id.name, counter);
        let draft = Draft {
            release: release_id,
            file: deploy.file,
            kind: Kind::Deploy,
            restarts: 0,
            secrets,
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
        self.check_agreed(id, [])?;
        let service = self.services.get(id).ok_or_else(|| Refused::NoService(id.clone()))?;
        let target = match undo.to_revision {
            Some(number) => service
                .revisions
                .get(&number)
                .ok_or_else(|| Refused::NoRevision { service: id.clone(), revision: number })?,
            None => self.revision_before(id, service)?,
        };
        let runs_it = service.current().is_some_and(|current| current.release == target.release);
        if let Some(current) = service.current().filter(|_| runs_it && service.active().is_none()) {
            return Ok(unchanged(id, current));
        }
        self.check_trusted(id, &target.release)?;
        let stored = self.releases.get(&target.release);
        let stored = stored.ok_or_else(|| Refused::NothingToUndo(id.clone()))?;
        self.check_floor(&id.name, stored.release.counter)?;
        let spec = stored.release.spec(&id.environment).clone();
        let draft = Draft {
            release: target.release.clone(),
            file: target.file.clone(),
            kind: Kind::Undo,
            restarts: target.restarts,
            // A secret that was replaced stays replaced: the value before it may be the one that was stolen.
            secrets: self.secret_versions(&id.environment, &spec)?,
            undo_to: Some(target.number),
            cause: undo.cause,
            by: undo.by,
        };
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

    /// Refuses a release that is older than one accepted here, and another release under a counter that was given already,
    /// wherever that was.
    fn check_counter(
        &self,
        id: &ServiceId,
        release: &ReleaseId,
        counter: u64,
    ) -> Result<(), Refused> {
        let here = self.services.get(id).map_or(0, |service| service.record.counter);
        let anywhere = self.lines.get(&id.name).map_or(0, |line| line.counter);
        let newest = if self.releases.contains_key(release) { here } else { anywhere };
        if counter <= newest {
            return Err(Refused::OldCounter { found: counter, newest });
        }
        Ok(())
    }

    /// The revision that an undo without a number goes to.
    fn revision_before<'a>(
        &self,
        id: &ServiceId,
        service: &'a Service,
    ) -> Result<&'a Revision, Refused> {
        let mut before = service.revisions_before();
        let newest = before.next().ok_or_else(|| Refused::NothingToUndo(id.clone()))?;
        let mut all = std::iter::once(newest).chain(before);
        match all.find(|revision| !self.is_retired(&revision.release)) {
            Some(revision) => Ok(revision),
            None => {
                self.check_floor(&id.name, self.counter_of(&newest.release).unwrap_or(0))?;
                Err(Refused::NothingToUndo(id.clone()))
            }
        }
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
        self.begin_again(id, Again { cause: undo.cause, by: undo.by, restarts: 1 }, at)
    }

    /// A revision of the release that stands, with the newest secrets.
    pub(super) fn begin_again(
        &mut self,
        id: &ServiceId,
        again: Again,
        at: At,
    ) -> Result<Accepted, Refused> {
        let service = self.services.get(id).ok_or_else(|| Refused::NoService(id.clone()))?;
        let current = service.current().ok_or_else(|| Refused::NoService(id.clone()))?;
        self.check_trusted(id, &current.release)?;
        let most = service.revisions.values().map(|revision| revision.restarts).max();
        let restarts = match again.restarts {
            0 => current.restarts,
            more => most.unwrap_or(0) + more,
        };
        let stored = self.releases.get(&current.release);
        let stored = stored.ok_or_else(|| Refused::NoService(id.clone()))?;
        self.check_floor(&id.name, stored.release.counter)?;
        let spec = stored.release.spec(&id.environment).clone();
        let draft = Draft {
            release: current.release.clone(),
            file: current.file.clone(),
            kind: Kind::Restart,
            restarts,
            secrets: self.secret_versions(&id.environment, &spec)?,
            undo_to: None,
            cause: again.cause,
            by: again.by,
        };
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
        self.check_trusted(&id, &release)?;
        self.check_agreed(&id, [])?;
        let stored = self.releases.get(&release).cloned();
        let stored = stored.ok_or(Refused::NothingToPromote(source))?;
        if let Some(accepted) = self.same_as_running(&id, &stored.release) {
            return Ok(accepted);
        }
        self.check_policy(&id, &release)?;
        self.check_floor(&id.name, stored.release.counter)?;
        let spec = stored.release.spec(&id.environment);
        let secrets = self.secret_versions(&id.environment, spec)?;
        let placed = self.place_service(&id, spec)?;
        self.check_placed(&id, spec, (&release, &stored.envelope), &placed, at)?;
        let service = self.services.entry(id.clone()).or_insert_with(|| new_service(&id));
        service.record.counter = service.record.counter.max(stored.release.counter);
        let (kind, restarts, undo_to) = (Kind::Promote, 0, None);
        let (cause, by) = (promote.cause, promote.by);
        let draft = Draft { release, file, kind, restarts, secrets, undo_to, cause, by };
        Ok(self.begin(&id, draft, placed, at))
    }

    fn begin(&mut self, id: &ServiceId, draft: Draft, placed: Placed, at: At) -> Accepted {
        self.forget_absent(id);
        let order = self.order_nodes(id, &placed);
        let service = self.services.entry(id.clone()).or_insert_with(|| new_service(id));
        let number = service.record.next_revision;
        service.record.next_revision += 1;
        let from = service.record.stable;
        let failed_before = service
            .revisions
            .values()
            .filter(|r| {
                r.release == draft.release
                    && (r.restarts, &r.secrets) == (draft.restarts, &draft.secrets)
                    && r.has_failed()
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
            secrets: draft.secrets,
            undo_to: draft.undo_to,
            cause: draft.cause,
            by: draft.by,
            started_ms: at.unix_ms,
            ended_ms: None,
            state: RolloutState::Pending,
            stage: Stage::default(),
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

    /// Where a spec would run, given where the service runs now; refused where a node that it is meant for would refuse it or
    /// is in conflict.
    pub(super) fn place_service(
        &self,
        id: &ServiceId,
        spec: &ServiceSpec,
    ) -> Result<Placed, Refused> {
        let placed = self.place_with(id, spec, Refusing::Refuse)?;
        self.check_agreed(id, placed.counts.keys())?;
        Ok(placed)
    }

    /// The same, where nodes that would refuse it only get nothing new.
    pub(super) fn place_with(
        &self,
        id: &ServiceId,
        spec: &ServiceSpec,
        refusing: Refusing,
    ) -> Result<Placed, Refused> {
        let count_override = self.services.get(id).and_then(|s| s.record.count_override);
        let request = PlaceRequest {
            scheduling: spec.scheduling,
            count_override,
            placement: &spec.placement,
            exclusive: spec.is_exclusive(),
            service: &id.name,
            host: &spec.host,
            refusing,
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
                secrets: self.secret_versions(&id.environment, spec)?,
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
        // The same content under a key that is trusted is something to do.
        self.check_trusted(id, &current.release).ok()?;
        let same = runs.release.base == release.base
            && runs.release.environments == release.environments
            && runs.release.image == release.image;
        let newest_secrets = self.secret_versions(&id.environment, release.spec(&id.environment));
        let same = same && newest_secrets.ok().as_ref() == Some(&current.secrets);
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

pub(super) fn new_service(id: &ServiceId) -> Service {
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
    /// Revisions that succeeded with another release than the one that stands now, newest first.
    fn revisions_before(&self) -> impl Iterator<Item = &Revision> {
        let current = self.current();
        self.revisions.values().rev().filter(move |revision| {
            current.is_some_and(|current| {
                revision.number < current.number
                    && revision.state == RolloutState::Succeeded
                    && revision.release != current.release
            })
        })
    }
}
