//! Secrets: nothing is begun, created or started without them, and what runs goes on meanwhile.

use protocol::id::SecretName;
use protocol::manifest::HookKind;
use protocol::reason::Reason;
use protocol::report::{HookOutcome, Phase};
use protocol::spec::{Hook, SecretFile, ServiceSpec};
use protocol::units::Millis;

use super::stories::{READY, settled};
use super::wishes::{name, spec};
use super::world::World;
use crate::node::Decision;

fn db() -> SecretName {
    "db".parse().expect("a valid name")
}

fn with_secret() -> ServiceSpec {
    let mut web = spec("web");
    web.secrets.push(SecretFile { name: db(), path: "/run/secrets/db".into(), mode: 0o400 });
    web
}

/// The manifest names this version of the secret.
fn names(world: &mut World, version: u64) {
    let assignment = world.wanted.assignments.get_mut(&name("web")).expect("it is wanted");
    assignment.secrets.insert(db(), version);
}

fn has_copy(world: &mut World, version: u64) {
    world.observed.secrets.insert((db(), version));
}

#[test]
fn a_release_waits_for_its_secret_before_anything_old_is_touched_and_goes_on_once_it_is_there() {
    let mut world = settled(&spec("web"), 2);
    world.want(&with_secret(), 2, READY, 2, 1);
    names(&mut world, 1);
    world.run(600_000);
    let verdict = world.verdict("web");
    assert_eq!(
        (verdict.phase, verdict.decision),
        (Phase::Updating, Decision::Wait { until: None })
    );
    let waiting = verdict.waiting.expect("it says why");
    assert_eq!(waiting.reason, Reason::WaitingForSecret);
    let mend = "secret `db` version 1 is not sealed to this node: `pith secret sync --env default`";
    assert_eq!(waiting.message, mend);
    assert!(
        world.told.iter().all(|line| !line.contains("v2") || line.contains("pull")),
        "{:?}",
        world.told
    );
    has_copy(&mut world, 1);
    world.run(10_000);
    assert_eq!(world.phase("web"), Phase::Running);
}

#[test]
fn a_copy_of_another_version_is_none() {
    let mut world = World::new();
    world.want(&with_secret(), 1, READY, 1, 1);
    names(&mut world, 2);
    has_copy(&mut world, 1);
    world.run(10_000);
    let waiting = world.verdict("web").waiting.expect("it says why");
    assert_eq!(waiting.reason, Reason::WaitingForSecret);
    assert!(waiting.message.contains("version 2"), "{}", waiting.message);
}

#[test]
fn another_version_is_another_template_and_replaces_what_runs() {
    let mut world = World::new();
    world.want(&with_secret(), 1, READY, 1, 1);
    names(&mut world, 1);
    has_copy(&mut world, 1);
    world.run(10_000);
    let before = world.history[&name("web")].running.clone().expect("it runs");
    names(&mut world, 2);
    has_copy(&mut world, 2);
    world.run(60_000);
    let history = &world.history[&name("web")];
    let now = history.running.clone().expect("it runs");
    assert_eq!((now.secrets[&db()], history.completed), (2, true));
    assert_eq!(now.release, before.release);
    assert_ne!(now.template, before.template);
}

#[test]
fn a_hook_waits_for_the_secrets_of_its_service() {
    let mut world = World::new();
    let mut web = with_secret();
    let (command, env, timeout) = (vec!["/migrate".into()], Default::default(), Millis(60_000));
    web.hooks.pre_deploy = Some(Hook { command, env, timeout });
    world.run_hook(&web, 1, READY, HookKind::PreDeploy);
    let run = world.wanted.hooks.get_mut(&name("web")).expect("it is asked for");
    run.secrets.insert(db(), 1);
    world.run(10_000);
    let hook = world.verdict("web").hook.expect("it says where it stands");
    assert_eq!(hook.outcome, HookOutcome::Underway);
    assert_eq!(hook.waiting.expect("it says why").reason, Reason::WaitingForSecret);
}
