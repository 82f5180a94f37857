//! Intent becomes a signed manifest: one per node, a new generation only where the content has changed.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use protocol::FORMAT;
use protocol::envelope::{Envelope, MAX_ENVELOPE_BYTES};
use protocol::id::{NodeId, ReleaseId, ServiceName};
use protocol::manifest::{Assignment, Candidate, HookRun, Manifest, Version};

use super::records::{Assigned, AssignedHook, Change, Intent, NodeRecord};
use super::{At, Refused, State};

impl State {
    /// Gives a node a service, or changes how it has it.
    pub(super) fn assign(&mut self, node: &NodeId, service: &ServiceName, assigned: Assigned) {
        let Some(node_state) = self.nodes.get_mut(node) else { return };
        let intent = &mut node_state.intent;
        if intent.assigned.get(service) == Some(&assigned) {
            return;
        }
        intent.removed.remove(service);
        intent.assigned.insert(service.clone(), assigned);
        intent.known.insert(service.clone());
        self.are_peers_stale = true;
        self.touched.insert(node.clone());
    }

    /// Takes a service off a node.
    pub(super) fn take_off(&mut self, node: &NodeId, service: &ServiceName) {
        let Some(node_state) = self.nodes.get_mut(node) else { return };
        let intent = &mut node_state.intent;
        if intent.assigned.remove(service).is_some() {
            intent.removed.insert(service.clone(), intent.generation + 1);
            self.are_peers_stale = true;
            self.touched.insert(node.clone());
        }
    }

    /// Lets a node run a one-shot container.
    pub(super) fn run_hook(&mut self, node: &NodeId, service: &ServiceName, hook: AssignedHook) {
        let Some(node_state) = self.nodes.get_mut(node) else { return };
        node_state.intent.removed.remove(service);
        node_state.intent.known.insert(service.clone());
        node_state.intent.hooks.insert(service.clone(), hook);
        self.touched.insert(node.clone());
    }

    /// A node need not run it any more. Where nothing else of the service is, everything of it goes.
    pub(super) fn end_hook(&mut self, node: &NodeId, service: &ServiceName) {
        let Some(node_state) = self.nodes.get_mut(node) else { return };
        let intent = &mut node_state.intent;
        if intent.hooks.remove(service).is_some() {
            if !intent.assigned.contains_key(service) {
                intent.removed.insert(service.clone(), intent.generation + 1);
            }
            self.touched.insert(node.clone());
        }
    }

    /// Signs the next generation of a node's manifest; called once per step for each node that was touched.
    pub(super) fn sign_manifest(&mut self, id: &NodeId, at: At) {
        let Some(node) = self.nodes.get_mut(id) else { return };
        node.intent.count_on(self.director.root.epoch);
        forget_confirmed(&mut node.intent, &node.record);
        node.intent.is_unsigned = false;
        let record = node.record.clone();
        let intent = node.intent.clone();
        let manifest = self.compose(&record, &intent, &BTreeMap::new(), at);
        let bytes = Envelope::sign(&manifest, &[&self.director.key]).to_bytes();
        let Some(node) = self.nodes.get_mut(id) else { return };
        node.intent.manifest = bytes;
        self.effects.changes.push(Change::Intent(id.clone(), Box::new(node.intent.clone())));
        self.effects.publish.insert(id.clone());
        self.effects.visible = true;
    }

    /// Whether a node's manifest still fits once it carries `more`, a release not stored yet.
    pub(super) fn check_manifest_fits(
        &self,
        id: &NodeId,
        service: &ServiceName,
        assigned: &Assigned,
        more: &Envelope,
        at: At,
    ) -> Result<(), Refused> {
        let Some(node) = self.nodes.get(id) else { return Ok(()) };
        let mut intent = node.intent.clone();
        intent.assigned.insert(service.clone(), assigned.clone());
        let extra = BTreeMap::from([(assigned.release.clone(), more.clone())]);
        let manifest = self.compose(&node.record, &intent, &extra, at);
        let size = Envelope::sign(&manifest, &[&self.director.key]).to_bytes().len();
        if size <= MAX_ENVELOPE_BYTES {
            return Ok(());
        }
        let node = node.record.name.to_string();
        Err(Refused::ManifestTooLarge { node, size, max: MAX_ENVELOPE_BYTES })
    }

    /// Bytes of a node's manifest as it would be signed now.
    pub(super) fn manifest_size(&self, id: &NodeId, at: At) -> Option<usize> {
        let node = self.nodes.get(id)?;
        let manifest = self.compose(&node.record, &node.intent, &BTreeMap::new(), at);
        Some(Envelope::sign(&manifest, &[&self.director.key]).to_bytes().len())
    }

    fn compose(
        &self,
        record: &NodeRecord,
        intent: &Intent,
        extra: &BTreeMap<ReleaseId, Envelope>,
        at: At,
    ) -> Manifest {
        let own = |service: &ServiceName| intent.restarts.get(service).copied().unwrap_or(0);
        let assignment = |(service, assigned): (&ServiceName, &Assigned)| Assignment {
            service: service.clone(),
            revision: assigned.revision,
            release: assigned.release.clone(),
            count: assigned.count,
            attempt: assigned.attempt,
            restarts: assigned.restarts.saturating_add(own(service)),
            secrets: assigned.secrets.clone(),
            paused: assigned.paused,
            candidate: assigned.candidate.as_ref().map(|candidate| Candidate {
                revision: candidate.revision,
                release: candidate.release.clone(),
                count: candidate.count,
                attempt: candidate.attempt,
                restarts: candidate.restarts.saturating_add(own(service)),
                secrets: candidate.secrets.clone(),
                share: candidate.share,
                sample_every: candidate.sample_every,
            }),
        };
        let hook = |(service, hook): (&ServiceName, &AssignedHook)| HookRun {
            service: service.clone(),
            kind: hook.kind,
            revision: hook.revision,
            release: hook.release.clone(),
            attempt: hook.attempt,
            secrets: hook.secrets.clone(),
        };
        let named: BTreeSet<&ReleaseId> = intent.releases().collect();
        let envelope = |release: &&ReleaseId| {
            let stored = self.releases.get(*release).map(|stored| &stored.envelope);
            stored.or_else(|| extra.get(*release)).cloned()
        };
        Manifest {
            format: FORMAT,
            fleet: self.director.fleet.clone(),
            node: record.id.clone(),
            environment: record.environment.clone(),
            version: Version { epoch: self.director.root.epoch, generation: intent.generation },
            issued_at: Duration::from_millis(at.unix_ms).as_secs(),
            services: intent.assigned.iter().map(assignment).collect(),
            removed: intent.removed.keys().cloned().collect(),
            hooks: intent.hooks.iter().map(hook).collect(),
            releases: named.iter().filter_map(envelope).collect(),
            retirements: self.retirements_for(intent),
            peers: intent.peers.clone(),
            secrets: self.copies_for(record, intent),
        }
    }
}

/// A removal is named until the node has it durably and says that nothing of the service is left: a node that was away
/// would refuse a manifest that drops the service unnamed.
fn forget_confirmed(intent: &mut Intent, record: &NodeRecord) {
    let epoch = intent.epoch;
    let since = |generation| Version { epoch, generation };
    intent.removed.retain(|service, generation| !is_gone(record, service, since(*generation)));
}

/// Whether a node has confirmed that a service it had to remove is gone.
pub(super) fn is_gone(record: &NodeRecord, service: &ServiceName, since: Version) -> bool {
    let Some(report) = &record.report else { return false };
    report.seen >= since && report.services.iter().all(|of_it| of_it.service != *service)
}
