//! The fleet on Mosquitto, every part started by hand. Broker and coordinator are killed in the middle of rollouts: what is
//! under way goes on to its end, once, and no client notices.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::process::Stdio;
use std::time::{Duration, Instant};

use load::{Config, Load, Summary};
use tests::by_hand::ByHand;
use tests::docker;
use tests::http::{free_port, get};
use tests::services::Service;
use tests::skip;
use tests::wait::until_true;

const SOON: Duration = Duration::from_secs(40);
const VERSIONS: [&str; 2] = ["v1", "v2"];

fn can_run() -> bool {
    ["docker", "mosquitto_passwd"].into_iter().all(skip::has)
}

fn load(fleet: &ByHand, nodes: u8, port: u16) -> Load {
    Load::start(Config {
        targets: (1..=nodes).map(|k| fleet.address(k, port)).collect(),
        path: "/".to_owned(),
        kept_connections: 8,
        kept_rate: 50,
        new_rate: 50,
        websockets: 0,
    })
}

fn since(load: &Load, from: Instant) -> Summary {
    load.summary(from, Instant::now())
}

/// Slots of running containers whose image is `pith-demo:VERSION`, over all nodes.
fn running(fleet: &ByHand, version: &str) -> usize {
    let label = format!("label={}", fleet.label());
    let ancestor = format!("ancestor=pith-demo:{version}");
    docker::docker(&["ps", "-q", "--filter", &label, "--filter", &ancestor]).lines().count()
}

/// Containers of the fleet that were made since a moment of Docker's clock.
fn made(fleet: &ByHand, from: &str) -> usize {
    let label = format!("label={}", fleet.label());
    let until = docker_time();
    let events = ["events", "--since", from, "--until", &until, "--filter", "event=create"];
    let events = docker::docker(
        &[&events[..], &["--filter", "type=container", "--filter", &label]].concat(),
    );
    events.lines().count()
}

fn docker_time() -> String {
    docker::docker(&["info", "--format", "{{.SystemTime}}"])
}

fn begun(fleet: &ByHand, nodes: u8) -> usize {
    (1..=nodes).map(|k| fleet.agent_log(k).matches(": begun ").count()).sum()
}

fn service(port: u16, version: &str) -> Service {
    // Slow enough that there is a middle.
    Service::new("hello", port)
        .image(&format!("pith-demo:{version}"))
        .env("START_DELAY_MS", "1000")
        .scheduling("per_node = 2")
}

#[test]
fn a_broker_that_forgets_everything_in_the_middle_of_a_rollout_is_not_noticed() {
    if !can_run() {
        return;
    }
    let mut fleet = ByHand::start(1);
    let port = free_port();
    let file = |fleet: &ByHand, version| fleet.file("hello.toml", &service(port, version).toml());
    let _ = fleet.pith(&["deploy", "-f", &file(&fleet, "v1")]).expect_code(0);
    let (load, from) = (load(&fleet, 1, port), Instant::now());

    // How much of the new version runs when the broker dies, and when it is back.
    for ((dies_at, back_at), turn) in [(0, 0), (1, 1), (1, 2)].into_iter().zip(1..) {
        let version = VERSIONS[turn % 2];
        let (clock, begun_before) = (docker_time(), begun(&fleet, 1));
        let file = file(&fleet, version);
        let mut deploy =
            fleet.command(&["deploy", "-f", &file]).stdout(Stdio::null()).spawn().unwrap();
        until_true("the middle of the rollout", SOON, || {
            running(&fleet, version) >= dies_at && begun(&fleet, 1) > begun_before
        });
        fleet.broker.kill();
        until_true("the node goes on alone", SOON, || running(&fleet, version) >= back_at);
        fleet.broker.start();
        assert!(deploy.wait().unwrap().success(), "turn {turn}");
        assert_eq!(fleet.rollout_end("hello", SOON), "succeeded", "turn {turn}");
        assert_eq!((running(&fleet, version), made(&fleet, &clock)), (2, 2), "turn {turn}");
        assert_eq!(begun(&fleet, 1), begun_before + 1, "turn {turn}: tried once");
        assert!(get(fleet.address(1, port), "/").unwrap().1.starts_with(version));
        let summary = since(&load, from);
        assert_eq!(summary.failed, 0, "turn {turn}: {:?}", summary.errors);
    }

    // And before it: the deploy waits, and goes on as soon as there is a broker.
    let (clock, file) = (docker_time(), file(&fleet, VERSIONS[0]));
    fleet.broker.kill();
    let mut deploy = fleet.command(&["deploy", "-f", &file]).stdout(Stdio::null()).spawn().unwrap();
    until_true("the rollout waits", SOON, || {
        fleet.json(&["rollout", "status", "hello"])["state"] == "in_progress"
    });
    fleet.broker.start();
    assert!(deploy.wait().unwrap().success());
    assert_eq!((running(&fleet, VERSIONS[0]), made(&fleet, &clock)), (2, 2));
    let summary = since(&load, from);
    assert_eq!(summary.failed, 0, "{:?}", summary.errors);
}

#[test]
fn a_coordinator_killed_in_the_middle_of_a_rollout_takes_it_to_its_end_when_it_is_back() {
    if !can_run() {
        return;
    }
    let mut fleet = ByHand::start(2);
    let port = free_port();
    let file = |fleet: &ByHand, version| fleet.file("hello.toml", &service(port, version).toml());
    let _ = fleet.pith(&["deploy", "-f", &file(&fleet, "v1")]).expect_code(0);
    let (load, from) = (load(&fleet, 2, port), Instant::now());
    // With one instance the first node is in the middle; with two it is done and the second one has to be told.
    for (dies_at, turn) in [1, 2].into_iter().zip(1..) {
        let version = VERSIONS[turn % 2];
        let (clock, begun_before) = (docker_time(), begun(&fleet, 2));
        let file = file(&fleet, version);
        let _ = fleet.pith(&["deploy", "-f", &file, "--detach"]).expect_code(0);
        until_true("the middle of the rollout", SOON, || running(&fleet, version) == dies_at);
        fleet.kill_coordinator();
        assert_eq!(fleet.pith(&["ps"]).code, 6, "unreachable");
        fleet.start_coordinator();
        assert_eq!(fleet.rollout_end("hello", SOON), "succeeded", "turn {turn}");
        assert_eq!((running(&fleet, version), made(&fleet, &clock)), (4, 4), "turn {turn}");
        assert_eq!(begun(&fleet, 2), begun_before + 2, "turn {turn}: tried once on each node");
        let summary = since(&load, from);
        assert_eq!(summary.failed, 0, "turn {turn}: {:?}", summary.errors);
    }
    let history = fleet.json(&["rollout", "history", "hello"]);
    assert_eq!(history["revisions"].as_array().map(Vec::len), Some(3), "{history}");
}
