//! A security floor: nothing goes back below it, and nothing is stopped by it.

use protocol::reason::Reason;
use protocol::report::Phase;

use super::wishes::{name, spec};
use super::world::{App, World};
use crate::Now;
use crate::node::{ImageState, ImageStep};

fn retire(world: &mut World, below: u64) {
    world.wanted.floors.insert(name("web"), below);
    world.forget_retired();
}

/// `v1`, then `v2` in its place.
fn two_releases() -> World {
    let mut world = World::new();
    world.want(&spec("web"), 1, App::Ready(100), 1, 1);
    world.run(1_000);
    world.want(&spec("web"), 2, App::Ready(100), 1, 1);
    world.run(1_000);
    assert_eq!(world.phase("web"), Phase::Running, "{:#?}", world.told);
    world.told.clear();
    world
}

fn up(world: &World) -> Vec<&str> {
    let up = world.instances("web").iter().filter(|i| i.is_up());
    up.map(|i| i.name.as_str()).collect()
}

#[test]
fn what_runs_goes_on_whatever_is_retired() {
    let mut world = two_releases();
    retire(&mut world, 9);
    world.run(5_000);
    assert_eq!((world.phase("web"), up(&world)), (Phase::Running, vec!["v2-0"]));
    world.kill_agent();
    world.run(5_000);
    assert_eq!((world.phase("web"), up(&world)), (Phase::Running, vec!["v2-0"]));
}

#[test]
fn a_bad_release_goes_back_to_one_that_reaches_the_floor() {
    let mut world = two_releases();
    retire(&mut world, 2);
    world.want(&spec("web"), 3, App::CannotCreate, 1, 1);
    world.run(5_000);
    assert_eq!((world.phase("web"), up(&world)), (Phase::RolledBack, vec!["v2-0"]));
}

#[test]
fn nothing_goes_back_below_the_floor_even_where_nothing_better_is_known() {
    for retired_first in [true, false] {
        let mut world = two_releases();
        if retired_first {
            retire(&mut world, 3);
        }
        world.want(&spec("web"), 3, App::NeverReady, 1, 1);
        world.run(2_000);
        retire(&mut world, 3);
        // The release before serves until what takes its place has failed.
        assert!(up(&world).contains(&"v2-0"), "{:#?}", world.told);
        world.told.clear();
        world.run(1_000_000);
        assert_eq!(world.phase("web"), Phase::Failed, "{:#?}", world.told);
        let begun = world.told.iter().find(|told| told.contains("create v2"));
        assert_eq!(begun, None, "{:#?}", world.told);
    }
}

#[test]
fn a_soak_is_over_once_there_is_nothing_to_go_back_to() {
    let mut web = spec("web");
    web.rollout.soak = protocol::units::Millis::from_secs(600);
    let mut world = World::new();
    world.want(&web, 1, App::Ready(100), 1, 1);
    world.run(1_000);
    world.want(&web, 2, App::ReadyUntil(100, 3_000), 1, 1);
    world.run(2_000);
    retire(&mut world, 2);
    world.run(60_000);
    assert_eq!(up(&world), ["v2-0"], "it is not given up for a release that is retired");
    assert!(world.history[&name("web")].failures.is_empty());
}

#[test]
fn the_image_of_a_retired_last_good_is_not_pinned() {
    let mut world = two_releases();
    let images = world.observed.images.keys().cloned();
    world.observed.images_pulled = images.collect();
    world.observed.disk_used_percent = Some(90);
    assert_eq!(world.decide().images, []);
    retire(&mut world, 2);
    assert!(matches!(world.decide().images.as_slice(), [ImageStep::Remove(_)]));
}

#[test]
fn what_nothing_needs_goes_where_the_wanted_image_did_not_fit() {
    let mut world = two_releases();
    world.observed.images_pulled = world.observed.images.keys().cloned().collect();
    retire(&mut world, 2);
    assert_eq!(world.decide().images, [], "the disk has room as far as is known");
    for state in world.observed.images.values_mut() {
        *state = ImageState::Failed {
            reason: Reason::NoSpace,
            message: String::new(),
            permanent: false,
            retry_at: Now(0),
        };
    }
    assert!(matches!(world.decide().images.as_slice(), [ImageStep::Remove(_)]));
}
