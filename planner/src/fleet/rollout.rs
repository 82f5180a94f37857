//! A rollout: what a release goes through before every node runs it.
//!
//! ```text
//!  in_progress: trial (green set or canary steps, on some nodes) --promoted--> nodes move, wave after wave --> succeeded
//!      |  ^  awaiting_promotion, paused: stand still until a person decides                                        |
//!      |  +---------------------------------------------------------------------------- (within soak) a node fails |
//!      | a node went back beyond what is allowed, the analysis condemned it, or abort                              |
//!      v                                                                                                           v
//!  rolling_back --every node on the old release again--> rolled_back | aborted  <----------------------------------+
//!      |
//!      + nothing to go back to: failed         + on_failure = "pause": paused
//! ```

use std::collections::{BTreeMap, BTreeSet};

use protocol::id::NodeName;
use protocol::reason::Reason;
use protocol::report::Phase;
use protocol::spec::OnFailure;

use super::analysis::Judge;
use super::event::{CandidateProgress, FleetAction, FleetEvent, NodeProgress, NodeReport};
use super::order::{Order, Stage, Trial};
use super::state::{NodeState, RolloutState};
use crate::Now;

mod going_back;
mod holding;
mod hooks;
mod moving;
mod trial;

/// A node that was moving when it was lost is waited for this long before others go on.
pub(super) const LOST_NODE_PATIENCE_MS: u64 = 60_000;
/// A node ends its soak time later than the rollout does, and its report takes its way.
const SOAK_MARGIN_MS: u64 = 60_000;

/// One service moving from one revision to another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rollout {
    order: Order,
    state: RolloutState,
    stage: Stage,
    nodes: BTreeMap<NodeName, NodeProgress>,
    online: BTreeMap<NodeName, bool>,
    /// Nodes that said last that root holds the service there.
    held: BTreeSet<NodeName>,
    lost_at: BTreeMap<NodeName, Now>,
    aborted: bool,
    /// When the step or gate it is at began to be held.
    held_since: Option<Now>,
    judge: Option<Judge>,
    /// A measurement of this step was good.
    was_good: bool,
    /// What was said last.
    noted: Option<String>,
    soak_until: Option<Now>,
}

impl Rollout {
    /// A rollout at its beginning; the first nodes are assigned by the returned actions.
    #[must_use]
    pub fn start(
        order: Order,
        online: BTreeMap<NodeName, bool>,
        now: Now,
    ) -> (Self, Vec<FleetAction>) {
        let waiting = NodeProgress { state: NodeState::Waiting, reason: None, message: None };
        let nodes = order.nodes().map(|name| (name.clone(), waiting.clone())).collect();
        let stage = Stage::default();
        let mut rollout = Self::resume(order, (RolloutState::Pending, stage), nodes, online);
        let mut actions = Vec::new();
        let message = match &rollout.trial() {
            None => "nodes take the new revision",
            Some(Trial::Green { .. }) => "every node brings up the new set beside the old one",
            Some(Trial::Canary { .. }) => "the canary comes up beside the old release",
        };
        rollout.enter(RolloutState::InProgress, None, message, &mut actions);
        rollout.advance(now, &mut actions);
        (rollout, actions)
    }

    /// A rollout as it was stored; reports that follow bring it up to date. What was held by time is held anew.
    #[must_use]
    pub fn resume(
        order: Order,
        (state, stage): (RolloutState, Stage),
        nodes: BTreeMap<NodeName, NodeProgress>,
        online: BTreeMap<NodeName, bool>,
    ) -> Self {
        Self {
            order,
            state,
            stage,
            nodes,
            online,
            held: BTreeSet::new(),
            lost_at: BTreeMap::new(),
            aborted: false,
            held_since: None,
            judge: None,
            was_good: false,
            noted: None,
            soak_until: None,
        }
    }

    /// A rollout that has succeeded and still soaks, as it was stored.
    #[must_use]
    pub fn soaking(self, until: Now) -> Self {
        Self { soak_until: Some(until), ..self }
    }

    /// Where it stands.
    #[must_use]
    pub fn state(&self) -> RolloutState {
        self.state
    }

    /// How far it is.
    #[must_use]
    pub fn stage(&self) -> &Stage {
        &self.stage
    }

    /// What it was started with.
    #[must_use]
    pub fn order(&self) -> &Order {
        &self.order
    }

    /// Where each node stands.
    #[must_use]
    pub fn nodes(&self) -> &BTreeMap<NodeName, NodeProgress> {
        &self.nodes
    }

    /// Whether nothing can move it any more: it has ended, and its soak time is over.
    #[must_use]
    pub fn is_over(&self, now: Now) -> bool {
        self.state.is_final() && self.soak_until.is_none_or(|until| now >= until)
    }

    /// Whether `promote` would do something.
    #[must_use]
    pub fn can_be_promoted(&self) -> bool {
        self.state == RolloutState::AwaitingPromotion
            || self.state == RolloutState::InProgress && self.held_since.is_some()
    }

    /// When to send [`FleetEvent::Tick`].
    #[must_use]
    pub fn next_wakeup(&self) -> Option<Now> {
        if self.state.is_final() {
            return self.soak_until;
        }
        let lost = self.lost_at.iter().filter(|(name, _)| self.is(name, NodeState::Moving));
        let lost = lost.map(|(_, at)| at.plus(LOST_NODE_PATIENCE_MS)).min();
        let due = self.judge.as_ref().map(Judge::due);
        [lost, due, self.hold_end()].into_iter().flatten().min()
    }

    /// Takes one event; what follows from it.
    pub fn handle(&mut self, event: FleetEvent, now: Now) -> Vec<FleetAction> {
        let mut actions = Vec::new();
        if self.is_over(now) {
            return actions;
        }
        match event {
            FleetEvent::Report { node, report } => self.report(&node, report, &mut actions),
            FleetEvent::Traffic { node, sample } => {
                if let Some(judge) = &mut self.judge {
                    judge.take(node, sample);
                }
            }
            FleetEvent::Online(node) => {
                self.online.insert(node.clone(), true);
                self.lost_at.remove(&node);
            }
            FleetEvent::Offline(node) => {
                self.online.insert(node.clone(), false);
                self.lost_at.entry(node).or_insert(now);
            }
            FleetEvent::Promote { full } => self.promote(full, &mut actions),
            FleetEvent::Pause => self.pause(&mut actions),
            FleetEvent::Resume => self.go_on(&mut actions),
            FleetEvent::Abort => {
                if !self.state.is_final() {
                    self.aborted = true;
                    self.go_back(Some(Reason::Requested), "aborted by an operator", &mut actions);
                }
            }
            FleetEvent::Tick => {}
        }
        self.advance(now, &mut actions);
        actions
    }

    /// The trial, while it is not over.
    fn trial(&self) -> Option<&Trial> {
        self.order.trial.as_ref().filter(|_| !self.stage.promoted)
    }

    fn is(&self, node: &NodeName, state: NodeState) -> bool {
        self.nodes.get(node).is_some_and(|progress| progress.state == state)
    }

    fn count(&self, state: NodeState) -> usize {
        self.nodes.values().filter(|progress| progress.state == state).count()
    }

    fn is_online(&self, node: &NodeName) -> bool {
        self.online.get(node).copied().unwrap_or(false)
    }

    fn enter(
        &mut self,
        state: RolloutState,
        reason: Option<Reason>,
        message: &str,
        actions: &mut Vec<FleetAction>,
    ) {
        self.state = state;
        self.noted = None;
        actions.push(FleetAction::Enter { state, reason, message: message.to_owned() });
    }

    /// Says something once.
    fn note(&mut self, reason: Option<Reason>, message: String, actions: &mut Vec<FleetAction>) {
        if self.noted.as_ref() != Some(&message) {
            self.noted = Some(message.clone());
            actions.push(FleetAction::Note { reason, message });
        }
    }

    fn report(&mut self, node: &NodeName, report: NodeReport, actions: &mut Vec<FleetAction>) {
        if let Some(hook) = &report.hook {
            self.hook_reported(node, hook, actions);
        }
        self.note_hold(node, &report, actions);
        let share = self.share();
        let Some(progress) = self.nodes.get(node) else { return };
        let before = progress.state;
        let is_new = report.revision == self.order.revision;
        let is_old = Some(report.revision) == self.order.from_revision;
        let of_ours = |c: &&CandidateProgress| c.revision == self.order.revision;
        let candidate = report.candidate.as_ref().filter(of_ours);
        let state = match before {
            NodeState::Trying | NodeState::Standing => {
                match candidate.map(|c| (c.phase, c.share)) {
                    Some((Phase::Failed, _)) => NodeState::WentBack,
                    Some((Phase::Running, found)) if found == share => NodeState::Standing,
                    Some(_) | None => before,
                }
            }
            NodeState::Moving | NodeState::Away | NodeState::Held | NodeState::Done if is_new => {
                moving::state_after(before, report.phase)
            }
            NodeState::Reverting | NodeState::WentBack | NodeState::Held
                if is_old && self.state == RolloutState::RollingBack =>
            {
                going_back::state_after(before, &report)
            }
            NodeState::Stuck if is_old && report.phase == Phase::Running => NodeState::Reverted,
            NodeState::Waiting
            | NodeState::Moving
            | NodeState::Done
            | NodeState::Away
            | NodeState::Held
            | NodeState::WentBack
            | NodeState::Reverting
            | NodeState::Reverted
            | NodeState::Stuck => before,
        };
        let of_candidate = candidate.map(|c| (c.reason, c.message.clone()));
        let (reason, message) = match of_candidate {
            Some(why) if matches!(before, NodeState::Trying | NodeState::Standing) => why,
            Some(_) | None => (report.reason, report.message),
        };
        if is_new || is_old {
            let progress = NodeProgress { state, reason, message: message.clone() };
            self.nodes.insert(node.clone(), progress);
        }
        if state != NodeState::WentBack || before == NodeState::WentBack {
            return;
        }
        let why = message.unwrap_or_else(|| "the node went back".to_owned());
        self.node_failed(
            reason.or(Some(Reason::RolledBackOnNode)),
            &format!("{node}: {why}"),
            actions,
        );
    }

    /// One more node has failed: too many end the rollout, also one that has succeeded and soaks.
    fn node_failed(
        &mut self,
        reason: Option<Reason>,
        message: &str,
        actions: &mut Vec<FleetAction>,
    ) {
        let is_held = self.state == RolloutState::Paused && self.stage.held;
        let goes_on = matches!(
            self.state,
            RolloutState::InProgress | RolloutState::AwaitingPromotion | RolloutState::Succeeded
        );
        let may_fail = goes_on || is_held;
        if !may_fail {
            return;
        }
        let failed = self.count(NodeState::WentBack);
        if self.trial().is_none() && failed <= self.order.errors_allowed as usize {
            let allowed = self.order.errors_allowed;
            let message = format!("{message} ({failed} of {allowed} allowed to fail)");
            return self.note(reason, message, actions);
        }
        self.fail(reason, message, actions);
    }

    fn fail(&mut self, reason: Option<Reason>, message: &str, actions: &mut Vec<FleetAction>) {
        self.stage.held = false;
        match self.order.on_failure {
            OnFailure::Pause => self.enter(RolloutState::Paused, reason, message, actions),
            OnFailure::Rollback if self.order.from_revision.is_none() => {
                self.enter(RolloutState::Failed, reason, message, actions);
            }
            OnFailure::Rollback => self.go_back(reason, message, actions),
        }
    }

    fn pause(&mut self, actions: &mut Vec<FleetAction>) {
        if !matches!(self.state, RolloutState::InProgress | RolloutState::AwaitingPromotion) {
            return;
        }
        self.stage.held = true;
        self.held_since = None;
        self.judge = None;
        let message = "held by an operator; `pith rollout resume` goes on";
        self.enter(RolloutState::Paused, Some(Reason::Paused), message, actions);
        self.hold_nodes(true, actions);
    }

    fn go_on(&mut self, actions: &mut Vec<FleetAction>) {
        if self.state != RolloutState::Paused || !self.stage.held {
            return;
        }
        self.stage.held = false;
        self.enter(RolloutState::InProgress, None, "goes on", actions);
        self.hold_nodes(false, actions);
    }

    fn hold_nodes(&self, paused: bool, actions: &mut Vec<FleetAction>) {
        let moving = self.nodes.iter().filter(|(_, p)| p.state == NodeState::Moving);
        actions.extend(moving.map(|(node, _)| FleetAction::Hold { node: node.clone(), paused }));
    }

    fn promote(&mut self, full: bool, actions: &mut Vec<FleetAction>) {
        if !self.can_be_promoted() {
            return;
        }
        if self.state == RolloutState::AwaitingPromotion {
            self.enter(RolloutState::InProgress, None, "promoted by an operator", actions);
        }
        if self.trial().is_some() {
            self.promote_trial(full, actions);
        } else {
            self.stage.gates_passed += 1;
            self.held_since = None;
        }
    }

    fn advance(&mut self, now: Now, actions: &mut Vec<FleetAction>) {
        match self.state {
            RolloutState::InProgress | RolloutState::AwaitingPromotion => {
                self.set_lost_aside(now);
                if !self.is_prepared(actions) {
                    return;
                }
                if self.trial().is_some() {
                    self.advance_trial(now, actions);
                }
                if self.trial().is_none() {
                    self.move_on(now, actions);
                }
            }
            RolloutState::RollingBack => self.finish_going_back(actions),
            RolloutState::Pending
            | RolloutState::Paused
            | RolloutState::Succeeded
            | RolloutState::RolledBack
            | RolloutState::Superseded
            | RolloutState::Aborted
            | RolloutState::Failed => {}
        }
    }

    fn set_lost_aside(&mut self, now: Now) {
        let is_lost = |at: &Now| now.since(*at) >= LOST_NODE_PATIENCE_MS;
        let lost: Vec<NodeName> = self
            .lost_at
            .iter()
            .filter(|(name, at)| is_lost(at) && self.is(name, NodeState::Moving))
            .map(|(name, _)| name.clone())
            .collect();
        lost.iter().for_each(|name| self.set(name, NodeState::Away));
    }

    fn set(&mut self, node: &NodeName, state: NodeState) {
        if let Some(progress) = self.nodes.get_mut(node) {
            let away = state == NodeState::Away;
            *progress = NodeProgress {
                state,
                reason: away.then_some(Reason::NodeOffline),
                message: away.then(|| "offline; takes it when it returns".to_owned()),
            };
        }
    }
}

#[cfg(test)]
mod tests;
