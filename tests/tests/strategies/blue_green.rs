//! Blue-green: a whole second set, looked at beside the first, and a switch that is one moment.

use std::time::{Duration, Instant};

use tests::client::versions;
use tests::fleet::Fleet;
use tests::http::{free_port, get};
use tests::services::Service;
use tests::skip;
use tests::wait::until_true;

use crate::world::{SOON, check_nothing_failed, check_version, load, running};

const SWITCHED_WITHIN: Duration = Duration::from_secs(1);
const NODES: u8 = 3;

#[test]
fn green_stands_beside_blue_until_a_person_switches_and_undo_switches_back() {
    if !skip::has("docker") {
        return;
    }
    let fleet = Fleet::start(u32::from(NODES));
    let (port, preview) = (free_port(), free_port());
    let blue = Service::new("web", port)
        .scheduling("per_node = 2")
        .rollout("strategy = \"blue-green\"")
        .rollout("auto_promote = false")
        .rollout(&format!("preview_port = {preview}"))
        .rollout("keep_old = \"5m\"");
    let _ = fleet.deploy(&blue).expect_code(0);
    let (load, begun) = (load(&fleet, NODES, port, 200), Instant::now());
    let first = running(&fleet);
    assert_eq!(first.len(), 6);
    assert!(get(fleet.address(1, preview), "/").is_err(), "there is nothing to preview yet");

    let _ = fleet.deploy(&blue.clone().image("pith-demo:v2")).expect_code(4);
    let status = fleet.rollout("web");
    assert_eq!(status["state"], "awaiting_promotion", "{status}");
    assert_eq!(status["reason"], "waiting_for_promotion", "{status}");
    let both = running(&fleet);
    assert_eq!(both.len(), 12, "green is complete beside blue");
    assert!(first.is_subset(&both));
    for node in 1..=NODES {
        check_version(&fleet, node, preview, "v2");
        let answers = versions(fleet.address(node, port), 300);
        assert_eq!(answers.keys().collect::<Vec<_>>(), ["v1"], "node {node}: {answers:?}");
    }
    assert!(load.last_answer_of("v2").is_none(), "nothing of green is on the service's port");

    let _ = fleet.pith(&["rollout", "promote", "web", "--detach"]).expect_code(0);
    let promoted = Instant::now();
    let _ = fleet.pith(&["rollout", "status", "web", "--watch"]).expect_code(0);
    (1..=NODES).for_each(|node| check_version(&fleet, node, port, "v2"));
    let last_of_blue = load.last_answer_of("v1").unwrap();
    let took = last_of_blue.saturating_duration_since(promoted);
    eprintln!("switched {:.0} ms after the command", took.as_secs_f64() * 1000.0);
    assert!(took <= SWITCHED_WITHIN, "blue answered for {took:?} after the command");
    until_true("the preview is over", SOON, || get(fleet.address(1, preview), "/").is_err());

    let _ = fleet.pith(&["rollout", "undo", "web", "--detach"]).expect_code(0);
    let undone = Instant::now();
    let _ = fleet.pith(&["rollout", "status", "web", "--watch"]).expect_code(0);
    (1..=NODES).for_each(|node| check_version(&fleet, node, port, "v1"));
    let took = load.last_answer_of("v2").unwrap().saturating_duration_since(undone);
    eprintln!("switched back {:.0} ms after the command", took.as_secs_f64() * 1000.0);
    assert!(took <= SWITCHED_WITHIN, "green answered for {took:?} after the undo");
    assert!(first.is_subset(&running(&fleet)), "blue was warm: no container of it is new");
    check_nothing_failed(&load, begun);
}
