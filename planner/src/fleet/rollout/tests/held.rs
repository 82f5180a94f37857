//! Nodes on which root holds the service, told as stories.

use super::*;

/// It runs `revision` as it was asked to, and is held at that.
fn held_at(story: Story, node: &str, revision: u64) -> Story {
    let report = NodeReport { is_held: true, ..said(revision, Phase::Running, None) };
    story.event(FleetEvent::Report { node: node.parse().unwrap(), report })
}

fn states(story: &Story) -> Vec<NodeState> {
    story.rollout.nodes().values().map(|progress| progress.state).collect()
}

#[test]
fn a_held_node_neither_blocks_nor_fails_it() {
    let story = Story::begin(&["a", "b"], |_| {}).report("a", 2, Phase::Held).report(
        "b",
        2,
        Phase::Running,
    );
    story.check("in_progress, assign a, assign b, succeeded");
    assert_eq!(states(&story), [NodeState::Held, NodeState::Done]);
}

#[test]
fn one_that_is_released_while_others_move_is_waited_for_again() {
    let story = Story::begin(&["a", "b"], |_| {})
        .report("a", 2, Phase::Held)
        .report("a", 2, Phase::Updating)
        .report("b", 2, Phase::Running);
    story.check("in_progress, assign a, assign b");
    story.report("a", 2, Phase::Running).check("in_progress, assign a, assign b, succeeded");
}

#[test]
fn where_every_node_is_held_it_says_so_and_goes_on_with_the_first_that_is_released() {
    let story = Story::begin(&["a", "b!"], |_| {}).report("a", 2, Phase::Held);
    story.check("in_progress, assign a, assign b, (held_locally)");
    story
        .report("a", 2, Phase::Running)
        .check("in_progress, assign a, assign b, (held_locally), succeeded");
}

#[test]
fn one_that_is_held_at_what_is_wanted_has_it() {
    held_at(Story::begin(&["a"], |_| {}), "a", 2).check("in_progress, assign a, succeeded");
}

#[test]
fn the_way_back_does_not_wait_for_a_held_node() {
    Story::begin(&["a", "b"], |_| {})
        .report("a", 2, Phase::Held)
        .report("b", 2, Phase::RolledBack)
        .report("b", 1, Phase::Running)
        .report("a", 1, Phase::Held)
        .check("in_progress, assign a, assign b, rolling_back, revert a, revert b, rolled_back");
}

#[test]
fn a_node_that_goes_back_by_hand_while_it_soaks_takes_nobody_with_it() {
    Story::begin(&["a", "b"], |order| order.soak_ms = 60_000)
        .report("a", 2, Phase::Running)
        .report("b", 2, Phase::Running)
        .report("b", 2, Phase::Held)
        .check("in_progress, assign a, assign b, succeeded");
}

#[test]
fn a_hook_that_a_held_node_does_not_begin_runs_on_another() {
    let story = Story::begin(&["a", "b"], |order| order.hooks.pre_deploy = true);
    held_at(story, "a", 1).hook("b", 1, HookKind::PreDeploy, HookOutcome::Succeeded).check(
        "in_progress, pre_deploy on a, end hook on a, pre_deploy on b, end hook on b, assign a",
    );
}

#[test]
fn a_trial_goes_on_without_a_held_node() {
    let green = |order: &mut Order| {
        let nodes = order.nodes().cloned().collect();
        order.trial = Some(Trial::Green { nodes, auto_promote: true });
        order.waves[0].at_once = usize::MAX;
    };
    let story = Story::begin(&["a", "b"], green);
    held_at(story, "a", 1)
        .beside("b", 0, Phase::Running)
        .report("a", 2, Phase::Held)
        .report("b", 2, Phase::Running)
        .check("in_progress, try a 0, try b 0, assign a, assign b, succeeded");
}
