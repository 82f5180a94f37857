//! Version after version behind one port.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use protocol::report::Phase;

use super::node::{Node, demo, free_port, missing};

/// Asks without pause until it is told to end; counts answers and failures.
fn load(
    listen: &'static str,
    port: u16,
    ends: Arc<AtomicBool>,
) -> std::thread::JoinHandle<(u64, u64)> {
    use std::io::{Read as _, Write as _};
    let count = Arc::new(AtomicU64::new(0));
    std::thread::spawn(move || {
        let mut failed = 0;
        while !ends.load(Ordering::Relaxed) {
            let ask = || -> std::io::Result<bool> {
                let mut stream = std::net::TcpStream::connect((listen, port))?;
                stream.set_read_timeout(Some(Duration::from_secs(20)))?;
                stream.write_all(b"GET / HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n")?;
                let mut answer = String::new();
                stream.read_to_string(&mut answer)?;
                Ok(answer.starts_with("HTTP/1.1 200"))
            };
            count.fetch_add(1, Ordering::Relaxed);
            if !ask().unwrap_or(false) {
                failed += 1;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        (count.load(Ordering::Relaxed), failed)
    })
}

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
