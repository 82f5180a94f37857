//! A service that root of the node holds, or takes back by hand.

use protocol::report::Phase;

use super::wishes::{name, spec};
use super::world::{App, World};
use crate::node::{CannotHold, Held, Routing};

/// `v1`, then `v2` in its place.
fn two_releases() -> World {
    let mut world = World::new();
    for version in [1, 2] {
        world.want(&spec("web"), version, App::Ready(100), 2, 1);
        world.run(2_000);
        assert_eq!(world.phase("web"), Phase::Running, "{:#?}", world.told);
    }
    world.told.clear();
    world
}

fn hold(world: &mut World) {
    let held = Held::at_present(&name("web"), &world.wanted, &world.history).unwrap();
    world.wanted.held.insert(name("web"), held);
}

fn undo(world: &mut World) -> Result<(), CannotHold> {
    let held = Held::before(&name("web"), &world.wanted, &world.history)?;
    world.wanted.held.insert(name("web"), held);
    Ok(())
}

fn up(world: &World) -> Vec<&str> {
    let mut up: Vec<&str> =
        world.instances("web").iter().filter(|i| i.is_up()).map(|i| i.name.as_str()).collect();
    up.sort_unstable();
    up
}

#[test]
fn what_is_held_stays_whatever_manifests_say_and_is_healed() {
    let mut world = two_releases();
    hold(&mut world);
    world.want(&spec("web"), 3, App::Ready(100), 4, 1);
    world.run(2_000);
    assert!(world.told.is_empty(), "{:#?}", world.told);
    assert_eq!(up(&world), ["v2-0", "v2-1"]);
    // A manifest that takes it off the node changes nothing either.
    let assignment = world.wanted.assignments.remove(&name("web")).unwrap();
    world.run(2_000);
    assert!(world.told.is_empty(), "{:#?}", world.told);
    world.wanted.assignments.insert(name("web"), assignment);
    world.kill_agent();
    world.run(2_000);
    assert_eq!((world.phase("web"), up(&world)), (Phase::Running, vec!["v2-0", "v2-1"]));
    world.wanted.held.clear();
    world.run(5_000);
    assert_eq!(up(&world), ["v3-0", "v3-1", "v3-2", "v3-3"], "the newest manifest counts again");
}

#[test]
fn going_back_by_hand_never_leaves_the_route_empty_and_stays() {
    let mut world = two_releases();
    undo(&mut world).unwrap();
    for _ in 0..100 {
        world.tick(50);
        let serves = world.instances("web").iter().any(|i| i.routing == Routing::Active);
        assert!(serves, "an outage: {:#?}", world.told);
    }
    assert_eq!((world.phase("web"), up(&world)), (Phase::Running, vec!["v1-0", "v1-1"]));
    assert!(!world.told.iter().any(|told| told.starts_with("pull")), "{:#?}", world.told);
    // Asked again it goes forward again: that is what ran before.
    undo(&mut world).unwrap();
    world.run(5_000);
    assert_eq!((world.phase("web"), up(&world)), (Phase::Running, vec!["v2-0", "v2-1"]));
}

#[test]
fn what_cannot_be_held_or_gone_back_to_says_why() {
    let mut world = World::new();
    let web = name("web");
    let at_present = |world: &World| Held::at_present(&web, &world.wanted, &world.history);
    assert_eq!(at_present(&world), Err(CannotHold::Unknown(web.clone())));
    world.want(&spec("web"), 1, App::Ready(100), 1, 1);
    world.run(2_000);
    assert_eq!(undo(&mut world), Err(CannotHold::NothingBefore(web.clone())));
    world.wanted.assignments.clear();
    assert_eq!(at_present(&world), Err(CannotHold::BeingRemoved(web.clone())));

    let mut world = two_releases();
    world.wanted.floors.insert(web.clone(), 2);
    assert_eq!(undo(&mut world), Err(CannotHold::Retired(web.clone())));

    // What went back by itself runs the release before already.
    let mut world = two_releases();
    world.want(&spec("web"), 3, App::CannotStart, 2, 1);
    world.run(60_000);
    assert_eq!(world.phase("web"), Phase::RolledBack, "{:#?}", world.told);
    assert_eq!(undo(&mut world), Err(CannotHold::NothingBefore(web)));
}

#[test]
fn a_floor_that_rises_ends_a_way_back_that_has_not_begun() {
    let mut world = two_releases();
    undo(&mut world).unwrap();
    world.wanted.floors.insert(name("web"), 2);
    world.run(5_000);
    assert_eq!((world.phase("web"), up(&world)), (Phase::Running, vec!["v2-0", "v2-1"]));
}
