//! What a person does on the first evening, on real Docker through the real command line.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::time::Duration;

use serde_json::Value;
use tests::docker;
use tests::fleet::Fleet;
use tests::http::{free_port, get};
use tests::services::Service;
use tests::skip;
use tests::wait::{until, until_true};

const SOON: Duration = Duration::from_secs(20);

fn version(fleet: &Fleet, node: u8, port: u16) -> Option<String> {
    let (status, body) = get(fleet.address(node, port), "/").ok()?;
    (status == 200).then(|| body.split_whitespace().next().unwrap_or_default().to_owned())
}

#[track_caller]
fn check_version(fleet: &Fleet, node: u8, port: u16, expected: &str) {
    assert_eq!(version(fleet, node, port).as_deref(), Some(expected), "node {node}");
}

#[test]
fn a_service_is_deployed_updated_refused_and_undone_on_every_node() {
    if !skip::has("docker") {
        return;
    }
    let fleet = Fleet::start(2);
    let port = free_port();
    let service = Service::new("hello", port).scheduling("per_node = 2");
    let _ = fleet.deploy(&service).expect_code(0);
    check_version(&fleet, 1, port, "v1");
    check_version(&fleet, 2, port, "v1");

    let second = fleet.deploy(&service.clone().image("pith-demo:v2")).expect_code(0);
    assert!(second.stdout.contains("hello"), "{second:?}");
    check_version(&fleet, 1, port, "v2");
    let status = fleet.rollout("hello");
    assert_eq!(status["state"], "succeeded");
    assert_eq!((status["revision"].as_u64(), status["from_revision"].as_u64()), (Some(2), Some(1)));
    assert_eq!(status["nodes"].as_array().map(Vec::len), Some(2));

    let bad = service
        .clone()
        .image("pith-demo:v3")
        .env("NEVER_READY", "1")
        .rollout("progress_deadline = \"3s\"");
    let third = fleet.deploy(&bad).expect_code(3);
    assert!(third.stderr.contains("not_ready_in_time"), "{third:?}");
    assert!(third.stderr.contains("503"), "the probe's answer is evidence: {third:?}");
    assert_eq!(fleet.rollout("hello")["state"], "rolled_back");
    check_version(&fleet, 1, port, "v2");
    check_version(&fleet, 2, port, "v2");

    let _ = fleet.pith(&["rollout", "undo", "hello"]).expect_code(0);
    check_version(&fleet, 1, port, "v1");
    check_version(&fleet, 2, port, "v1");
    let _ = fleet.pith(&["rollout", "undo", "hello", "--to-revision", "2"]).expect_code(0);
    check_version(&fleet, 2, port, "v2");

    let history = fleet.json(&["rollout", "history", "hello"]);
    assert_eq!(history["revisions"].as_array().map(Vec::len), Some(5), "{history}");
    assert_eq!(fleet.stop(), 0);
}

#[test]
fn dev_leaves_nothing_behind_but_named_volumes() {
    if !skip::has("docker") {
        return;
    }
    let fleet = Fleet::start(1);
    let service = Service::new("db", free_port())
        .extra("[[volumes]]\nname = \"data\"\npath = \"/data\"")
        .env("VOLUME_LOCK", "/data");
    let _ = fleet.deploy(&service).expect_code(0);
    let (label, data) = (fleet.label(), fleet.data());
    assert_eq!(docker::containers(&label).len(), 1);
    assert_eq!(fleet.stop(), 0);
    assert_eq!(docker::containers(&label), []);
    assert_eq!(docker::networks(&label), Vec::<String>::new());
    assert!(!data.join("pith.sock").exists());
    let volumes = docker::volumes(&label);
    assert_eq!(volumes.len(), 1, "a named volume stays");
    for volume in volumes {
        let _ = docker::docker(&["volume", "rm", &volume]);
    }
}

#[test]
fn containers_without_our_labels_are_never_touched() {
    if !skip::has("docker") {
        return;
    }
    let stranger = docker::docker(&[
        "run",
        "-d",
        "--label",
        "io.pith.fixture=1",
        "--label",
        "io.pith.service=hello",
        "pith-demo:v1",
    ]);
    let fleet = Fleet::start(1);
    let service = Service::new("hello", free_port());
    let _ = fleet.deploy(&service).expect_code(0);
    let _ = fleet.pith(&["rm", "hello", "--yes"]).expect_code(0);
    assert_eq!(fleet.stop(), 0);
    let state = docker::docker(&["inspect", "-f", "{{.State.Running}}", &stranger]);
    let _ = docker::docker(&["rm", "-f", &stranger]);
    assert_eq!(state, "true");
}

#[test]
fn a_service_reaches_another_by_name() {
    if !skip::has("docker") {
        return;
    }
    let fleet = Fleet::start(1);
    let port = free_port();
    let hidden = "name = \"world-state\"\nimage = \"pith-demo:v2\"\nper_node = 1\n[[ports]]\nname = \"http\"\ntarget = 8080\n";
    let file = fleet.file("world.toml", hidden);
    let _ = fleet.pith(&["deploy", "-f", &file]).expect_code(0);
    let _ = fleet.deploy(&Service::new("gateway", port)).expect_code(0);
    let answer = get(fleet.address(1, port), "/call?url=http://world-state:8080/").unwrap();
    assert!(answer.1.contains("v2"), "{answer:?}");
}

#[test]
fn a_bad_service_goes_back_alone_and_a_later_deploy_does_not_retry_it() {
    if !skip::has("docker") {
        return;
    }
    let fleet = Fleet::start(1);
    let (port_a, port_b) = (free_port(), free_port());
    let (a, b) = (Service::new("a", port_a), Service::new("b", port_b));
    let _ = fleet.deploy(&a).expect_code(0);
    let _ = fleet.deploy(&b).expect_code(0);
    let _ = fleet.deploy(&a.image("pith-demo:v2")).expect_code(0);
    let bad = b.image("pith-demo:v2").env("CRASH", "1");
    let _ = fleet.deploy(&bad).expect_code(3);
    let _ = fleet.deploy(&Service::new("c", free_port())).expect_code(0);
    check_version(&fleet, 1, port_a, "v2");
    check_version(&fleet, 1, port_b, "v1");
    let revisions = fleet.json(&["rollout", "history", "b"]);
    assert_eq!(
        revisions["revisions"].as_array().map(Vec::len),
        Some(2),
        "nothing was tried again: {revisions}"
    );
}

#[test]
fn scale_survives_a_deploy_until_it_is_reset() {
    if !skip::has("docker") {
        return;
    }
    let fleet = Fleet::start(1);
    let service = Service::new("hello", free_port()).scheduling("replicas = 1");
    let _ = fleet.deploy(&service).expect_code(0);
    let running = || {
        let label = fleet.label();
        docker::containers(&label).iter().filter(|c| c.state == "running").count()
    };
    let _ = fleet.pith(&["scale", "hello", "3"]).expect_code(0);
    assert_eq!(running(), 3);
    let _ = fleet.deploy(&service.image("pith-demo:v2")).expect_code(0);
    assert_eq!(running(), 3);
    let _ = fleet.pith(&["scale", "hello", "--reset"]).expect_code(0);
    until_true("one instance again", SOON, || running() == 1);
}

#[test]
fn a_port_taken_by_another_program_is_named_and_the_old_release_stays() {
    if !skip::has("docker") {
        return;
    }
    let fleet = Fleet::start(1);
    let port = free_port();
    let service = Service::new("hello", port);
    let _ = fleet.deploy(&service).expect_code(0);
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken_port = taken.local_addr().unwrap().port();
    let moved = Service::new("hello", taken_port).image("pith-demo:v2");
    let outcome = fleet.deploy(&moved).expect_code(3);
    assert!(outcome.stderr.contains("port_taken"), "{outcome:?}");
    assert!(outcome.stderr.contains(&format!("pid {}", std::process::id())), "{outcome:?}");
    check_version(&fleet, 1, port, "v1");
}

#[test]
fn an_image_that_nobody_knows_is_refused_with_what_was_tried() {
    if !skip::has("docker") {
        return;
    }
    let fleet = Fleet::start(1);
    let port = free_port();
    let service = Service::new("hello", port);
    let _ = fleet.deploy(&service).expect_code(0);
    let outcome = fleet.deploy(&service.image("pith-no-such-image:v9"));
    assert!(outcome.code == 1 || outcome.code == 2, "{outcome:?}");
    assert!(outcome.stderr.contains("pith-no-such-image:v9"), "{outcome:?}");
    check_version(&fleet, 1, port, "v1");
}

#[test]
fn plan_says_what_would_change_by_its_exit_code() {
    if !skip::has("docker") {
        return;
    }
    let fleet = Fleet::start(1);
    let service = Service::new("hello", free_port());
    let file = fleet.file("hello.toml", &service.toml());
    let _ = fleet.pith(&["plan", "-f", &file]).expect_code(10);
    let _ = fleet.deploy(&service).expect_code(0);
    let _ = fleet.pith(&["plan", "-f", &file]).expect_code(0);
}

#[test]
fn a_detached_deploy_can_be_followed() {
    if !skip::has("docker") {
        return;
    }
    let fleet = Fleet::start(1);
    let file = fleet.file("hello.toml", &Service::new("hello", free_port()).toml());
    let _ = fleet.pith(&["deploy", "-f", &file, "--detach"]).expect_code(0);
    let state = until("the rollout ends", SOON, || {
        let status: Value = fleet.rollout("hello");
        status["state"]
            .as_str()
            .filter(|s| *s != "in_progress" && *s != "pending")
            .map(str::to_owned)
    });
    assert_eq!(state, "succeeded");
}
