//! Which other nodes a node's manifest names, and when it gets a new one for their sake.

use super::world::World;
use protocol::id::NodeName;

/// The most that a change waits before manifests say it.
const SOON_MS: u64 = 1_000;

fn on(service: &str, nodes: &str, more: &str) -> String {
    format!(
        "name = \"{service}\"\nimage = \"r.io/x:1\"\nper_node = 1\n{more}\n[[ports]]\ntarget = 8080\n\
         [placement]\nnodes = [{nodes}]\n"
    )
}

/// `gateway` on a calls `world` on b and c.
fn world() -> World {
    let mut world = World::with_nodes(&["a", "b", "c", "idle"]);
    for (k, node) in ["a", "b", "c", "idle"].into_iter().enumerate() {
        world.is_reached_at(node, &format!("10.0.0.{}:7484", k + 1));
    }
    world.deploy_file(&on("world", "\"b\", \"c\"", ""), "v1");
    world.all_run();
    world.deploy_file(&on("gateway", "\"a\"", "uses = [\"world\"]"), "v1");
    world.all_run();
    world.passes(SOON_MS);
    world.all_run();
    world
}

/// `world: b c; callers: 10.0.0.1` as a node's manifest says it.
fn told(world: &World, node: &str) -> String {
    let peers = world.manifest(node).peers;
    let nodes = |nodes: std::collections::BTreeSet<NodeName>| {
        nodes.iter().map(NodeName::as_str).collect::<Vec<_>>().join(" ")
    };
    let services =
        peers.services.into_iter().map(|(name, at)| format!("{name}: {}", nodes(at.nodes)));
    // By address: ids are as the keys of a test happen to be.
    let mut callers: Vec<String> = peers.callers.values().map(ToString::to_string).collect();
    callers.sort();
    let callers = format!("callers: {}", callers.join(" "));
    services.chain([callers]).collect::<Vec<_>>().join("; ")
}

fn generations(world: &World) -> Vec<u64> {
    ["a", "b", "c"].map(|node| world.generation(node)).to_vec()
}

#[test]
fn a_caller_and_those_it_calls_know_each_other() {
    let world = world();
    assert_eq!(told(&world, "a"), "world: b c; callers: ");
    assert_eq!(told(&world, "b"), "world: c; callers: 10.0.0.1 10.0.0.3");
    assert_eq!(told(&world, "c"), "world: b; callers: 10.0.0.1 10.0.0.2");
    let peers = world.manifest("a").peers;
    let b = &peers.nodes[&"b".parse().unwrap()];
    assert_eq!((&b.id, b.address.to_string()), (&world.node_id("b"), "10.0.0.2:7484".to_owned()));
    let port = &peers.services[&"world".parse().unwrap()].ports[0];
    assert_eq!((port.number, port.hold.0), (8080, 30_000));
    let of_idle = world.state.manifest(&world.node_id("idle"));
    assert!(of_idle.is_none(), "a node without services gets no manifest for others' sake");
}

#[test]
fn nothing_is_renewed_without_a_change_nor_by_an_update() {
    let mut world = world();
    let before = generations(&world);
    for _ in 0..5 {
        world.passes(SOON_MS);
        let _ = world.says_hello("b");
        world.all_run();
    }
    assert_eq!(generations(&world), before);
    world.deploy_file(&on("world", "\"b\", \"c\"", ""), "v2");
    world.all_run();
    world.passes(SOON_MS);
    world.all_run();
    let after: Vec<u64> =
        before.iter().zip([0, 1, 1]).map(|(before, more)| before + more).collect();
    assert_eq!(generations(&world), after, "an update says nothing new to the caller");
}

#[test]
fn an_address_that_changes_reaches_those_concerned_within_a_second() {
    let mut world = world();
    let before = generations(&world);
    world.is_reached_at("c", "10.0.0.33:7484");
    world.passes(SOON_MS);
    let nodes = world.manifest("a").peers.nodes;
    assert_eq!(nodes[&"c".parse().unwrap()].address, "10.0.0.33:7484".parse().unwrap());
    assert_eq!(told(&world, "b"), "world: c; callers: 10.0.0.1 10.0.0.33");
    assert_eq!(world.generation("c"), before[2], "it knows its own address");
}

#[test]
fn a_node_that_is_away_stays_named() {
    let mut world = world();
    let before = generations(&world);
    world.goes_away("c");
    world.passes(SOON_MS);
    assert_eq!(generations(&world), before);
}

#[test]
fn a_node_that_loses_a_service_is_named_until_nothing_of_it_is_left() {
    let mut world = world();
    world.deploy_file(&on("world", "\"b\"", ""), "v2");
    world.runs("b");
    assert_eq!(world.assigned("c"), "", "c must not run it any more");
    world.passes(SOON_MS);
    assert_eq!(told(&world, "a"), "world: b c; callers: ", "requests may be in flight there");
    assert!(told(&world, "c").ends_with("callers: 10.0.0.1 10.0.0.2"));
    world.runs("c");
    world.passes(SOON_MS);
    assert_eq!(told(&world, "a"), "world: b; callers: ");
}

#[test]
fn a_service_that_ends_may_call_until_it_has_ended() {
    let mut world = world();
    let id = super::world::id("gateway");
    world.state.remove(&id, world.at).unwrap();
    world.settle();
    assert_eq!(told(&world, "a"), "world: b c; callers: ");
    world.passes(SOON_MS);
    assert_eq!(told(&world, "b"), "world: c; callers: 10.0.0.1 10.0.0.3");
    world.runs("a");
    world.passes(SOON_MS);
    assert_eq!(told(&world, "a"), "callers: ");
    assert_eq!(told(&world, "b"), "world: c; callers: 10.0.0.3");
}

#[test]
fn a_restart_of_the_coordinator_renews_nothing() {
    let mut world = world();
    let before = generations(&world);
    let _ = world.restart();
    world.passes(SOON_MS);
    assert_eq!(generations(&world), before);
}
