//! Instances over several looks, at a time of the test's own.

use super::super::testing::Tree;
use super::*;
use planner::node::{Exit, Finding, Probed, Routing};

const ID: &str = "4f1e0a7c2b9d8e6f5a4b3c2d1e0f9a8b7c6d5e4f3a2b1c0d9e8f7a6b5c4d3e2f";
const GROUP: &str = "/sys/fs/cgroup/system.slice/docker-4f1e0a7c2b9d8e6f5a4b3c2d1e0f9a8b7c6d5e4f3a2b1c0d9e8f7a6b5c4d3e2f.scope";

fn instance(life: Life) -> Instance {
    Instance {
        container: ID.to_owned(),
        name: "pith-web-0".to_owned(),
        slot: 0,
        release: protocol::id::ReleaseId::of_payload(b"web"),
        template: "d".repeat(64).parse().unwrap(),
        address: Some([10, 213, 0, 2].into()),
        life,
        probed: Probed::default(),
        routing: Routing::Active,
        in_flight: 0,
        exits: 3,
        finding: Finding::Nothing,
    }
}

fn tree() -> Tree {
    let tree = Tree::new().file("/sys/fs/cgroup/cgroup.controllers", "cpu memory\n");
    used(&tree, 1_000_000);
    tree
}

fn used(tree: &Tree, us: u64) {
    tree.write(&format!("{GROUP}/cpu.stat"), format!("usage_usec {us}\n"));
}

fn look(instances: &mut Instances, life: Life, now_ms: u64) -> InstanceLoad {
    let (service, one) = ("web".parse().unwrap(), instance(life));
    let [load] = instances.look(&[(&service, &one)], Now(now_ms)).try_into().unwrap();
    assert_eq!((load.service, load.instance.as_str(), load.restarts), (service, "pith-web-0", 3));
    InstanceLoad { service: "web".parse().unwrap(), ..load }
}

#[test]
fn the_cores_in_use_are_known_from_the_second_look_on_and_from_another_start_on_anew() {
    let tree = tree();
    let mut instances = Instances::new(tree.root());
    let running = Life::Running { since: Now(500) };
    assert_eq!(look(&mut instances, running.clone(), 10_000).cpu, None);
    used(&tree, 4_000_000);
    assert_eq!(look(&mut instances, running.clone(), 12_000).cpu, Some(1.5));
    used(&tree, 4_500_000);
    let stopping = Life::Stopping { since: Now(12_500) };
    assert_eq!(look(&mut instances, stopping, 14_000).cpu, Some(0.25), "it runs on");
    used(&tree, 9_000_000);
    let again = Life::Running { since: Now(14_500) };
    assert_eq!(look(&mut instances, again.clone(), 15_000).cpu, None, "of another start");
    used(&tree, 100);
    assert_eq!(look(&mut instances, again, 16_000).cpu, None, "less than before");
}

#[test]
fn an_instance_that_does_not_run_has_its_restarts_alone() {
    let tree = tree();
    let mut instances = Instances::new(tree.root());
    look(&mut instances, Life::Running { since: Now(500) }, 10_000);
    let exited = Life::Exited(Exit { at: Now(11_000), code: 1, oom: false });
    let load = look(&mut instances, exited, 12_000);
    assert_eq!((load.cpu, load.mem_used, load.net_in, load.ooms), (None, None, None, None));
    assert!(instances.known.is_empty());
}

#[test]
fn a_link_is_looked_for_until_it_is_found_and_anew_where_it_is_gone() {
    let tree = tree();
    let mut instances = Instances::new(tree.root());
    let running = Life::Running { since: Now(500) };
    assert_eq!(look(&mut instances, running.clone(), 1_000).net_in, None);
    let (bridge, mac) = ("/sys/class/net/br-1", [2, 0x42, 10, 213, 0, 2]);
    tree.write("/proc/net/arp", "10.213.0.2 0x1 0x2 02:42:0a:d5:00:02 * br-1\n");
    let at = |veth: &str, port: u8, bytes: u64| {
        tree.write(&format!("{bridge}/brforward"), [&mac[..], &[port], &[0; 9]].concat());
        tree.write(&format!("{bridge}/brif/{veth}/port_no"), format!("0x{port}\n"));
        for counter in ["rx_bytes", "tx_bytes"] {
            let file = format!("/sys/class/net/{veth}/statistics/{counter}");
            tree.write(&file, format!("{bytes}\n"));
        }
    };
    at("veth1", 1, 100);
    assert_eq!(look(&mut instances, running.clone(), 2_000).net_in, Some(100));
    tree.remove("/sys/class/net/veth1");
    at("veth2", 2, 7);
    assert_eq!(look(&mut instances, running, 3_000).net_out, Some(7));
}

#[test]
fn of_a_crowd_so_many_are_told_and_the_others_forgotten() {
    let mut instances = Instances::new(tree().root());
    let service: ServiceName = "web".parse().unwrap();
    let all: Vec<Instance> = (0..100)
        .map(|number| Instance {
            container: format!("{number:064}"),
            ..instance(Life::Running { since: Now(1) })
        })
        .collect();
    let all: Vec<_> = all.iter().map(|one| (&service, one)).collect();
    assert_eq!(instances.look(&all, Now(5)).len(), MAX_INSTANCES);
    assert_eq!(instances.look(&all[99..], Now(6)).len(), 1);
    assert_eq!(instances.known.len(), 1);
}
