//! Blue-green, canary, holds, restarts and environments, told as stories: what each node is asked for.

use super::super::requests::{Promote, Refused, Steer, SteerRequest, Undo};
use super::super::{Policy, records};
use super::world::{World, id};

const GREEN: &str = "strategy = \"blue-green\"\nauto_promote = false";

fn all(world: &World) -> String {
    ["a", "b"].map(|node| world.assigned(node)).join(" | ")
}

/// Two nodes that run version 1.
fn settled() -> World {
    let mut world = World::with_nodes(&["a", "b"]);
    world.deploy("web", "v1").unwrap();
    world.all_run();
    world
}

#[test]
fn a_green_set_comes_up_beside_and_all_nodes_switch_in_one_step_and_back_in_one() {
    let mut world = settled();
    world.deploy_as("v2", GREEN).unwrap();
    assert_eq!(all(&world), "web:1x1+2x1@0 | web:1x1+2x1@0");
    world.all_run();
    assert_eq!(world.rollout("web").state, "awaiting_promotion");
    let _ = world.restart();
    assert_eq!(world.rollout("web").state, "awaiting_promotion", "also after a restart");
    world.steer(Steer::Promote { full: false }).unwrap();
    assert_eq!(all(&world), "web:2x1 | web:2x1");
    world.all_run();
    assert_eq!(world.rollout("web").state, "succeeded");
    world.undo("web", None).unwrap();
    assert_eq!(all(&world), "web:3x1 | web:3x1", "at once, not node after node");
}

#[test]
fn a_canary_is_on_its_nodes_alone_and_grows_by_steps() {
    let mut world = settled();
    let steps = "strategy = \"canary\"\n[[rollout.steps]]\nweight = 10\nhold = \"manual\"\n\
        [[rollout.steps]]\nweight = 50\nhold = \"manual\"";
    world.deploy_as("v2", steps).unwrap();
    assert_eq!(all(&world), "web:1x1+2x1@1000 | web:1x1");
    world.runs("a");
    // Two look at the first step, and both promote: the second meant no other step.
    let meant = |if_revision: u64, if_passed: usize| SteerRequest {
        steer: Steer::Promote { full: false },
        if_revision: Some(if_revision),
        if_passed: Some(if_passed),
    };
    let asked = |world: &mut World, meant| world.state.steer(&id("web"), meant, world.at);
    let elsewhere = asked(&mut world, meant(1, 0)).unwrap_err();
    assert_eq!(elsewhere.code(), "revision_changed");
    asked(&mut world, meant(2, 0)).unwrap();
    world.settle();
    assert_eq!(asked(&mut world, meant(2, 0)).unwrap_err().code(), "rollout_moved_on");
    assert_eq!(all(&world), "web:1x1+2x1@5000 | web:1x1");
    world.runs("a");
    world.steer(Steer::Promote { full: false }).unwrap();
    assert_eq!(all(&world), "web:2x1 | web:1x1", "the rest moves node after node");
    world.all_run();
    assert_eq!(all(&world), "web:2x1 | web:2x1");
}

#[test]
fn an_aborted_trial_and_a_newer_deploy_leave_no_candidate_behind() {
    let mut world = settled();
    world.deploy_as("v2", GREEN).unwrap();
    world.steer(Steer::Abort).unwrap();
    assert_eq!(all(&world), "web:1x1 | web:1x1");
    world.all_run();
    assert_eq!(world.rollout("web").state, "aborted");
    world.deploy_as("v3", GREEN).unwrap();
    world.deploy("web", "v4").unwrap();
    assert_eq!(all(&world), "web:4x1 | web:1x1", "nobody keeps version 3");
}

#[test]
fn a_hold_reaches_the_node_that_moves_and_nothing_else_begins() {
    let mut world = settled();
    world.deploy("web", "v2").unwrap();
    world.steer(Steer::Pause).unwrap();
    assert_eq!(all(&world), "web:2x1 held | web:1x1");
    world.runs("a");
    assert_eq!(all(&world), "web:2x1 held | web:1x1");
    let again = world.steer(Steer::Pause).unwrap_err();
    assert!(matches!(again, Refused::CannotSteer { verb: "pause", .. }), "{again}");
    world.steer(Steer::Resume).unwrap();
    world.all_run();
    assert_eq!(world.rollout("web").state, "succeeded");
    let nothing = world.steer(Steer::Pause).unwrap_err();
    assert!(matches!(nothing, Refused::NotUnderWay(_)), "{nothing}");
}

#[test]
fn a_restart_is_the_same_release_under_another_template() {
    let mut world = settled();
    let request = Undo { by: "test".to_owned(), ..Undo::default() };
    world.state.restart(&id("web"), request, world.at).unwrap();
    world.settle();
    let manifest = world.manifest("a");
    let of_it = &manifest.services[0];
    assert_eq!((of_it.revision, of_it.restarts), (2, 1));
    world.all_run();
    let history = world.state.show_history(&id("web")).unwrap();
    assert_eq!(history.revisions[1].kind, records::Kind::Restart);
    assert_eq!(history.revisions[0].release, history.revisions[1].release);
}

#[test]
fn who_expects_another_revision_is_refused() {
    let mut world = settled();
    let undo = Undo { if_revision: Some(7), ..Undo::default() };
    let refused = world.state.undo(&id("web"), undo, world.at).unwrap_err();
    assert!(
        matches!(refused, Refused::RevisionChanged { expected: 7, newest: 1, .. }),
        "{refused}"
    );
}

#[test]
fn production_takes_only_what_staging_ran_and_then_the_very_same_release() {
    let mut world = settled();
    let (staging, production) = ("default", "production");
    let only_from = [(production.parse().unwrap(), staging.parse().unwrap())].into();
    let state = std::mem::replace(&mut world.state, World::with_nodes(&[]).state);
    world.state = state.with_policy(Policy { only_from });
    world.joins_in("p", production);
    let promote = || Promote {
        service: "web".parse().unwrap(),
        from: staging.parse().unwrap(),
        to: production.parse().unwrap(),
        cause: None,
        by: "test".to_owned(),
    };
    let direct = world.sign("web", "v9");
    let refused = world.deploy_in(production, direct).unwrap_err();
    assert_eq!(refused.code(), "refused_by_policy");
    world.deploy("web", "v2").unwrap();
    world.state.promote(promote(), world.at).unwrap();
    world.settle();
    let released = |world: &World, node: &str| world.manifest(node).services[0].release.clone();
    let stable = world.state.show_history(&id("web")).unwrap().revisions[0].release.clone();
    assert_eq!(released(&world, "p"), stable, "what stands, not what is on its way");
    world.all_run();
    world.state.promote(promote(), world.at).unwrap();
    world.settle();
    world.all_run();
    assert_eq!(released(&world, "p"), released(&world, "a"));
    let again = world.state.promote(promote(), world.at).unwrap();
    assert!(again.unchanged);
}

#[test]
fn a_plan_says_what_happens_in_its_order_and_why() {
    let mut world = settled();
    let canary =
        "strategy = \"canary\"\nsoak = \"10m\"\n[[rollout.steps]]\nweight = 10\nhold = \"5m\"";
    let plan = world.plan_as("v2", canary);
    let expected = [
        "a canary on a gets 10% of its requests for 5m",
        "2 measurements of 30s with more than 1.00% errors over the stable release, or crashes or lost readiness ends it; \
         with fewer than 100 requests it holds",
        "a takes it",
        "b takes it",
        "on each: at most 1 new beside the old, at most 0 fewer; an old one goes when a new one is ready",
        "for 10m after success the old release stays warm where memory allows, and failing goes back",
        "the first node that fails ends it, and every node goes back by itself",
    ];
    assert_eq!(plan.steps, expected);
    let green = world.plan_as("v2", GREEN);
    assert!(
        green.steps[1].starts_with("at `pith rollout promote` every node switches at once"),
        "{green:?}"
    );
    world.deploy("web", "v2").unwrap();
}

#[test]
fn a_plan_names_the_nodes_that_pull_and_how_much() {
    let mut world = settled();
    world.joins_as("c", "c");
    world.all_run();
    let plan = world.plan("web", "v9").unwrap();
    let pulls: Vec<_> =
        plan.pulls.iter().map(|p| (p.node.as_str(), p.architecture.as_str(), p.bytes)).collect();
    let mib7 = Some(7 << 20);
    let everyone: Vec<_> = plan.nodes.iter().map(|n| (n.node.as_str(), "arm64", mib7)).collect();
    assert_eq!(pulls, everyone);
    world.deploy_as("v9", "batch = 1").unwrap();
    world.runs("a");
    let plan = world.plan("web", "v9").unwrap();
    assert!(plan.pulls.iter().all(|pull| pull.node.as_str() != "a"), "{:?}", plan.pulls);
    assert!(plan.pulls.len() + 1 >= everyone.len(), "{:?}", plan.pulls);
}
