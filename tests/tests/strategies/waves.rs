//! Batches of nodes with gates between them, and the other ways out of a rollout that waits for a person.

use std::time::Instant;

use tests::docker;
use tests::fleet::Fleet;
use tests::http::{free_port, get};
use tests::services::Service;
use tests::skip;
use tests::wait::until_true;

use crate::world::{SOON, check_nothing_failed, check_version, load, running, version};

fn versions(fleet: &Fleet, port: u16) -> [String; 3] {
    [1, 2, 3].map(|node| version(fleet, node, port).unwrap_or_default())
}

#[test]
fn a_batch_moves_alone_until_its_gate_is_opened_and_a_bad_one_ends_where_it_is() {
    if !skip::has("docker") {
        return;
    }
    let zones = ["label=zone=core", "label=zone=edge", "label=zone=core"];
    let args: Vec<&str> = zones.iter().flat_map(|zone| ["--node", *zone]).collect();
    let fleet = Fleet::start_with(&args, &[]);
    let port = free_port();
    let service = Service::new("web", port)
        .extra("[[rollout.batches]]\nnodes = { zone = \"edge\" }\ngate = \"manual\"");
    let _ = fleet.deploy(&service).expect_code(4);
    assert_eq!(versions(&fleet, port), ["", "v1", ""], "a first deploy waits at the gate, too");
    let _ = fleet.pith(&["rollout", "promote", "web"]).expect_code(0);
    assert_eq!(versions(&fleet, port), ["v1", "v1", "v1"]);
    let (load, begun) = (load(&fleet, 3, port, 50), Instant::now());

    let _ = fleet.deploy(&service.clone().image("pith-demo:v2")).expect_code(4);
    assert_eq!(versions(&fleet, port), ["v1", "v2", "v1"], "the edge goes first");
    let _ = fleet.pith(&["rollout", "promote", "web"]).expect_code(0);
    assert_eq!(versions(&fleet, port), ["v2", "v2", "v2"]);

    // This image is never ready.
    let _ = fleet
        .deploy(&service.clone().image("pith-demo:v3").rollout("progress_deadline = \"2s\""))
        .expect_code(3);
    assert_eq!(versions(&fleet, port), ["v2", "v2", "v2"]);
    let _ = fleet.deploy(&service.clone().image("pith-demo:v4")).expect_code(4);
    let _ = fleet.pith(&["rollout", "pause", "web"]).expect_code(0);
    assert_eq!(fleet.rollout("web")["state"], "paused");
    let _ = fleet.pith(&["rollout", "resume", "web"]).expect_code(4);
    let _ = fleet.pith(&["rollout", "undo", "web"]).expect_code(0);
    assert_eq!(versions(&fleet, port), ["v2", "v2", "v2"], "undone while it waited");
    check_nothing_failed(&load, begun);
}

#[test]
fn green_that_is_not_wanted_goes_and_leaves_nothing() {
    if !skip::has("docker") {
        return;
    }
    let fleet = Fleet::start(1);
    let (port, preview) = (free_port(), free_port());
    let blue = Service::new("web", port)
        .scheduling("per_node = 2")
        .rollout("strategy = \"blue-green\"")
        .rollout("auto_promote = false")
        .rollout("progress_deadline = \"3s\"")
        .rollout(&format!("preview_port = {preview}"));
    let _ = fleet.deploy(&blue).expect_code(0);
    let (load, begun) = (load(&fleet, 1, port, 50), Instant::now());
    let before = running(&fleet);
    let gone = |what: &str| {
        until_true(what, SOON, || running(&fleet) == before);
        until_true("the preview is over", SOON, || get(fleet.address(1, preview), "/").is_err());
        check_version(&fleet, 1, port, "v1");
    };
    let _ = fleet.deploy(&blue.clone().image("pith-demo:v2")).expect_code(4);
    let _ = fleet.pith(&["rollout", "abort", "web"]).expect_code(0);
    gone("an aborted green set is gone");
    let bad = fleet.deploy(&blue.clone().image("pith-demo:v3")).expect_code(3);
    assert!(bad.stderr.contains("not_ready_in_time"), "{bad:?}");
    gone("a green set that is never ready is gone");
    let _ = fleet.deploy(&blue.clone().image("pith-demo:v2")).expect_code(4);
    let _ = fleet.deploy(&blue.clone().image("pith-demo:v4")).expect_code(4);
    check_version(&fleet, 1, preview, "v4");
    until_true("a superseded green set is gone", SOON, || running(&fleet).len() == 4);
    let _ = fleet.pith(&["rollout", "undo", "web"]).expect_code(0);
    gone("an undone green set is gone");
    let _ = fleet
        .deploy(
            &blue
                .clone()
                .image("pith-demo:v2")
                .rollout("auto_promote = true")
                .rollout("keep_old = \"1s\""),
        )
        .expect_code(0);
    check_version(&fleet, 1, port, "v2");
    until_true("blue is stopped once it need not be kept", SOON, || running(&fleet).len() == 2);
    until_true("two of what runs and two to go back to are left", SOON, || {
        docker::containers(&fleet.label()).len() == 4
    });
    check_nothing_failed(&load, begun);
}
