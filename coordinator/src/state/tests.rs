//! The fleet told as stories: requests and messages of nodes in, manifests and states out. No runtime, no clock.

mod agents;
mod commands;
mod conflict;
mod freshness;
mod held;
mod keeping;
mod live;
mod measured;
mod members;
mod notices;
mod operators;
mod peers;
mod policy;
mod recovering;
mod replacing;
mod retiring;
mod secrets;
mod strategies;
mod trust;
mod whereabouts;
mod world;

use planner::fleet::RolloutState;
use protocol::reason::Reason;
use protocol::report::Phase;

use super::heard::NotTaken;
use super::requests::Refused;
use super::*;
use world::World;

#[test]
fn a_deploy_goes_from_node_to_node_and_succeeds() {
    let mut world = World::with_nodes(&["a", "b"]);
    world.deploy("web", "v1").unwrap();
    assert_eq!(world.assigned("a"), "web:1x1");
    assert_eq!(world.assigned("b"), "", "b waits for its turn");
    world.runs("a");
    assert_eq!(world.assigned("b"), "web:1x1");
    world.runs("b");
    assert_eq!(world.rollout("web").state, "succeeded");
}

#[test]
fn a_node_that_goes_back_takes_the_moved_ones_back_and_the_evidence_is_kept() {
    let mut world = World::with_nodes(&["a", "b", "c"]);
    world.deploy("web", "v1").unwrap();
    world.all_run();
    world.deploy("web", "v2").unwrap();
    world.runs("a");
    assert_eq!(world.assigned("b"), "web:2x1");
    world.gives_up("b", "web", Reason::NotReadyInTime);
    for node in ["a", "b", "c"] {
        assert_eq!(world.assigned(node), "web:1x1", "{node} is told of the old release");
    }
    world.all_run();
    let rollout = world.rollout("web");
    assert_eq!(rollout.state, "rolled_back");
    assert_eq!(rollout.reason, Some(Reason::NotReadyInTime));
    assert_eq!(rollout.from_revision, Some(1));
    let failure = &rollout.failures[0];
    assert_eq!(failure.node.as_str(), "b");
    assert_eq!(failure.evidence.as_ref().unwrap().probe.as_deref(), Some("503"));
    let of_b = rollout.nodes.iter().find(|node| node.name.as_str() == "b").unwrap();
    assert_eq!((of_b.state.as_str(), of_b.reason), ("reverted", Some(Reason::NotReadyInTime)));
}

#[test]
fn a_first_release_that_fails_has_nothing_to_go_back_to() {
    let mut world = World::with_nodes(&["a"]);
    world.deploy("web", "v1").unwrap();
    world.gives_up("a", "web", Reason::CrashLoop);
    assert_eq!(world.rollout("web").state, "failed");
}

#[test]
fn undo_goes_to_the_one_before_and_never_to_one_that_failed() {
    let mut world = World::with_nodes(&["a"]);
    for version in ["v1", "v2"] {
        world.deploy("web", version).unwrap();
        world.all_run();
    }
    world.deploy("web", "v3").unwrap();
    world.gives_up("a", "web", Reason::CrashLoop);
    world.all_run();
    let undone = world.undo("web", None).unwrap();
    world.all_run();
    assert_eq!(undone.revision, 4);
    assert_eq!(world.rollout("web").image, "r.io/web:v1");
    world.undo("web", Some(3)).unwrap();
    let again = world.state.services[&world::id("web")].revisions[&5].clone();
    assert_eq!(again.attempt, 2, "a release that failed is tried again only as a further attempt");
}

#[test]
fn what_failed_while_it_soaked_is_never_gone_back_to() {
    let mut world = World::with_nodes(&["a", "b"]);
    world.deploy("web", "v1").unwrap();
    world.all_run();
    world.deploy_as("v2", "soak = \"1m\"").unwrap();
    world.all_run();
    world.gives_up("a", "web", Reason::FailedInSoak);
    assert_eq!(world.assigned("b"), "web:1x1", "the other node is told back");
    world.all_run();
    assert_eq!(world.rollout("web").state, "rolled_back");
    assert_eq!(world.deploy("web", "v3").unwrap().from_revision, Some(1));
    world.restart();
    assert_eq!(world.rollout("web").from_revision, Some(1));
}

#[test]
fn undo_without_an_earlier_success_is_refused() {
    let mut world = World::with_nodes(&["a"]);
    world.deploy("web", "v1").unwrap();
    world.all_run();
    assert!(matches!(world.undo("web", None), Err(Refused::NothingToUndo(_))));
    assert!(matches!(world.undo("web", Some(9)), Err(Refused::NoRevision { .. })));
    assert!(matches!(world.undo("db", None), Err(Refused::NoService(_))));
}

#[test]
fn the_same_content_again_changes_nothing() {
    let mut world = World::with_nodes(&["a"]);
    world.deploy("web", "v1").unwrap();
    world.all_run();
    let generation = world.generation("a");
    assert!(world.deploy("web", "v1").unwrap().unchanged);
    assert_eq!(world.generation("a"), generation, "no manifest is made for nothing");
}

#[test]
fn a_newer_deploy_supersedes_the_one_under_way() {
    let mut world = World::with_nodes(&["a", "b"]);
    world.deploy("web", "v1").unwrap();
    world.deploy("web", "v2").unwrap();
    assert_eq!(world.revision_state("web", 1), RolloutState::Superseded);
    world.all_run();
    assert_eq!(world.rollout("web").revision, 2);
    assert_eq!(world.rollout("web").state, "succeeded");
}

#[test]
fn a_node_that_is_away_is_pending_and_gets_its_manifest_when_it_returns() {
    let mut world = World::with_nodes(&["a", "b"]);
    world.goes_away("b");
    world.deploy("web", "v1").unwrap();
    world.runs("a");
    let rollout = world.rollout("web");
    assert_eq!(rollout.state, "succeeded");
    assert_eq!(rollout.pending.len(), 1);
    let ps = world.services();
    assert_eq!((ps.ready, ps.desired), (1, 2));
    assert!(ps.why.contains("1 lost with b"), "{}", ps.why);
    let published = world.says_hello("b");
    assert!(published.contains(&world.node_id("b")));
}

#[test]
fn silence_makes_a_node_offline_and_any_word_makes_it_online() {
    let mut world = World::with_nodes(&["a"]);
    world.passes(SILENCE_MS - 1);
    assert!(world.is_online("a"));
    world.passes(1);
    assert!(!world.is_online("a"));
    world.says_load("a");
    assert!(world.is_online("a"));
}

#[test]
fn a_node_whose_link_is_metered_may_be_silent_for_longer() {
    let mut world = World::with_nodes(&["a"]);
    let id = world.node_id("a");
    world.state.nodes.get_mut(&id).unwrap().record.metered = true;
    world.passes(METERED_SILENCE_MS - 1);
    assert!(world.is_online("a"));
    world.passes(1);
    assert!(!world.is_online("a"));
}

#[test]
fn a_second_board_that_claims_a_name_gets_a_number() {
    let mut world = World::with_nodes(&["opi"]);
    world.joins_as("other", "opi");
    world.joins_as("third", "opi");
    let names: Vec<String> =
        world.state.show_nodes(None, world.at).nodes.iter().map(|n| n.name.to_string()).collect();
    assert_eq!(names, ["opi", "opi-2", "opi-3"]);
}

#[test]
fn messages_that_are_not_the_nodes_own_are_not_taken() {
    let mut world = World::with_nodes(&["a", "b"]);
    let report = world.report_bytes("b", Phase::Running);
    let (a, b) = (world.node_id("a"), world.node_id("b"));
    let at = world.at;
    let result = world.state.heard(&a, protocol::topic::Up::Report, &report, at);
    assert!(matches!(result, Err(NotTaken::Rejected(_))), "{result:?}");
    world.state.heard(&b, protocol::topic::Up::Report, &report, at).unwrap();
    let hello = world.hello_bytes("a");
    let result = world.state.heard(&b, protocol::topic::Up::Hello, &hello, at);
    assert_eq!(result, Err(NotTaken::ForeignTopic));
    let mut broken = hello;
    broken[40] ^= 1;
    assert!(world.state.heard(&a, protocol::topic::Up::Hello, &broken, at).is_err());
}

#[test]
fn a_release_that_somebody_else_signed_is_refused() {
    let mut world = World::with_nodes(&["a"]);
    let envelope = world.sign_with_foreign_key("web", "v1");
    let refused = world.deploy_envelope(envelope).unwrap_err();
    assert_eq!(refused.code(), "release_refused");
    let old = world.sign("web", "v1");
    world.deploy("web", "v2").unwrap();
    world.all_run();
    assert_eq!(world.deploy_envelope(old).unwrap_err().code(), "old_counter");
}

#[test]
fn two_services_cannot_open_one_port_on_a_node() {
    let mut world = World::with_nodes(&["a"]);
    world.deploy("web", "v1").unwrap();
    world.all_run();
    let refused = world.deploy("shop", "v1").unwrap_err();
    assert_eq!(refused.to_string(), "port 8080 is used by `web` on a; choose another `listen`");
}

#[test]
fn scale_wins_over_the_file_until_it_is_reset() {
    let mut world = World::with_nodes(&["a", "b"]);
    world.deploy("web", "v1").unwrap();
    assert!(matches!(world.scale("web", Some(3)), Err(Refused::Busy { .. })));
    world.all_run();
    world.scale("web", Some(3)).unwrap();
    assert_eq!(world.assigned("a"), "web:1x3");
    world.deploy("web", "v2").unwrap();
    world.all_run();
    assert_eq!(world.assigned("b"), "web:2x3");
    world.scale("web", None).unwrap();
    assert_eq!(world.assigned("b"), "web:2x1");
    assert!(!world.services().settled, "three still run");
    world.all_run();
    assert!(world.services().settled);
}

#[test]
fn a_removed_service_is_named_until_every_node_has_confirmed() {
    let mut world = World::with_nodes(&["a", "b"]);
    world.deploy("web", "v1").unwrap();
    world.all_run();
    world.goes_away("b");
    let id = world::id("web");
    let at = world.at;
    assert_eq!(world.state.remove(&id, at).unwrap(), Vec::<String>::new());
    world.settle();
    assert_eq!(world.manifest("a").removed.len(), 1);
    let removal = world.state.show_removal(&id);
    assert_eq!((removal.waiting.len(), removal.offline.len()), (1, 1));
    world.runs("a");
    let removal = world.state.show_removal(&id);
    assert_eq!((removal.waiting.len(), removal.offline.len()), (0, 1));
    assert!(world.state.releases.is_empty(), "nothing names the release any more");
}

#[test]
fn a_new_node_takes_what_runs_once_per_node_and_nothing_moves() {
    let mut world = World::with_nodes(&["a"]);
    world.deploy("web", "v1").unwrap();
    world.all_run();
    let generation = world.generation("a");
    world.joins_as("b", "b");
    assert_eq!(world.assigned("b"), "web:1x1");
    assert_eq!(world.generation("a"), generation);
}

#[test]
fn after_a_restart_everything_is_published_again_and_the_rollout_goes_on() {
    let mut world = World::with_nodes(&["a", "b"]);
    world.deploy("web", "v1").unwrap();
    world.runs("a");
    let published = world.restart();
    assert_eq!(published.len(), 2, "every node that has a manifest");
    world.runs("b");
    assert_eq!(world.rollout("web").state, "succeeded");
}

#[test]
fn a_node_that_refuses_its_manifest_says_so_in_the_rollout() {
    let mut world = World::with_nodes(&["a"]);
    world.deploy("web", "v1").unwrap();
    world.refuses("a", "bad_signature");
    let rollout = world.rollout("web");
    assert_eq!(rollout.nodes[0].reason, Some(Reason::ManifestRefused));
    let message = rollout.nodes[0].message.as_deref().unwrap();
    assert_eq!(message, "holds manifest 0 and not 1; refused so far: bad_signature ×1");
}

#[test]
fn a_manifest_that_would_not_fit_is_refused_by_plan_and_deploy() {
    let mut world = World::with_nodes(&["a"]);
    let large = "x".repeat(200 * 1024);
    let refused = world.plan("web", &large).unwrap_err();
    assert_eq!(refused.code(), "manifest_too_large");
    assert_eq!(world.deploy("web", &large).unwrap_err().code(), "manifest_too_large");
}

#[test]
fn a_plan_says_what_would_change_and_changes_nothing() {
    let mut world = World::with_nodes(&["a"]);
    let plan = world.plan("web", "v1").unwrap();
    assert!(plan.anything && plan.nodes[0].action == "create");
    world.deploy("web", "v1").unwrap();
    world.all_run();
    assert!(!world.plan("web", "v1").unwrap().anything);
    let plan = world.plan("web", "v2").unwrap();
    let paths: Vec<&str> = plan.changes.iter().map(|change| change.path.as_str()).collect();
    assert_eq!(paths, ["image", "image.pinned"]);
    assert_eq!(plan.nodes[0].action, "replace");
}

#[test]
fn an_agent_that_starts_anew_under_a_clock_that_went_back_is_heard_after_its_hello() {
    let mut world = World::with_nodes(&["a"]);
    world.deploy("web", "v1").unwrap();
    let (node, before, after) =
        (world.node_id("a"), world.report_since("a", 1_000), world.report_since("a", 10));
    let (up, at) = (protocol::topic::Up::Report, world.at);
    world.state.heard(&node, up, &before, at).unwrap();
    assert_eq!(world.state.heard(&node, up, &after, at), Err(NotTaken::Old));
    let _ = world.says_hello("a");
    world.state.heard(&node, up, &after, at).unwrap();
    assert_eq!(world.state.heard(&node, up, &after, at), Ok(()), "said twice by the same");
    world.deploy("web", "v2").unwrap();
}
