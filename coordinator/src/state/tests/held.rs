//! A service that root of a node holds: gone around, said everywhere, fought nowhere.

use protocol::report::{Detail, HeldReport, Report};

use super::*;

/// The node acknowledges its newest manifest and stays at revision 1.
fn holds(world: &mut World, handle: &str) {
    let mut report = world.report(handle, Phase::Held);
    hold(&mut report);
    world.says_report(handle, &report);
}

fn hold(report: &mut Report) {
    for of_it in &mut report.services {
        of_it.updated = 0;
        of_it.detail = Some(Detail {
            reason: Reason::HeldLocally,
            message: "held locally by root: disk".to_owned(),
            again_in_ms: None,
        });
        of_it.held = Some(HeldReport {
            by: "root".to_owned(),
            since_s: 7,
            reason: Some("di\u{1b}sk".to_owned()),
            revision: 1,
            release: of_it.instances[0].release.clone(),
        });
    }
}

/// `v1` everywhere, and `v2` where nobody holds it.
fn rolled_past_b() -> World {
    let mut world = World::with_nodes(&["a", "b"]);
    world.deploy("web", "v1").unwrap();
    world.all_run();
    world.deploy("web", "v2").unwrap();
    world.runs("a");
    holds(&mut world, "b");
    world
}

#[test]
fn a_rollout_goes_past_it_and_says_so_everywhere() {
    let mut world = rolled_past_b();
    let rollout = world.rollout("web");
    assert_eq!(rollout.state, "succeeded");
    assert_eq!(rollout.message, "every other node runs it, 1 held locally");
    assert_eq!(rollout.pending, ["b".parse().unwrap()]);
    let of_b = rollout.nodes.iter().find(|node| node.name.as_str() == "b").unwrap();
    assert_eq!((of_b.state.as_str(), of_b.reason), ("held_locally", Some(Reason::HeldLocally)));
    let closing = crate::render::rolled_out(&rollout);
    assert!(
        closing.contains("1 pending: b held locally, takes it when released there"),
        "{closing}"
    );
    let services = world.services();
    assert_eq!(services.why, "b: held locally by root: disk");
    assert!(services.settled, "nobody waits for what root alone ends");
    let held = services.nodes.iter().find_map(|on| on.held.as_ref()).unwrap();
    assert_eq!(held.reason.as_deref(), Some("di sk"), "safe on a terminal");
    assert_eq!(world.assigned("b"), "web:2x1", "it takes that once it is released");

    world.runs("b");
    let rollout = world.rollout("web");
    assert_eq!((rollout.pending.len(), rollout.state.as_str()), (0, "succeeded"));
    assert_eq!(world.services().why, "");
}

#[test]
fn a_node_that_is_taken_back_by_hand_after_its_rollout_is_shown_as_held() {
    let mut world = World::with_nodes(&["a"]);
    for version in ["v1", "v2"] {
        world.deploy("web", version).unwrap();
        world.all_run();
    }
    holds(&mut world, "a");
    let rollout = world.rollout("web");
    assert_eq!((rollout.state.as_str(), rollout.pending.len()), ("succeeded", 1));
    let of_a = &rollout.nodes[0];
    assert_eq!((of_a.state.as_str(), of_a.reason), ("held_locally", Some(Reason::HeldLocally)));
    assert!(of_a.message.as_ref().is_some_and(|text| text.contains("disk")), "{of_a:?}");
    world.runs("a");
    assert_eq!(world.rollout("web").nodes[0].state, "updated");
}

#[test]
fn a_restart_of_the_coordinator_changes_nothing_about_it() {
    let mut world = rolled_past_b();
    world.restart();
    holds(&mut world, "b");
    let rollout = world.rollout("web");
    assert_eq!((rollout.pending.len(), rollout.state.as_str()), (1, "succeeded"));
}

#[test]
fn a_service_that_is_removed_is_not_waited_for_where_it_is_held() {
    let mut world = rolled_past_b();
    let report = world.state.nodes[&world.node_id("b")].record.report.clone().unwrap();
    world.state.remove(&world::id("web"), world.at).unwrap();
    world.settle();
    let mut gone = world.report("a", Phase::Running);
    gone.services.clear();
    world.says_report("a", &gone);
    let mut kept = world.report("b", Phase::Held);
    kept.services = report.services;
    world.says_report("b", &kept);
    let removal = world.state.show_removal(&world::id("web"));
    assert_eq!((removal.waiting.len(), removal.held), (0, vec!["b".parse().unwrap()]));
}
