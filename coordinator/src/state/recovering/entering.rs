//! What a manifest of before names, entered as if it had been decided here: releases, floors, secrets, services, and the node's own part.

use std::collections::BTreeMap;

use planner::fleet::{NodeProgress, NodeState, RolloutState, Stage};
use protocol::acceptance::{Accepted, verify_retirement};
use protocol::envelope::Envelope;
use protocol::id::{NodeId, NodeName, ReleaseId, ServiceId, ServiceName};
use protocol::manifest::{Assignment, Candidate, Manifest};
use protocol::secret::{self, SecretVersions};
use protocol::spec::Scheduling;

use crate::state::deploy::new_service;
use crate::state::records::{
    Assigned, AssignedCandidate, Change, Intent, Kind, NodeCopy, NodeRecord, Progress, Retired,
    Revision, SecretRecord, StoredRelease, VersionRecord,
};
use crate::state::{Director, State};

/// Who did what a manifest tells of.
const BY: &str = "recovery";

/// What a revision is made of that a manifest names.
struct Named<'a> {
    number: u64,
    release: &'a ReleaseId,
    attempt: u32,
    restarts: u32,
    secrets: &'a SecretVersions,
    at_ms: u64,
}

impl State {
    pub(super) fn enter_releases(&mut self, told: Accepted) -> Manifest {
        let mut envelopes = told.envelopes();
        for (id, release) in told.releases {
            let Some(envelope) = envelopes.remove(&id) else { continue };
            let release = release.into_inner();
            let (name, counter) = (release.service().clone(), release.counter);
            let stored = StoredRelease { envelope, release };
            self.effects.changes.push(Change::Release(id.clone(), Box::new(stored.clone())));
            self.releases.insert(id, stored);
            self.count_release(&name, counter);
        }
        told.manifest.into_inner()
    }

    pub(super) fn enter_floors(&mut self, told: &Manifest, at_ms: u64) {
        for (service, below, envelope) in self.floors_of(told) {
            // No release of a counter below it was ever accepted since.
            self.count_release(&service, below.saturating_sub(1));
            let Some(line) = self.lines.get_mut(&service) else { continue };
            if line.floor() < below {
                line.retired = Some(Retired { below, envelope, cause: None, by: BY.into(), at_ms });
                self.keep_line(&service);
            }
        }
    }

    /// Those that a release key of today vouches for: the thief of an old one could raise them for ever.
    fn floors_of(&self, told: &Manifest) -> Vec<(ServiceName, u64, Envelope)> {
        let Director { root, fleet, .. } = &self.director;
        let floor = |envelope: &Envelope| {
            let retirement = verify_retirement(envelope, root, fleet).ok()?.into_inner();
            Some((retirement.service, retirement.below, envelope.clone()))
        };
        told.retirements.iter().filter_map(floor).collect()
    }

    /// Copies for this node alone: nobody here can open one and seal it to another.
    pub(super) fn enter_secrets(&mut self, told: &Manifest, record: &NodeRecord, at_ms: u64) {
        let Some(own) = record.seal_key.clone() else { return };
        for secret::Copy { name, version, sealed, registry } in told.secrets.iter().cloned() {
            let key = (told.environment.clone(), name);
            let known = self.secrets.entry(key.clone()).or_insert_with(|| SecretRecord::new(&key));
            if version >= known.newest {
                (known.newest, known.registry) = (version, registry);
            }
            let fresh = || VersionRecord {
                at_ms,
                by: BY.to_owned(),
                operators: Vec::new(),
                nodes: BTreeMap::new(),
            };
            let (node, key_of_node) = (record.id.clone(), own.clone());
            let copy = NodeCopy { node: node.clone(), key: key_of_node, sealed };
            known.versions.entry(version).or_insert_with(fresh).nodes.insert(node, copy);
            self.keep_secret(&key);
        }
    }

    pub(super) fn enter_service(
        &mut self,
        assignment: &Assignment,
        record: &NodeRecord,
        at_ms: u64,
    ) {
        let id =
            ServiceId { environment: record.environment.clone(), name: assignment.service.clone() };
        let named = Named {
            number: assignment.revision,
            release: &assignment.release,
            attempt: assignment.attempt,
            restarts: assignment.restarts,
            secrets: &assignment.secrets,
            at_ms,
        };
        let counter = self.counter_of(&assignment.release).unwrap_or(0);
        self.services.entry(id.clone()).or_insert_with(|| new_service(&id));
        self.enter_revision(
            &id,
            &named,
            RolloutState::Succeeded,
            Some((&record.name, assignment.count)),
        );
        if let Some(candidate) = &assignment.candidate {
            let beside = Named {
                number: candidate.revision,
                release: &candidate.release,
                attempt: candidate.attempt,
                restarts: candidate.restarts,
                secrets: &candidate.secrets,
                at_ms,
            };
            // Nobody steers it any more; the next deploy takes its place.
            self.enter_revision(&id, &beside, RolloutState::Aborted, None);
        }
        let of_candidate = assignment.candidate.as_ref().map_or(0, |candidate| candidate.revision);
        let newest = assignment.revision.max(of_candidate);
        let stable = self.most_run(&id, &record.id, (assignment.revision, assignment.count));
        if let Some(service) = self.services.get_mut(&id) {
            let kept = &mut service.record;
            kept.stable = Some(stable);
            kept.next_revision = kept.next_revision.max(newest.saturating_add(1));
            kept.counter = kept.counter.max(counter);
        }
        self.keep_known_count(&id, &record.id, assignment.count);
        self.keep_service(&id);
    }

    /// The revision that most instances are told to be of, the older where two are even: a rollout that was under way may have been of a
    /// release that was bad.
    fn most_run(&mut self, id: &ServiceId, of: &NodeId, (revision, count): (u64, u32)) -> u64 {
        let mut told: BTreeMap<u64, u32> = BTreeMap::from([(revision, count)]);
        let others = self
            .nodes
            .values()
            .filter(|node| node.record.id != *of && node.record.environment == id.environment);
        for one in others.filter_map(|node| node.intent.assigned.get(&id.name)) {
            let known = told.entry(one.revision).or_default();
            *known = known.saturating_add(one.count);
        }
        let most = told.iter().rev().max_by_key(|(_, count)| **count);
        let most = most.map_or(revision, |(revision, _)| *revision);
        let Some(service) = self.services.get_mut(id) else { return most };
        let mut changed = Vec::new();
        for entered in service.revisions.values_mut().filter(|one| one.by == BY) {
            let is_over = entered.number > most;
            let state = if is_over { RolloutState::Aborted } else { RolloutState::Succeeded };
            if entered.state != state {
                entered.state = state;
                changed.push(entered.number);
            }
        }
        changed.into_iter().for_each(|number| self.keep_revision(id, number));
        most
    }

    /// A service runs as often as is known. Where that is less than its file says the rest may run on boards that are not back: it is an
    /// operator's count until they are.
    fn keep_known_count(&mut self, id: &ServiceId, of: &NodeId, more: u32) {
        let others = self
            .nodes
            .values()
            .filter(|node| node.record.id != *of && node.record.environment == id.environment);
        let others = others.filter_map(|node| Some(node.intent.assigned.get(&id.name)?.count));
        let known = others.fold(more, u32::saturating_add);
        let spec =
            self.services.get(id).and_then(|service| service.current()).and_then(|current| {
                Some(self.releases.get(&current.release)?.release.spec(&id.environment).scheduling)
            });
        let Some(Scheduling::Replicas(wanted)) = spec else { return };
        if let Some(service) = self.services.get_mut(id) {
            service.record.count_override = (known != wanted).then_some(known);
        }
    }

    fn enter_revision(
        &mut self,
        id: &ServiceId,
        named: &Named<'_>,
        state: RolloutState,
        on: Option<(&NodeName, u32)>,
    ) {
        let Some(service) = self.services.get_mut(id) else { return };
        let revision =
            service.revisions.entry(named.number).or_insert_with(|| named.revision(state));
        let more = revision.restarts.saturating_sub(named.restarts);
        revision.restarts -= more;
        if let Some((node, count)) = on {
            revision.placement.insert(node.clone(), count);
            revision.order.push(node.clone());
            let done = NodeProgress { state: NodeState::Done, reason: None, message: None };
            revision.nodes.insert(node.clone(), Progress::of(&done));
        }
        self.keep_revision(id, named.number);
        self.restarted_alone(id, named.number, more);
    }

    /// Another node was restarted less often: what this one had more was its own. It is told the same as before.
    fn restarted_alone(&mut self, id: &ServiceId, revision: u64, more: u32) {
        if more == 0 {
            return;
        }
        for node in self.nodes.values_mut().filter(|n| n.record.environment == id.environment) {
            let intent = &mut node.intent;
            let assigned = intent.assigned.get_mut(&id.name);
            let Some(assigned) = assigned.filter(|one| one.revision == revision) else { continue };
            assigned.restarts = assigned.restarts.saturating_sub(more);
            if let Some(candidate) = &mut assigned.candidate {
                candidate.restarts = candidate.restarts.saturating_sub(more);
            }
            *intent.restarts.entry(id.name.clone()).or_default() += more;
            let change = Change::Intent(node.record.id.clone(), Box::new(intent.clone()));
            self.effects.changes.push(change);
        }
    }

    pub(super) fn enter_intent(&mut self, id: &NodeId, told: &Manifest) {
        let floors = self.floors_of(told).into_iter().map(|(service, ..)| service);
        let floors: Vec<ServiceName> = floors.collect();
        let assigned =
            told.services.iter().map(|one| (one.service.clone(), self.as_told(one, told)));
        let assigned: BTreeMap<ServiceName, (Assigned, u32)> = assigned.collect();
        let own = assigned.iter().filter(|(_, (_, own))| *own > 0);
        let restarts = own.map(|(name, (_, own))| (name.clone(), *own)).collect();
        let known = told.services.iter().map(|one| one.service.clone());
        let known = known.chain(told.removed.iter().cloned()).chain(floors).collect();
        let intent = Intent {
            peers: told.peers.clone(),
            absent: told.peers.clone(),
            assigned: assigned.into_iter().map(|(name, (one, _))| (name, one)).collect(),
            restarts,
            removed: told.removed.iter().map(|name| (name.clone(), 1)).collect(),
            known,
            ..Intent::default()
        };
        if let Some(node) = self.nodes.get_mut(id) {
            node.intent = intent;
        }
        self.are_peers_stale = true;
        self.touched.insert(id.clone());
    }

    /// What the node is told again, and how often the service was restarted there alone.
    fn as_told(&self, assignment: &Assignment, told: &Manifest) -> (Assigned, u32) {
        let id =
            ServiceId { environment: told.environment.clone(), name: assignment.service.clone() };
        let service = self.services.get(&id);
        let revision = service.and_then(|service| service.revisions.get(&assignment.revision));
        let everywhere = revision.map_or(0, |revision| revision.restarts);
        let everywhere = everywhere.min(assignment.restarts);
        let own = assignment.restarts - everywhere;
        let candidate =
            assignment.candidate.as_ref().map(|candidate: &Candidate| AssignedCandidate {
                revision: candidate.revision,
                release: candidate.release.clone(),
                count: candidate.count,
                attempt: candidate.attempt,
                restarts: candidate.restarts.saturating_sub(own),
                secrets: candidate.secrets.clone(),
                share: candidate.share,
                sample_every: candidate.sample_every,
            });
        let assigned = Assigned {
            revision: assignment.revision,
            release: assignment.release.clone(),
            count: assignment.count,
            attempt: assignment.attempt,
            restarts: everywhere,
            secrets: assignment.secrets.clone(),
            // No rollout is left that could go on.
            paused: false,
            candidate,
        };
        (assigned, own)
    }
}

impl Named<'_> {
    /// As if it had ended when the manifest that names it was signed.
    fn revision(&self, state: RolloutState) -> Revision {
        Revision {
            number: self.number,
            release: self.release.clone(),
            file: String::new(),
            attempt: self.attempt,
            from: None,
            undo_to: None,
            kind: Kind::Deploy,
            restarts: self.restarts,
            secrets: self.secrets.clone(),
            cause: Some("told by nodes to a coordinator that was recovered".to_owned()),
            by: BY.to_owned(),
            started_ms: self.at_ms,
            ended_ms: Some(self.at_ms),
            state,
            stage: Stage::default(),
            reason: None,
            message: String::new(),
            placement: BTreeMap::new(),
            unplaced: 0,
            order: Vec::new(),
            nodes: BTreeMap::new(),
            failures: Vec::new(),
        }
    }
}
