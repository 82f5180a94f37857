//! A coordinator that was set back to an older copy of its database, and nodes that have seen more than it knows.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use protocol::acceptance::{Acceptance, Known, NodeIdentity, Seen, accept};
use protocol::envelope::Envelope;
use protocol::keys::Root;
use protocol::manifest::Version;
use protocol::reason::Reason;
use protocol::report::Phase;
use protocol::retirement::Floors;
use protocol::topic::Up;

use super::super::conflict::{Conflict, MEND, Said, Signed, judge};
use super::super::reconcile::Reconcile;
use super::super::records::{Change, Intent};
use super::super::requests::{Refused, Undo};
use super::super::shown::Reconciling;
use super::super::views::EventFilter;
use super::world::{World, director, id};

fn version(epoch: u64, generation: u64) -> Version {
    Version { epoch, generation }
}

/// What is judged of a node that says `seen`, where `signed` is the newest here and the trust root has epoch 2.
fn judged(seen: (u64, u64, &str), signed: (u64, u64, &str)) -> Option<Conflict> {
    let root = Root { epoch: 2, ..director().root };
    let sha = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    let said = Said { seen: version(seen.0, seen.1), sha256: sha(seen.2), root: 1 };
    let signed = Signed { version: version(signed.0, signed.1), sha256: sha(signed.2) };
    judge(&root, &signed, &said)
}

#[test]
fn what_was_signed_here_is_no_conflict() {
    for (seen, signed) in [
        ((0, 0, ""), (0, 0, "")),
        ((2, 4, "a"), (2, 5, "b")),
        ((2, 5, "b"), (2, 5, "b")),
        ((2, 5, ""), (2, 5, "b")),
        ((1, 900, "x"), (1, 4, "y")),
        ((1, 900, "x"), (2, 1, "y")),
    ] {
        assert_eq!(judged(seen, signed), None, "{seen:?} {signed:?}");
    }
}

#[test]
fn what_was_not_signed_here_is_one() {
    let newer = |seen, signed| Some(Conflict::NewerManifest { seen, signed });
    assert_eq!(judged((2, 6, "c"), (2, 5, "b")), newer(6, 5));
    assert_eq!(judged((2, 6, "c"), (1, 9, "b")), newer(6, 0), "the database is of before");
    assert_eq!(judged((2, 5, "c"), (2, 5, "b")), Some(Conflict::OtherManifest { generation: 5 }));
    assert_eq!(judged((3, 1, ""), (2, 5, "b")), Some(Conflict::NewerEpoch { seen: 3, epoch: 2 }));
    let said = Said { seen: version(1, 1), sha256: None, root: 4 };
    let judged = judge(&director().root, &Signed::default(), &said).unwrap();
    assert_eq!(judged, Conflict::NewerRoot { knows: 4, newest: 1 });
    assert!(!judged.is_mended_here() && judged.with_mend().contains(MEND));
}

proptest! {
    /// Of all that a node may say, what is agreed with is what the next manifest signed here is newer than.
    #[test]
    fn the_next_manifest_is_newer_than_all_that_is_agreed_with(
        seen in (0_u64..4, 0_u64..6), signed in (0_u64..4, 0_u64..6), epoch in 1_u64..4,
    ) {
        let root = Root { epoch, ..director().root };
        let said = Said { seen: version(seen.0, seen.1), sha256: None, root: 1 };
        let mut intent = Intent { epoch: signed.0, generation: signed.1, ..Intent::default() };
        let judged = judge(&root, &Signed { version: intent.version(), sha256: None }, &said);
        intent.count_on(epoch);
        prop_assert_eq!(judged.is_none(), said.seen < intent.version());
    }
}

const FILE_OF_LATER: &str = "name = \"later\"\n";

/// Two nodes that run web v2 and a service that was deployed later; the coordinator is that of web v1. What node a said last.
fn set_back() -> (World, Vec<u8>) {
    let mut world = World::with_nodes(&["a", "b"]);
    world.deploy("web", "v1").unwrap();
    world.all_run();
    let copy = world.copy();
    world.deploy("web", "v2").unwrap();
    world.all_run();
    world.deploy_file(FILE_OF_LATER, "v1");
    world.all_run();
    let said = world.report_bytes("a", Phase::Running);
    assert!(world.put_back(&copy).is_empty(), "nobody has said what it has seen");
    (world, said)
}

fn in_conflict() -> World {
    let (mut world, said) = set_back();
    let published = world.hears("a", Up::Report, &said);
    assert!(published.is_empty());
    world
}

fn raised() -> Envelope {
    let root = Root { version: 2, epoch: 2, ..director().root };
    Envelope::sign(&root, &[&protocol::keys::SecretKey::from_seed([1; 32])])
}

fn code<T>(refused: Result<T, Refused>) -> &'static str {
    refused.map(|_| ()).unwrap_err().code()
}

#[test]
fn a_coordinator_with_an_old_database_signs_nothing_for_a_node_that_has_seen_more() {
    let mut world = in_conflict();
    let (before, seen) =
        (world.generation("a"), world.state.nodes[&world.node_id("a")].record.seen);
    assert!(seen.generation > before, "{seen:?}");
    assert_eq!(world.assigned("a"), "web:1x1");
    world.passes(5_000);
    assert_eq!(world.generation("a"), before);
    let shown = world.state.show_nodes(None, world.at);
    assert_eq!(shown.nodes[0].status, "conflict");
    assert!(shown.nodes[0].conflict.as_ref().unwrap().contains("is the newest signed here"));
    assert_eq!(shown.nodes[1].status, "ready", "b has not spoken");
    let web = world.services();
    assert!(!web.settled && web.why.contains("a: conflict: ") && web.why.contains(MEND), "{web:?}");
    let rollout = world.rollout("web");
    assert_eq!(rollout.nodes[0].state, "conflict");
    assert_eq!(rollout.nodes[0].reason, Some(Reason::Conflict));
    assert!(rollout.nodes[0].message.as_ref().unwrap().contains(MEND));
    let events = world.state.show_events(&EventFilter { limit: 100, ..EventFilter::default() });
    let told = events.events.iter().filter(|event| event.reason == Some(Reason::Conflict));
    assert_eq!(told.count(), 1, "once, whatever it says again");
}

#[test]
fn what_needs_a_node_in_conflict_is_refused_and_says_what_mends_it() {
    let mut world = in_conflict();
    let refused = world.deploy("web", "v3").unwrap_err();
    let said = refused.to_string();
    assert!(said.starts_with("default/web needs a, in conflict") && said.contains(MEND), "{said}");
    assert_eq!(code(world.deploy("web", "v1")), "conflict", "that it runs already is not true");
    assert_eq!(code(world.plan("web", "v3")), "conflict");
    assert_eq!(code(world.undo("web", Some(1))), "conflict");
    assert_eq!(code(world.scale("web", Some(0))), "conflict");
    let restart = world.state.restart(&id("web"), Undo::default(), world.at);
    assert_eq!(code(restart), "conflict");
    assert_eq!(code(world.state.remove(&id("web"), world.at)), "conflict");
    assert_eq!(world.state.services[&id("web")].record.next_revision, 2, "nothing was begun");
}

#[test]
fn what_a_node_in_conflict_reports_moves_no_rollout() {
    let mut world = World::with_nodes(&["a"]);
    world.deploy("web", "v1").unwrap();
    let copy = world.copy();
    world.deploy("web", "v2").unwrap();
    let said = world.report_bytes("a", Phase::Running);
    world.put_back(&copy);
    world.deploy("web", "v3").unwrap();
    assert_eq!(world.rollout("web").revision, 2, "the number of the revision that was lost");
    world.hears("a", Up::Report, &said);
    assert_eq!(world.rollout("web").state, "in_progress", "a runs revision 2, and not this one");
}

#[test]
fn a_node_that_was_not_heard_gets_what_is_meant_for_it_when_it_speaks() {
    let mut world = World::with_nodes(&["a"]);
    world.deploy("web", "v1").unwrap();
    world.all_run();
    let seen = world.state.nodes[&world.node_id("a")].record.seen;
    world.put_back(&world.copy());
    world.deploy("web", "v2").unwrap();
    assert_eq!(world.generation("a"), seen.generation, "who knows what it has seen");
    assert!(!world.services().settled);
    let said = world.rollout("web").nodes[0].message.clone().unwrap();
    assert!(said.contains("has not said since the coordinator's start"), "{said}");
    // The coordinator stops before the node has spoken.
    world.put_back(&world.copy());
    let published = world.says_seen("a", seen, None, 1);
    assert!(published.contains(&world.node_id("a")));
    assert_eq!((world.generation("a"), &*world.assigned("a")), (seen.generation + 1, "web:2x1"));
}

#[test]
fn what_is_not_signed_makes_no_conflict() {
    let mut world = World::with_nodes(&["a"]);
    world.deploy("web", "v1").unwrap();
    let before = world.generation("a");
    world.has_seen("a", 40);
    assert_eq!(world.state.show_nodes(None, world.at).nodes[0].status, "ready");
    assert_eq!(world.generation("a"), before, "and is not counted on from");
    let behind = world.has_seen("a", 0);
    assert!(behind.contains(&world.node_id("a")));
}

#[test]
fn two_manifests_under_one_number_are_told_apart_by_their_bytes() {
    let mut world = World::with_nodes(&["a"]);
    world.deploy("web", "v1").unwrap();
    let (node, seen) = (world.node_id("a"), Version { epoch: 1, generation: 1 });
    let own = Envelope::from_bytes(world.state.manifest(&node).unwrap()).unwrap();
    let status = |world: &World| world.state.show_nodes(None, world.at).nodes[0].status.clone();
    world.says_seen("a", seen, own.payload_sha256().as_deref(), 1);
    assert_eq!(status(&world), "ready");
    world.says_seen("a", seen, Some("another"), 1);
    assert_eq!(status(&world), "conflict");
    world.runs("a");
    assert_eq!(status(&world), "conflict", "a report does not say the bytes again");
}

#[test]
fn a_higher_epoch_mends_it_and_only_what_an_operator_confirmed_is_dropped() {
    for confirmed in [false, true] {
        let mut world = in_conflict();
        let node = world.node_id("a");
        let shown = world.state.show_reconcile();
        let of_it = &shown.nodes[0].services;
        let actions: Vec<_> = of_it.iter().map(|s| (s.service.as_str(), s.action)).collect();
        assert_eq!(actions, [("later", Reconciling::Remove), ("web", Reconciling::Replace)]);
        assert_eq!(shown.unheard, ["b".parse().unwrap()]);
        let (runs, then) = (of_it[1].runs.as_ref().unwrap(), of_it[1].then.as_ref().unwrap());
        assert_eq!((runs.revision, &runs.image), (2, &None), "v2 is not known here");
        assert_eq!((then.revision, then.image.is_some()), (1, true));
        if confirmed {
            world.state.reconcile(&Reconcile { removals: shown.removals() }, world.at);
            assert!(world.settle().is_empty(), "kept until root has signed");
            assert_eq!(world.assigned("a"), "web:1x1");
        }
        let seen = world.state.nodes[&node].record.seen;
        world.state.succeed(raised(), Vec::new(), world.at).unwrap();
        let effects = world.effects();
        assert!(effects.publish.contains(&node) && effects.publish_roots.contains(&node));
        let bytes = world.state.manifest(&node).unwrap().to_vec();
        let identity = NodeIdentity {
            fleet: director().fleet,
            node: node.clone(),
            environment: "default".parse().unwrap(),
        };
        let root = Root { version: 2, epoch: 2, ..director().root };
        let running = BTreeSet::from(["web".parse().unwrap(), "later".parse().unwrap()]);
        let seen = Seen { version: seen, payload_sha256: "of the other".to_owned() };
        let floors = Floors::new();
        let known = Known { seen: Some(&seen), running: &running, floors: &floors };
        let accepted = accept(&bytes, &root.into(), &identity, known);
        match confirmed {
            true => {
                let Acceptance::New(accepted) = accepted.unwrap() else { panic!("it is new") };
                assert_eq!(accepted.manifest.version, Version { epoch: 2, generation: 1 });
                assert!(accepted.manifest.removed.contains(&"later".parse().unwrap()));
            }
            false => assert_eq!(accepted.unwrap_err().code(), "unnamed_removal"),
        }
        assert_eq!(world.state.show_nodes(None, world.at).nodes[0].status, "ready");
        let deployed = world.deploy("web", "v3").unwrap();
        assert_eq!(
            deployed.revision,
            if confirmed { 3 } else { 2 },
            "a lost number is not given again"
        );
    }
}

#[test]
fn a_removal_of_before_is_confirmed_only_by_a_manifest_of_the_epoch_that_names_it() {
    let mut world = in_conflict();
    let node = world.node_id("a");
    let removals = BTreeMap::from([(node.clone(), BTreeSet::from(["later".parse().unwrap()]))]);
    world.state.reconcile(&Reconcile { removals }, world.at);
    world.settle();
    world.state.succeed(raised(), Vec::new(), world.at).unwrap();
    world.settle();
    let intent = |world: &World| world.state.nodes[&node].intent.clone();
    assert_eq!((intent(&world).epoch, intent(&world).removed.len()), (2, 1));
    world.runs("a");
    world.deploy("web", "v3").unwrap();
    assert!(intent(&world).removed.is_empty(), "it says that nothing of it is left");
}

#[test]
fn a_node_that_was_away_is_reconciled_later_without_another_epoch() {
    let mut world = in_conflict();
    world.state.succeed(raised(), Vec::new(), world.at).unwrap();
    world.settle();
    let mut report = world.report_of("b");
    report.seen = Version { epoch: 1, generation: 9 };
    report.services[0].service = "later".parse().unwrap();
    report.refused.insert("unnamed_removal".to_owned(), 1);
    let bytes = world.signed_by("b", &report);
    world.hears("b", Up::Report, &bytes);
    let shown = world.state.show_reconcile();
    assert!(!shown.has_conflict());
    let node = shown.nodes.iter().find(|node| node.node.as_str() == "b").unwrap();
    let later = node.services.iter().find(|of_it| of_it.service.as_str() == "later").unwrap();
    assert_eq!(later.action, Reconciling::Remove);
    let before = world.generation("b");
    world.state.reconcile(&Reconcile { removals: shown.removals() }, world.at);
    assert!(world.settle().contains(&world.node_id("b")));
    assert_eq!(world.generation("b"), before + 1);
    assert!(world.manifest("b").removed.contains(&"later".parse().unwrap()));
}

#[test]
fn a_node_that_knows_a_newer_root_is_not_told_an_older_one() {
    let mut world = World::with_nodes(&["a"]);
    world.deploy("web", "v1").unwrap();
    world.says_seen("a", Version { epoch: 1, generation: 1 }, None, 3);
    assert_eq!(world.state.show_nodes(None, world.at).nodes[0].status, "conflict");
    assert!(world.state.show_reconcile().hopeless.unwrap().contains("root.json"));
    world.state.publish_everything();
    let effects = world.effects();
    assert!(effects.publish.is_empty() && effects.publish_roots.is_empty());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]
    /// Whatever is asked and said meanwhile: nothing is signed or published for a node in conflict.
    #[test]
    fn nothing_is_signed_in_conflict(acts in proptest::collection::vec(0_u8..12, 1..24)) {
        let (mut world, said) = set_back();
        world.hears("a", Up::Report, &said);
        let node = world.node_id("a");
        let own = |world: &World| world.state.manifest(&node).map(<[u8]>::to_vec);
        let (manifest, generation) = (own(&world), world.generation("a"));
        for act in acts {
            let (other, web) = (world.request("other", "v1"), world.request("web", "v9"));
            match act {
                0 => drop(world.state.deploy(other, world.at)),
                1 => drop(world.state.deploy(web, world.at)),
                2 => drop(world.state.scale(&id("web"), Some(3), world.at)),
                3 => drop(world.state.remove(&id("web"), world.at)),
                4 => world.state.publish_everything(),
                5 => world.state.tick(world.at),
                6 => drop(world.state.heard(&node, Up::Report, &said, world.at)),
                7 => drop(world.state.heard(&node, Up::Hello, &world.greeting("a", 40), world.at)),
                8 => drop(world.state.undo(&id("web"), Undo::default(), world.at)),
                9 => drop(world.state.reconcile(&Reconcile { removals: world.state.show_reconcile().removals() }, world.at)),
                10 => drop(world.state.heard(&world.node_id("b"), Up::Hello, &world.hello_bytes("b"), world.at)),
                _ => world.state.touched.extend([node.clone()]),
            }
            let effects = world.effects();
            prop_assert!(!effects.publish.contains(&node), "act {act}");
            for change in &effects.changes {
                let Change::Intent(of, intent) = change else { continue };
                prop_assert!(*of != node || intent.generation == generation, "act {act}");
            }
            prop_assert_eq!(own(&world), manifest.clone(), "act {}", act);
        }
    }
}
