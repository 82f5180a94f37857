//! A board in the place of another, dead or alive.

use protocol::id::NodeId;
use protocol::join::Offer;

use super::super::requests::NewToken;
use super::super::views::EventFilter;
use super::members::{code, join, token, wish};
use super::world::id;
use super::*;

const DB: &str = "name = \"db\"\nreplicas = 1\n[placement]\nnodes = [\"b\"]\n[[volumes]]\nname = \"data\"\npath = \"/data\"\n";
/// The key of the third board of a test world.
const THIRD: u8 = 102;

/// `web` on both boards, `db` with its data on `b`.
fn world() -> World {
    let mut world = World::with_nodes(&["a", "b"]);
    world.deploy("web", "v1").unwrap();
    world.all_run();
    world.deploy_file(DB, "v1");
    world.all_run();
    world
}

fn names(world: &World) -> Vec<(String, NodeId)> {
    let shown = world.state.show_nodes(None, world.at).nodes;
    shown.into_iter().map(|node| (node.name.to_string(), node.id)).collect()
}

fn ask(world: &mut World) -> Offer {
    let offer = Offer::from_random([9; 32]);
    let wish = NewToken { ttl_ms: 60_000, ..NewToken::default() };
    let (shown, _) = world.state.replace_by_token("b", &wish, &offer, world.at).unwrap();
    assert_eq!(shown.id, world.node_id("b"));
    offer
}

#[test]
fn what_a_replacement_would_do_is_shown_and_changes_nothing() {
    let mut world = world();
    let shown = world.state.show_replacement("b").unwrap();
    let services: Vec<&str> = shown.services.iter().map(|service| service.as_str()).collect();
    assert_eq!(services, ["db", "web"]);
    let [lost] = &shown.lost[..] else { panic!("{:?}", shown.lost) };
    let volume = format!("pith-{}-db-data", world.node_id("b").short());
    assert_eq!((&lost.volume, lost.exclusive, shown.online), (&volume, true, true));
    assert!(world.settle().is_empty());
    assert_eq!(world.state.show_replacement("nobody").unwrap_err().code(), "no_node");
}

#[test]
fn a_token_stops_nothing_and_whoever_joins_with_it_is_the_old_board_from_then_on() {
    let mut world = world();
    let labels = [("zone".to_owned(), "edge".to_owned())];
    world.state.nodes.get_mut(&world.node_id("b")).unwrap().record.labels.extend(labels);
    let before = world.assigned("b");
    let old = world.node_id("b");
    let offer = ask(&mut world);
    world.settle();
    assert_eq!((world.assigned("b"), world.is_online("b")), (before.clone(), true));
    // Its answer may be lost: the second time it is the same.
    for _ in 0..2 {
        assert_eq!(code(&join(&mut world, THIRD, &offer)), "approved");
    }
    assert_eq!(world.state.take_effects(world.at).revoke, [old.clone()].into());
    world.joins_as("new", "orangepi");
    let new = world.node_id("new");
    assert_eq!(
        names(&world),
        [("a".to_owned(), world.node_id("a")), ("b".to_owned(), new.clone())]
    );
    assert_eq!(world.assigned("new"), before);
    assert_eq!(world.state.nodes[&new].record.labels["zone"], "edge");
    assert_eq!(code(&join(&mut world, THIRD + 1, &offer)), "token_used");
    world.keys.remove("b");
    world.all_run();
    world.deploy("web", "v2").unwrap();
    world.all_run();
    assert_eq!(world.assigned("new"), "db:1x1 web:2x1");
}

#[test]
fn a_dead_board_is_replaced_and_the_coordinator_may_start_anew_at_any_moment() {
    let mut world = world();
    world.goes_away("b");
    let before = world.assigned("b");
    let offer = ask(&mut world);
    world.settle();
    world.restart();
    assert_eq!(code(&join(&mut world, THIRD, &offer)), "approved");
    world.settle();
    world.restart();
    world.joins_as("new", "orangepi");
    world.keys.remove("b");
    assert_eq!(world.assigned("new"), before);
    world.restart();
    let _ = world.says_hello("new");
    assert_eq!(names(&world)[1], ("b".to_owned(), world.node_id("new")));
    assert_eq!(world.assigned("new"), before);
}

#[test]
fn a_node_that_has_joined_takes_the_place_too() {
    let mut world = world();
    world.joins_as("new", "c");
    world.all_run();
    assert_eq!(world.assigned("new"), "web:1x1");
    let (old, new) = (world.node_id("b"), world.node_id("new"));
    let shown = world.state.replace_by_node("b", "c", world.at).unwrap();
    assert_eq!((shown.node, shown.name.as_str()), (Some(new.clone()), "b"));
    assert_eq!(world.state.members[&old].standing, crate::state::records::Standing::Revoked);
    world.settle();
    world.keys.remove("b");
    assert_eq!(world.assigned("new"), "db:1x1 web:1x1");
    // It still calls itself as before.
    let _ = world.says_hello("new");
    world.restart();
    let _ = world.says_hello("new");
    let known: Vec<String> = names(&world).into_iter().map(|(name, _)| name).collect();
    assert_eq!(known, ["a", "b"]);
    world.all_run();
    let placed = &world.state.services[&id("web")].revisions[&1].placement;
    let placed: Vec<&str> = placed.keys().map(|name| name.as_str()).collect();
    assert_eq!(placed, ["a", "b"]);
    world.deploy("web", "v2").unwrap();
    world.all_run();
    assert_eq!(world.assigned("new"), "db:1x1 web:2x1");
    assert_eq!(world.revision_state("web", 2), RolloutState::Succeeded);
}

#[test]
fn nobody_takes_their_own_place_or_one_elsewhere_or_in_the_middle_of_a_rollout() {
    let mut world = world();
    world.joins_in("far", "staging");
    let refused = |world: &mut World, by: &str| {
        let code = world.state.replace_by_node("b", by, world.at).unwrap_err().code();
        assert!(world.state.is_admitted(&world.node_id("b")), "nothing was changed");
        code
    };
    assert_eq!(refused(&mut world, "b"), "cannot_replace");
    assert_eq!(refused(&mut world, "far"), "cannot_replace");
    assert_eq!(refused(&mut world, "nobody"), "no_node");
    world.joins_as("new", "c");
    world.deploy("web", "v2").unwrap();
    assert_eq!(refused(&mut world, "c"), "busy");
    let offer = token(&mut world, 7, &wish());
    assert_eq!(code(&join(&mut world, 60, &offer)), "pending");
    assert_eq!(refused(&mut world, "opi-60"), "no_node");
}

#[test]
fn what_the_new_board_does_not_allow_is_named_and_stays_away() {
    let mut world = World::with_nodes(&["a", "b"]);
    world.has_policy("b", "host_paths = [\"/mnt\"]");
    let files =
        "name = \"files\"\nreplicas = 1\n[[volumes]]\nhost = \"/mnt/files\"\npath = \"/files\"\n";
    world.deploy_file(files, "v1");
    world.all_run();
    assert_eq!(world.assigned("b"), "files:1x1");
    let offer = ask(&mut world);
    assert_eq!(code(&join(&mut world, THIRD, &offer)), "approved");
    world.settle();
    world.joins_as("new", "orangepi");
    assert_eq!(world.assigned("new"), "");
    let events =
        world.state.show_events(&EventFilter { limit: 50, ..EventFilter::default() }).events;
    let said = |event: &Happened| event.message.contains("does not come to the new b");
    assert!(events.iter().any(said), "{events:?}");
}
