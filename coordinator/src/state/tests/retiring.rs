//! Security floors: what they refuse, what they leave alone, and what survives a restart.

use protocol::FORMAT;
use protocol::acceptance::{Known, NodeIdentity, accept};
use protocol::envelope::Envelope;
use protocol::keys::SecretKey;
use protocol::reason::Reason;
use protocol::retirement::Retirement;

use super::super::requests::{Promote, Refused, Retire};
use super::super::shown::RetiredShown;
use super::world::{self, World, id};

impl World {
    pub(super) fn retire(&mut self, service: &str, below: u64) -> Result<RetiredShown, Refused> {
        self.retire_by(service, below, 2)
    }

    fn retire_by(&mut self, service: &str, below: u64, key: u8) -> Result<RetiredShown, Refused> {
        let (fleet, service) = (world::FLEET.parse().unwrap(), service.parse().unwrap());
        let retirement = Retirement { format: FORMAT, fleet, service, below };
        let retirement = Envelope::sign(&retirement, &[&SecretKey::from_seed([key; 32])]);
        let retire = Retire { retirement, cause: Some("leak".to_owned()), by: "anna".to_owned() };
        let retired = self.state.retire(retire, self.at);
        self.settle();
        retired
    }

    fn deployed(&mut self, version: &str) {
        self.deploy("web", version).unwrap();
        self.all_run();
    }

    /// The floor of web that a node's manifest carries.
    fn told(&self, handle: &str) -> Option<u64> {
        let manifest = self.manifest(handle);
        let retirement = manifest.retirements.first()?;
        let retirement = retirement.verify::<Retirement>(&world::director().root).unwrap();
        Some(retirement.below)
    }

    fn code(refused: Result<impl std::fmt::Debug, Refused>) -> (&'static str, String) {
        let refused = refused.unwrap_err();
        (refused.code(), refused.to_string())
    }
}

/// Releases 1, 2 and 3 of web in the default environment, on two nodes.
fn settled() -> World {
    let mut world = World::with_nodes(&["a", "b"]);
    ["v1", "v2", "v3"].iter().for_each(|version| world.deployed(version));
    world
}

#[test]
fn nothing_goes_back_below_the_floor_and_history_says_so() {
    let mut world = settled();
    let generation = world.generation("a");
    let retired = world.retire("web", 2).unwrap();
    assert!(!retired.unchanged && retired.told.len() == 2, "{retired:?}");
    assert_eq!(world.told("a"), Some(2));
    assert_eq!(world.generation("a"), generation + 1);
    assert_eq!(world.assigned("a"), "web:3x1", "what runs is left alone");
    let (code, message) = World::code(world.undo("web", Some(1)));
    assert_eq!(code, "retired");
    assert!(message.contains("release 1 of web is retired"), "{message}");
    let shown = world.state.show_history(&id("web")).unwrap();
    let marks: Vec<_> = shown.revisions.iter().map(|r| (r.counter, r.retired)).collect();
    assert_eq!(marks, [(1, true), (2, false), (3, false)]);
    let events = world.state.show_events(&super::super::views::EventFilter {
        service: Some(id("web")),
        limit: 1,
        ..Default::default()
    });
    assert_eq!(events.events[0].message, "releases below 2 are retired by anna: leak");
    assert_eq!(world.undo("web", None).unwrap().revision, 4, "release 2 is as good as ever");
}

#[test]
fn undo_without_a_number_skips_what_is_retired_and_says_so_where_nothing_is_left() {
    let mut world = settled();
    world.retire("web", 3).unwrap();
    let (code, message) = World::code(world.undo("web", None));
    assert_eq!(code, "retired");
    assert!(message.contains("release 2 of web is retired: only 3"), "{message}");
    world.deploy("web", "v4").unwrap();
    world.gives_up("a", "web", Reason::CrashLoop);
    world.all_run();
    assert_eq!(
        world.assigned("a"),
        "web:3x1",
        "a bad release goes back to one that reaches the floor"
    );
}

#[test]
fn a_floor_never_falls_and_an_equal_one_changes_nothing() {
    let mut world = settled();
    world.retire("web", 2).unwrap();
    let generation = world.generation("a");
    for below in [2, 1] {
        let again = world.retire("web", below).unwrap();
        assert!(again.unchanged && again.below == 2, "{again:?}");
    }
    assert_eq!(world.generation("a"), generation);
    world.restart();
    assert_eq!(World::code(world.undo("web", Some(1))).0, "retired");
    assert_eq!(world.told("a"), Some(2));
    assert!(world.retire("web", 1).unwrap().unchanged);
}

#[test]
fn what_is_not_signed_by_the_release_role_or_is_no_known_release_is_refused() {
    let mut world = settled();
    assert_eq!(World::code(world.retire_by("web", 2, 3)).0, "retirement_refused", "director");
    assert_eq!(World::code(world.retire_by("web", 2, 9)).0, "retirement_refused", "stranger");
    let (code, message) = World::code(world.retire("web", 5));
    assert_eq!(code, "floor_too_high");
    assert!(message.contains("at most --below 4"), "{message}");
    assert_eq!(World::code(world.retire("db", 1)).0, "no_service");
    assert_eq!(world.told("a"), None);
}

#[test]
fn what_stands_or_is_on_its_way_is_not_retired() {
    let mut world = settled();
    let (code, message) = World::code(world.retire("web", 4));
    assert_eq!(code, "still_runs");
    for part in ["default needs release 3 of web: revision 3", "pith deploy", "--env default"] {
        assert!(message.contains(part), "{message}");
    }
    world.deploy("web", "v4").unwrap();
    assert_eq!(World::code(world.retire("web", 4)).0, "still_runs", "it may go back to 3");
    world.all_run();
    world.retire("web", 4).unwrap();
}

#[test]
fn a_node_that_stayed_behind_is_named() {
    let mut world = World::with_nodes(&["a", "b"]);
    world.deployed("v1");
    world.deploy_as("v2", "error_threshold = 1\nbatch = 2").unwrap();
    world.runs("a");
    let old = world.state.services[&id("web")].revisions[&1].release.clone();
    world.stays_behind("b", &old);
    assert_eq!(world.rollout("web").state, "succeeded");
    let (code, message) = World::code(world.retire("web", 2));
    assert_eq!(code, "still_runs");
    assert!(message.contains("revision 1 runs on b"), "{message}");
    world.goes_away("b");
    let retired = world.retire("web", 2).unwrap();
    assert_eq!(retired.offline.len(), 1, "{retired:?}");
}

#[test]
fn one_floor_holds_in_every_environment() {
    let mut world = settled();
    world.joins_in("p", "production");
    let promote = || Promote {
        service: "web".parse().unwrap(),
        from: "default".parse().unwrap(),
        to: "production".parse().unwrap(),
        cause: None,
        by: "test".to_owned(),
    };
    world.state.promote(promote(), world.at).unwrap();
    world.settle();
    world.all_run();
    world.deployed("v4");
    let (code, message) = World::code(world.retire("web", 4));
    assert_eq!(code, "still_runs");
    assert!(message.contains("production needs release 3"), "{message}");
    world.state.promote(promote(), world.at).unwrap();
    world.settle();
    world.all_run();
    world.retire("web", 4).unwrap();
    assert_eq!((world.told("a"), world.told("p")), (Some(4), Some(4)));
    let production =
        super::super::ServiceId { environment: "production".parse().unwrap(), ..id("web") };
    let undo = super::super::requests::Undo { to_revision: Some(1), ..Default::default() };
    assert_eq!(World::code(world.state.undo(&production, undo, world.at)).0, "retired");
    let next = world.state.show_deployed(&"production".parse().unwrap()).counters;
    assert_eq!(next[&"web".parse().unwrap()], 4, "the next release is 5, wherever it is deployed");
}

#[test]
fn a_number_is_given_once_also_after_the_service_was_removed() {
    let mut world = settled();
    world.state.remove(&id("web"), world.at).unwrap();
    world.settle();
    world.all_run();
    let retired = world.retire("web", 4).unwrap();
    assert_eq!(retired.told.len(), 2, "they ran it and may hold it still: {retired:?}");
    world.restart();
    let next = world.state.show_deployed(&"default".parse().unwrap()).counters;
    assert_eq!(next[&"web".parse().unwrap()], 3);
    world.deployed("v4");
    assert_eq!(world.assigned("a"), "web:1x1");
    assert_eq!(world.told("a"), Some(4));
}

#[test]
fn a_soak_that_could_only_go_back_below_the_floor_is_over() {
    let mut world = World::with_nodes(&["a"]);
    world.deployed("v1");
    world.deploy_as("v2", "soak = \"10m\"").unwrap();
    world.all_run();
    world.retire("web", 2).unwrap();
    world.gives_up("a", "web", Reason::FailedInSoak);
    assert_eq!(world.assigned("a"), "web:2x1");
    world.restart();
    world.gives_up("a", "web", Reason::FailedInSoak);
    assert_eq!(world.assigned("a"), "web:2x1");
}

#[test]
fn a_node_takes_the_manifest_that_raises_its_floor() {
    let mut world = settled();
    world.retire("web", 3).unwrap();
    let node = world.node_id("a");
    let bytes = world.state.manifest(&node).unwrap();
    let (fleet, environment) = (world::FLEET.parse().unwrap(), "default".parse().unwrap());
    let identity = NodeIdentity { fleet, node, environment };
    accept(bytes, &world::director().root.into(), &identity, Known::NOTHING).unwrap();
}
