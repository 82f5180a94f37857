//! A broker that keeps something back, or plays something old: the node says so with a stable code, heals by itself, and what
//! runs goes on. The fleet is real, on a Mosquitto that belongs to the attacker.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::time::Duration;

use tests::by_hand::ByHand;
use tests::http::{free_port, get};
use tests::services::Service;
use tests::skip;
use tests::wait::until_true;

const SOON: Duration = Duration::from_secs(60);
/// A hello, the minute that a manifest may take, and a busy machine.
const ALARM: Duration = Duration::from_secs(150);

fn can_run() -> bool {
    ["docker", "mosquitto_sub", "mosquitto_passwd"].into_iter().all(skip::has)
}

fn alarms(fleet: &ByHand, name: &str) -> Vec<String> {
    let alarms = fleet.node(name)["alarms"].clone();
    let alarms = alarms.as_array().unwrap().iter();
    alarms.map(|alarm| alarm["reason"].as_str().unwrap().to_owned()).collect()
}

fn deploy(fleet: &ByHand, service: &Service, more: &[&str]) {
    let file = fleet.file("service.toml", &service.toml());
    let _ = fleet.pith(&[&["deploy", "-f", &file], more].concat()).expect_code(0);
}

fn serves(fleet: &ByHand, k: u8, port: u16, version: &str) -> bool {
    get(fleet.address(k, port), "/").is_ok_and(|(_, body)| body.starts_with(version))
}

/// The broker forgets everything and keeps these topics back from now on.
fn withhold(fleet: &mut ByHand, topics: &[String]) {
    fleet.broker.withhold(topics);
    fleet.broker.kill();
    fleet.broker.start();
}

fn shown(fleet: &ByHand, args: &[&str]) -> String {
    fleet.pith(args).expect_code(0).stdout.clone()
}

#[test]
fn a_manifest_or_a_time_that_the_broker_keeps_back_is_an_alarm_and_everything_runs_on() {
    if !can_run() {
        return;
    }
    let mut fleet = ByHand::start(2);
    let port = free_port();
    let service = Service::new("hello", port).scheduling("per_node = 1");
    deploy(&fleet, &service, &[]);
    let before = fleet.running();
    let (first, second) = (fleet.id("board-1"), fleet.id("board-2"));

    let kept_back = [fleet.topic(&first, "down/manifest"), fleet.topic(&second, "down/time")];
    withhold(&mut fleet, &kept_back);
    deploy(&fleet, &service.clone().image("pith-demo:v2"), &["--detach"]);
    until_true("board-1 misses its manifest", ALARM, || alarms(&fleet, "board-1") == ["withheld"]);
    until_true("board-2 gets no time", ALARM, || alarms(&fleet, "board-2") == ["no_time"]);

    assert_eq!(fleet.running(), before, "nothing was touched");
    assert!(serves(&fleet, 1, port, "v1") && serves(&fleet, 2, port, "v1"));
    let table = shown(&fleet, &["node", "ls"]);
    assert!(table.contains("ready, withheld") && table.contains("ready, no_time"), "{table}");
    let services = shown(&fleet, &["ps"]);
    assert!(services.contains("board-1: withheld: "), "{services}");
    assert!(services.contains("board-2: no_time: "), "{services}");
    let services = fleet.json(&["ps"]);
    assert_eq!(services["services"][0]["nodes"][0]["alarms"][0]["reason"], "withheld");
    let events = shown(&fleet, &["events"]);
    assert!(events.contains("[withheld]") && events.contains("[no_time]"), "{events}");
    let status = fleet.json(&["rollout", "status", "hello"]);
    assert_eq!(
        (&status["state"], &status["nodes"][0]["reason"]),
        (&"in_progress".into(), &"withheld".into())
    );

    // The broker is honest again: what was kept back comes, and nobody has to do anything.
    withhold(&mut fleet, &[]);
    assert_eq!(fleet.rollout_end("hello", SOON), "succeeded");
    for name in ["board-1", "board-2"] {
        until_true("the alarm is over", SOON, || alarms(&fleet, name).is_empty());
    }
    assert!(serves(&fleet, 1, port, "v2") && serves(&fleet, 2, port, "v2"));
    let events = shown(&fleet, &["events"]);
    assert!(events.contains("[withheld] over") && events.contains("[no_time] over"), "{events}");
}

#[test]
fn old_times_played_again_and_kept_messages_deleted_cost_nothing_that_the_next_hello_does_not_mend()
{
    if !can_run() {
        return;
    }
    let mut fleet = ByHand::start(1);
    let port = free_port();
    let service = Service::new("hello", port);
    deploy(&fleet, &service, &[]);
    let (victim, before) = (fleet.id("board-1"), fleet.running());
    let first_manifest = fleet.kept(&victim, "down/manifest");

    // Two answers to two hellos, as they pass by: one that is answered is not said again for a quarter of an hour.
    let mut answers = Vec::new();
    for _ in 0..2 {
        let ear = fleet.overhear(&victim, "down/time", 1);
        fleet.restart_agent(1);
        let heard = ear.wait_with_output().unwrap();
        assert!(heard.status.success(), "the node asks, the coordinator answers: {heard:?}");
        answers.extend(heard.stdout);
    }
    assert_eq!(answers.iter().filter(|byte| **byte == b'\n').count(), 2);

    // Played again, over and over, and left where every new session reads them first. And what the broker kept is gone.
    fleet.inject(&victim, "down/time", &answers.repeat(20), false);
    fleet.inject(&victim, "down/time", &answers, true);
    fleet.inject(&victim, "down/manifest", b"", true);
    let refused = || fleet.node("board-1")["refused"].clone();
    until_true("the empty message is counted", SOON, || refused()["bad_envelope"] == 1);
    assert_eq!(refused().as_object().unwrap().len(), 1, "being late is no attack: {}", refused());
    assert_eq!((fleet.running(), alarms(&fleet, "board-1")), (before.clone(), vec![]));

    // While the board is off a release comes, and the broker gives it the one before with the old times.
    fleet.kill_agent(1);
    deploy(&fleet, &service.clone().image("pith-demo:v2"), &["--detach"]);
    fleet.inject(&victim, "down/manifest", &[&first_manifest[..], b"\n"].concat(), true);
    assert_eq!(fleet.running(), before);
    fleet.start_agent(1);
    assert_eq!(fleet.rollout_end("hello", SOON), "succeeded");
    assert!(serves(&fleet, 1, port, "v2"));
    assert_eq!(alarms(&fleet, "board-1"), Vec::<String>::new());
}
