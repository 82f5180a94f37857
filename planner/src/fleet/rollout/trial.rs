//! A release beside the old one: a green set that waits for its switch, or a canary that grows step by step.

use protocol::id::NodeName;
use protocol::reason::Reason;
use protocol::spec::{Analysis, CanaryStep, Hold};

use super::Rollout;
use crate::Now;
use crate::fleet::analysis::{Judge, Measured};
use crate::fleet::event::{CandidateSize, FleetAction};
use crate::fleet::order::Trial;
use crate::fleet::state::{NodeState, RolloutState};

/// A weight's percent, in ten thousand.
const PER_PERCENT: u32 = 100;

impl Rollout {
    /// The share that candidates have at this moment.
    pub(super) fn share(&self) -> u32 {
        self.canary_step().map_or(0, |step| step.weight * PER_PERCENT)
    }

    /// When the hold of this step, or gate, is over.
    pub(super) fn hold_end(&self) -> Option<Now> {
        let hold = match self.canary_step() {
            Some(step) => Some(step.hold),
            None => self.order.waves.get(self.stage.gates_passed).and_then(|wave| wave.gate),
        };
        match hold? {
            Hold::For(span) => Some(self.held_since?.plus(span.0)),
            Hold::Manual => None,
        }
    }

    fn canary_step(&self) -> Option<CanaryStep> {
        match self.trial()? {
            Trial::Canary { steps, .. } => steps.get(self.stage.step).copied(),
            Trial::Green { .. } => None,
        }
    }

    fn analysis(&self) -> Option<Analysis> {
        match self.trial()? {
            Trial::Canary { analysis, .. } => Some(*analysis),
            Trial::Green { .. } => None,
        }
    }

    pub(super) fn advance_trial(&mut self, now: Now, actions: &mut Vec<FleetAction>) {
        let nodes: Vec<NodeName> = match self.trial() {
            None => return,
            Some(Trial::Green { nodes, .. } | Trial::Canary { nodes, .. }) => nodes.clone(),
        };
        let share = self.share();
        let size = match self.canary_step() {
            Some(_) => CandidateSize::ByShare,
            None => CandidateSize::Whole,
        };
        for node in &nodes {
            if self.is(node, NodeState::Waiting) && self.is_online(node) && !self.is_held(node) {
                self.set(node, NodeState::Trying);
                actions.push(FleetAction::Try { node: node.clone(), share, size });
            }
        }
        let is_awaited = |node: &&NodeName| {
            self.is(node, NodeState::Trying) && self.is_online(node) && !self.is_held(node)
        };
        let is_standing = |node: &&NodeName| self.is(node, NodeState::Standing);
        if nodes.iter().any(|node| is_awaited(&node)) {
            return;
        }
        if !nodes.iter().any(|node| is_standing(&node)) {
            if nodes.iter().any(|node| self.is_held(node)) {
                let message = "every node that would try it is held locally; the first that is released tries it";
                self.note(Some(Reason::HeldLocally), message.to_owned(), actions);
            }
            return;
        }
        match self.canary_step() {
            Some(step) => self.hold_step(step, now, actions),
            None => self.hold_green(actions),
        }
    }

    fn hold_green(&mut self, actions: &mut Vec<FleetAction>) {
        if let Some(Trial::Green { auto_promote: true, .. }) = self.trial() {
            return self.promote_trial(true, actions);
        }
        if self.state != RolloutState::AwaitingPromotion {
            let message = "the new set is complete; `pith rollout promote` switches to it";
            let reason = Some(Reason::WaitingForPromotion);
            self.enter(RolloutState::AwaitingPromotion, reason, message, actions);
        }
    }

    fn hold_step(&mut self, step: CanaryStep, now: Now, actions: &mut Vec<FleetAction>) {
        let Some(analysis) = self.analysis() else { return };
        if self.held_since.is_none() {
            self.held_since = Some(now);
            self.was_good = false;
            self.judge = (step.weight > 0).then(|| Judge::new(analysis, now));
            let weight = step.weight;
            let message = format!("the canary has {weight}% of the requests");
            self.note(Some(Reason::Holding), message, actions);
        }
        if let Some(measured) = self.judge.as_mut().and_then(|judge| judge.measure(now)) {
            self.weigh(&analysis, measured, actions);
        }
        if self.trial().is_none() || self.state == RolloutState::RollingBack {
            return;
        }
        match step.hold {
            Hold::Manual => self.await_promotion(step, actions),
            Hold::For(_) => {
                let is_over = self.hold_end().is_some_and(|end| now >= end);
                if is_over && (self.was_good || step.weight == 0 || analysis.dry_run) {
                    self.next_step(actions);
                }
            }
        }
    }

    fn await_promotion(&mut self, step: CanaryStep, actions: &mut Vec<FleetAction>) {
        if self.state == RolloutState::InProgress {
            let weight = step.weight;
            let message =
                format!("the canary has {weight}% of the requests; `pith rollout promote` goes on");
            let reason = Some(Reason::WaitingForPromotion);
            self.enter(RolloutState::AwaitingPromotion, reason, &message, actions);
        }
    }

    /// What a measurement means for the rollout.
    fn weigh(&mut self, analysis: &Analysis, measured: Measured, actions: &mut Vec<FleetAction>) {
        match measured {
            Measured::Good(text) => {
                self.was_good = true;
                self.note(Some(Reason::Holding), format!("the canary is good: {text}"), actions);
            }
            Measured::Inconclusive(text) => {
                let message = format!("the canary holds its weight: {text}");
                self.note(Some(Reason::Inconclusive), message, actions);
            }
            Measured::Bad(reason, text) => {
                self.was_good = false;
                self.stage.failed_measurements += 1;
                let (failed, limit) = (self.stage.failed_measurements, analysis.failure_limit);
                let message = format!("the canary failed {failed} of {limit} measurements: {text}");
                if analysis.dry_run {
                    let message = format!("dry run: {message}");
                    return self.note(Some(reason), message, actions);
                }
                if failed >= limit {
                    return self.fail(Some(reason), &message, actions);
                }
                self.note(Some(reason), message, actions);
            }
        }
    }

    /// Past the step it is at, or past the whole trial.
    pub(super) fn promote_trial(&mut self, full: bool, actions: &mut Vec<FleetAction>) {
        if full || self.canary_step().is_none() {
            self.end_trial();
        } else {
            self.next_step(actions);
        }
    }

    fn end_trial(&mut self) {
        self.stage.promoted = true;
        self.held_since = None;
        self.judge = None;
    }

    fn next_step(&mut self, actions: &mut Vec<FleetAction>) {
        self.stage.step += 1;
        self.held_since = None;
        self.judge = None;
        if self.canary_step().is_none() {
            return self.end_trial();
        }
        let share = self.share();
        // Those that are away or held were told too, and take it up where the others are by then.
        let told = |node: &&NodeName| {
            self.is(node, NodeState::Standing) || self.is(node, NodeState::Trying)
        };
        let told: Vec<NodeName> = self.nodes.keys().filter(told).cloned().collect();
        for node in told {
            self.set(&node, NodeState::Trying);
            let size = CandidateSize::ByShare;
            actions.push(FleetAction::Try { node, share, size });
        }
    }
}
