//! A coordinator that was lost with everything it knew, and made anew by the root keys: its nodes come back one by one, each with the
//! manifest that it holds (docs/decisions/0019).
//!
//! ```text
//! renew with a manifest of this fleet -> lobby --approve--> first hello -> what the manifest names is entered, then signed again
//! ```
//! What is entered is what the node was told by a director of an earlier trust root, so that it is told the same again and touches no
//! container. What other nodes run is not known until they come: counts stay at what is known, so that nothing is made up for them meanwhile.

use std::collections::{BTreeMap, BTreeSet};

use planner::fleet::{NodeProgress, NodeState, RolloutState, Stage};
use protocol::FORMAT;
use protocol::acceptance::{Accepted, verify_retirement};
use protocol::envelope::{Envelope, Rejected};
use protocol::file::MAX_REPLICAS;
use protocol::id::{NodeId, NodeName, ReleaseId, ServiceId, ServiceName};
use protocol::join::{Answer, RefusalCode, Refused, Renew};
use protocol::keys::PublicKey;
use protocol::manifest::{Assignment, Candidate, Manifest};
use protocol::peers::{Elsewhere, Peer, Peers};
use protocol::recovery::{Again, Recovery, RecoveryBody, held_manifest};
use protocol::secret::{self, SecretVersions};
use protocol::spec::Scheduling;

use super::deploy::new_service;
use super::heard::MAX_NODES;
use super::members::refused;
use super::records::{
    Assigned, AssignedCandidate, Change, Intent, Kind, Member, NodeCopy, NodeRecord, Progress,
    Retired, Revision, SecretRecord, Standing, StoredRelease, VersionRecord,
};
use super::shown::{AbsentShown, RunsShown};
use super::{At, Director, State};

/// Who did what a manifest tells of.
const BY: &str = "recovery";
/// No service had as many revisions, tries or restarts.
const MAX_GIVEN: u64 = 1 << 24;
/// Nodes in the lobby that came like that, at once; the others come again. Room is left for those that join by a token.
const MAX_WAITING: usize = 1024;
/// Of their manifests; an ordinary one has some thousand.
const MAX_WAITING_BYTES: usize = 64 << 20;

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
    /// Which CA is the fleet's, for nodes that knew another: `ca_sha256` of the DER, and its PEM.
    #[must_use]
    pub fn recovery(&self, ca_sha256: String, ca: String) -> RecoveryBody {
        let director = &self.director;
        let recovery = Recovery {
            format: FORMAT,
            fleet: director.fleet.clone(),
            root_version: director.root.version,
            ca_sha256,
        };
        let recovery = Envelope::sign(&recovery, &[&director.key]);
        RecoveryBody { chain: director.chain.bounded(), recovery, ca }
    }

    /// A node that this coordinator knows nothing of, or that waits in the lobby after it came like that.
    pub(super) fn come_again(
        &mut self,
        renew: Renew,
        key: PublicKey,
        manifest: Option<&Envelope>,
        at: At,
    ) -> Result<Answer, Refused> {
        let unknown = |why: &str| {
            let text = format!("{why}; join with a token of `pith node token`");
            refused(RefusalCode::UnknownNode, &text)
        };
        let (Some(again), Some(manifest)) = (renew.again, manifest) else {
            return Err(unknown("this coordinator knows no such node"));
        };
        let known = self.members.get(&renew.node);
        let is_news = known.is_none_or(|known| known.recovered.as_ref() != Some(manifest));
        if let Err(reason) = is_news.then(|| self.told_before(manifest, &renew.node)).transpose() {
            let why = format!(
                "this coordinator knows no such node, and its manifest is no proof: {reason}"
            );
            return Err(unknown(&why));
        }
        if known.is_none() && self.members.len() >= MAX_NODES {
            let text = format!("the fleet has {MAX_NODES} nodes already");
            return Err(refused(RefusalCode::Busy, &text));
        }
        let waiting = self.members.values().filter_map(|member| member.recovered.as_ref());
        let (count, bytes) =
            waiting.fold((0, 0), |(count, bytes), one| (count + 1, bytes + one.payload.len()));
        if known.is_none() && (count >= MAX_WAITING || bytes > MAX_WAITING_BYTES) {
            let text = "too many wait already: `pith node approve` or `pith node revoke` some";
            return Err(refused(RefusalCode::Busy, text));
        }
        let Again { name, environment, labels, seal_key } = again;
        let member = Member {
            standing: Standing::Pending,
            name: Some(name.clone()),
            asked_environment: Some(environment),
            asked_labels: labels,
            key: Some(key),
            tls_key: Some(renew.tls_key),
            seal_key: Some(seal_key),
            recovered: Some(manifest.clone()),
            ..Member::unknown(renew.node.clone(), known.map_or(at.unix_ms, |known| known.since_ms))
        };
        let is_new = known.is_none();
        if known != Some(&member) {
            self.keep_member(member);
        }
        if is_new {
            tracing::info!(%name, id = %renew.node, "a node of the coordinator before asks to be let in");
            let text = format!(
                "comes back to a coordinator that was recovered: `pith node approve {name}` lets it in"
            );
            self.note_member(&renew.node, text, at);
        }
        Ok(Answer::Pending)
    }

    /// What a manifest says that some director of this fleet signed for a node: whole, as the node itself would read it again.
    pub(super) fn told_before(
        &self,
        manifest: &Envelope,
        node: &NodeId,
    ) -> Result<Accepted, Rejected> {
        let told = held_manifest(manifest, node, &self.former)?;
        let secrets = told.manifest.secrets.iter().all(|copy| copy.version < MAX_GIVEN);
        if secrets && told.manifest.services.iter().all(is_given) {
            return Ok(told);
        }
        Err(Rejected::BadPayload("numbers that no coordinator ever gave".to_owned()))
    }

    /// What a member was told to run by the coordinator before, for whoever approves it.
    pub(super) fn show_runs(&self, member: &Member) -> Vec<RunsShown> {
        let told = member.recovered.as_ref().map(|one| self.told_before(one, &member.id));
        let Some(Ok(told)) = told else { return Vec::new() };
        let run = |assignment: &Assignment| RunsShown {
            service: assignment.service.clone(),
            revision: assignment.revision,
            count: assignment.count,
        };
        told.manifest.services.iter().map(run).collect()
    }

    /// Enters what a node was told before, at its first hello.
    pub(super) fn bring_back(&mut self, id: &NodeId, at: At) {
        let Some(mut member) = self.members.get(id).cloned() else { return };
        let Some(envelope) = member.recovered.take() else { return };
        self.keep_member(member);
        let Some(record) = self.nodes.get(id).map(|node| node.record.clone()) else { return };
        let told = match self.told_before(&envelope, id) {
            Ok(told) if told.manifest.environment == record.environment => told,
            Ok(told) => {
                let text = format!(
                    "was told what to run in environment {} and is in {}: nothing of it is taken over",
                    told.manifest.environment, record.environment
                );
                self.note_node(id, text, at);
                return;
            }
            Err(reason) => {
                self.note_node(
                    id,
                    format!("what it was told before is not taken over: {reason}"),
                    at,
                );
                return;
            }
        };
        let told = self.enter_releases(told);
        let at_ms = told.issued_at.saturating_mul(1000).min(at.unix_ms);
        self.enter_floors(&told, at_ms);
        self.enter_secrets(&told, &record, at_ms);
        for assignment in &told.services {
            self.enter_service(assignment, &record, at_ms);
        }
        self.enter_intent(id, &told);
        for of_it in self.examine_releases() {
            self.note_service(&of_it.service, None, of_it.to_string(), at);
        }
        let services = told.services.len();
        self.note_node(id, format!("is back, with {services} services that it runs"), at);
    }

    fn enter_releases(&mut self, told: Accepted) -> Manifest {
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

    fn enter_floors(&mut self, told: &Manifest, at_ms: u64) {
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
    fn enter_secrets(&mut self, told: &Manifest, record: &NodeRecord, at_ms: u64) {
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

    fn enter_service(&mut self, assignment: &Assignment, record: &NodeRecord, at_ms: u64) {
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

    fn enter_intent(&mut self, id: &NodeId, told: &Manifest) {
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

    /// What a node is told of the others, and of those that it was told of before and nobody here has heard or revoked yet: they run on, and calls
    /// between boards must not end because one is back sooner than the other.
    pub(super) fn with_absent(&self, mut peers: Peers, absent: &Peers) -> Peers {
        let is_absent = |id: &NodeId| self.is_absent(id);
        let nodes = absent
            .nodes
            .iter()
            .filter(|(name, peer)| is_absent(&peer.id) && self.node_named(name).is_none());
        let nodes: BTreeMap<&NodeName, &Peer> = nodes.collect();
        for (service, elsewhere) in &absent.services {
            let there = elsewhere.nodes.iter().filter(|name| nodes.contains_key(name));
            let there: Vec<NodeName> = there.cloned().collect();
            if there.is_empty() {
                continue;
            }
            let fresh = || Elsewhere { nodes: BTreeSet::new(), ports: elsewhere.ports.clone() };
            let known = peers.services.entry(service.clone()).or_insert_with(fresh);
            for name in there {
                peers.nodes.insert(name.clone(), nodes[&name].clone());
                known.nodes.insert(name);
            }
        }
        let callers = absent.callers.iter().filter(|(id, _)| is_absent(id));
        peers.callers.extend(callers.map(|(id, address)| (id.clone(), *address)));
        peers
    }

    /// Nodes that others were told of before, and nobody here has heard or revoked: their names then, and ids.
    pub(super) fn absent(&self) -> impl Iterator<Item = (Option<&NodeName>, &NodeId)> {
        let told = self.nodes.values().map(|node| &node.intent.absent);
        let all = told.flat_map(|absent| {
            let named = absent.nodes.iter().map(|(name, peer)| (Some(name), &peer.id));
            named.chain(absent.callers.keys().map(|id| (None, id)))
        });
        all.filter(|(_, id)| self.is_absent(id))
    }

    /// Each once, by its name where one is told.
    pub(super) fn show_absent(&self) -> Vec<AbsentShown> {
        let mut by_id: BTreeMap<&NodeId, Option<&NodeName>> = BTreeMap::new();
        for (name, id) in self.absent().filter(|(_, id)| !self.members.contains_key(*id)) {
            let known = by_id.entry(id).or_default();
            *known = known.or(name);
        }
        let shown = |(id, name): (&NodeId, Option<&NodeName>)| AbsentShown {
            name: name.cloned(),
            id: id.clone(),
        };
        by_id.into_iter().map(shown).collect()
    }

    fn is_absent(&self, id: &NodeId) -> bool {
        let member = self.members.get(id);
        !self.nodes.contains_key(id)
            && member.is_none_or(|member| member.standing != Standing::Revoked)
    }

    /// A service is deployed here: what nodes that are not back run of it is called no more.
    pub(super) fn forget_absent(&mut self, id: &ServiceId) {
        for node in self.nodes.values_mut().filter(|n| n.record.environment == id.environment) {
            self.are_peers_stale |= node.intent.absent.services.remove(&id.name).is_some();
        }
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

/// Whether a coordinator that counts from one can have given these numbers: nobody's director may leave none for later.
fn is_given(assignment: &Assignment) -> bool {
    let is_given = |revision: u64, attempt: u32, restarts: u32, count: u32| {
        let counted = u64::from(attempt.max(restarts));
        revision < MAX_GIVEN && counted < MAX_GIVEN && count <= MAX_REPLICAS
    };
    let Assignment { revision, attempt, restarts, count, candidate, .. } = assignment;
    is_given(*revision, *attempt, *restarts, *count)
        && candidate.as_ref().is_none_or(
            |Candidate { revision, attempt, restarts, count, .. }| {
                is_given(*revision, *attempt, *restarts, *count)
            },
        )
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
