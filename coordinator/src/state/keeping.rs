//! What is given to the store: each record as it is now, once it is another than before.

use protocol::id::{NodeId, ServiceId};

use super::State;
use super::records::{Change, NodeRecord};

/// When a node was last heard of is worth a write after this long: a card that carries the fleet's state wears with each.
const HEARD_MS: u64 = 6 * 60 * 60_000;

impl State {
    pub(super) fn keep_service(&mut self, id: &ServiceId) {
        if let Some(service) = self.services.get(id) {
            self.effects.changes.push(Change::Service(service.record.clone()));
        }
    }

    pub(super) fn keep_revision(&mut self, id: &ServiceId, number: u64) {
        let revision = self.services.get(id).and_then(|s| s.revisions.get(&number));
        if let Some(revision) = revision {
            self.effects.changes.push(Change::Revision(id.clone(), Box::new(revision.clone())));
        }
    }

    /// A board that says what it said before costs no write, but for when it was last heard of, and that seldom.
    pub(super) fn keep_node(&mut self, id: &NodeId) {
        if let Some(node) = self.nodes.get_mut(id)
            && node.kept.as_ref().is_none_or(|kept| node.record.is_worth_keeping_after(kept))
        {
            let record = Box::new(node.record.clone());
            node.kept = Some(record.clone());
            self.effects.changes.push(Change::Node(record));
        }
    }
}

impl NodeRecord {
    /// Whether it says more than that the node was heard of a little later.
    fn is_worth_keeping_after(&self, kept: &Self) -> bool {
        if self.heard_ms.saturating_sub(kept.heard_ms) >= HEARD_MS {
            return true;
        }
        let mut now = self.clone();
        now.heard_ms = kept.heard_ms;
        if let (Some(report), Some(before)) = (&mut now.report, &kept.report) {
            report.sequence = before.sequence;
        }
        now != *kept
    }
}
