//! Nodes go back to the old revision.

use protocol::id::NodeName;
use protocol::reason::Reason;
use protocol::report::Phase;

use super::Rollout;
use crate::fleet::event::{FleetAction, NodeProgress, NodeReport};
use crate::fleet::state::{NodeState, RolloutState};

/// Where a node that was told of the old revision stands once it has reported on it.
pub(super) fn state_after(before: NodeState, report: &NodeReport) -> NodeState {
    match (before, report.phase) {
        (NodeState::Reverting | NodeState::WentBack, Phase::Held) => NodeState::Held,
        (NodeState::Reverting | NodeState::WentBack, Phase::Failed) => NodeState::Stuck,
        (_, Phase::Running | Phase::RolledBack) if report.candidate.is_none() => {
            NodeState::Reverted
        }
        (_, _) => before,
    }
}

impl Rollout {
    /// Every node that was told of the new revision is told of the old one again.
    pub(super) fn go_back(
        &mut self,
        reason: Option<Reason>,
        message: &str,
        actions: &mut Vec<FleetAction>,
    ) {
        self.judge = None;
        self.held_since = None;
        self.soak_until = None;
        self.end_hook(actions);
        if self.order.from_revision.is_none() {
            self.enter(RolloutState::Aborted, reason, message, actions);
            return;
        }
        self.enter(RolloutState::RollingBack, reason, message, actions);
        for (name, progress) in &mut self.nodes {
            match progress.state {
                NodeState::Trying
                | NodeState::Standing
                | NodeState::Moving
                | NodeState::Done
                | NodeState::Held
                | NodeState::Away => {
                    progress.state = NodeState::Reverting;
                    actions.push(FleetAction::Revert(name.clone()));
                }
                NodeState::WentBack => actions.push(FleetAction::Revert(name.clone())),
                NodeState::Waiting
                | NodeState::Reverting
                | NodeState::Reverted
                | NodeState::Stuck => {}
            }
        }
    }

    pub(super) fn finish_going_back(&mut self, actions: &mut Vec<FleetAction>) {
        let awaited = |(name, progress): (&NodeName, &NodeProgress)| {
            matches!(progress.state, NodeState::Reverting | NodeState::WentBack)
                && self.is_online(name)
        };
        if self.nodes.iter().any(awaited) {
            return;
        }
        let stuck = self.nodes.iter().find(|(_, progress)| progress.state == NodeState::Stuck);
        if let Some((name, progress)) = stuck {
            let why = progress.message.as_deref().unwrap_or("it failed");
            let (reason, message) =
                (progress.reason, format!("{name} runs neither release: {why}"));
            return self.enter(RolloutState::Failed, reason, &message, actions);
        }
        let state = if self.aborted { RolloutState::Aborted } else { RolloutState::RolledBack };
        let mut message = "every reachable node runs the old revision again".to_owned();
        match self.count(NodeState::Held) {
            0 => {}
            held => message = format!("{message}, {held} held locally"),
        }
        self.enter(state, None, &message, actions);
    }
}
