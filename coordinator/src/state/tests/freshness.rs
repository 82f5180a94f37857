//! Signed times, and what people see where a node misses something.

use protocol::acceptance::NodeIdentity;
use protocol::envelope::Envelope;
use protocol::id::{NodeId, sha256_hex};
use protocol::manifest::Manifest;
use protocol::reason::Reason;
use protocol::report::{Detail, Phase};
use protocol::time::{self, Time};

use super::super::views::EventFilter;
use super::world::{FLEET, NONCE, World, director, id};

/// The answer to a node's hello.
fn hello(world: &mut World, name: &str) -> Time {
    world.says_hello(name);
    answer(world, name)
}

fn answer(world: &World, name: &str) -> Time {
    let node = world.node_id(name);
    let [(to, bytes)] = &world.times[..] else { panic!("{:?}", world.times) };
    assert_eq!(*to, node);
    accept(node, bytes)
}

fn accept(node: NodeId, bytes: &[u8]) -> Time {
    let identity = NodeIdentity {
        fleet: FLEET.parse().unwrap(),
        node,
        environment: "default".parse().unwrap(),
    };
    time::accept(bytes, &director().root, &identity, Some(NONCE)).unwrap().into_inner()
}

fn alarm(reason: Reason) -> Detail {
    Detail { reason, message: "it does not come".to_owned(), again_in_ms: None }
}

/// Reasons and texts of what happened, oldest first.
fn events(world: &World) -> Vec<(Reason, String)> {
    let filter = EventFilter { limit: 100, ..EventFilter::default() };
    let events = world.state.show_events(&filter).events;
    events.into_iter().filter_map(|e| Some((e.reason?, e.message))).collect()
}

#[test]
fn a_hello_is_answered_with_the_time_and_the_manifest_that_the_node_should_have() {
    let mut world = World::with_nodes(&["node-1", "node-2"]);
    let node = world.node_id("node-1");
    assert_eq!(hello(&mut world, "node-1").newest, None, "there is none yet");

    world.deploy("web", "v1").unwrap();
    world.passes(5_000);
    let time = hello(&mut world, "node-1");
    assert_eq!(time.unix_s, world.at.unix_ms / 1_000);
    let envelope = Envelope::from_bytes(world.state.manifest(&node).unwrap()).unwrap();
    let manifest = envelope.verify::<Manifest>(&director().root).unwrap();
    let newest = time.newest.unwrap();
    assert_eq!(newest.version, manifest.version);
    assert_eq!(newest.payload_sha256, sha256_hex(manifest.payload()));
    world.settle();
    assert_eq!(world.times, [], "each is answered once");
}

#[test]
fn a_newcomer_that_gets_something_at_once_is_told_of_that_very_manifest() {
    let mut world = World::with_nodes(&["node-1"]);
    world.deploy_file("name = \"web\"\nper_node = 1\n", "v1");
    world.all_run();
    world.joins_as("node-2", "node-2");
    let time = answer(&world, "node-2");
    assert_eq!(time.newest.unwrap().version.generation, world.generation("node-2"));
}

#[test]
fn an_alarm_is_seen_everywhere_with_its_code_and_told_once_when_it_begins_and_ends() {
    let mut world = World::with_nodes(&["node-1"]);
    world.deploy("web", "v1").unwrap();
    for reason in [Reason::Withheld, Reason::NoTime] {
        let mut report = world.report("node-1", Phase::Running);
        report.alarms = vec![alarm(reason)];
        world.says_report("node-1", &report);
        let mut again = world.report("node-1", Phase::Running);
        again.alarms = report.alarms;
        world.says_report("node-1", &again);

        let nodes = world.state.show_nodes(None, world.at).nodes;
        assert_eq!(nodes[0].alarms, [alarm(reason)]);
        let table = crate::render::nodes(&crate::state::shown::NodesShown {
            nodes: nodes.clone(),
            lobby: Vec::new(),
            absent: Vec::new(),
        });
        assert!(table.contains(&format!("ready, {reason}")), "{table}");
        assert!(table.contains(&format!("node-1: {reason}: it does not come")), "{table}");
        let services = world.state.show_services(None, world.at.unix_ms).services;
        assert!(services[0].why.contains(&format!("node-1: {reason}: it")), "{}", services[0].why);
        assert_eq!(services[0].nodes[0].alarms, [alarm(reason)]);
        let rollout = world.state.show_rollout(&id("web"), None).unwrap();
        assert_eq!(rollout.nodes[0].reason, Some(reason));

        world.runs("node-1");
        assert_eq!(world.state.show_nodes(None, world.at).nodes[0].alarms, []);
    }
    let told = events(&world);
    let told: Vec<(Reason, &str)> = told.iter().map(|(r, text)| (*r, text.as_str())).collect();
    let expected = [
        (Reason::Withheld, "it does not come"),
        (Reason::Withheld, "over: the manifest has come"),
        (Reason::NoTime, "it does not come"),
        (Reason::NoTime, "over: signed times come again"),
    ];
    assert_eq!(told, expected);
}

#[test]
fn a_time_that_a_node_refused_is_named_as_a_time() {
    let mut world = World::with_nodes(&["node-1"]);
    world.refuses("node-1", "time_bad_signature");
    let expected = (Reason::TimeRefused, "time refused: bad_signature".to_owned());
    assert_eq!(events(&world), [expected]);
}
