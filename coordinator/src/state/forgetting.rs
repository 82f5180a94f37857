//! What is not needed any more: old revisions, and releases that nothing names.

use protocol::id::{ReleaseId, ServiceId};

use super::State;
use super::records::{Change, Revision};

impl State {
    /// Keeps as many ended revisions as the release asks for, and whatever is still pointed at.
    pub(super) fn forget_old_revisions(&mut self, id: &ServiceId) {
        let Some(service) = self.services.get(id) else { return };
        let Some(newest) = service.revisions.values().next_back() else { return };
        let limit = self
            .releases
            .get(&newest.release)
            .map_or(10, |r| r.release.spec(&id.environment).rollout.revision_history_limit);
        let keep = usize::try_from(limit).unwrap_or(usize::MAX).saturating_add(1);
        let in_use = |revision: &Revision| {
            !revision.state.is_final()
                || Some(revision.number) == service.record.stable
                || Some(revision.number) == newest.from
                || revision.number == newest.number
        };
        let excess = service.revisions.len().saturating_sub(keep);
        let old: Vec<u64> = service
            .revisions
            .values()
            .take(excess)
            .filter(|revision| !in_use(revision))
            .map(|revision| revision.number)
            .collect();
        let Some(service) = self.services.get_mut(id) else { return };
        for number in old {
            service.revisions.remove(&number);
            self.effects.changes.push(Change::ForgetRevision(id.clone(), number));
        }
        self.forget_releases();
    }

    /// Releases that neither a revision nor a node's intent names.
    pub(super) fn forget_releases(&mut self) {
        let by_revisions =
            self.services.values().flat_map(|s| s.revisions.values().map(|r| r.release.clone()));
        let by_nodes = self.nodes.values().flat_map(|node| node.intent.releases().cloned());
        let named: std::collections::BTreeSet<ReleaseId> = by_revisions.chain(by_nodes).collect();
        let unnamed: std::collections::BTreeSet<ReleaseId> =
            self.releases.keys().filter(|id| !named.contains(id)).cloned().collect();
        if unnamed.is_empty() {
            return;
        }
        self.releases.retain(|id, _| named.contains(id));
        self.effects.changes.push(Change::ForgetReleases(unnamed));
    }
}
