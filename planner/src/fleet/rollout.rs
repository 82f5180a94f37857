//! A rollout: nodes move one batch after another; the first that goes back stops it and takes those that moved back.
//!
//! ```text
//!  in_progress --every node done or away--> succeeded
//!      |
//!      | a node went back (or abort)
//!      v
//!  rolling_back --every node on the old release again--> rolled_back | aborted
//!      |
//!      + nothing to go back to: failed         + on_failure = "pause": paused
//! ```

use std::collections::BTreeMap;

use protocol::id::NodeName;
use protocol::reason::Reason;
use protocol::report::Phase;
use protocol::spec::{OnFailure, Share};

use super::state::{NodeState, RolloutState};
use crate::Now;

/// A node that was moving when it was lost is waited for this long before others go on.
pub(super) const LOST_NODE_PATIENCE_MS: u64 = 60_000;

/// What is to be rolled out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Order {
    /// The new revision.
    pub revision: u64,
    /// The revision to go back to; none for a first deploy.
    pub from_revision: Option<u64>,
    /// The nodes in the order in which they move.
    pub nodes: Vec<NodeName>,
    /// Nodes that move at once.
    pub batch: Share,
    /// What the first failure does.
    pub on_failure: OnFailure,
}

/// A node's place in a rollout, with why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeProgress {
    /// Where it stands.
    pub state: NodeState,
    /// What it waits for or why it went back, by code.
    pub reason: Option<Reason>,
    /// The same for a person.
    pub message: Option<String>,
}

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FleetEvent {
    /// A node reported on this service.
    Report {
        /// Which node.
        node: NodeName,
        /// The revision of its newest manifest.
        revision: u64,
        /// Where the service stands there.
        phase: Phase,
        /// Its reason.
        reason: Option<Reason>,
        /// Its sentence.
        message: Option<String>,
    },
    /// A node is heard of.
    Online(NodeName),
    /// A node is not heard of any more.
    Offline(NodeName),
    /// An operator ends it.
    Abort,
    /// `next_wakeup` has come.
    Tick,
}

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FleetAction {
    /// Give this node the new revision.
    Assign(NodeName),
    /// Give this node the old revision again.
    Revert(NodeName),
    /// The rollout's state has changed.
    Enter {
        /// To this.
        state: RolloutState,
        /// By code.
        reason: Option<Reason>,
        /// For a person.
        message: String,
    },
}

/// One service moving from one revision to another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rollout {
    order: Order,
    state: RolloutState,
    nodes: BTreeMap<NodeName, NodeProgress>,
    online: BTreeMap<NodeName, bool>,
    lost_at: BTreeMap<NodeName, Now>,
    aborted: bool,
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
        let nodes = order.nodes.iter().map(|name| (name.clone(), waiting.clone())).collect();
        let mut rollout = Self::resume(order, RolloutState::Pending, nodes, online);
        let mut actions = Vec::new();
        rollout.enter(RolloutState::InProgress, None, "nodes take the new revision", &mut actions);
        rollout.advance(now, &mut actions);
        (rollout, actions)
    }

    /// A rollout as it was stored; reports that follow bring it up to date.
    #[must_use]
    pub fn resume(
        order: Order,
        state: RolloutState,
        nodes: BTreeMap<NodeName, NodeProgress>,
        online: BTreeMap<NodeName, bool>,
    ) -> Self {
        Self { order, state, nodes, online, lost_at: BTreeMap::new(), aborted: false }
    }

    /// Where it stands.
    #[must_use]
    pub fn state(&self) -> RolloutState {
        self.state
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

    /// When to send [`FleetEvent::Tick`].
    #[must_use]
    pub fn next_wakeup(&self) -> Option<Now> {
        let lost = self.lost_at.iter().filter(|(name, _)| self.is(name, NodeState::Moving));
        lost.map(|(_, at)| at.plus(LOST_NODE_PATIENCE_MS)).min()
    }

    /// Takes one event; what follows from it.
    pub fn handle(&mut self, event: FleetEvent, now: Now) -> Vec<FleetAction> {
        let mut actions = Vec::new();
        if self.state.is_final() {
            return actions;
        }
        match event {
            FleetEvent::Report { node, revision, phase, reason, message } => {
                self.report(&node, revision, phase, (reason, message), &mut actions);
            }
            FleetEvent::Online(node) => {
                self.online.insert(node.clone(), true);
                self.lost_at.remove(&node);
            }
            FleetEvent::Offline(node) => {
                self.online.insert(node.clone(), false);
                self.lost_at.entry(node).or_insert(now);
            }
            FleetEvent::Abort => {
                self.aborted = true;
                self.go_back(Some(Reason::Requested), "aborted by an operator", &mut actions);
            }
            FleetEvent::Tick => {}
        }
        self.advance(now, &mut actions);
        actions
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
        actions.push(FleetAction::Enter { state, reason, message: message.to_owned() });
    }

    fn report(
        &mut self,
        node: &NodeName,
        revision: u64,
        phase: Phase,
        why: (Option<Reason>, Option<String>),
        actions: &mut Vec<FleetAction>,
    ) {
        let Some(progress) = self.nodes.get_mut(node) else { return };
        let is_new = revision == self.order.revision;
        let is_old = Some(revision) == self.order.from_revision;
        let settled = matches!(phase, Phase::Running | Phase::RolledBack);
        let state = match progress.state {
            NodeState::Reverting | NodeState::WentBack if is_old && settled => NodeState::Reverted,
            NodeState::Moving | NodeState::Away | NodeState::Done if is_new => match phase {
                Phase::Running => NodeState::Done,
                Phase::RollingBack | Phase::RolledBack | Phase::Failed => NodeState::WentBack,
                // Who was away and reports is back: it is waited for like any other.
                Phase::Updating if progress.state == NodeState::Away => NodeState::Moving,
                Phase::Updating | Phase::Degraded | Phase::Removing => progress.state,
            },
            NodeState::Waiting
            | NodeState::Moving
            | NodeState::Done
            | NodeState::Away
            | NodeState::WentBack
            | NodeState::Reverting
            | NodeState::Reverted => progress.state,
        };
        let failed_now = state == NodeState::WentBack && progress.state != NodeState::WentBack;
        if is_new || is_old {
            *progress = NodeProgress { state, reason: why.0, message: why.1.clone() };
        }
        if !failed_now || self.state != RolloutState::InProgress {
            return;
        }
        let why_text = why.1.unwrap_or_else(|| "the node went back".to_owned());
        let message = format!("{node}: {why_text}");
        self.fail(why.0.or(Some(Reason::RolledBackOnNode)), &message, actions);
    }

    fn fail(&mut self, reason: Option<Reason>, message: &str, actions: &mut Vec<FleetAction>) {
        match self.order.on_failure {
            OnFailure::Pause => self.enter(RolloutState::Paused, reason, message, actions),
            OnFailure::Rollback if self.order.from_revision.is_none() => {
                self.enter(RolloutState::Failed, reason, message, actions);
            }
            OnFailure::Rollback => self.go_back(reason, message, actions),
        }
    }

    /// Every node that was told of the new revision is told of the old one again.
    fn go_back(&mut self, reason: Option<Reason>, message: &str, actions: &mut Vec<FleetAction>) {
        if self.order.from_revision.is_none() {
            self.enter(RolloutState::Aborted, reason, message, actions);
            return;
        }
        self.enter(RolloutState::RollingBack, reason, message, actions);
        for (name, progress) in &mut self.nodes {
            match progress.state {
                NodeState::Moving | NodeState::Done | NodeState::Away => {
                    progress.state = NodeState::Reverting;
                    actions.push(FleetAction::Revert(name.clone()));
                }
                NodeState::WentBack => actions.push(FleetAction::Revert(name.clone())),
                NodeState::Waiting | NodeState::Reverting | NodeState::Reverted => {}
            }
        }
    }

    fn advance(&mut self, now: Now, actions: &mut Vec<FleetAction>) {
        match self.state {
            RolloutState::InProgress => self.assign_next(now, actions),
            RolloutState::RollingBack => self.finish_going_back(actions),
            RolloutState::Pending
            | RolloutState::Paused
            | RolloutState::AwaitingPromotion
            | RolloutState::Succeeded
            | RolloutState::RolledBack
            | RolloutState::Superseded
            | RolloutState::Aborted
            | RolloutState::Failed => {}
        }
    }

    fn assign_next(&mut self, now: Now, actions: &mut Vec<FleetAction>) {
        self.set_lost_aside(now);
        let total = u32::try_from(self.order.nodes.len()).unwrap_or(u32::MAX);
        let batch = self.order.batch.floor_of(total).max(1) as usize;
        for name in self.order.nodes.clone() {
            if self.count(NodeState::Moving) >= batch {
                break;
            }
            if !self.is(&name, NodeState::Waiting) {
                continue;
            }
            let state = if self.is_online(&name) { NodeState::Moving } else { NodeState::Away };
            self.set(&name, state);
            actions.push(FleetAction::Assign(name));
        }
        let open = self.count(NodeState::Moving) + self.count(NodeState::Waiting);
        let done = self.count(NodeState::Done);
        if open > 0 || (done == 0 && !self.nodes.is_empty()) {
            return;
        }
        let message = match self.count(NodeState::Away) {
            0 => "every node runs it".to_owned(),
            away => format!("every reachable node runs it, {away} offline"),
        };
        self.enter(RolloutState::Succeeded, None, &message, actions);
    }

    fn set_lost_aside(&mut self, now: Now) {
        let lost: Vec<NodeName> = self
            .lost_at
            .iter()
            .filter(|(_, at)| now.since(**at) >= LOST_NODE_PATIENCE_MS)
            .map(|(name, _)| name.clone())
            .collect();
        for name in
            lost.iter().filter(|name| self.is(name, NodeState::Moving)).cloned().collect::<Vec<_>>()
        {
            self.set(&name, NodeState::Away);
        }
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

    fn finish_going_back(&mut self, actions: &mut Vec<FleetAction>) {
        let awaited = |(name, progress): (&NodeName, &NodeProgress)| match progress.state {
            NodeState::Reverting | NodeState::WentBack => self.is_online(name),
            NodeState::Waiting
            | NodeState::Moving
            | NodeState::Done
            | NodeState::Away
            | NodeState::Reverted => false,
        };
        if self.nodes.iter().any(awaited) {
            return;
        }
        let state = if self.aborted { RolloutState::Aborted } else { RolloutState::RolledBack };
        self.enter(state, None, "every reachable node runs the old revision again", actions);
    }
}

#[cfg(test)]
mod tests;
