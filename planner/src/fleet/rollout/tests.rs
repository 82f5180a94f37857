//! Rollouts told as stories: events in, actions out.

use protocol::manifest::HookKind;
use protocol::report::HookOutcome;
use protocol::spec::{Analysis, CanaryStep, Hold, Share};
use protocol::units::Millis;

use super::*;
use crate::fleet::analysis::{Counts, Sample};
use crate::fleet::event::HookProgress;
use crate::fleet::order::Hooks;
use crate::fleet::waves::Wave;

/// A rollout of revision 2 over nodes `a b c` (a trailing `!` marks one that is away), driven by words.
struct Story {
    rollout: Rollout,
    told: Vec<String>,
    now: Now,
}

/// One wave of these nodes, so many at once.
fn wave(nodes: &[&str], at_once: usize) -> Wave {
    let name = |node: &&str| node.trim_end_matches('!').parse::<NodeName>().unwrap();
    Wave { nodes: nodes.iter().map(name).collect(), at_once, gate: None }
}

fn said(revision: u64, phase: Phase, reason: Option<Reason>) -> NodeReport {
    let (message, candidate, hook) = (None, None, None);
    NodeReport { revision, phase, reason, message, candidate, hook, is_held: false }
}

impl Story {
    fn begin(nodes: &[&str], change: impl Fn(&mut Order)) -> Self {
        let name = |node: &&str| node.trim_end_matches('!').parse::<NodeName>().unwrap();
        let mut order = Order {
            revision: 2,
            from_revision: Some(1),
            waves: vec![wave(nodes, 1)],
            trial: None,
            success_threshold: Share::Percent(100),
            errors_allowed: 0,
            on_failure: OnFailure::Rollback,
            soak_ms: 0,
            hooks: Hooks::default(),
        };
        change(&mut order);
        let online = nodes.iter().map(|n| (name(n), !n.ends_with('!'))).collect();
        let (rollout, actions) = Rollout::start(order, online, Now(0));
        let mut story = Self { rollout, told: Vec::new(), now: Now(0) };
        story.tell(actions);
        story
    }

    fn tell(&mut self, actions: Vec<FleetAction>) {
        self.told.extend(actions.into_iter().filter_map(|action| {
            match action {
                FleetAction::Try { node, share, .. } => Some(format!("try {node} {share}")),
                FleetAction::Assign(node) => Some(format!("assign {node}")),
                FleetAction::Revert(node) => Some(format!("revert {node}")),
                FleetAction::RunHook { node, kind } => Some(format!("{} on {node}", kind.as_str())),
                FleetAction::EndHook(node) => Some(format!("end hook on {node}")),
                FleetAction::Hold { node, paused: true } => Some(format!("hold {node}")),
                FleetAction::Hold { node, paused: false } => Some(format!("go on {node}")),
                FleetAction::Enter { state, .. } => Some(state.to_string()),
                FleetAction::Note { reason, .. } => reason
                    .filter(|r| !matches!(r, Reason::Holding | Reason::WaitingForHook))
                    .map(|reason| format!("({reason})")),
            }
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
        let report = NodeReport { is_held: phase == Phase::Held, ..said(revision, phase, reason) };
        self.event(FleetEvent::Report { node, report })
    }

    /// The node runs revision 1 and says this of the candidate beside it.
    fn beside(self, node: &str, share: u32, phase: Phase) -> Self {
        let reason = (phase == Phase::Failed).then_some(Reason::CrashLoop);
        let candidate = CandidateProgress { revision: 2, share, phase, reason, message: None };
        let node = node.parse().unwrap();
        let report = NodeReport { candidate: Some(candidate), ..said(1, Phase::Running, None) };
        self.event(FleetEvent::Report { node, report })
    }

    /// The canary and the stable release on a node, as counted since the beginning.
    fn traffic(self, node: &str, canary: (u64, u64), stable: (u64, u64)) -> Self {
        let counts = |(requests, errors)| Counts { requests, errors, ..Counts::default() };
        let sample = Sample { candidate: counts(canary), stable: counts(stable) };
        self.event(FleetEvent::Traffic { node: node.parse().unwrap(), sample })
    }

    /// The node runs `revision` and says this of its hook.
    fn hook(self, node: &str, revision: u64, kind: HookKind, outcome: HookOutcome) -> Self {
        let hook = HookProgress { kind, revision: 2, outcome, reason: None, message: None };
        let report = NodeReport { hook: Some(hook), ..said(revision, Phase::Running, None) };
        self.event(FleetEvent::Report { node: node.parse().unwrap(), report })
    }

    fn promote(self) -> Self {
        self.event(FleetEvent::Promote { full: false })
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
    Story::begin(&["a", "b", "c"], |order| order.waves[0].at_once = 2)
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
fn a_node_that_can_run_neither_release_ends_the_way_back_as_failed() {
    Story::begin(&["a", "b"], |_| {})
        .report("a", 2, Phase::Running)
        .report("b", 2, Phase::RollingBack)
        .report("b", 1, Phase::Failed)
        .report("a", 1, Phase::Running)
        .check("in_progress, assign a, assign b, rolling_back, revert a, revert b, failed");
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

#[test]
fn waves_move_one_after_another_and_a_gate_waits_for_a_person_or_for_time() {
    let waves = |gate: Option<Hold>| {
        let first = Wave { gate, ..wave(&["a", "b"], 2) };
        move |order: &mut Order| order.waves = vec![first.clone(), wave(&["c"], 1)]
    };
    let story = Story::begin(&["a", "b", "c"], waves(Some(Hold::Manual)))
        .report("a", 2, Phase::Running)
        .report("b", 2, Phase::Running);
    story.check("in_progress, assign a, assign b, awaiting_promotion");
    story.promote().report("c", 2, Phase::Running).check(
        "in_progress, assign a, assign b, awaiting_promotion, in_progress, assign c, succeeded",
    );
    let timed = Story::begin(&["a", "b", "c"], waves(Some(Hold::For(Millis(5_000)))))
        .report("a", 2, Phase::Running)
        .report("b", 2, Phase::Running);
    assert_eq!(timed.rollout.next_wakeup(), Some(Now(5_000)));
    let timed = timed.later(4_999);
    timed.check("in_progress, assign a, assign b");
    timed.later(1).check("in_progress, assign a, assign b, assign c");
}

#[test]
fn so_many_nodes_may_fail_and_one_more_ends_it() {
    let nodes = ["a", "b", "c", "d"];
    Story::begin(&nodes, |order| order.errors_allowed = 1)
        .report("a", 2, Phase::RollingBack)
        .report("b", 2, Phase::Running)
        .report("c", 2, Phase::Failed)
        .check(
            "in_progress, assign a, (not_ready_in_time), assign b, assign c, rolling_back, revert a, revert b, revert c",
        );
    Story::begin(&["a", "b"], |order| order.errors_allowed = 1)
        .report("a", 2, Phase::RolledBack)
        .report("b", 2, Phase::Running)
        .check("in_progress, assign a, (rolled_back_on_node), assign b, succeeded");
}

#[test]
fn the_next_wave_need_not_wait_for_the_slowest_nodes_of_the_one_before() {
    Story::begin(&["a", "b", "c"], |order| {
        order.waves = vec![wave(&["a", "b"], 2), wave(&["c"], 1)];
        order.success_threshold = Share::Percent(50);
    })
    .report("a", 2, Phase::Running)
    .report("c", 2, Phase::Running)
    .report("b", 2, Phase::Running)
    .check("in_progress, assign a, assign b, assign c, succeeded");
}

#[test]
fn an_operator_holds_it_and_lets_it_go_on() {
    Story::begin(&["a", "b"], |_| {})
        .event(FleetEvent::Pause)
        .report("a", 2, Phase::Running)
        .event(FleetEvent::Resume)
        .check("in_progress, assign a, paused, hold a, in_progress, assign b");
    let moving = Story::begin(&["a"], |_| {}).event(FleetEvent::Pause).event(FleetEvent::Resume);
    moving.check("in_progress, assign a, paused, hold a, in_progress, go on a");
}

#[test]
fn a_node_that_fails_while_it_soaks_takes_the_others_back() {
    let soaking = || {
        Story::begin(&["a", "b"], |order| order.soak_ms = 60_000)
            .report("a", 2, Phase::Running)
            .report("b", 2, Phase::Running)
            .later(50_000)
    };
    soaking()
        .report("b", 2, Phase::RollingBack)
        .report("a", 1, Phase::Running)
        .report("b", 1, Phase::Running)
        .check("in_progress, assign a, assign b, succeeded, rolling_back, revert a, revert b, rolled_back");
    let over = soaking().later(100_000);
    assert!(over.rollout.is_over(over.now));
    over.report("b", 2, Phase::RollingBack).check("in_progress, assign a, assign b, succeeded");
}

fn hooks(order: &mut Order) {
    order.hooks = Hooks { pre_deploy: true, post_deploy: true };
}

#[test]
fn hooks_run_on_one_node_before_the_first_and_after_the_last_one_moves() {
    Story::begin(&["a!", "b"], hooks)
        .hook("b", 1, HookKind::PreDeploy, HookOutcome::Underway)
        .hook("b", 1, HookKind::PreDeploy, HookOutcome::Succeeded)
        .report("b", 2, Phase::Running)
        .hook("b", 2, HookKind::PostDeploy, HookOutcome::Succeeded)
        .check(
            "in_progress, pre_deploy on b, end hook on b, assign a, assign b, post_deploy on b, end hook on b, succeeded",
        );
}

#[test]
fn a_hook_that_fails_before_ends_it_with_nothing_changed() {
    Story::begin(&["a"], hooks)
        .hook("a", 1, HookKind::PreDeploy, HookOutcome::Failed)
        .check("in_progress, pre_deploy on a, end hook on a, rolling_back, rolled_back");
}

#[test]
fn a_hook_that_fails_after_goes_back() {
    Story::begin(&["a"], |order| order.hooks = Hooks { pre_deploy: false, post_deploy: true })
        .report("a", 2, Phase::Running)
        .hook("a", 2, HookKind::PostDeploy, HookOutcome::Failed)
        .report("a", 1, Phase::Running)
        .check(
            "in_progress, assign a, post_deploy on a, end hook on a, rolling_back, revert a, rolled_back",
        );
}

#[test]
fn a_node_lost_with_a_hook_is_waited_for() {
    Story::begin(&["a", "b"], hooks)
        .event(FleetEvent::Offline("a".parse().unwrap()))
        .later(3_600_000)
        .check("in_progress, pre_deploy on a");
}

mod held;
mod trials;
