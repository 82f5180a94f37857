//! Secrets told as stories: sealed copies come in, manifests with those of one node go out.

use protocol::id::{EnvironmentName, SecretName};
use protocol::keys::SecretKey;
use protocol::secret::{self, Clear, Label, Reader};

use super::super::records::{NodeCopy, OperatorCopy};
use super::super::requests::{AddCopies, CopiesOf, Refused, SetSecret};
use super::super::shown::SecretSet;
use super::world::World;

pub(super) const WEB: &str = "name = \"web\"\nper_node = 1\n[[secrets]]\nname = \"db\"\n";

fn db() -> SecretName {
    "db".parse().unwrap()
}

fn here() -> EnvironmentName {
    "default".parse().unwrap()
}

fn release_key() -> SecretKey {
    SecretKey::from_seed([2; 32])
}

/// What the command line would send for the nodes that it is told of.
fn request(
    world: &World,
    environment: &EnvironmentName,
    name: &SecretName,
    value: &str,
) -> SetSecret {
    let shown = world.state.show_secrets(environment);
    let version = shown.newest.get(name).copied().unwrap_or(0) + 1;
    let fleet = &world.state.director.fleet;
    let clear = Clear::new(value.as_bytes().to_vec());
    let seal = |reader: &Reader, key: &protocol::join::SealKey| {
        let label = Label { fleet, environment, name, version, reader };
        secret::seal(&label, key, &clear, [1; 32]).unwrap()
    };
    let node = |one: &super::super::shown::RecipientShown| {
        let key = one.seal_key.clone()?;
        let sealed = seal(&Reader::Node(one.node.clone()), &key);
        Some(NodeCopy { node: one.node.clone(), key, sealed })
    };
    let key = release_key().public();
    let sealed = seal(&Reader::Operator(key.clone()), &key.seal_key());
    SetSecret {
        version,
        must_exist: false,
        registry: None,
        operators: vec![OperatorCopy { key, sealed }],
        nodes: shown.recipients.iter().filter_map(node).collect(),
        cause: None,
        by: "alice".to_owned(),
    }
}

pub(super) fn set(world: &mut World, value: &str) -> Result<SecretSet, Refused> {
    let request = request(world, &here(), &db(), value);
    let set = world.state.set_secret(&here(), &db(), request, world.at);
    world.settle();
    set
}

/// What the node finds in its manifest, opened with its own key.
fn opened(world: &World, handle: &str) -> Vec<(u64, String)> {
    let (fleet, environment) = (&world.state.director.fleet, here());
    let reader = Reader::Node(world.node_id(handle));
    let open = |copy: &secret::Copy| {
        let (name, version) = (&copy.name, copy.version);
        let label = Label { fleet, environment: &environment, name, version, reader: &reader };
        let clear = secret::open(&label, &world.keys[handle].opening_key(), &copy.sealed).unwrap();
        (version, String::from_utf8(clear.bytes().to_vec()).unwrap())
    };
    world.manifest(handle).secrets.iter().map(open).collect()
}

#[test]
fn a_login_goes_to_the_nodes_that_pull_from_its_registry_and_to_no_container() {
    let mut world = World::with_nodes(&["a", "b"]);
    let login = |world: &mut World, value: &str, registry: &str| {
        let registry = Some(registry.to_owned());
        let request = SetSecret { registry, ..request(world, &here(), &db(), value) };
        let set = world.state.set_secret(&here(), &db(), request, world.at);
        world.settle();
        set
    };
    world.deploy_file("name = \"api\"\nper_node = 1\n[placement]\nnodes = [\"a\"]\n", "v1");
    let first = login(&mut world, "one", "r.io").unwrap();
    assert_eq!((first.rollouts.len(), first.lacking.len()), (0, 0), "nothing is rolled out");
    assert_eq!(opened(&world, "a"), [(1, "one".to_owned())]);
    assert_eq!(world.manifest("a").secrets[0].registry.as_deref(), Some("r.io"));
    let _ = login(&mut world, "two", "r.io").unwrap();
    assert_eq!(opened(&world, "a"), [(2, "two".to_owned())]);

    assert_eq!(world.try_file(WEB, "v1").unwrap_err().code(), "secret_of_registry");
    assert_eq!(set(&mut world, "three").unwrap_err().code(), "secret_kind");
    assert_eq!(login(&mut world, "three", "other.io").unwrap_err().code(), "secret_kind");
    let _ = world.state.remove_secret(&here(), &db(), world.at).unwrap();
    world.settle();
    assert_eq!(opened(&world, "a"), []);
}

#[test]
fn a_service_needs_a_value_and_each_node_gets_the_copy_that_is_its_own() {
    let mut world = World::with_nodes(&["a", "b"]);
    let refused = world.try_file(WEB, "v1").unwrap_err();
    assert_eq!(refused.code(), "no_secret");
    assert!(refused.to_string().contains("pith secret set db --env default"), "{refused}");
    assert_eq!(world.plan_file(WEB, "v1").unwrap_err().code(), "no_secret");
    let first = set(&mut world, "one").unwrap();
    assert_eq!((first.version, first.rollouts.len(), first.lacking.len()), (1, 0, 0));
    world.deploy_file(WEB, "v1");
    world.all_run();
    for handle in ["a", "b"] {
        assert_eq!(opened(&world, handle), [(1, "one".to_owned())]);
        assert_eq!(world.manifest(handle).services[0].secrets[&db()], 1);
    }
}

#[test]
fn another_value_is_another_revision_and_the_one_before_stays_while_it_may_be_gone_back_to() {
    let mut world = World::with_nodes(&["a", "b"]);
    set(&mut world, "one").unwrap();
    world.deploy_file(WEB, "v1");
    world.all_run();
    let second = set(&mut world, "two").unwrap();
    let [accepted] = second.rollouts.as_slice() else { panic!("{second:?}") };
    assert_eq!((accepted.revision, accepted.from_revision), (2, Some(1)));
    assert_eq!(opened(&world, "a"), [(2, "two".to_owned())]);
    assert_eq!(opened(&world, "b"), [(1, "one".to_owned())], "its turn comes later");
    world.restart();
    world.all_run();
    assert_eq!(world.rollout("web").state, "succeeded");
    assert_eq!(opened(&world, "b"), [(2, "two".to_owned())]);
    set(&mut world, "three").unwrap();
    world.all_run();
    let kept: Vec<u64> = world.state.secrets[&(here(), db())].versions.keys().copied().collect();
    assert_eq!(kept, [2, 3], "nothing goes back to the first any more");
    // The same file is nothing to do; an undo takes the newest value.
    assert!(world.try_file(WEB, "v1").unwrap().unchanged);
}

#[test]
fn a_node_that_comes_later_lacks_a_copy_until_it_is_sealed_again() {
    let mut world = World::with_nodes(&["a"]);
    set(&mut world, "one").unwrap();
    world.deploy_file(WEB, "v1");
    world.all_run();
    world.joins_as("b", "b");
    assert_eq!(world.manifest("b").services[0].secrets[&db()], 1);
    assert_eq!(opened(&world, "b"), []);
    let shown = world.state.show_secrets(&here());
    assert_eq!(shown.secrets[0].lacking, ["b".parse().unwrap()]);
    let unsynced = world.state.show_unsynced(&here());
    let [lacking] = unsynced.lacking.as_slice() else { panic!("{unsynced:?}") };
    assert_eq!((lacking.version, lacking.nodes.as_slice()), (1, &[world.node_id("b")][..]));

    // As `pith secret sync` does it: with the release key, from the operator's copy.
    let fleet = world.state.director.fleet.clone();
    let (name, environment, key) = (db(), here(), release_key());
    let reader = Reader::Operator(key.public());
    let label = |reader| Label {
        fleet: &fleet,
        environment: &environment,
        name: &name,
        version: 1,
        reader,
    };
    let clear = secret::open(&label(&reader), &key.opening_key(), &lacking.operators[0].sealed);
    let reader = Reader::Node(world.node_id("b"));
    let seal_key = world.keys["b"].public().seal_key();
    let sealed = secret::seal(&label(&reader), &seal_key, &clear.unwrap(), [5; 32]).unwrap();
    let nodes = vec![NodeCopy { node: world.node_id("b"), key: seal_key, sealed }];
    let copies = vec![CopiesOf { name: name.clone(), version: 1, operators: Vec::new(), nodes }];
    let synced =
        world.state.add_copies(&here(), AddCopies { copies, by: "alice".into() }, world.at);
    assert_eq!(synced.unwrap().nodes, ["b".parse().unwrap()]);
    assert!(world.settle().contains(&world.node_id("b")));
    assert_eq!(opened(&world, "b"), [(1, "one".to_owned())]);
    assert!(world.state.show_unsynced(&here()).lacking.is_empty());
}

#[test]
fn a_secret_of_another_environment_is_another_one_and_numbers_are_not_given_twice() {
    let mut world = World::with_nodes(&["a"]);
    world.joins_in("s", "staging");
    set(&mut world, "one").unwrap();
    let staging: EnvironmentName = "staging".parse().unwrap();
    let of_staging = request(&world, &staging, &db(), "other");
    assert_eq!(of_staging.nodes.len(), 1);
    let set_there = world.state.set_secret(&staging, &db(), of_staging.clone(), world.at).unwrap();
    assert_eq!(set_there.version, 1);
    let again = world.state.set_secret(&staging, &db(), of_staging, world.at).unwrap_err();
    assert_eq!(again.code(), "secret_changed");
    world.state.remove_secret(&staging, &db(), world.at).unwrap();
    assert!(world.state.show_secrets(&staging).secrets.is_empty());
    assert_eq!(request(&world, &staging, &db(), "new").version, 2);
    let must_exist = SetSecret { must_exist: true, ..request(&world, &staging, &db(), "new") };
    let refused = world.state.set_secret(&staging, &db(), must_exist, world.at).unwrap_err();
    assert_eq!(refused.code(), "no_secret");
}

#[test]
fn what_is_used_is_not_removed_and_a_revoked_node_names_what_it_could_read() {
    let mut world = World::with_nodes(&["a"]);
    set(&mut world, "one").unwrap();
    world.deploy_file(WEB, "v1");
    let refused = world.state.remove_secret(&here(), &db(), world.at).unwrap_err();
    assert_eq!(refused.code(), "secret_used");
    let revoked = world.state.revoke("a", world.at).unwrap();
    let [named] = revoked.secrets.as_slice() else { panic!("{revoked:?}") };
    assert_eq!((&named.name, &named.environment), (&db(), &here()));
}

#[test]
fn copies_for_strangers_and_values_that_no_manifest_has_room_for_are_refused_whole() {
    let mut world = World::with_nodes(&["a"]);
    set(&mut world, "one").unwrap();
    let mut stranger = request(&world, &here(), &db(), "two");
    stranger.nodes[0].node = "f".repeat(32).parse().unwrap();
    let refused = world.state.set_secret(&here(), &db(), stranger, world.at).unwrap_err();
    assert_eq!(refused.code(), "not_a_reader");
    let names: Vec<SecretName> = (0..12).map(|k| format!("s{k}").parse().unwrap()).collect();
    let mut text = "name = \"web\"\nper_node = 1\n".to_owned();
    for name in &names {
        text.push_str(&format!("[[secrets]]\nname = \"{name}\"\n"));
        let small = request(&world, &here(), name, "x");
        world.state.set_secret(&here(), name, small, world.at).unwrap();
    }
    world.deploy_file(&text, "v1");
    world.all_run();
    let large = "x".repeat(secret::MAX_SECRET_BYTES);
    let refused = names.iter().find_map(|name| {
        let large = request(&world, &here(), name, &large);
        let set = world.state.set_secret(&here(), name, large, world.at);
        world.settle();
        world.all_run();
        Some((name, set.err()?))
    });
    let (name, refused) = refused.expect("256 KiB are full");
    assert_eq!(refused.code(), "manifest_too_large");
    let kept = &world.state.secrets[&(here(), name.clone())];
    assert_eq!(kept.newest, 1, "nothing of it is kept");
    assert_eq!(world.rollout("web").state, "succeeded");
}
