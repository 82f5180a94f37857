//! Rollouts told as stories: events in, actions out.

use super::*;

/// A rollout of revision 2 over nodes `a b c` (a trailing `!` marks one that is away), driven by words.
struct Story {
    rollout: Rollout,
    told: Vec<String>,
    now: Now,
}

impl Story {
    fn begin(nodes: &[&str], change: impl Fn(&mut Order)) -> Self {
        let name = |node: &&str| node.trim_end_matches('!').parse::<NodeName>().unwrap();
        let mut order = Order {
            revision: 2,
            from_revision: Some(1),
            nodes: nodes.iter().map(name).collect(),
            batch: Share::Count(1),
            on_failure: OnFailure::Rollback,
        };
        change(&mut order);
        let online = nodes.iter().map(|n| (name(n), !n.ends_with('!'))).collect();
        let (rollout, actions) = Rollout::start(order, online, Now(0));
        let mut story = Self { rollout, told: Vec::new(), now: Now(0) };
        story.tell(actions);
        story
    }

    fn tell(&mut self, actions: Vec<FleetAction>) {
        self.told.extend(actions.into_iter().map(|action| match action {
            FleetAction::Assign(node) => format!("assign {node}"),
            FleetAction::Revert(node) => format!("revert {node}"),
            FleetAction::Enter { state, .. } => state.to_string(),
        }));
    }

    fn event(mut self, event: FleetEvent) -> Self {
        let actions = self.rollout.handle(event, self.now);
        self.tell(actions);
        self
    }

    fn report(self, node: &str, revision: u64, phase: Phase) -> Self {
        let reason = matches!(phase, Phase::RollingBack).then_some(Reason::NotReadyInTime);
        let node = node.parse().unwrap();
        self.event(FleetEvent::Report { node, revision, phase, reason, message: None })
    }

    fn later(mut self, ms: u64) -> Self {
        self.now = self.now.plus(ms);
        self.event(FleetEvent::Tick)
    }

    fn check(&self, expected: &str) {
        assert_eq!(self.told.join(", "), expected);
    }
}

#[test]
fn nodes_take_it_one_after_another() {
    Story::begin(&["a", "b"], |_| {})
        .report("a", 2, Phase::Updating)
        .report("a", 2, Phase::Running)
        .report("b", 2, Phase::Running)
        .check("in_progress, assign a, assign b, succeeded");
}

#[test]
fn a_report_on_an_older_revision_moves_nothing() {
    Story::begin(&["a", "b"], |_| {})
        .report("a", 1, Phase::Running)
        .report("b", 1, Phase::Running)
        .check("in_progress, assign a");
}

#[test]
fn a_batch_moves_at_once() {
    Story::begin(&["a", "b", "c"], |order| order.batch = Share::Percent(70))
        .report("b", 2, Phase::Running)
        .check("in_progress, assign a, assign b, assign c");
}

#[test]
fn the_first_that_goes_back_stops_it_and_takes_the_moved_ones_back() {
    Story::begin(&["a", "b", "c"], |_| {})
        .report("a", 2, Phase::Running)
        .report("b", 2, Phase::RollingBack)
        .report("b", 2, Phase::RolledBack)
        .report("b", 1, Phase::Running)
        .report("a", 1, Phase::Updating)
        .report("a", 1, Phase::Running)
        .check("in_progress, assign a, assign b, rolling_back, revert a, revert b, rolled_back");
}

#[test]
fn a_first_deploy_that_fails_has_nothing_to_go_back_to() {
    Story::begin(&["a", "b"], |order| order.from_revision = None)
        .report("a", 2, Phase::Failed)
        .check("in_progress, assign a, failed");
}

#[test]
fn on_failure_pause_stands_still() {
    Story::begin(&["a", "b"], |order| order.on_failure = OnFailure::Pause)
        .report("a", 2, Phase::Failed)
        .check("in_progress, assign a, paused");
}

#[test]
fn a_node_that_is_away_neither_blocks_nor_fails_it() {
    Story::begin(&["a!", "b"], |_| {})
        .report("b", 2, Phase::Running)
        .check("in_progress, assign a, assign b, succeeded");
}

#[test]
fn a_node_that_comes_back_in_time_is_waited_for_again() {
    let story = Story::begin(&["a!", "b"], |_| {})
        .event(FleetEvent::Online("a".parse().unwrap()))
        .report("a", 2, Phase::Updating)
        .report("b", 2, Phase::Running);
    story.check("in_progress, assign a, assign b");
    story.report("a", 2, Phase::Running).check("in_progress, assign a, assign b, succeeded");
}

#[test]
fn with_every_node_away_it_waits() {
    Story::begin(&["a!"], |_| {}).later(3_600_000).check("in_progress, assign a");
}

#[test]
fn a_node_lost_while_moving_is_waited_for_before_others_go_on() {
    let lost = Story::begin(&["a", "b"], |_| {}).event(FleetEvent::Offline("a".parse().unwrap()));
    assert_eq!(lost.rollout.next_wakeup(), Some(Now(LOST_NODE_PATIENCE_MS)));
    let lost = lost.later(LOST_NODE_PATIENCE_MS - 1);
    lost.check("in_progress, assign a");
    lost.later(1).check("in_progress, assign a, assign b");
}

#[test]
fn a_node_lost_while_going_back_is_not_waited_for() {
    Story::begin(&["a", "b"], |_| {})
        .report("a", 2, Phase::Running)
        .report("b", 2, Phase::RolledBack)
        .report("b", 1, Phase::Running)
        .event(FleetEvent::Offline("a".parse().unwrap()))
        .check("in_progress, assign a, assign b, rolling_back, revert a, revert b, rolled_back");
}

#[test]
fn abort_takes_every_told_node_back() {
    Story::begin(&["a", "b", "c"], |_| {})
        .report("a", 2, Phase::Running)
        .event(FleetEvent::Abort)
        .report("a", 1, Phase::Running)
        .report("b", 1, Phase::Running)
        .check("in_progress, assign a, assign b, rolling_back, revert a, revert b, aborted");
}

#[test]
fn nothing_moves_a_finished_rollout() {
    Story::begin(&["a"], |_| {})
        .report("a", 2, Phase::Running)
        .report("a", 2, Phase::RolledBack)
        .check("in_progress, assign a, succeeded");
}

#[test]
fn every_state_is_read_back_by_its_name() {
    for state in RolloutState::ALL {
        assert_eq!(RolloutState::parse(state.as_str()), Some(state));
    }
    for state in NodeState::ALL {
        assert_eq!(NodeState::parse(state.as_str()), Some(state));
    }
}
