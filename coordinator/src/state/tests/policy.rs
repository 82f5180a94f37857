//! What nodes' own policies make of a deploy, before any of them moves.

use protocol::reason::Reason;

use super::super::requests::Refused;
use super::world::World;

const SPREAD: &str = "name = \"web\"\nreplicas = 1\nprivileged = true\n";
const EVERYWHERE: &str = "name = \"web\"\nper_node = 1\nprivileged = true\n";

fn denied(refused: Result<impl std::fmt::Debug, Refused>) -> String {
    let refused = refused.unwrap_err();
    assert_eq!(refused.code(), "policy_denied");
    refused.to_string()
}

#[test]
fn a_release_that_a_node_would_refuse_is_refused_before_any_moves_and_the_line_is_named() {
    let mut world = World::with_nodes(&["a", "b"]);
    world.has_policy("a", "privileged = true\n");
    let text = denied(world.try_file(EVERYWHERE, "v1"));
    assert!(text.starts_with("b: ") && text.contains("`privileged = true`"), "{text}");
    assert!(world.state.services.is_empty(), "nothing is numbered");
    denied(world.plan_file(EVERYWHERE, "v1"));
    world.has_policy("b", "[services.web]\nprivileged = true\n");
    world.deploy_file(EVERYWHERE, "v1");
    assert_eq!((world.assigned("a"), world.assigned("b")), ("web:1x1".into(), String::new()));
}

#[test]
fn what_may_run_anywhere_goes_where_it_is_allowed_and_the_plan_says_who_is_left_out() {
    let mut world = World::with_nodes(&["a", "b"]);
    world.has_policy("b", "privileged = true\n");
    let plan = world.plan_file(SPREAD, "v1").unwrap();
    assert_eq!(plan.needs_policy, ["privileged = true"]);
    let left_out: Vec<&str> = plan.left_out.keys().map(|name| name.as_str()).collect();
    assert_eq!(left_out, ["a"]);
    world.deploy_file(SPREAD, "v1");
    assert_eq!(world.assigned("b"), "web:1x1");
}

#[test]
fn a_service_is_scaled_down_under_a_narrowed_policy_and_not_rolled_out_again() {
    let mut world = World::with_nodes(&["a"]);
    world.has_policy("a", "privileged = true\n");
    world.deploy_file(SPREAD, "v1");
    world.all_run();
    world.has_policy("a", "");
    denied(world.try_file(SPREAD, "v2"));
    world.scale("web", Some(0)).unwrap();
    assert_eq!(world.assigned("a"), "");
}

#[test]
fn a_newcomer_that_would_refuse_gets_nothing_until_its_policy_allows_it() {
    let mut world = World::with_nodes(&["a"]);
    world.has_policy("a", "privileged = true\n");
    world.deploy_file(EVERYWHERE, "v1");
    world.all_run();
    world.joins_as("b", "b");
    let _ = world.settle();
    assert!(world.state.manifest(&world.node_id("b")).is_none());
    world.has_policy("b", "privileged = true\n");
    assert_eq!(world.assigned("b"), "web:1x1");
}

#[test]
fn a_node_that_refuses_although_it_said_otherwise_ends_the_rollout_with_its_reason() {
    let mut world = World::with_nodes(&["a"]);
    world.has_policy("a", "privileged = true\n");
    world.deploy("web", "v1").unwrap();
    world.all_run();
    world.deploy_file(SPREAD, "v2");
    world.gives_up("a", "web", Reason::PolicyDenied);
    assert_eq!(world.rollout("web").state, "rolling_back");
    assert_eq!(world.rollout("web").reason, Some(Reason::PolicyDenied));
    assert_eq!(world.assigned("a"), "web:1x1");
}
