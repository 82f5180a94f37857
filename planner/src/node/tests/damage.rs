//! Images whose files a power cut has damaged.

use protocol::manifest::HookKind;
use protocol::reason::Reason;
use protocol::release::Pin;
use protocol::report::{HookOutcome, Phase};
use protocol::units::Millis;

use super::stories::{READY, settled};
use super::wishes::{name, spec};
use super::world::{App, World};
use crate::node::{Exit, Finding, ImageState, Life, Repair};

const EMPTY: &str = "/app in it is empty";

/// The pin of the version that was wanted last.
fn pin(world: &World, version: u64) -> Pin {
    let mut releases = world.wanted.releases.values();
    releases.find(|r| r.counter == version).expect("known").image.pin.clone()
}

fn damage(world: &mut World, version: u64, repair: Repair) {
    let pin = pin(world, version);
    let state = ImageState::Damaged { what: EMPTY.to_owned(), repair };
    world.observed.images.insert(pin, state);
}

/// Every instance that is up has ended, as after a power cut.
fn end_all(world: &mut World) {
    let now = world.now;
    for instance in world.observed.services.values_mut().flat_map(|f| &mut f.instances) {
        instance.life = Life::Exited(Exit { at: now, code: 127, oom: false });
        instance.probed = crate::node::Probed::default();
    }
}

#[test]
fn a_release_whose_image_is_damaged_waits_for_a_fresh_one_and_is_not_blamed() {
    let mut world = settled(&spec("web"), 1);
    world.want(&spec("web"), 2, App::Exits(0), 1, 1);
    world.run(100);
    world.check_told("pull web:v2, begin v2, create v2-0, start v2-0");
    damage(&mut world, 2, Repair::Due);
    let waiting = world.verdict("web").waiting;
    world.want(&spec("web"), 2, READY, 1, 1);
    world.run(2_000);
    world.check_told(
        "remove v2-0, discard web:v2, pull web:v2, create v2-0, start v2-0, drain v1-0, route v2-0,
         stop v1-0, unroute v1-0, complete",
    );
    assert!(world.history[&name("web")].failures.is_empty());
    assert_eq!(waiting, None, "the container goes at once");
}

#[test]
fn an_image_that_is_damaged_again_fails_its_release_with_what_is_left_to_do() {
    let mut world = settled(&spec("web"), 1);
    world.want(&spec("web"), 2, App::Exits(0), 1, 1);
    world.run(100);
    world.told.clear();
    damage(&mut world, 2, Repair::InVain);
    world.run(500);
    world.check_told("give up v2: image_damaged, remove v2-0, complete");
    let message = world.history[&name("web")].failures[0].message.clone();
    for part in [EMPTY, "also after web:v2 was fetched again", "card is failing"] {
        assert!(message.contains(part), "{message}");
    }
    assert_eq!(world.phase("web"), Phase::RolledBack);
}

#[test]
fn the_stable_release_is_repaired_after_a_power_cut() {
    let mut world = settled(&spec("web"), 2);
    end_all(&mut world);
    damage(&mut world, 1, Repair::Due);
    world.run(2_000);
    let told = world.told.join(", ");
    assert!(told.contains("remove v1-1, discard web:v1, pull web:v1, create v1-0"), "{told}");
    assert_eq!(world.phase("web"), Phase::Running);
}

#[test]
fn an_instance_that_runs_keeps_its_image_and_its_neighbour_waits_for_it() {
    let mut world = settled(&spec("web"), 2);
    let now = world.now;
    let web = world.observed.services.get_mut(&name("web")).unwrap();
    web.instances[0].life = Life::Exited(Exit { at: now, code: 127, oom: false });
    web.instances[0].probed = crate::node::Probed::default();
    damage(&mut world, 1, Repair::Due);
    world.run(5_000);
    world.check_told("unroute v1-0");
    let waiting = world.verdict("web").waiting.unwrap();
    assert_eq!(waiting.reason, Reason::ImageDamaged);
    assert!(waiting.message.ends_with("as soon as no instance of it runs"), "{}", waiting.message);
}

#[test]
fn containers_of_every_service_that_has_the_image_go_first() {
    let mut world = settled(&spec("web"), 1);
    world.want(&spec("api"), 1, READY, 1, 1);
    let shared = pin(&world, 1);
    for release in world.wanted.releases.values_mut() {
        std::sync::Arc::make_mut(release).image.pin = shared.clone();
    }
    world.run(2_000);
    end_all(&mut world);
    damage(&mut world, 1, Repair::Due);
    world.told.clear();
    world.run(3_000);
    let at = |what: &str| world.told.iter().position(|t| t.starts_with(what)).expect(what);
    let discard = at("discard");
    let removals = world.told.iter().take(discard).filter(|t| t.starts_with("remove"));
    assert_eq!(removals.count(), 2, "{:?}", world.told);
    assert_eq!(world.phase("web"), Phase::Running);
    assert_eq!(world.phase("api"), Phase::Running);
}

#[test]
fn an_image_that_no_registry_has_waits_for_a_person_who_is_told_the_mend() {
    let mut world = settled(&spec("web"), 1);
    end_all(&mut world);
    let local = Pin::ImageId(format!("sha256:{}", "7".repeat(64)).parse().unwrap());
    for release in world.wanted.releases.values_mut() {
        std::sync::Arc::make_mut(release).image.pin = local.clone();
    }
    damage(&mut world, 1, Repair::Due);
    world.run(60_000);
    world.check_told("unroute v1-0, remove v1-0");
    let message = world.verdict("web").waiting.unwrap().message;
    assert!(message.contains("`docker load` it again"), "{message}");
    // Somebody did.
    world.observed.images.insert(local, ImageState::Present);
    world.run(2_000);
    assert_eq!(world.phase("web"), Phase::Running);
}

#[test]
fn a_program_that_cannot_run_here_fails_its_release_at_the_first_end() {
    for reason in [Reason::WrongPlatform, Reason::StartFailed] {
        let mut world = settled(&spec("web"), 1);
        world.want(&spec("web"), 2, App::Exits(0), 1, 1);
        world.run(100);
        let web = world.observed.services.get_mut(&name("web")).unwrap();
        let message = "/app in the image is a program for x86-64".to_owned();
        let new = web.instances.iter_mut().find(|i| i.name == "v2-0").unwrap();
        new.finding = Finding::Unrunnable { reason, message };
        world.told.clear();
        world.run(200);
        world.check_told(&format!("give up v2: {reason}, remove v2-0, complete"));
    }
}

#[test]
fn the_deadline_does_not_count_while_the_image_comes_again() {
    let mut web = spec("web");
    web.rollout.progress_deadline = Millis::from_secs(5);
    let mut world = World::new();
    world.want(&web, 1, App::NeverReady, 1, 1);
    world.run(100);
    let progress = "pulling web:v1: 1 of 9 MiB".to_owned();
    let pin = pin(&world, 1);
    world.observed.images.insert(pin, ImageState::Pulling { progress, stalled: false });
    world.observed.services.get_mut(&name("web")).unwrap().instances.clear();
    world.told.clear();
    world.run(60_000);
    world.check_told("");
    assert_eq!(world.verdict("web").waiting.unwrap().reason, Reason::PullingImage);
}

#[test]
fn what_stopped_first_goes_back_where_the_image_does_not_come_again_in_time() {
    let mut web = spec("web");
    web.rollout.strategy = protocol::spec::Strategy::Recreate;
    let mut world = settled(&web, 1);
    world.want(&web, 2, App::NeverReady, 1, 1);
    world.run(1_000);
    let pin = pin(&world, 2);
    let progress = "web:v2: no bytes for 30 s".to_owned();
    world.observed.images.insert(pin, ImageState::Pulling { progress, stalled: true });
    let facts = world.observed.services.get_mut(&name("web")).unwrap();
    facts.instances.retain(|i| i.name != "v2-0");
    world.told.clear();
    world.run(65_000);
    let told = world.told.join(", ");
    assert!(told.starts_with("give up v2: not_ready_in_time, start v1-0"), "{told}");
    assert_eq!(world.phase("web"), Phase::RolledBack);
}

#[test]
fn a_hook_whose_image_is_damaged_is_run_once_that_is_whole() {
    let mut web = spec("web");
    web.hooks.pre_deploy = Some(protocol::spec::Hook {
        command: vec!["/app".to_owned()],
        env: std::collections::BTreeMap::new(),
        timeout: Millis::from_secs(60),
    });
    let mut world = World::new();
    world.run_hook(&web, 1, App::NeverReady, HookKind::PreDeploy);
    world.run(1_000);
    world.told.clear();
    let now = world.now;
    let facts = world.observed.services.get_mut(&name("web")).unwrap();
    // An empty script ends well: nobody believes it before somebody has looked.
    facts.instances[0].life = Life::Exited(Exit { at: now, code: 0, oom: false });
    facts.instances[0].finding = Finding::Sought;
    assert_eq!(world.verdict("web").hook.unwrap().outcome, HookOutcome::Underway);
    damage(&mut world, 1, Repair::Due);
    world.run(1_000);
    world.check_told(
        "remove v1-pre_deploy, discard web:v1, pull web:v1, create v1-pre_deploy, start v1-pre_deploy",
    );
}
