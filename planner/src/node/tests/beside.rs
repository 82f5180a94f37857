//! What a node does beside what runs: green sets, canaries, what rests after a success, one-shot containers.

use protocol::manifest::HookKind;
use protocol::reason::Reason;
use protocol::report::{HookOutcome, Phase};
use protocol::spec::{BlueGreen, Hook, OnFailure, ServiceSpec, Strategy};
use protocol::units::{Bytes, Millis};

use super::stories::{READY, settled};
use super::wishes::{name, spec};
use super::world::{App, World};
use crate::node::{Decision, Life};

fn blue_green() -> ServiceSpec {
    let mut web = spec("web");
    let keep_old = Millis::from_secs(60);
    let switch = BlueGreen { keep_old, preview_port: Some(15_000), auto_promote: false };
    web.rollout.strategy = Strategy::BlueGreen(switch);
    web
}

#[test]
fn a_green_set_comes_up_whole_beside_the_blue_one_and_gets_nothing_until_the_switch() {
    let web = blue_green();
    let mut world = settled(&web, 2);
    world.beside(&web, 2, READY, 2, 0);
    world.run(1_000);
    world.check_told(
        "pull web:v2, create v2-0, start v2-0, create v2-1, start v2-1, route v2-0, route v2-1",
    );
    let verdict = world.verdict("web");
    assert_eq!(verdict.phase, Phase::Running);
    assert_eq!(verdict.candidate.unwrap().phase, Phase::Running);
    let route = verdict.route.unwrap();
    assert_eq!(route.ports[0].split.as_ref().unwrap().share, 0);
    let preview = &route.ports[1];
    assert_eq!((preview.name.as_str(), preview.listen[0].port), ("http-preview", 15_000));
    let previewed: Vec<&str> = preview.backends.iter().map(|b| b.container.as_str()).collect();
    assert_eq!(previewed.len(), 2, "only the green ones");
}

#[test]
fn a_switch_is_one_table_the_blue_set_rests_and_an_undo_only_switches_back() {
    let web = blue_green();
    let mut world = settled(&web, 2);
    world.beside(&web, 2, READY, 2, 0);
    world.run(1_000);
    world.told.clear();
    world.want(&web, 2, READY, 2, 1);
    world.run(1_000);
    world.check_told("suspend v1-0, suspend v1-1, begin v2, complete");
    assert!(world.verdict("web").route.unwrap().ports.iter().all(|p| p.split.is_none()));
    world.want(&web, 1, READY, 2, 1);
    world.run(1_000);
    world.check_told("route v1-0, route v1-1, suspend v2-0, suspend v2-1, begin v1, complete");
    world.run(61_000);
    world.check_told("drain v2-0, drain v2-1, stop v2-0, stop v2-1, unroute v2-0, unroute v2-1");
    assert_eq!(world.verdict("web").decision, Decision::Settled);
}

#[test]
fn blue_green_without_a_green_set_still_switches_at_once() {
    let web = blue_green();
    let mut world = settled(&web, 2);
    world.want(&web, 2, READY, 2, 1);
    world.run(1_000);
    world.check_told(
        "pull web:v2, begin v2, create v2-0, start v2-0, create v2-1, start v2-1, suspend v1-0, suspend v1-1,
         route v2-0, route v2-1, complete",
    );
}

#[test]
fn a_green_set_that_fails_is_given_up_and_the_blue_one_never_notices() {
    let web = blue_green();
    let mut world = settled(&web, 2);
    world.beside(&web, 2, App::NeverReady, 2, 0);
    world.run(70_000);
    let verdict = world.verdict("web");
    assert_eq!((verdict.phase, verdict.candidate.unwrap().phase), (Phase::Running, Phase::Failed));
    assert_eq!(world.history[&name("web")].failures[0].reason, Reason::NotReadyInTime);
    assert!(world.instances("web").iter().all(|i| i.name.starts_with("v1")), "{:?}", world.told);
}

#[test]
fn a_green_set_that_does_not_fit_is_refused_before_anything_is_created() {
    let mut web = blue_green();
    web.resources.requests.memory = Some(Bytes(64 << 20));
    let mut world = settled(&web, 2);
    world.observed.memory_available = Some(100 << 20);
    world.beside(&web, 2, READY, 2, 0);
    world.run(1_000);
    world.check_told("pull web:v2, give up v2: not_enough_memory");
}

#[test]
fn a_canary_takes_its_share_and_goes_without_a_trace_when_it_is_dropped() {
    let web = spec("web");
    let mut world = settled(&web, 2);
    world.beside(&web, 2, READY, 1, 1_000);
    world.run(1_000);
    world.check_told("pull web:v2, create v2-0, start v2-0, route v2-0");
    assert_eq!(world.verdict("web").route.unwrap().ports[0].split.as_ref().unwrap().share, 1_000);
    world.want(&web, 1, READY, 2, 1);
    world.run(1_000);
    world.check_told("drain v2-0, stop v2-0, unroute v2-0, remove v2-0");
}

#[test]
fn a_promoted_canary_is_part_of_the_replacement() {
    let web = spec("web");
    let mut world = settled(&web, 2);
    world.beside(&web, 2, READY, 1, 1_000);
    world.run(1_000);
    world.told.clear();
    world.want(&web, 2, READY, 2, 1);
    world.run(2_000);
    world.check_told(
        "drain v1-1, begin v2, create v2-1, start v2-1, stop v1-1, drain v1-0, unroute v1-1, route v2-1, stop v1-0,
         unroute v1-0, complete",
    );
}

#[test]
fn a_canary_that_crashes_is_healed_and_given_up_only_before_it_was_ever_ready() {
    let web = spec("web");
    let mut world = settled(&web, 1);
    world.beside(&web, 2, App::Exits(0), 1, 1_000);
    world.run(10_000);
    let given_up = world.history[&name("web")].failures[0].clone();
    assert_eq!(given_up.reason, Reason::CrashLoop);
    assert_eq!(world.phase("web"), Phase::Running);
}

#[test]
fn a_release_that_stands_still_after_its_failure_takes_a_candidate_all_the_same() {
    let mut web = spec("web");
    web.rollout.on_failure = OnFailure::Pause;
    let mut world = settled(&web, 1);
    world.want(&web, 2, App::NeverReady, 1, 1);
    world.run(70_000);
    assert_eq!(world.phase("web"), Phase::Failed);
    world.beside(&web, 3, READY, 1, 0);
    world.run(2_000);
    assert_eq!(world.verdict("web").candidate.unwrap().phase, Phase::Running);
}

#[test]
fn a_green_set_comes_up_where_the_release_before_it_failed_and_nothing_runs() {
    let web = blue_green();
    let mut world = World::new();
    world.want(&web, 1, App::Exits(0), 2, 1);
    world.run(10_000);
    assert_eq!(world.verdict("web").decision, Decision::GaveUp(Reason::CrashLoop));
    world.told.clear();
    world.beside(&web, 2, READY, 2, 0);
    world.run(2_000);
    world.check_told(
        "pull web:v2, create v2-0, start v2-0, create v2-1, start v2-1, route v2-0, route v2-1",
    );
    let verdict = world.verdict("web");
    assert_eq!((verdict.phase, verdict.candidate.unwrap().phase), (Phase::Failed, Phase::Running));
    world.want(&web, 2, READY, 2, 1);
    world.run(2_000);
    world.check_told("begin v2, complete");
    assert_eq!(world.phase("web"), Phase::Running);
}

fn soaking() -> ServiceSpec {
    let mut web = spec("web");
    web.rollout.soak = Millis::from_secs(120);
    web
}

#[test]
fn what_fails_within_its_soak_time_goes_back_to_what_rests_without_starting_anything() {
    let web = soaking();
    let mut world = settled(&web, 2);
    world.want(&web, 2, App::ReadyUntil(100, 20_000), 2, 1);
    world.run(10_000);
    assert_eq!(world.phase("web"), Phase::Running);
    assert_eq!(world.verdict("web").waiting.unwrap().reason, Reason::Soaking);
    world.told.clear();
    world.run(15_000);
    world.check_told("route v1-0, suspend v2-0, route v1-1, suspend v2-1");
    world.run(30_000);
    assert!(world.told.starts_with(&["give up v2: failed_in_soak".to_owned()]), "{:?}", world.told);
    assert!(!world.told.iter().any(|act| act.starts_with("start")), "{:?}", world.told);
    assert_eq!(world.phase("web"), Phase::RolledBack);
}

#[test]
fn after_its_soak_time_the_old_release_is_stopped_and_kept() {
    let web = soaking();
    let mut world = settled(&web, 1);
    world.want(&web, 2, READY, 1, 1);
    world.run(10_000);
    world.told.clear();
    world.run(120_000);
    world.check_told("drain v1-0, stop v1-0, unroute v1-0");
    assert_eq!(world.verdict("web").decision, Decision::Settled);
}

#[test]
fn without_memory_nothing_rests_and_soak_still_goes_back() {
    let mut web = soaking();
    web.resources.requests.memory = Some(Bytes(64 << 20));
    let mut world = settled(&web, 2);
    world.observed.memory_available = Some(100 << 20);
    world.want(&web, 2, App::ReadyUntil(100, 20_000), 2, 1);
    world.run(10_000);
    assert!(world.told.contains(&"stop v1-0".to_owned()), "{:?}", world.told);
    world.run(60_000);
    assert_eq!(world.phase("web"), Phase::RolledBack);
}

fn with_migration() -> ServiceSpec {
    let mut web = spec("web");
    let command = vec!["/app".to_owned(), "migrate".to_owned()];
    let timeout = Millis::from_secs(60);
    web.hooks.pre_deploy = Some(Hook { command, env: std::collections::BTreeMap::new(), timeout });
    web
}

/// The hook's container ends with this code.
fn end_hook(world: &mut World, code: i64) {
    let now = world.now;
    let facts = world.observed.services.get_mut(&name("web")).unwrap();
    let hook = facts.instances.iter_mut().find(|i| i.name.contains("deploy")).unwrap();
    hook.life = Life::Exited(crate::node::Exit { at: now, code, oom: false });
}

#[test]
fn a_hook_runs_once_beside_what_runs_and_leaves_nothing_when_it_is_not_asked_for_any_more() {
    let web = with_migration();
    let mut world = settled(&web, 1);
    world.run_hook(&web, 2, App::NeverReady, HookKind::PreDeploy);
    world.run(1_000);
    world.check_told("pull web:v2, create v2-pre_deploy, start v2-pre_deploy");
    assert_eq!(world.verdict("web").phase, Phase::Running, "what runs goes on");
    end_hook(&mut world, 0);
    world.run(1_000);
    assert_eq!(world.verdict("web").hook.unwrap().outcome, HookOutcome::Succeeded);
    world.check_told("");
    world.wanted.hooks.clear();
    world.run(1_000);
    world.check_told("remove v2-pre_deploy");
}

#[test]
fn a_hook_that_fails_is_written_down_and_not_run_again() {
    let web = with_migration();
    let mut world = settled(&web, 1);
    world.run_hook(&web, 2, App::NeverReady, HookKind::PreDeploy);
    world.run(1_000);
    world.told.clear();
    end_hook(&mut world, 3);
    world.run(1_000);
    world.check_told("give up v2: hook_failed");
    let hook = world.verdict("web").hook.unwrap();
    assert_eq!(hook.outcome, HookOutcome::Failed);
    assert_eq!(hook.waiting.unwrap().message, "pre_deploy ended with code 3");
}

#[test]
fn a_hook_that_takes_too_long_is_killed() {
    let web = with_migration();
    let mut world = settled(&web, 1);
    world.run_hook(&web, 2, App::NeverReady, HookKind::PreDeploy);
    world.run(59_000);
    assert!(!world.told.contains(&"kill v2-pre_deploy".to_owned()));
    world.run(3_000);
    assert!(world.told.contains(&"kill v2-pre_deploy".to_owned()), "{:?}", world.told);
}

#[test]
fn a_hook_before_the_first_deploy_needs_no_instance_and_keeps_its_network() {
    let web = with_migration();
    let mut world = World::new();
    world.run_hook(&web, 1, App::NeverReady, HookKind::PreDeploy);
    world.run(1_000);
    world.check_told("pull web:v1, create v1-pre_deploy, start v1-pre_deploy");
    end_hook(&mut world, 0);
    world.run(1_000);
    world.wanted.hooks.clear();
    world.want(&web, 1, READY, 1, 1);
    world.run(2_000);
    world.check_told(
        "begin v1, create v1-0, start v1-0, remove v1-pre_deploy, route v1-0, complete",
    );
}
