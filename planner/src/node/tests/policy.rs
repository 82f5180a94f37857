//! A node's policy: what it denies is never started, and what runs is never stopped by it.

use protocol::manifest::HookKind;
use protocol::reason::Reason;
use protocol::report::{HookOutcome, Phase};
use protocol::spec::{Hook, HostPath, ServiceSpec, Strategy};
use protocol::units::Millis;

use super::stories::{READY, settled};
use super::wishes::{name, spec};
use super::world::{App, World};
use crate::node::{Decision, Exit, Life, Probed, Verdict};

fn privileged() -> ServiceSpec {
    let mut web = spec("web");
    web.host.privileged = true;
    web
}

fn allow(world: &mut World, is_allowed: bool) {
    world.observed.policy.policy.every.privileged = is_allowed;
}

fn said(verdict: &Verdict) -> (Reason, &str) {
    let waiting = verdict.waiting.as_ref().expect("it says why");
    (waiting.reason, waiting.message.as_str())
}

#[test]
fn what_the_policy_denies_is_given_up_at_once_and_what_runs_goes_on_untouched() {
    let mut world = settled(&spec("web"), 2);
    world.want(&privileged(), 2, READY, 2, 1);
    world.run(3_000);
    world.check_told("give up v2: policy_denied");
    let verdict = world.verdict("web");
    assert_eq!(verdict.phase, Phase::RolledBack);
    let (reason, message) = said(&verdict);
    assert_eq!(reason, Reason::PolicyDenied);
    assert!(message.contains("`privileged = true`"), "{message}");
}

#[test]
fn a_policy_that_allows_it_changes_nothing_in_how_it_is_rolled_out() {
    let mut world = settled(&spec("web"), 1);
    allow(&mut world, true);
    world.want(&privileged(), 2, READY, 1, 1);
    world.run(3_000);
    assert_eq!(world.phase("web"), Phase::Running, "{:#?}", world.told);
    assert_eq!(world.verdict("web").decision, Decision::Settled);
}

#[test]
fn a_higher_attempt_under_a_wider_policy_tries_again() {
    let mut world = settled(&spec("web"), 1);
    world.want(&privileged(), 2, READY, 1, 1);
    world.run(1_000);
    allow(&mut world, true);
    world.run(1_000);
    assert_eq!(world.phase("web"), Phase::RolledBack, "a wider policy alone tries nothing again");
    world.want(&privileged(), 2, READY, 1, 2);
    world.run(3_000);
    assert_eq!(world.phase("web"), Phase::Running, "{:#?}", world.told);
}

/// Version 1 runs privileged with `count` instances, and the policy is narrowed.
fn narrowed(count: u32) -> World {
    let mut world = World::new();
    allow(&mut world, true);
    world.want(&privileged(), 1, READY, count, 1);
    world.run(3_000);
    world.told.clear();
    allow(&mut world, false);
    world.run(3_000);
    world
}

#[test]
fn what_runs_when_the_policy_is_narrowed_goes_on_and_says_so() {
    let mut world = narrowed(2);
    world.check_told("");
    let verdict = world.verdict("web");
    assert_eq!((verdict.phase, &verdict.decision), (Phase::Running, &Decision::Settled));
    let (reason, message) = said(&verdict);
    assert_eq!(reason, Reason::PolicyDenied);
    assert!(message.starts_with("runs on until it ends"), "{message}");
}

#[test]
fn what_ends_under_a_narrowed_policy_is_not_started_again_until_it_is_allowed() {
    let mut world = narrowed(1);
    let at = world.now;
    let web = world.observed.services.get_mut(&name("web")).unwrap();
    web.instances[0].life = Life::Exited(Exit { at, code: 1, oom: false });
    (web.instances[0].probed, web.instances[0].exits) = (Probed::default(), 1);
    world.run(60_000);
    assert!(!world.told.iter().any(|act| act.starts_with("start")), "{:#?}", world.told);
    let verdict = world.verdict("web");
    assert_eq!(verdict.phase, Phase::Degraded);
    assert_eq!(said(&verdict).0, Reason::PolicyDenied);
    allow(&mut world, true);
    world.run(3_000);
    assert_eq!(world.phase("web"), Phase::Running, "{:#?}", world.told);
}

#[test]
fn one_instance_more_is_not_started_against_the_policy() {
    let mut world = narrowed(1);
    world.want(&privileged(), 1, READY, 2, 1);
    world.run(3_000);
    world.check_told("");
    assert_eq!(said(&world.verdict("web")).0, Reason::PolicyDenied);
}

#[test]
fn a_rollout_in_whose_middle_the_policy_is_narrowed_goes_back() {
    let mut world = settled(&spec("web"), 2);
    allow(&mut world, true);
    world.want(&privileged(), 2, App::Ready(1_000), 2, 1);
    world.run(500);
    allow(&mut world, false);
    world.run(5_000);
    assert!(world.told.contains(&"give up v2: policy_denied".to_owned()), "{:#?}", world.told);
    assert_eq!(world.phase("web"), Phase::RolledBack);
}

#[test]
fn under_stop_first_nothing_old_stops_for_what_the_policy_denies() {
    let mut db = spec("web");
    db.rollout.strategy = Strategy::Recreate;
    let mut world = settled(&db, 1);
    let (host, path) = ("/srv/../etc".to_owned(), "/data".to_owned());
    db.host.paths = vec![HostPath { host, path, read_only: false, shared: false }];
    world.observed.policy.policy.every.host_paths = vec!["/srv".to_owned()];
    world.want(&db, 2, READY, 1, 1);
    world.run(3_000);
    world.check_told("give up v2: policy_denied");
}

#[test]
fn a_hook_has_what_its_service_has_and_is_denied_the_same() {
    let mut web = privileged();
    let command = vec!["/app".to_owned(), "migrate".to_owned()];
    let timeout = Millis::from_secs(60);
    web.hooks.pre_deploy = Some(Hook { command, env: std::collections::BTreeMap::new(), timeout });
    let mut world = settled(&spec("web"), 1);
    world.run_hook(&web, 2, READY, HookKind::PreDeploy);
    world.run(1_000);
    world.check_told("give up v2: policy_denied");
    assert_eq!(world.verdict("web").hook.unwrap().outcome, HookOutcome::Failed);
}
