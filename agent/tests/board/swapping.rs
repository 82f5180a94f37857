//! Version after version behind one port.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use protocol::report::Phase;

use super::node::{Node, demo, free_port, load, missing};

#[test]
fn a_hand_fed_manifest_runs_and_the_next_one_takes_over_without_a_failed_request() {
    if missing().is_some() {
        return;
    }
    let mut node = Node::start("127.0.0.71", "");
    let port = free_port(node.listen);
    node.publish(&demo(1, "v1", port, &[]));
    node.until_service("web", "v1 runs", |s| s.phase == Phase::Running && s.ready == 2);
    let (status, body) = node.get(port).unwrap();
    assert_eq!((status, body.starts_with("v1")), (200, true), "{body}");

    let ends = Arc::new(AtomicBool::new(false));
    let clients = load(node.listen, port, Arc::clone(&ends));
    node.publish(&demo(2, "v2", port, &[]));
    node.until_service("web", "v2 runs", |s| {
        s.revision == 2 && s.phase == Phase::Running && s.ready == 2 && s.updated == 2
    });
    assert!(node.get(port).unwrap().1.starts_with("v2"));

    node.publish(&demo(3, "v3", port, &[("NEVER_READY", "1")]));
    let failed = node.until_service("web", "v3 goes back", |s| s.phase == Phase::RolledBack);
    let given_up = failed.given_up.unwrap();
    assert_eq!(given_up.reason.code(), "not_ready_in_time");
    assert!(given_up.evidence.unwrap().probe.unwrap().contains("503"));
    assert!(node.get(port).unwrap().1.starts_with("v2"));
    ends.store(true, Ordering::Relaxed);
    let (asked, lost) = clients.join().unwrap();
    assert_eq!(lost, 0, "of {asked}\n{}", node.log());

    // With no broker at all, the agent starts from its ledger and leaves what runs as it is.
    let before = node.containers();
    node.kill_agent();
    node.stop_broker();
    node.start_agent();
    std::thread::sleep(Duration::from_secs(3));
    assert_eq!(node.containers(), before, "{}", node.log());
    assert!(node.get(port).unwrap().1.starts_with("v2"));
    assert!(node.state_dir().join("ledger.a").exists());
}
