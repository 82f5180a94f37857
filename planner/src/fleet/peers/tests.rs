//! Nodes in, what each knows of the others out.

use protocol::spec::PortProtocol;
use protocol::units::Millis;

use super::*;

static NOBODY: Peers =
    Peers { nodes: BTreeMap::new(), services: BTreeMap::new(), callers: BTreeMap::new() };

fn name(text: &str) -> ServiceName {
    text.parse().expect("a valid name")
}

fn port(number: u16) -> PeerPort {
    PeerPort {
        name: "http".parse().expect("a valid name"),
        number,
        protocol: PortProtocol::Http,
        proxy_protocol: false,
        hold: Millis::from_secs(30),
    }
}

/// Node `n<number>` at 10.0.0.<number>, which runs and calls what stands in these words.
fn node(number: u8, runs: &str, calls: &str) -> Neighbour<'static> {
    let words = |text: &str| text.split_whitespace().map(name).collect::<Vec<_>>();
    Neighbour {
        name: format!("n{number}").parse().expect("a valid name"),
        id: format!("{number:032x}").parse().expect("a valid id"),
        fleet_port: Some(SocketAddr::from(([10, 0, 0, number], 7484))),
        runs: words(runs).into_iter().map(|service| (service, (1, vec![port(8080)]))).collect(),
        leaves: BTreeSet::new(),
        calls: words(calls).into_iter().collect(),
        is_moving: false,
        before: &NOBODY,
    }
}

/// `service: nodes` of one node, then its callers.
#[track_caller]
fn check(nodes: &[Neighbour<'_>], of: u8, expected: &str) {
    let all = peers(nodes);
    let peers = &all[&format!("n{of}").parse::<NodeName>().expect("a valid name")];
    let mut lines: Vec<String> = peers
        .services
        .iter()
        .map(|(service, elsewhere)| {
            let nodes: Vec<&str> = elsewhere.nodes.iter().map(NodeName::as_str).collect();
            let ports: Vec<String> = elsewhere.ports.iter().map(|p| p.number.to_string()).collect();
            format!("{service}: {} [{}]", nodes.join(" "), ports.join(" "))
        })
        .collect();
    let callers: Vec<String> = peers.callers.values().map(ToString::to_string).collect();
    lines.push(format!("callers: {}", callers.join(" ")));
    assert_eq!(lines.join("; "), expected);
    let named: BTreeSet<&NodeName> = peers.services.values().flat_map(|e| &e.nodes).collect();
    assert!(named.into_iter().eq(peers.nodes.keys()), "a node is named without its address");
    // Who comes from 10.0.0.<k> is node <k>.
    let is_own = |(id, ip): (&NodeId, &IpAddr)| {
        format!("10.0.0.{}", u32::from_str_radix(id.as_str(), 16).expect("a number"))
            == ip.to_string()
    };
    assert!(peers.callers.iter().all(is_own), "{:?}", peers.callers);
}

#[test]
fn a_caller_knows_who_runs_what_it_calls_and_they_admit_it() {
    let nodes = [node(1, "gateway", "world"), node(2, "world", ""), node(3, "world", "")];
    check(&nodes, 1, "world: n2 n3 [8080]; callers: ");
    check(&nodes, 2, "world: n3 []; callers: 10.0.0.1 10.0.0.3");
    check(&nodes, 3, "world: n2 []; callers: 10.0.0.1 10.0.0.2");
}

#[test]
fn what_nobody_calls_and_what_runs_nowhere_is_not_named() {
    let nodes = [node(1, "gateway", "world"), node(2, "chat", "chat"), node(3, "", "")];
    for of in [1, 2, 3] {
        check(&nodes, of, "callers: ");
    }
}

#[test]
fn a_node_without_a_fleet_port_neither_serves_nor_asks() {
    let mut nodes = [node(1, "gateway", "world"), node(2, "world", ""), node(3, "world", "world")];
    nodes[1].fleet_port = None;
    check(&nodes, 1, "world: n3 [8080]; callers: ");
    check(&nodes, 2, "callers: ");
    check(&nodes, 3, "callers: 10.0.0.1");
}

#[test]
fn nodes_behind_one_address_never_send_to_themselves() {
    let mut nodes = [node(1, "world", "world"), node(2, "world", "")];
    nodes[1].fleet_port = nodes[0].fleet_port;
    check(&nodes, 1, "callers: ");
}

#[test]
fn what_ends_somewhere_stays_named_until_it_has_ended() {
    let mut nodes = [node(1, "gateway", "world"), node(2, "world", ""), node(3, "", "")];
    nodes[2].leaves.insert(name("world"));
    check(&nodes, 1, "world: n2 n3 [8080]; callers: ");
    check(&nodes, 3, "callers: 10.0.0.1 10.0.0.2");
}

#[test]
fn what_a_node_called_stays_known_while_it_moves() {
    let told = peers(&[node(1, "gateway", "world"), node(2, "world", "")]);
    let mut nodes = [node(1, "", ""), node(2, "world", "")];
    nodes[0].before = &told[&nodes[0].name];
    nodes[0].is_moving = true;
    check(&nodes, 1, "world: n2 [8080]; callers: ");
    nodes[0].is_moving = false;
    check(&nodes, 1, "callers: ");
}

#[test]
fn a_large_fleet_is_known_in_part_evenly_and_without_dropping_anyone_known() {
    let mut nodes: Vec<Neighbour<'_>> = (10..40).map(|k| node(k, "world", "")).collect();
    let told = peers(&nodes);
    for peers in told.values() {
        assert_eq!((peers.nodes.len(), peers.callers.len()), (8, 8));
    }
    // One more, in the middle of those that n20 knows.
    nodes.push(Neighbour { name: "n205".parse().expect("a valid name"), ..node(9, "world", "") });
    for node in &mut nodes {
        if let Some(before) = told.get(&node.name) {
            node.before = before;
        }
    }
    let after = peers(&nodes);
    for (name, before) in &told {
        assert_eq!(after[name].nodes, before.nodes, "{name} lost one that it may be using");
    }
    assert_eq!(after[&"n205".parse::<NodeName>().expect("a valid name")].nodes.len(), 8);
}

#[test]
fn while_a_port_moves_the_running_revision_says_where_it_is() {
    let mut nodes = [node(1, "", "world"), node(2, "world", ""), node(3, "world", "")];
    nodes[1].runs.insert(name("world"), (2, vec![port(9090)]));
    check(&nodes, 1, "world: n2 n3 [8080]; callers: ");
}
