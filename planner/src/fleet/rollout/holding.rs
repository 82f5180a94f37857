//! Nodes on which root holds the service: asked like any other, and not waited for.

use protocol::id::NodeName;

use super::Rollout;
use crate::fleet::event::{FleetAction, NodeReport};

impl Rollout {
    /// Remembers whether root holds the service there. A hook that a held node has not begun is another's to run.
    pub(super) fn note_hold(
        &mut self,
        node: &NodeName,
        report: &NodeReport,
        actions: &mut Vec<FleetAction>,
    ) {
        if !report.is_held {
            self.held.remove(node);
            return;
        }
        self.held.insert(node.clone());
        if report.hook.is_none() && self.stage.hook_on.as_ref() == Some(node) {
            self.end_hook(actions);
        }
    }

    pub(super) fn is_held(&self, node: &NodeName) -> bool {
        self.held.contains(node)
    }
}
