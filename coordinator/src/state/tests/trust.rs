//! The trust root changes while the coordinator runs, and while it does not.

use protocol::envelope::Envelope;
use protocol::keys::{Role, RoleName, Root, SecretKey};
use protocol::manifest::Manifest;
use protocol::succession::Chain;

use super::super::requests::Refused;
use super::super::{Director, State};
use super::world::{World, director, id};

fn key(seed: u8) -> SecretKey {
    SecretKey::from_seed([seed; 32])
}

/// The root after `current` in which a role has this key, signed by the root key.
fn next(current: &Root, role: RoleName, seed: u8) -> (Root, Envelope) {
    let mut root = Root { version: current.version + 1, ..current.clone() };
    root.roles.insert(role, Role::single(key(seed).public()));
    let envelope = Envelope::sign(&root, &[&key(1)]);
    (root, envelope)
}

fn verifies(state: &State, world: &World, node: &str, root: &Root) -> bool {
    let bytes = state.manifest(&world.node_id(node)).unwrap();
    Envelope::from_bytes(bytes).unwrap().verify::<Manifest>(root).is_ok()
}

#[test]
fn a_new_director_signs_every_manifest_anew_and_the_roots_go_first() {
    let mut world = World::with_nodes(&["node-1", "node-2"]);
    world.deploy("web", "v1").unwrap();
    world.all_run();
    let before = world.generation("node-1");
    let (root, envelope) = next(&director().root, RoleName::Director, 13);
    let shown = world.state.succeed(envelope.clone(), vec![key(3), key(13)], world.at).unwrap();
    assert_eq!((shown.version, &shown.director), (2, &key(13).public().id()));
    assert_eq!(shown.behind.len(), 2, "nobody has said that it knows the new one");
    let effects = world.state.take_effects(world.at);
    assert_eq!(effects.root, Some(envelope.clone()), "kept before it is told");
    assert_eq!((effects.publish_roots.len(), effects.publish.len()), (2, 2));
    for node in ["node-1", "node-2"] {
        assert!(verifies(&world.state, &world, node, &root), "{node}");
    }
    assert_eq!(world.generation("node-1"), before + 1);
    let chain = Chain::from_bytes(&world.state.roots().unwrap()).unwrap();
    assert_eq!(chain.roots, [envelope]);
}

#[test]
fn a_root_that_does_not_follow_changes_nothing() {
    let mut world = World::with_nodes(&["node-1"]);
    let held = || vec![key(3), key(13)];
    let (root, good) = next(&director().root, RoleName::Director, 13);
    let skipped = Root { version: 3, ..root.clone() };
    let skipped = Envelope::sign(&skipped, &[&key(1)]);
    let by_stranger = Envelope::sign(&root, &[&key(9)]);
    for (bad, code) in [(skipped, "root_version"), (by_stranger, "root_signature")] {
        let refused = world.state.succeed(bad, held(), world.at).unwrap_err();
        let Refused::Root(reason) = &refused else { panic!("{refused}") };
        assert_eq!((reason.code(), refused.code()), (code, "root_refused"));
    }
    let refused = world.state.succeed(good.clone(), vec![key(3)], world.at).unwrap_err();
    assert_eq!(refused.code(), "no_director_key", "it could sign nothing any more");
    assert_eq!(world.state.show_root().version, 1);
    world.state.succeed(good.clone(), held(), world.at).unwrap();
    world.state.succeed(good, held(), world.at).expect("the same once more is no mistake");
    let (_, third) = next(&root, RoleName::AgentRelease, 20);
    world.state.succeed(third, held(), world.at).unwrap();
    let replayed = next(&director().root, RoleName::Director, 13).1;
    let refused = world.state.succeed(replayed, held(), world.at).unwrap_err();
    assert!(matches!(refused, Refused::Root(_)), "an older root replayed: {refused}");
}

#[test]
fn what_only_a_revoked_key_signed_runs_on_is_named_and_goes_nowhere() {
    let mut world = World::with_nodes(&["node-1"]);
    world.deploy("web", "v1").unwrap();
    world.all_run();
    world.deploy("web", "v2").unwrap();
    world.all_run();
    let assigned = world.assigned("node-1");
    let (root, envelope) = next(&director().root, RoleName::Release, 12);
    let shown = world.state.succeed(envelope, vec![key(3)], world.at).unwrap();
    world.settle();
    let named: Vec<(u64, bool)> = shown.distrusted.iter().map(|d| (d.revision, d.runs)).collect();
    assert_eq!(named, [(1, false), (2, true)]);
    assert_eq!(world.assigned("node-1"), assigned, "what runs is left alone");
    let code = |refused: Result<_, Refused>| {
        refused.map(|_: super::super::requests::Accepted| ()).unwrap_err().code()
    };
    assert_eq!(code(world.undo("web", Some(1))), "release_distrusted");
    let restart = super::super::requests::Undo::default();
    assert_eq!(code(world.state.restart(&id("web"), restart, world.at)), "release_distrusted");
    world.joins_as("node-2", "node-2");
    assert_eq!(world.assigned("node-2"), "", "a newcomer does not get it");
    // The very same content, signed by the new key.
    let old = world.sign("web", "v2");
    assert_eq!(code(world.deploy_envelope(old)), "release_refused");
    let signed = world.sign_with("web", "v2", 12);
    let accepted = world.deploy_envelope(signed).unwrap();
    assert!(!accepted.unchanged);
    world.all_run();
    assert!(world.assigned("node-2").starts_with("web:3"), "{}", world.assigned("node-2"));
    assert!(verifies(&world.state, &world, "node-1", &root));
    assert_eq!(world.undo("web", Some(2)).unwrap_err().code(), "release_distrusted");
}

#[test]
fn a_director_that_changed_while_the_coordinator_was_down_signs_once_nodes_have_spoken() {
    let mut world = World::with_nodes(&["node-1"]);
    world.deploy("web", "v1").unwrap();
    world.all_run();
    let before = world.generation("node-1");
    let old = director();
    let (root, envelope) = next(&old.root, RoleName::Director, 13);
    let chain = Chain { roots: vec![envelope] };
    let director = Director { fleet: old.fleet, root: root.clone(), chain, key: key(13) };
    let published = world.restart_as(director);
    assert!(published.contains(&world.node_id("node-1")));
    assert!(verifies(&world.state, &world, "node-1", &root));
    assert_eq!(world.generation("node-1"), before + 1);
}

#[test]
fn a_node_that_says_it_knows_an_older_root_is_told_again() {
    let mut world = World::with_nodes(&["node-1"]);
    let (_, envelope) = next(&director().root, RoleName::AgentRelease, 20);
    world.state.succeed(envelope, vec![key(3)], world.at).unwrap();
    world.settle();
    let hello = world.hello_bytes("node-1");
    let node = world.node_id("node-1");
    world.state.heard(&node, protocol::topic::Up::Hello, &hello, world.at).unwrap();
    assert!(world.state.take_effects(world.at).publish_roots.contains(&node));
}
