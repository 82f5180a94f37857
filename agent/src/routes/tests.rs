//! Plans become tables, answers become facts.

use super::*;
use planner::node::Backend;
use protocol::id::ReleaseId;
use protocol::units::Millis;

fn environment() -> EnvironmentName {
    "default".parse().unwrap()
}

fn fleet_id() -> FleetId {
    "f".repeat(32).parse().unwrap()
}

fn web() -> ServiceName {
    "web".parse().unwrap()
}

fn plan(listen: Vec<Listen>, backends: Vec<Backend>) -> BTreeMap<ServiceName, RoutePlan> {
    let port = PortPlan {
        split: None,
        name: "http".parse().unwrap(),
        listen,
        service_port: Some(8080),
        protocol: PortProtocol::Http,
        proxy_protocol: false,
        hold: Millis::from_secs(30),
        backends,
        elsewhere: Vec::new(),
    };
    BTreeMap::from([(web(), RoutePlan { ports: vec![port] })])
}

fn at(container: &str, state: BackendState) -> Backend {
    let release = ReleaseId::of_payload(b"1");
    Backend { container: container.into(), target: 8080, release, state }
}

fn translate(plans: &BTreeMap<ServiceName, RoutePlan>) -> Vec<Route> {
    let gateway = Ipv4Addr::new(10, 213, 0, 1);
    let containers = ["a", "b", "c"].into_iter().zip(2u8..);
    let containers =
        containers.map(|(id, last)| (id.to_owned(), Ipv4Addr::new(10, 213, 0, last))).collect();
    routes(
        plans,
        Addresses {
            fleet: &fleet_id(),
            environment: &environment(),
            listen: &["0.0.0.0".parse().unwrap(), "::".parse().unwrap()],
            gateways: &BTreeMap::from([(web(), gateway)]),
            containers: &containers,
            own: None,
        },
    )
}

fn snapshot(routes: Vec<Route>) -> Snapshot {
    let statuses = routes.iter().flat_map(|route| {
        route.backends.iter().map(|backend| proxy::BackendStatus {
            route: route.id.clone(),
            backend: backend.id.clone(),
            state: backend.state,
            in_flight: 2,
            connections: 1,
            requests_started: 0,
            connect_errors: 0,
        })
    });
    let backends = statuses.collect();
    Snapshot {
        backends,
        table: Table { version: 7, routes, fleet: None },
        counters: Vec::new(),
        listening: Vec::new(),
        held: Vec::new(),
        pid: 1,
        started_ms: 0,
    }
}

#[test]
fn a_port_is_open_on_all_addresses_of_the_node_and_on_the_services_own() {
    let listen = vec![Listen { address: None, port: 5000 }];
    let routes = translate(&plan(listen, Vec::new()));
    let listen: Vec<String> = routes[0].listen.iter().map(ToString::to_string).collect();
    assert_eq!(listen, ["0.0.0.0:5000", "[::]:5000", "10.213.0.1:8080"]);
    assert_eq!((routes[0].id.as_str(), routes[0].hold_ms), ("default/web/http", 30_000));
}

#[test]
fn a_narrowed_port_is_open_there_alone() {
    let address = Some("127.0.0.1".parse().unwrap());
    let routes = translate(&plan(vec![Listen { address, port: 5000 }], Vec::new()));
    let listen: Vec<String> = routes[0].listen.iter().map(ToString::to_string).collect();
    assert_eq!(listen, ["127.0.0.1:5000", "10.213.0.1:8080"]);
}

#[test]
fn what_the_planner_says_of_a_backend_comes_back_from_the_proxy() {
    let backends = vec![
        at("a", BackendState::Active),
        at("b", BackendState::Suspended),
        at("c", BackendState::Draining),
        at("without-address", BackendState::Active),
    ];
    let snapshot = snapshot(translate(&plan(Vec::new(), backends)));
    let since = Now(9);
    assert_eq!(routing(&snapshot, "a", None), (Routing::Active, 3));
    assert_eq!(routing(&snapshot, "b", None), (Routing::Suspended, 3));
    assert_eq!(routing(&snapshot, "c", Some(since)), (Routing::Draining { since }, 3));
    assert_eq!(routing(&snapshot, "without-address", None), (Routing::Absent, 0));
    assert_eq!(draining(&snapshot), BTreeSet::from(["c"]));
}

#[test]
fn only_services_whose_routes_changed_differ() {
    let before = translate(&plan(Vec::new(), vec![at("a", BackendState::Active)]));
    let table = Table { version: 1, routes: before.clone(), fleet: None };
    assert!(differing(&environment(), &before, &table).is_empty());
    let after = translate(&plan(Vec::new(), vec![at("a", BackendState::Draining)]));
    assert_eq!(differing(&environment(), &after, &table), BTreeSet::from([web()]));
    assert_eq!(differing(&environment(), &[], &table), BTreeSet::from([web()]));
}

#[test]
fn what_is_not_listened_on_is_known_after_a_restart_too() {
    let listen = vec![Listen { address: None, port: 5000 }];
    let mut snapshot = snapshot(translate(&plan(listen, Vec::new())));
    let open = |address: &str| ("default/web/http".to_owned(), address.parse().unwrap());
    snapshot.listening = vec![open("0.0.0.0:5000"), open("10.213.0.1:8080")];
    assert_eq!(unheard(&snapshot), [open("[::]:5000")]);
}

#[test]
fn a_taken_port_names_its_owner_and_whom_it_concerns() {
    let gateways = BTreeMap::from([(web(), Ipv4Addr::new(10, 213, 0, 1))]);
    let refused = |address: &str, reason| Refused {
        route: "default/web/http".into(),
        address: address.parse().unwrap(),
        reason,
    };
    let taken = RefusedReason::PortTaken { by: Some("nginx (pid 812)".into()) };
    let refused = [
        refused("0.0.0.0:80", taken.clone()),
        refused("10.213.0.1:80", taken),
        refused("10.9.9.9:80", RefusedReason::AddressNotAvailable),
    ];
    let troubles = troubles(&environment(), &gateways, &refused);
    let reach: Vec<Reach> = troubles.iter().map(|trouble| trouble.reach).collect();
    assert_eq!(reach, [Reach::Node, Reach::Containers, Reach::Node]);
    assert_eq!(troubles[0].refusal.reason, Reason::PortTaken);
    assert!(troubles[0].refusal.message.contains("0.0.0.0:80 is taken by nginx (pid 812)"));
    assert_eq!(troubles[2].refusal.reason, Reason::AddressNotAvailable);
}

#[test]
fn other_nodes_stand_behind_the_own_instances_and_are_asked_for_the_same_route() {
    let mut plans = plan(Vec::new(), vec![at("a", BackendState::Active)]);
    plans.get_mut(&web()).unwrap().ports[0].elsewhere = vec![OtherNode {
        name: "opi-2".parse().unwrap(),
        id: "2".repeat(32).parse().unwrap(),
        fleet_port: "10.0.0.2:7484".parse().unwrap(),
    }];
    let route = translate(&plans).remove(0);
    let [own, other] = &route.backends[..] else { panic!("{route:?}") };
    assert_eq!((own.through.as_ref(), own.backup), (None, false));
    assert_eq!((other.through.as_ref(), other.backup), (Some(&route.id), true));
    assert_eq!((other.address.to_string(), other.weight), ("10.0.0.2:7484".to_owned(), 1));
    assert_eq!(other.state, proxy::BackendState::Active);
    let name = format!("{}.node.{}.pith", "2".repeat(32), fleet_id());
    assert_eq!((own.name.as_ref(), other.name.as_ref()), (None, Some(&name)));
}

#[test]
fn the_fleet_port_is_open_only_while_someone_may_use_it() {
    let (listen, port) = (["127.0.0.2".parse().unwrap()], NonZeroU16::new(7484));
    let floor = mqtt::VerifyAt::new(1_900_000_001);
    let between = |port| Between { port, certificates: None, floor: floor.clone() };
    let id: NodeId = "2".repeat(32).parse().unwrap();
    let callers = BTreeMap::from([(id.clone(), "10.0.0.2".parse().unwrap())]);
    let called = Peers { callers, ..Peers::default() };
    let open = fleet(&listen, &between(port), &fleet_id(), &called).unwrap();
    assert_eq!(open.listen, ["127.0.0.2:7484".parse().unwrap()]);
    let name = join::node_dns_name(&fleet_id(), &id);
    assert_eq!(open.callers, [Caller { address: "10.0.0.2".parse().unwrap(), name }]);
    assert_eq!(open.trust, Some(Trust::Clear), "without a certificate");
    assert_eq!(fleet(&listen, &between(None), &fleet_id(), &called), None);
    assert_eq!(fleet(&listen, &between(port), &fleet_id(), &Peers::default()), None);
    // Nobody calls this node, and it may ask others.
    let peer = protocol::peers::Peer { id, address: "10.0.0.2:7484".parse().unwrap() };
    let nodes = [("opi-2".parse().unwrap(), peer)].into();
    let calls = Peers { nodes, ..Peers::default() };
    let joined = Between { certificates: Some("/state".into()), ..between(port) };
    let asks = fleet(&listen, &joined, &fleet_id(), &calls).unwrap();
    assert!(asks.listen.is_empty() && asks.callers.is_empty());
    let Some(Trust::Certificates { key, verify_at_s, instead, .. }) = asks.trust else {
        panic!("in clear")
    };
    let instead = instead.unwrap();
    assert_eq!(instead.chain, std::path::Path::new("/state/tls/fleet.crt"));
    assert_eq!(instead.key, std::path::Path::new("/state/tls/fleet.key"));
    assert_eq!(key, std::path::Path::new("/state/tls/node.key"));
    assert_eq!(verify_at_s, 1_899_936_000, "whole days, so that a table is not new every second");
}

#[test]
fn a_fleet_port_that_is_not_open_is_known_with_its_reason() {
    let mut snapshot = snapshot(Vec::new());
    let address = "127.0.0.2:7484".parse().unwrap();
    snapshot.table.fleet = Some(Fleet { listen: vec![address], ..Fleet::default() });
    assert!(is_fleet_port_closed(&snapshot));
    snapshot.listening = vec![("fleet".to_owned(), address)];
    assert!(!is_fleet_port_closed(&snapshot));
    let reason = RefusedReason::PortTaken { by: Some("nginx (pid 812)".into()) };
    let refused = [Refused { route: "fleet".into(), address, reason }];
    let (reason, message) = fleet_port_trouble(&refused).unwrap();
    assert_eq!(reason, Reason::PortTaken);
    assert!(message.contains("127.0.0.2:7484 is taken by nginx (pid 812)"));
}
