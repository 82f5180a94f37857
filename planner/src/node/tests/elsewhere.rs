//! Services of other nodes, as they are seen from one: called by name, beside its own instances or instead of them.

use protocol::peers::{Elsewhere, Peer, PeerPort, Peers};
use protocol::report::Phase;
use protocol::spec::PortProtocol;
use protocol::units::Millis;

use super::wishes::{name, spec};
use super::world::{App, World};
use crate::node::Decision;

const READY: App = App::Ready(100);

/// What the manifest says where n2 and n3 run `web`; with a port only where this node does not run it.
fn peers(ports: &[u16]) -> Peers {
    let node = |text: &str| text.parse().expect("a valid name");
    let port = |number: &u16| PeerPort {
        name: "http".parse().expect("a valid name"),
        number: *number,
        protocol: PortProtocol::Http,
        proxy_protocol: false,
        hold: Millis::from_secs(30),
    };
    let ports = ports.iter().map(port).collect();
    let peer = |number: u8| {
        let id = format!("{number:032x}").parse().expect("a node id");
        let address = format!("10.0.0.{number}:7484").parse().expect("an address");
        (node(&format!("n{number}")), Peer { id, address })
    };
    Peers {
        nodes: [peer(2), peer(3)].into(),
        services: [(name("web"), Elsewhere { nodes: [node("n2"), node("n3")].into(), ports })]
            .into(),
        callers: Default::default(),
    }
}

/// `listens service-port: backends | other nodes` of the one port of `web`; nothing where it has no route.
fn route(world: &World) -> String {
    let Some(plan) = world.verdict("web").route else { return String::new() };
    let port = &plan.ports[0];
    let listens: Vec<String> = port.listen.iter().map(|l| l.port.to_string()).collect();
    let inner = port.service_port.map_or("-".to_owned(), |number| number.to_string());
    let backends: Vec<String> = port.backends.iter().map(|b| format!("{:?}", b.state)).collect();
    let others: Vec<&str> = port.elsewhere.iter().map(|other| other.name.as_str()).collect();
    format!("{} {inner}: {} | {}", listens.join(","), backends.join(","), others.join(","))
}

#[test]
fn a_service_that_is_called_and_runs_elsewhere_gets_an_address_and_a_route_to_the_other_nodes() {
    let mut world = World::new();
    world.wanted.peers = peers(&[8080]);
    world.run(100);
    world.check_told("create network");
    assert_eq!(route(&world), " 8080:  | n2,n3");
    assert_eq!(world.verdict("web").decision, Decision::Settled);

    // Nobody calls it any more.
    world.wanted.peers = Peers::default();
    world.told.clear();
    world.run(100);
    world.check_told("remove network");
    assert!(world.decide().services.is_empty());
}

#[test]
fn a_service_that_runs_here_has_the_other_nodes_behind_its_own_instances() {
    let mut world = World::new();
    world.want(&spec("web"), 1, READY, 1, 1);
    world.wanted.peers = peers(&[]);
    assert_eq!(route(&world), "8080 8080:  | n2,n3", "before its own are there");
    world.run(1_000);
    assert_eq!(route(&world), "8080 8080: Active | n2,n3");
    assert_eq!(world.phase("web"), Phase::Running);
}

#[test]
fn a_service_that_leaves_the_node_keeps_its_name_where_it_is_called() {
    let mut world = World::new();
    world.want(&spec("web"), 1, READY, 1, 1);
    world.run(1_000);
    world.told.clear();
    world.lingering = 1;
    world.wanted.assignments.clear();
    world.wanted.peers = peers(&[8080]);
    world.tick(50);
    assert_eq!(route(&world), " 8080: Draining | n2,n3", "what is in flight ends");
    assert_eq!(world.phase("web"), Phase::Removing);
    world.run(60_000);
    world.check_told("drain v1-0, stop v1-0, unroute v1-0, remove v1-0, forget");
    assert_eq!(route(&world), " 8080:  | n2,n3");

    // And it comes back into the network that it finds.
    world.told.clear();
    world.want(&spec("web"), 1, READY, 1, 1);
    world.wanted.peers = peers(&[]);
    world.run(1_000);
    assert_eq!(route(&world), "8080 8080: Active | n2,n3");
    assert!(!world.told.iter().any(|act| act.contains("network")), "{:?}", world.told);
}
