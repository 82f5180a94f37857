//! Going back, and what a manifest that names the old release again means in the middle of it.

use protocol::report::Phase;
use protocol::spec::{BlueGreen, Strategy};
use protocol::units::Millis;

use super::wishes::spec;
use super::world::{App, World};

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
