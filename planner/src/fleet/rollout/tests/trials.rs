//! Green sets and canaries, told as stories.

use super::*;

fn green(auto_promote: bool) -> impl Fn(&mut Order) {
    move |order| {
        let nodes = order.nodes().filter(|node| node.as_str() != "new").cloned().collect();
        order.trial = Some(Trial::Green { nodes, auto_promote });
        order.waves[0].at_once = usize::MAX;
    }
}

#[test]
fn the_green_set_comes_up_everywhere_and_switches_everywhere_at_once() {
    let story = Story::begin(&["a", "b"], green(false))
        .beside("a", 0, Phase::Updating)
        .beside("a", 0, Phase::Running)
        .beside("b", 0, Phase::Running);
    story.check("in_progress, try a 0, try b 0, awaiting_promotion");
    story
        .promote()
        .report("a", 2, Phase::Running)
        .report("b", 2, Phase::Running)
        .check("in_progress, try a 0, try b 0, awaiting_promotion, in_progress, assign a, assign b, succeeded");
}

#[test]
fn a_green_set_may_switch_by_itself_and_a_node_that_is_away_takes_it_when_it_returns() {
    Story::begin(&["a", "b!"], green(true))
        .beside("a", 0, Phase::Running)
        .report("a", 2, Phase::Running)
        .check("in_progress, try a 0, assign a, assign b, succeeded");
}

#[test]
fn a_node_that_did_not_run_it_before_is_not_waited_for_and_takes_it_with_the_switch() {
    Story::begin(&["a", "new"], green(true))
        .beside("a", 0, Phase::Running)
        .report("a", 2, Phase::Running)
        .report("new", 2, Phase::Running)
        .check("in_progress, try a 0, assign a, assign new, succeeded");
}

#[test]
fn a_green_set_that_fails_on_one_node_goes_everywhere() {
    Story::begin(&["a", "b"], green(true))
        .beside("a", 0, Phase::Running)
        .beside("b", 0, Phase::Failed)
        .report("a", 1, Phase::Running)
        .report("b", 1, Phase::Running)
        .check("in_progress, try a 0, try b 0, rolling_back, revert a, revert b, rolled_back");
}

const ANALYSIS: Analysis = Analysis {
    interval: Millis(10_000),
    failure_limit: 2,
    max_error_rate: Some(100),
    max_p99: None,
    min_requests: 100,
    dry_run: false,
};

/// A canary on node a: 10 % for 20 s, then 50 % until a person says so.
fn canary(analysis: Analysis) -> impl Fn(&mut Order) {
    move |order| {
        let step = |weight, hold| CanaryStep { weight, hold };
        order.trial = Some(Trial::Canary {
            nodes: vec!["a".parse().unwrap()],
            steps: vec![step(10, Hold::For(Millis(20_000))), step(50, Hold::Manual)],
            analysis,
        });
        order.waves = vec![wave(&["a"], 1), wave(&["b"], 1)];
    }
}

#[test]
fn a_canary_grows_step_by_step_while_it_is_good_and_then_replaces_the_rest() {
    let story = Story::begin(&["a", "b"], canary(ANALYSIS))
        .beside("a", 1_000, Phase::Running)
        .traffic("a", (0, 0), (0, 0))
        .traffic("a", (200, 0), (1_800, 0))
        .later(10_000)
        .traffic("a", (400, 0), (3_600, 0))
        .later(10_000);
    story.check("in_progress, try a 1000, try a 5000");
    let story = story.beside("a", 1_000, Phase::Running).beside("a", 5_000, Phase::Running);
    story.check("in_progress, try a 1000, try a 5000, awaiting_promotion");
    story.promote().report("a", 2, Phase::Running).report("b", 2, Phase::Running).check(
        "in_progress, try a 1000, try a 5000, awaiting_promotion, in_progress, assign a, assign b, succeeded",
    );
}

#[test]
fn a_canary_with_errors_is_aborted_at_its_limit() {
    Story::begin(&["a", "b"], canary(ANALYSIS))
        .beside("a", 1_000, Phase::Running)
        .traffic("a", (0, 0), (0, 0))
        .traffic("a", (200, 10), (1_800, 0))
        .later(10_000)
        .traffic("a", (400, 20), (3_600, 0))
        .later(10_000)
        .check("in_progress, try a 1000, (error_rate), rolling_back, revert a");
}

#[test]
fn a_canary_with_too_few_requests_holds_its_weight_and_says_so() {
    let story = Story::begin(&["a", "b"], canary(ANALYSIS))
        .beside("a", 1_000, Phase::Running)
        .traffic("a", (0, 0), (0, 0))
        .traffic("a", (12, 0), (100, 0))
        .later(10_000)
        .later(10_000)
        .later(100_000);
    story.check("in_progress, try a 1000, (inconclusive)");
    story
        .traffic("a", (112, 0), (900, 0))
        .later(10_000)
        .check("in_progress, try a 1000, (inconclusive), try a 5000");
}

#[test]
fn a_dry_run_says_what_it_would_do_and_goes_on() {
    Story::begin(&["a", "b"], canary(Analysis { dry_run: true, ..ANALYSIS }))
        .beside("a", 1_000, Phase::Running)
        .traffic("a", (0, 0), (0, 0))
        .traffic("a", (200, 100), (1_800, 0))
        .later(10_000)
        .traffic("a", (400, 200), (3_600, 0))
        .later(10_000)
        .check("in_progress, try a 1000, (error_rate), (error_rate), try a 5000");
}

#[test]
fn promoting_a_timed_step_skips_the_rest_of_its_time_and_in_full_all_steps() {
    let story = Story::begin(&["a", "b"], canary(ANALYSIS)).beside("a", 1_000, Phase::Running);
    story.promote().check("in_progress, try a 1000, try a 5000");
    let story = Story::begin(&["a", "b"], canary(ANALYSIS)).beside("a", 1_000, Phase::Running);
    story.event(FleetEvent::Promote { full: true }).check("in_progress, try a 1000, assign a");
}

#[test]
fn an_aborted_canary_leaves_only_its_own_nodes() {
    Story::begin(&["a", "b"], canary(ANALYSIS))
        .beside("a", 1_000, Phase::Running)
        .event(FleetEvent::Abort)
        .beside("a", 1_000, Phase::Running)
        .report("a", 1, Phase::Running)
        .check("in_progress, try a 1000, rolling_back, revert a, aborted");
}
