//! Where instances go.

use std::sync::LazyLock;

use super::*;

fn nodes(names: &[&str]) -> Vec<NodeFacts> {
    let node = |name: &&str| NodeFacts {
        name: name.trim_end_matches('!').parse().unwrap(),
        labels: BTreeMap::from([("zone".to_owned(), name[..1].to_owned())]),
        online: !name.ends_with('!'),
        policy: PolicyState::default(),
    };
    names.iter().map(node).collect()
}

/// `per_node = 1`, asking nothing of the node.
fn request(placement: &Placement) -> PlaceRequest<'_> {
    static NOTHING: LazyLock<HostAccess> = LazyLock::new(HostAccess::default);
    static WEB: LazyLock<ServiceName> = LazyLock::new(|| "web".parse().unwrap());
    PlaceRequest {
        scheduling: Scheduling::PerNode(1),
        count_override: None,
        placement,
        exclusive: false,
        service: &WEB,
        host: &NOTHING,
        refusing: Refusing::Refuse,
    }
}

/// `current` and the answer as `a=1 b=2`; a trailing `!` marks a node that is away.
fn check(count: u32, exclusive: bool, names: &[&str], current: &str, expected: &str) {
    let placement = Placement::default();
    let request =
        PlaceRequest { scheduling: Scheduling::Replicas(count), exclusive, ..request(&placement) };
    let current = current.split_whitespace().map(|pair| {
        let (name, n) = pair.split_once('=').unwrap();
        (name.parse().unwrap(), n.parse().unwrap())
    });
    let placed = place(&request, &nodes(names), &current.collect()).unwrap();
    let mut text: Vec<String> =
        placed.counts.iter().map(|(name, n)| format!("{name}={n}")).collect();
    if placed.unplaced > 0 {
        text.push(format!("unplaced={}", placed.unplaced));
    }
    assert_eq!(text.join(" "), expected);
}

#[test]
fn replicas_are_spread_evenly() {
    check(4, false, &["a", "b", "c"], "", "a=2 b=1 c=1");
    check(2, false, &["a", "b", "c"], "", "a=1 b=1");
}

#[test]
fn what_runs_somewhere_stays_there() {
    check(4, false, &["a", "b", "c"], "a=2 b=2", "a=2 b=2");
    check(5, false, &["a", "b", "c"], "a=2 b=2", "a=2 b=2 c=1");
    check(3, false, &["a", "b", "c"], "a=2 b=2", "a=2 b=1");
}

#[test]
fn instances_lost_with_a_node_are_not_moved_and_new_ones_go_elsewhere() {
    check(4, false, &["a", "b!", "c"], "a=1 b=2 c=1", "a=1 b=2 c=1");
    check(5, false, &["a", "b!", "c"], "a=2 b=1 c=1", "a=2 b=1 c=2");
    check(2, false, &["a", "b!", "c"], "", "a=1 c=1");
}

#[test]
fn an_exclusive_service_has_one_instance_per_node_and_says_what_found_none() {
    check(4, true, &["a", "b", "c"], "", "a=1 b=1 c=1 unplaced=1");
}

#[test]
fn a_node_that_does_not_fit_any_more_loses_its_instances() {
    check(2, false, &["a", "b"], "a=1 gone=1", "a=1 b=1");
}

#[test]
fn placement_by_label_and_by_name_chooses_the_nodes() {
    let by = |labels: &[(&str, &str)], names: Option<&[&str]>| {
        let placement = Placement {
            names: names.map(|n| n.iter().map(|n| n.parse().unwrap()).collect()),
            labels: labels.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
        };
        let request = request(&placement);
        place(&request, &nodes(&["a1", "a2", "b1"]), &BTreeMap::new())
            .map(|p| p.counts.keys().map(ToString::to_string).collect::<Vec<_>>().join(" "))
    };
    assert_eq!(by(&[("zone", "a")], None).unwrap(), "a1 a2");
    assert_eq!(by(&[], Some(&["b1"])).unwrap(), "b1");
    let error = by(&[("zone", "z")], None).unwrap_err().to_string();
    assert_eq!(error, "no node fits: none of the 3 nodes carries zone=z");
}

/// Places a service that asks for `/dev/ttyUSB0` on nodes: `a` has it, `b` allows it and has it not, `c` refuses.
fn check_device(
    (scheduling, names): (Scheduling, Option<&[&str]>),
    refusing: Refusing,
    (nodes_named, current): (&[&str], &str),
    expected: &str,
) {
    let path = "/dev/ttyUSB0".to_owned();
    let device = protocol::spec::Device { target: path.clone(), path, permissions: "rw".into() };
    let host = HostAccess { devices: vec![device], ..HostAccess::default() };
    let policy = protocol::file::parse_policy("p", "devices = [\"/dev/tty*\"]").unwrap();
    let mut facts = nodes(nodes_named);
    for node in &mut facts {
        match node.name.as_str() {
            "a" => node.policy.devices = ["/dev/ttyUSB0".to_owned()].into(),
            "b" => {}
            _ => continue,
        }
        node.policy.policy = policy.clone();
    }
    let names = names.map(|names| names.iter().map(|n| n.parse().unwrap()).collect());
    let placement = Placement { names, ..Placement::default() };
    let request = PlaceRequest { scheduling, host: &host, refusing, ..request(&placement) };
    let current = current.split_whitespace().map(|name| (name.parse().unwrap(), 1)).collect();
    let shown = match place(&request, &facts, &current) {
        Ok(placed) => {
            let counts = placed.counts.iter().map(|(name, n)| format!("{name}={n}"));
            let out = placed.left_out.keys().map(|name| format!("-{name}"));
            counts.chain(out).collect::<Vec<_>>().join(" ")
        }
        Err(Unplaceable::PolicyDenied(PolicyDenied(nodes))) => {
            let names: Vec<&str> = nodes.keys().map(NodeName::as_str).collect();
            format!("denied by {}", names.join(" "))
        }
        Err(Unplaceable::NoNodeFits(error)) => error.to_string(),
    };
    assert_eq!(shown, expected);
}

#[test]
fn instances_go_to_nodes_that_have_the_device_and_allow_it() {
    let one = || (Scheduling::Replicas(1), None);
    let refuse = Refusing::Refuse;
    check_device(one(), refuse, (&["a", "b", "c"], ""), "a=1 -c");
    let nobody = "no node fits: none of the 1 nodes that would take it has /dev/ttyUSB0";
    check_device(one(), refuse, (&["b", "c"], ""), nobody);
    check_device(one(), refuse, (&["c", "d"], ""), "denied by c d");
}

#[test]
fn a_node_that_would_refuse_stops_a_deploy_that_is_meant_for_it() {
    let refuse = Refusing::Refuse;
    let named: (Scheduling, Option<&[&str]>) = (Scheduling::Replicas(1), Some(&["a", "c"]));
    check_device(named, refuse, (&["a", "b", "c"], ""), "denied by c");
    check_device((Scheduling::PerNode(1), None), refuse, (&["a", "c"], ""), "denied by c");
    let one = (Scheduling::Replicas(1), None);
    check_device(one, refuse, (&["a", "c"], "c"), "denied by c");
}

#[test]
fn what_runs_under_a_narrowed_policy_stays_and_gets_nothing_new_beside_it() {
    let out = Refusing::LeaveOut;
    check_device((Scheduling::PerNode(1), None), out, (&["a", "c", "d"], "c"), "a=1 c=1 -d");
    check_device((Scheduling::Replicas(0), None), out, (&["c"], "c"), "");
    check_device((Scheduling::PerNode(1), None), out, (&["b", "a"], "b"), "a=1 b=1");
}
