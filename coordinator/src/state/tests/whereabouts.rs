//! The coordinator says where it will be: who is told, who has learned it, and what is refused.

use protocol::envelope::Envelope;
use protocol::hello::Hello;
use protocol::id::NodeId;
use protocol::keys::Role;
use protocol::topic::Up;
use protocol::whereabouts::{Edition, Learned, Whereabouts, accept};

use super::super::requests::Refused;
use super::super::whereabouts::Moving;
use super::super::{At, Effects, State};
use super::world::{World, director};
use crate::state::records::Change;

fn to(address: &str) -> Moving {
    Moving::To(address.to_owned())
}

fn forget(address: &str) -> Moving {
    Moving::Forget(address.to_owned())
}

/// What nodes are told, as they accept it.
fn said(state: &State) -> Whereabouts {
    accept(&state.addresses().unwrap(), &director().root).unwrap().into_inner()
}

fn told(effects: &Effects) -> Vec<NodeId> {
    effects.publish_addresses.iter().cloned().collect()
}

/// A hello of a node that has learned this.
fn greets(world: &mut World, name: &str, edition: Option<Edition>) -> Effects {
    let role = Role::single(world.keys[name].public());
    let envelope = Envelope::from_bytes(&world.hello_bytes(name)).unwrap();
    let mut hello = envelope.open::<Hello>().unwrap().verify(&role).unwrap().into_inner();
    let addresses = vec!["new:8883".to_owned(), "old:8883\u{1b}".to_owned()];
    hello.learned = edition.map(|edition| Learned { edition, addresses, broker: None });
    let (node, bytes) = (world.node_id(name), Envelope::sign(&hello, &[&world.keys[name]]));
    world.state.heard(&node, Up::Hello, &bytes.to_bytes(), world.at).unwrap();
    world.state.take_effects(world.at)
}

#[test]
fn every_node_is_told_and_counts_once_it_says_that_it_has_learned_it() {
    let mut world = World::with_nodes(&["node-1", "node-2"]);
    assert_eq!(world.state.addresses(), None);
    assert!(world.state.show_addresses().nodes.iter().all(|node| node.learned), "nothing to learn");

    world.state.tell_addresses(&to("new:8883"), world.at).unwrap();
    let effects = world.state.take_effects(world.at);
    let mut both = vec![world.node_id("node-1"), world.node_id("node-2")];
    both.sort();
    assert_eq!(told(&effects), both);
    assert!(effects.changes.iter().any(|change| matches!(change, Change::Whereabouts(_))));
    let Whereabouts { edition, addresses, .. } = said(&world.state);
    assert_eq!(addresses, ["new:8883"]);
    assert_eq!(world.state.show_addresses().waiting().count(), 2);

    let effects = greets(&mut world, "node-1", Some(edition));
    assert_eq!(told(&effects), [], "it knows");
    let shown = world.state.show_addresses();
    assert_eq!(shown.waiting().map(|node| node.node.as_str()).collect::<Vec<_>>(), ["node-2"]);
    assert_eq!(shown.nodes[0].knows, ["new:8883", "old:8883 "], "safe on a terminal");

    // An older one, or none: it is told again.
    let older = Edition { number: edition.number - 1, ..edition };
    for known in [None, Some(older)] {
        let effects = greets(&mut world, "node-2", known);
        assert_eq!(told(&effects), [world.node_id("node-2")]);
    }
}

#[test]
fn numbers_only_grow_whatever_the_clock_says_and_the_same_again_is_no_change() {
    let mut world = World::with_nodes(&["node-1"]);
    world.state.tell_addresses(&to("new:8883"), world.at).unwrap();
    let first = said(&world.state).edition;
    assert_eq!(first.number, world.at.unix_ms / 1000);
    world.state.tell_addresses(&to("new:8883"), world.at).unwrap();
    assert_eq!(said(&world.state).edition, first);
    let long_ago = At { unix_ms: 5_000, ..world.at };
    world.state.tell_addresses(&to("newer:8883"), long_ago).unwrap();
    assert_eq!(said(&world.state).edition.number, first.number + 1);
    assert_eq!(said(&world.state).addresses, ["newer:8883", "new:8883"]);
}

#[test]
fn an_address_is_forgotten_by_name_and_the_last_one_is_not() {
    let mut world = World::with_nodes(&["node-1"]);
    let tell = |world: &mut World, moving| world.state.tell_addresses(&moving, world.at);
    let none = tell(&mut world, forget("old:8883"));
    assert_eq!(none, Err(Refused::LastAddress("old:8883".to_owned())));
    tell(&mut world, to("new:8883")).unwrap();
    tell(&mut world, forget("old:8883")).unwrap();
    assert_eq!(said(&world.state).forgotten, ["old:8883"]);
    tell(&mut world, to("old:8883")).unwrap();
    assert_eq!(said(&world.state).forgotten, [""; 0], "back there");
    assert_eq!(said(&world.state).addresses, ["old:8883", "new:8883"]);
    for bad in ["hub", "a b:1", "hub:0"] {
        let refused = tell(&mut world, to(bad)).unwrap_err();
        assert_eq!(refused.code(), "bad_address", "{bad}");
    }
    for n in 0..6 {
        tell(&mut world, to(&format!("hub-{n}:8883"))).unwrap();
    }
    assert_eq!(tell(&mut world, to("one-more:8883")), Err(Refused::TooManyAddresses(8)));
}

#[test]
fn a_node_that_is_admitted_and_has_not_come_yet_is_named_and_one_that_is_revoked_is_not() {
    let mut world = World::with_nodes(&["node-1", "node-2"]);
    let late: NodeId = "f".repeat(32).parse().unwrap();
    world.state.admit(&late, world.at).unwrap();
    world.state.revoke("node-2", world.at).unwrap();
    world.state.tell_addresses(&to("new:8883"), world.at).unwrap();
    let shown = world.state.show_addresses();
    let missing: Vec<(&str, bool)> =
        shown.missing().map(|one| (one.node.as_str(), one.online)).collect();
    assert_eq!(missing, [(late.as_str(), false), ("node-1", true)]);
}
