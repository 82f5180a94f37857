//! Nodes move to the new revision, wave after wave.

use protocol::id::NodeName;
use protocol::reason::Reason;
use protocol::report::Phase;
use protocol::spec::Hold;

use super::{Rollout, SOAK_MARGIN_MS};
use crate::Now;
use crate::fleet::event::FleetAction;
use crate::fleet::state::{NodeState, RolloutState};
use crate::fleet::waves::Wave;

/// Where a node that was told of the new revision stands once it has reported on it.
pub(super) fn state_after(before: NodeState, phase: Phase) -> NodeState {
    match phase {
        Phase::Running => NodeState::Done,
        Phase::Held => NodeState::Held,
        Phase::RollingBack | Phase::RolledBack | Phase::Failed => NodeState::WentBack,
        // Who was away or held and reports is back: it is waited for like any other.
        Phase::Updating if matches!(before, NodeState::Away | NodeState::Held) => NodeState::Moving,
        Phase::Updating | Phase::Degraded | Phase::Removing => before,
    }
}

impl Rollout {
    pub(super) fn move_on(&mut self, now: Now, actions: &mut Vec<FleetAction>) {
        let waves = self.order.waves.clone();
        for (index, wave) in waves.iter().enumerate() {
            self.assign_next(wave, actions);
            let is_last = index + 1 == waves.len();
            if !self.has_passed(wave) || (!is_last && !self.is_open(index, wave, now, actions)) {
                return;
            }
        }
        let open = self.count(NodeState::Moving) + self.count(NodeState::Waiting);
        if open > 0 {
            return;
        }
        if self.count(NodeState::Done) == 0 && !self.nodes.is_empty() {
            if self.count(NodeState::Held) > 0 {
                let message =
                    "every reachable node is held locally; the first that is released takes it";
                self.note(Some(Reason::HeldLocally), message.to_owned(), actions);
            }
            return;
        }
        if !self.is_proven(actions) {
            return;
        }
        if self.order.soak_ms > 0 {
            self.soak_until = Some(now.plus(self.order.soak_ms).plus(SOAK_MARGIN_MS));
        }
        let mut message = match (self.count(NodeState::Away), self.count(NodeState::Held)) {
            (0, 0) => "every node runs it".to_owned(),
            (away, 0) => format!("every reachable node runs it, {away} offline"),
            (0, held) => format!("every other node runs it, {held} held locally"),
            (away, held) => {
                format!("every other node runs it, {away} offline, {held} held locally")
            }
        };
        match self.count(NodeState::WentBack) {
            0 => {}
            failed => message = format!("{message}, {failed} went back"),
        }
        self.enter(RolloutState::Succeeded, None, &message, actions);
    }

    fn assign_next(&mut self, wave: &Wave, actions: &mut Vec<FleetAction>) {
        let moving = |rollout: &Self| {
            wave.nodes.iter().filter(|node| rollout.is(node, NodeState::Moving)).count()
        };
        for node in &wave.nodes {
            if moving(self) >= wave.at_once {
                break;
            }
            let waits = [NodeState::Waiting, NodeState::Trying, NodeState::Standing];
            if !waits.iter().any(|state| self.is(node, *state)) {
                continue;
            }
            let state = if self.is_online(node) { NodeState::Moving } else { NodeState::Away };
            self.set(node, state);
            actions.push(FleetAction::Assign(node.clone()));
        }
    }

    /// Whether enough of a wave's reachable nodes have moved.
    fn has_passed(&self, wave: &Wave) -> bool {
        let in_state =
            |state| wave.nodes.iter().filter(|node: &&NodeName| self.is(node, state)).count();
        if in_state(NodeState::Waiting) > 0 {
            return false;
        }
        let done = in_state(NodeState::Done);
        let reachable = u32::try_from(done + in_state(NodeState::Moving)).unwrap_or(u32::MAX);
        done >= self.order.success_threshold.ceil_of(reachable) as usize
    }

    /// Whether the gate after a wave is open.
    fn is_open(
        &mut self,
        index: usize,
        wave: &Wave,
        now: Now,
        actions: &mut Vec<FleetAction>,
    ) -> bool {
        let Some(gate) = wave.gate.filter(|_| index >= self.stage.gates_passed) else {
            self.stage.gates_passed = self.stage.gates_passed.max(index + 1);
            return true;
        };
        match gate {
            Hold::For(span) => {
                let since = *self.held_since.get_or_insert(now);
                if now >= since.plus(span.0) {
                    self.held_since = None;
                    self.stage.gates_passed = index + 1;
                    return true;
                }
                let message = format!("the next batch waits for {span}");
                self.note(Some(Reason::Holding), message, actions);
            }
            Hold::Manual if self.state == RolloutState::InProgress => {
                let message = "a batch is done; `pith rollout promote` lets the next one move";
                let reason = Some(Reason::WaitingForPromotion);
                self.enter(RolloutState::AwaitingPromotion, reason, message, actions);
            }
            Hold::Manual => {}
        }
        false
    }
}
