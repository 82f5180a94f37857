//! What a node does, told as the list of its acts.

use protocol::reason::Reason;
use protocol::report::Phase;
use protocol::spec::{OnFailure, ServiceSpec, Share, Strategy};
use protocol::units::{Bytes, Millis};

use super::wishes::{exclusive, name, spec};
use super::world::{App, World};
use crate::node::{Decision, ImageState, Life};

pub(super) const READY: App = App::Ready(100);

/// A world in which version 1 runs with `count` instances.
pub(super) fn settled(spec: &ServiceSpec, count: u32) -> World {
    let mut world = World::new();
    world.want(spec, 1, READY, count, 1);
    world.run(3_000);
    assert_eq!(world.phase(spec.name.as_str()), Phase::Running);
    assert_eq!(world.verdict(spec.name.as_str()).decision, Decision::Settled);
    world.told.clear();
    world
}

#[test]
fn a_first_deploy_pulls_begins_creates_starts_routes_and_completes() {
    let mut world = World::new();
    world.want(&spec("web"), 1, READY, 1, 1);
    world.run(1_000);
    world.check_told("pull web:v1, begin v1, create v1-0, start v1-0, route v1-0, complete");
    assert_eq!(world.phase("web"), Phase::Running);
}

#[test]
fn rolling_starts_a_new_one_before_an_old_one_goes_and_keeps_the_old_for_the_way_back() {
    let mut world = settled(&spec("web"), 2);
    world.want(&spec("web"), 2, READY, 2, 1);
    world.run(3_000);
    world.check_told(
        "pull web:v2, begin v2, create v2-0, start v2-0, create v2-1, drain v1-1, route v2-0,
         start v2-1, stop v1-1, drain v1-0, unroute v1-1, route v2-1, stop v1-0, unroute v1-0, complete",
    );
    let kept = |i: &&crate::node::Instance| matches!(i.life, Life::Exited(_));
    assert_eq!(world.instances("web").iter().filter(kept).count(), 2);
}

#[test]
fn the_containers_of_the_release_before_last_are_removed() {
    let mut world = settled(&spec("web"), 1);
    world.want(&spec("web"), 2, READY, 1, 1);
    world.run(2_000);
    world.told.clear();
    world.want(&spec("web"), 3, READY, 1, 1);
    world.run(2_000);
    world.check_told(
        "pull web:v3, begin v3, create v3-0, start v3-0, remove v1-0, drain v2-0, route v3-0,
         stop v2-0, unroute v2-0, complete",
    );
}

#[test]
fn an_undo_starts_the_kept_containers_and_pulls_nothing() {
    let mut world = settled(&spec("web"), 1);
    world.want(&spec("web"), 2, READY, 1, 1);
    world.run(2_000);
    world.told.clear();
    world.want(&spec("web"), 1, READY, 1, 1);
    world.run(2_000);
    world.check_told(
        "begin v1, start v1-0, route v1-0, drain v2-0, stop v2-0, unroute v2-0, complete",
    );
}

#[test]
fn one_that_never_gets_ready_is_given_up_at_the_deadline_and_the_old_ones_stay() {
    let mut world = settled(&spec("web"), 2);
    world.want(&spec("web"), 2, App::NeverReady, 2, 1);
    world.run(70_000);
    world.check_told(
        "pull web:v2, begin v2, create v2-0, start v2-0, create v2-1, give up v2: not_ready_in_time,
         stop v2-0, remove v2-1, remove v2-0, complete",
    );
    assert_eq!(world.phase("web"), Phase::RolledBack);
    let given_up = world.history[&name("web")].failures[0].clone();
    assert_eq!(given_up.message, "not ready within 1m: HTTP 503");
}

#[test]
fn three_exits_before_ready_fail_at_once() {
    let mut world = settled(&spec("web"), 1);
    world.want(&spec("web"), 2, App::Exits(0), 1, 1);
    world.run(5_000);
    let given_up = world.history[&name("web")].failures[0].clone();
    assert_eq!(given_up.reason, Reason::CrashLoop);
    assert_eq!(given_up.message, "exited 3 times before it was ready, last with code 1");
    assert_eq!(world.phase("web"), Phase::RolledBack);
}

#[test]
fn an_unknown_image_is_given_up_before_anything_is_touched() {
    let mut world = settled(&spec("web"), 1);
    world.want(&spec("web"), 2, App::NoImage, 1, 1);
    world.run(1_000);
    world.check_told("pull web:v2, give up v2: image_not_found");
    assert_eq!(world.phase("web"), Phase::RolledBack);
}

#[test]
fn what_was_given_up_is_tried_again_only_under_a_higher_attempt() {
    let mut world = settled(&spec("web"), 1);
    world.want(&spec("web"), 2, App::NeverReady, 1, 1);
    world.run(70_000);
    world.told.clear();
    world.want(&spec("web"), 2, READY, 1, 1);
    world.run(5_000);
    world.check_told("");
    world.want(&spec("web"), 2, READY, 1, 2);
    world.run(5_000);
    world.check_told("begin v2, create v2-0, start v2-0, drain v1-0, route v2-0, stop v1-0, unroute v1-0, complete");
}

#[test]
fn what_was_given_up_before_something_else_was_is_not_tried_again_either() {
    let mut world = settled(&spec("web"), 1);
    for version in [2, 3] {
        world.want(&spec("web"), version, App::NeverReady, 1, 1);
        world.run(70_000);
    }
    world.told.clear();
    world.want(&spec("web"), 2, App::NeverReady, 1, 1);
    world.run(70_000);
    world.check_told("");
    assert_eq!(world.phase("web"), Phase::RolledBack);
}

#[test]
fn a_first_deploy_that_fails_leaves_nothing_and_says_failed() {
    let mut world = World::new();
    world.want(&spec("web"), 1, App::CannotStart, 1, 1);
    world.run(10_000);
    assert_eq!(world.phase("web"), Phase::Failed);
    assert_eq!(world.verdict("web").decision, Decision::GaveUp(Reason::StartFailed));
    assert!(world.instances("web").is_empty());
}

#[test]
fn on_failure_pause_stands_still() {
    let mut web = spec("web");
    let mut world = settled(&web, 2);
    web.rollout.on_failure = OnFailure::Pause;
    world.want(&web, 2, App::NeverReady, 2, 1);
    world.run(70_000);
    assert_eq!(world.phase("web"), Phase::Failed);
    let up = world.instances("web").iter().filter(|i| i.is_up()).count();
    assert_eq!(up, 3, "two old ones and the failed one");
}

#[test]
fn recreate_stops_all_old_ones_before_a_new_one_starts() {
    let mut web = spec("web");
    web.rollout.strategy = Strategy::Recreate;
    let mut world = settled(&web, 2);
    world.want(&web, 2, READY, 2, 1);
    world.run(3_000);
    world.check_told(
        "pull web:v2, begin v2, create v2-0, create v2-1, drain v1-0, drain v1-1, stop v1-0, stop v1-1,
         unroute v1-0, unroute v1-1, start v2-0, start v2-1, route v2-0, route v2-1, complete",
    );
}

#[test]
fn an_exclusive_service_has_one_instance_and_stops_it_first_whatever_is_asked() {
    let db = exclusive(spec("db"));
    let mut world = settled(&db, 3);
    world.want(&db, 2, READY, 3, 1);
    world.run(3_000);
    world.check_told(
        "pull web:v2, begin v2, create v2-0, drain v1-0, stop v1-0, unroute v1-0, start v2-0, route v2-0, complete",
    );
}

#[test]
fn a_crashed_instance_starts_again_after_a_pause_that_doubles() {
    let mut world = settled(&spec("web"), 1);
    world.want(&spec("web"), 1, App::Exits(500), 1, 1);
    world.run(6_000);
    world.check_told("unroute v1-0, start v1-0, start v1-0");
    assert_eq!(world.phase("web"), Phase::Degraded);
    assert_eq!(world.verdict("web").waiting.unwrap().reason, Reason::WaitingForBackoff);
}

#[test]
fn an_instance_that_is_not_ready_gets_nothing_new_and_comes_back() {
    let mut world = settled(&spec("web"), 1);
    world.want(&spec("web"), 1, App::NeverReady, 1, 1);
    world.run(200);
    world.want(&spec("web"), 1, READY, 1, 1);
    world.run(200);
    world.check_told("suspend v1-0, route v1-0");
}

#[test]
fn connections_are_waited_for_and_cut_after_drain() {
    let mut world = settled(&spec("web"), 1);
    world.lingering = 12;
    world.want(&spec("web"), 2, READY, 1, 1);
    world.run(1_000);
    let waiting = world.verdict("web").waiting.unwrap();
    assert_eq!(waiting.reason, Reason::WaitingForConnections);
    assert_eq!(waiting.message, "waiting for 12 connections to end");
    world.run(30_000);
    assert_eq!(world.phase("web"), Phase::Running);
}

#[test]
fn one_that_does_not_stop_is_killed_after_its_grace() {
    let mut world = settled(&spec("web"), 1);
    world.stop_ms = u64::MAX;
    world.want(&spec("web"), 2, READY, 1, 1);
    world.run(12_000);
    assert!(world.told.contains(&"kill v1-0".to_owned()), "{:?}", world.told);
}

#[test]
fn min_ready_is_waited_for_before_the_next_one() {
    let mut web = spec("web");
    web.rollout.min_ready = Millis::from_secs(5);
    let mut world = World::new();
    world.want(&web, 1, READY, 1, 1);
    world.run(2_000);
    assert_eq!(world.verdict("web").waiting.unwrap().reason, Reason::WaitingForMinReady);
    world.run(4_000);
    assert_eq!(world.phase("web"), Phase::Running);
}

#[test]
fn a_release_is_not_blamed_while_what_it_depends_on_is_not_ready() {
    let db = spec("db");
    let mut web = spec("web");
    web.depends_on.insert(name("db"));
    let mut world = settled(&db, 1);
    world.want(&web, 1, READY, 1, 1);
    world.run(2_000);
    world.want(&db, 1, App::NeverReady, 1, 1);
    world.want(&web, 2, App::NeverReady, 1, 1);
    world.run(200_000);
    assert_eq!(world.verdict("web").waiting.unwrap().reason, Reason::StableUnhealthy);
    world.want(&db, 1, READY, 1, 1);
    world.run(1_000);
    assert_eq!(world.phase("web"), Phase::RolledBack);
}

#[test]
fn a_release_is_not_blamed_while_the_stable_one_is_not_ready_either() {
    let mut world = settled(&spec("web"), 1);
    world.want(&spec("web"), 1, App::NeverReady, 1, 1);
    world.run(100);
    world.want(&spec("web"), 2, App::NeverReady, 1, 1);
    world.run(100_000);
    assert_eq!(world.verdict("web").waiting.unwrap().reason, Reason::StableUnhealthy);
}

#[test]
fn a_dependency_comes_first_at_deploy_and_at_boot() {
    let db = spec("db");
    let mut web = spec("web");
    web.depends_on.insert(name("db"));
    let mut world = World::new();
    world.want(&web, 1, READY, 1, 1);
    world.want(&db, 1, App::Ready(1_000), 1, 1);
    world.run(500);
    assert_eq!(world.verdict("web").waiting.unwrap().reason, Reason::WaitingForDependency);
    world.run(3_000);
    assert_eq!(world.phase("web"), Phase::Running);
}

#[test]
fn a_bad_service_goes_back_alone() {
    let (a, b) = (spec("a"), spec("b"));
    let mut world = settled(&a, 1);
    world.want(&b, 1, READY, 1, 1);
    world.run(2_000);
    world.want(&a, 2, READY, 1, 1);
    world.want(&b, 2, App::NeverReady, 1, 1);
    world.run(70_000);
    assert_eq!(world.phase("a"), Phase::Running);
    assert_eq!(world.phase("b"), Phase::RolledBack);
    world.told.clear();
    world.want(&spec("c"), 1, READY, 1, 1);
    world.run(2_000);
    world.check_told("pull web:v1, begin v1, create v1-0, start v1-0, route v1-0, complete");
}

#[test]
fn scaling_restarts_nothing() {
    let mut world = settled(&spec("web"), 2);
    world.want(&spec("web"), 1, READY, 3, 1);
    world.run(1_000);
    world.check_told("create v1-2, start v1-2, route v1-2");
    world.want(&spec("web"), 1, READY, 1, 1);
    world.run(2_000);
    world.check_told("drain v1-1, drain v1-2, stop v1-1, stop v1-2, unroute v1-1, unroute v1-2, remove v1-1, remove v1-2");
}

#[test]
fn a_removed_service_is_drained_stopped_removed_and_forgotten() {
    let mut world = settled(&spec("web"), 1);
    world.wanted.assignments.clear();
    world.run(2_000);
    world.check_told("drain v1-0, stop v1-0, unroute v1-0, remove v1-0, remove network, forget");
    assert!(world.decide().services.is_empty());
}

#[test]
fn a_removed_service_leaves_nothing_that_was_kept_for_the_way_back() {
    let mut world = settled(&spec("web"), 2);
    world.want(&spec("web"), 2, READY, 2, 1);
    world.run(3_000);
    world.wanted.assignments.clear();
    world.run(3_000);
    assert_eq!(world.instances("web"), []);
    assert!(world.decide().services.is_empty());
}

#[test]
fn after_a_boot_everything_starts_again_without_a_pull() {
    let mut world = settled(&spec("web"), 2);
    for instance in &mut world.observed.services.get_mut(&name("web")).unwrap().instances {
        instance.life = Life::Exited(crate::node::Exit { at: world.now, code: 255, oom: false });
        instance.routing = crate::node::Routing::Absent;
        instance.probed = crate::node::Probed::default();
    }
    world.kill_agent();
    world.run(1_000);
    world.check_told("start v1-0, start v1-1, route v1-0, route v1-1");
}

#[test]
fn a_container_whose_network_somebody_removed_is_made_anew() {
    let mut world = settled(&spec("web"), 1);
    let facts = world.observed.services.get_mut(&name("web")).unwrap();
    facts.network = false;
    facts.instances[0].life =
        Life::Exited(crate::node::Exit { at: world.now, code: 137, oom: false });
    world.run(1_000);
    world.check_told("unroute v1-0, remove v1-0, create v1-0, start v1-0, route v1-0");
}

#[test]
fn a_newer_version_takes_over_in_the_middle_and_the_way_back_is_still_the_last_complete_one() {
    let mut world = settled(&spec("web"), 2);
    world.want(&spec("web"), 2, App::NeverReady, 2, 1);
    world.run(1_000);
    world.want(&spec("web"), 3, App::NeverReady, 2, 1);
    world.run(70_000);
    assert_eq!(world.phase("web"), Phase::RolledBack);
    assert_eq!(world.history[&name("web")].running.as_ref().unwrap().revision, 1);
}

#[test]
fn a_pull_that_stands_still_waits_and_says_so() {
    let mut world = settled(&spec("web"), 1);
    world.want(&spec("web"), 2, READY, 1, 1);
    let pin =
        world.wanted.releases[&world.wanted.assignments[&name("web")].release].image.pin.clone();
    let progress = "12 MB of 40 MB, nothing for 2 min".to_owned();
    world.observed.images.insert(pin, ImageState::Pulling { progress, stalled: true });
    world.run(1_000_000);
    let verdict = world.verdict("web");
    assert_eq!(verdict.phase, Phase::Updating);
    assert_eq!(verdict.waiting.unwrap().reason, Reason::RegistryUnreachable);
}

#[test]
fn without_surge_the_one_replica_stops_first_once_its_successor_is_there_to_start() {
    let mut web = spec("web");
    web.rollout.max_surge = Share::Count(0);
    web.rollout.max_unavailable = Share::Count(1);
    let mut world = settled(&web, 1);
    world.want(&web, 2, READY, 1, 1);
    world.run(2_000);
    world.check_told(
        "pull web:v2, begin v2, create v2-0, drain v1-0, stop v1-0, unroute v1-0, start v2-0, route v2-0, complete",
    );
    assert_eq!(world.phase("web"), Phase::Running);
}

#[test]
fn a_board_without_room_for_one_more_stops_first_and_never_decides_it_anew() {
    let mut web = spec("web");
    web.resources.requests.memory = Some(Bytes(64 << 20));
    let mut world = settled(&web, 1);
    world.observed.memory_available = Some(40 << 20);
    world.want(&web, 2, App::Ready(500), 1, 1);
    world.run(200);
    world.observed.memory_available = Some(400 << 20);
    world.run(2_000);
    world.check_told(
        "pull web:v2, begin v2 stop-first, create v2-0, drain v1-0, stop v1-0, unroute v1-0, start v2-0, route v2-0,
         complete",
    );
}

#[test]
fn a_hold_keeps_what_is_up_and_going_on_does_not_count_the_time_against_the_release() {
    let mut world = settled(&spec("web"), 2);
    world.want(&spec("web"), 2, App::Ready(1_000), 2, 1);
    world.run(150);
    world.hold("web", true);
    world.run(300_000);
    let up = |v: &str, world: &World| {
        world.instances("web").iter().filter(|i| i.is_up() && i.name.starts_with(v)).count()
    };
    assert_eq!((up("v1", &world), up("v2", &world)), (2, 1), "{:?}", world.told);
    assert_eq!(world.verdict("web").waiting.unwrap().reason, Reason::Paused);
    world.hold("web", false);
    world.run(5_000);
    assert_eq!(world.phase("web"), Phase::Running);
    assert_eq!((up("v1", &world), up("v2", &world)), (0, 2));
}

#[test]
fn a_hold_before_the_first_step_begins_nothing_and_still_heals() {
    let mut world = settled(&spec("web"), 1);
    world.want(&spec("web"), 2, READY, 1, 1);
    world.hold("web", true);
    world.run(1_000);
    world.check_told("pull web:v2");
    let facts = world.observed.services.get_mut(&name("web")).unwrap();
    facts.instances[0].life =
        Life::Exited(crate::node::Exit { at: world.now, code: 1, oom: false });
    facts.instances[0].probed = crate::node::Probed::default();
    world.run(1_000);
    world.check_told("unroute v1-0, start v1-0, route v1-0");
}

#[test]
fn a_good_version_replaces_a_crash_looping_one_without_hands() {
    let mut world = settled(&spec("web"), 1);
    world.want(&spec("web"), 1, App::Exits(500), 1, 1);
    world.run(60_000);
    assert_eq!(world.phase("web"), Phase::Degraded);
    world.want(&spec("web"), 3, READY, 1, 1);
    world.run(5_000);
    assert_eq!(world.phase("web"), Phase::Running);
}
