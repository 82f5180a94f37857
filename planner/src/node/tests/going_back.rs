//! Going back, and what a manifest that names the old release again means in the middle of it.

use protocol::report::Phase;
use protocol::spec::{BlueGreen, OnFailure, Strategy};
use protocol::units::Millis;

use super::stories::{READY, settled};
use super::wishes::{name, spec};
use super::world::{App, World};
use crate::node::Routing;

#[test]
fn what_is_gone_back_to_is_not_given_up_when_the_manifest_names_it_again() {
    let mut web = spec("web");
    web.rollout.strategy = Strategy::Recreate;
    web.rollout.progress_deadline = Millis::from_secs(5);
    let mut world = World::new();
    world.want(&web, 1, App::Ready(1_000), 1, 1);
    world.run(3_000);
    world.want(&web, 2, App::NeverReady, 1, 1);
    while world.phase("web") != Phase::RollingBack {
        world.tick(50);
    }
    // The coordinator has heard of it: the clock of what failed is over, and the old one has not started yet.
    world.want(&web, 1, App::Ready(1_000), 1, 1);
    world.run(4_000);
    assert_eq!(world.phase("web"), Phase::Running, "{:#?}", world.told);
}

#[test]
fn a_third_set_comes_up_beside_a_second_one_that_was_never_ready() {
    let mut web = spec("web");
    let (keep_old, preview_port, auto_promote) = (Millis(0), None, true);
    web.rollout.strategy = Strategy::BlueGreen(BlueGreen { keep_old, preview_port, auto_promote });
    let mut world = World::new();
    world.want(&web, 1, App::Ready(100), 1, 1);
    world.run(3_000);
    world.want(&web, 2, App::NeverReady, 1, 1);
    world.run(1_000);
    world.want(&web, 3, App::Ready(100), 1, 1);
    world.run(3_000);
    assert_eq!(world.phase("web"), Phase::Running, "{:#?}", world.told);
}

#[test]
fn a_first_release_that_serves_is_gone_back_to_though_it_was_overtaken_before_it_was_complete() {
    let mut web = spec("web");
    web.rollout.min_ready = Millis::from_secs(10);
    let mut world = World::new();
    world.want(&web, 1, READY, 2, 1);
    world.run(3_000);
    assert_eq!(world.phase("web"), Phase::Updating);
    world.want(&web, 2, App::NeverReady, 2, 1);
    for _ in 0..80_000 / 50 {
        world.tick(50);
        let serves = world.instances("web").iter().any(|i| i.routing == Routing::Active);
        assert!(serves, "an outage: {:#?}", world.told);
    }
    assert_eq!(world.phase("web"), Phase::RolledBack, "{:#?}", world.told);
}

#[test]
fn a_first_release_that_gets_ready_after_it_was_overtaken_is_gone_back_to() {
    let mut world = World::new();
    world.want(&spec("web"), 1, App::Ready(40_000), 1, 1);
    world.run(3_000);
    world.want(&spec("web"), 2, App::NeverReady, 1, 1);
    world.run(50_000);
    for _ in 0..60_000 / 50 {
        world.tick(50);
        let serves = world.instances("web").iter().any(|i| i.routing == Routing::Active);
        assert!(serves, "an outage: {:#?}", world.told);
    }
    assert_eq!(world.phase("web"), Phase::RolledBack, "{:#?}", world.told);
}

#[test]
fn a_success_does_not_go_back_within_its_soak_time_to_what_was_never_complete() {
    let mut web = spec("web");
    let mut world = World::new();
    world.want(&web, 1, App::NeverReady, 1, 1);
    world.run(3_000);
    web.rollout.soak = Millis::from_secs(60);
    world.want(&web, 2, App::ReadyUntil(100, 5_000), 1, 1);
    world.run(50_000);
    assert_eq!(world.phase("web"), Phase::Degraded, "{:#?}", world.told);
}

#[test]
fn a_first_release_of_which_nothing_is_up_is_nothing_to_go_back_to() {
    let mut world = World::new();
    world.want(&spec("web"), 1, App::CannotCreate, 1, 1);
    world.run(500);
    world.want(&spec("web"), 2, App::CannotStart, 1, 1);
    world.run(80_000);
    assert_eq!(world.phase("web"), Phase::Failed, "{:#?}", world.told);
    assert!(world.instances("web").is_empty());
}

#[test]
fn a_way_back_that_never_gets_well_is_held_and_gone_back_to_once() {
    let mut web = spec("web");
    web.rollout.min_ready = Millis::from_secs(10);
    let mut world = World::new();
    world.want(&web, 1, App::ReadyUntil(100, 20_000), 1, 1);
    world.run(3_000);
    world.want(&web, 2, App::Exits(0), 1, 1);
    world.run(15_000);
    world.told.clear();
    world.run(600_000);
    let gave_up = world.told.iter().filter(|told| told.starts_with("give up")).count();
    assert_eq!(gave_up, 0, "{:#?}", world.told);
    let history = &world.history[&name("web")];
    assert_eq!(history.running.as_ref().map(|kept| kept.revision), Some(1));
    assert!(world.verdict("web").waiting.is_some(), "it says why");
}

#[test]
fn what_was_complete_and_given_up_since_is_not_gone_back_to() {
    let mut web = spec("web");
    let mut world = settled(&web, 1);
    (web.rollout.soak, web.rollout.on_failure) = (Millis::from_secs(60), OnFailure::Pause);
    world.want(&web, 2, App::ReadyUntil(100, 5_000), 1, 1);
    world.run(50_000);
    assert_eq!(world.phase("web"), Phase::Failed, "{:#?}", world.told);
    web.rollout.on_failure = OnFailure::Rollback;
    world.want(&web, 3, App::NoImage, 1, 1);
    world.want(&web, 4, App::Exits(0), 1, 1);
    world.run(50_000);
    assert_eq!(world.phase("web"), Phase::RolledBack, "{:#?}", world.told);
    assert_eq!(world.history[&name("web")].running.as_ref().map(|kept| kept.revision), Some(1));
}

#[test]
fn what_stands_still_after_its_failure_begins_anew_under_a_higher_attempt() {
    let mut web = spec("web");
    let mut world = settled(&web, 1);
    web.rollout.on_failure = OnFailure::Pause;
    world.want(&web, 2, App::NeverReady, 1, 1);
    world.run(70_000);
    assert_eq!(world.phase("web"), Phase::Failed, "{:#?}", world.told);
    world.told.clear();
    world.want(&web, 2, App::NeverReady, 1, 2);
    world.run(70_000);
    world.check_told("begin v2, give up v2: not_ready_in_time");
    assert_eq!(world.phase("web"), Phase::Failed);
}
