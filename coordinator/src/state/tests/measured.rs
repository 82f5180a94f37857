//! What `/metrics` is made of.

use protocol::id::CommandId;
use protocol::reason::Reason;
use protocol::topic::Up;

use super::super::measured::Measured;
use super::world::World;

fn measured(world: &World) -> Measured {
    world.state.measured(world.at)
}

#[test]
fn rollouts_are_counted_as_they_end_and_instances_where_they_are_heard_of() {
    let mut world = World::with_nodes(&["a", "b"]);
    assert_eq!(measured(&world).rollouts["succeeded"], 0, "none is known to be none");
    world.deploy("web", "v1").unwrap();
    world.all_run();
    world.deploy("web", "v2").unwrap();
    world.runs("a");
    let service = &measured(&world).services[0];
    assert_eq!((service.updated, service.shown.rollout.as_str()), (1, "in_progress"));
    world.runs("b");
    assert_eq!(measured(&world).services[0].updated, 2);
    world.deploy("web", "v3").unwrap();
    world.gives_up("a", "web", Reason::CrashLoop);
    world.all_run();
    let rollouts = measured(&world).rollouts;
    assert_eq!((rollouts["succeeded"], rollouts["rolled_back"], rollouts["failed"]), (2, 1, 0));
    world.goes_away("b");
    let after = measured(&world);
    let online: Vec<(&str, bool)> =
        after.nodes.iter().map(|node| (node.shown.name.as_str(), node.online)).collect();
    assert_eq!(online, [("a", true), ("b", false)]);
}

#[test]
fn a_metered_link_is_not_spent_on_a_scraper() {
    let mut world = World::with_nodes(&["a"]);
    let node = world.node_id("a");
    world.state.nodes.get_mut(&node).unwrap().record.metered = true;
    let mut new_id = || Some(CommandId::from_random([7; 16]));
    let at = world.at;
    world.state.watch(Some(60_000), &mut new_id, at);
    assert_eq!(world.state.take_effects(at).commands.len(), 0);
    world.state.watch(None, &mut new_id, at);
    assert_eq!(world.state.take_effects(at).commands.len(), 1, "a person who looks is worth it");
}

/// Fifty years ahead, fifty behind, and right at last: what is shown is by the coordinator's own clock.
#[test]
fn a_node_whose_clock_is_fifty_years_off_is_shown_and_heard_like_any_other() {
    const YEARS_MS: u64 = 50 * 365 * 24 * 60 * 60 * 1000;
    let mut world = World::with_nodes(&["a"]);
    world.deploy("web", "v1").unwrap();
    let now_ms = world.at.unix_ms;
    for (number, started_ms) in [now_ms + YEARS_MS, 0, now_ms].into_iter().enumerate() {
        // A process that starts says hello before anything else.
        world.says_hello_from("a", &format!("boot-{number}"));
        let report = world.report_since("a", started_ms);
        world.hear("a", Up::Report, &report);
        let heard = measured(&world);
        assert_eq!(heard.services[0].shown.ready, 1, "at {started_ms}");
        assert_eq!(heard.nodes[0].shown.heard_ms, now_ms);
        let live = world.state.show_live(world.at);
        assert!(live.events.iter().all(|event| event.at_ms == now_ms), "{:?}", live.events);
    }
    assert_eq!(world.rollout("web").state, "succeeded");
}
