//! People are told what happens: a release that went back and a lost node, signed, again where the other side was away, and
//! whoever watches the coordinator hears that it lives.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::fs;
use std::process::Command;
use std::time::Duration;

use protocol::id::hex;
use ring::hmac;
use serde_json::Value;
use tests::by_hand::ByHand;
use tests::docker::docker;
use tests::http::free_port;
use tests::receiver::{Received, Receiver};
use tests::services::Service;
use tests::skip;
use tests::wait::until_true;

const QUICKLY: Duration = Duration::from_secs(30);

const SECRET: &str = "a key of this test";

/// What rollouts and connections come to: what a board finds of this machine is not counted on.
const MOVES: &str = "on = [\"rollout_failed\", \"rolled_back\", \"node_lost\", \"node_back\"]\n";
const EVERYTHING: &str = "";

/// A coordinator that tells `ours` this, in our form, and `phone` as ntfy takes it; its heart beats to a third.
fn told(fleet: &mut ByHand, on: &str, [ours, phone, heart]: [&Receiver; 3]) {
    let secret = fleet.path("secret");
    fs::write(&secret, format!("{SECRET}\n")).unwrap();
    let path = fleet.path("coordinator.toml");
    let config = fs::read_to_string(&path).unwrap();
    let more = format!(
        "[[notify]]\nname = \"ours\"\nurl = \"{}\"\nsecret_file = {secret:?}\nnode_lost_after = \"1s\"\n{on}\
         [[notify]]\nname = \"phone\"\nurl = \"{}\"\nformat = \"ntfy\"\non = [\"rolled_back\"]\n\
         [heartbeat]\nurl = \"{}\"\nevery = \"1s\"\n",
        ours.url("hook?token=of-the-address"),
        phone.url("boards"),
        heart.url("ping"),
    );
    fs::write(&path, config + &more).unwrap();
    fleet.kill_coordinator();
    fleet.start_coordinator();
}

fn document(received: &Received) -> Value {
    serde_json::from_slice(&received.body).unwrap()
}

fn is_signed(received: &Received) -> bool {
    let signature = received.header("pith-signature").unwrap();
    let (time, code) = signature.strip_prefix("t=").unwrap().split_once(",v1=").unwrap();
    let text = [format!("{time}.").as_bytes(), &received.body].concat();
    let key = hmac::Key::new(hmac::HMAC_SHA256, SECRET.as_bytes());
    hex(hmac::sign(&key, &text).as_ref()) == code
}

#[test]
fn what_goes_back_and_who_is_lost_is_told_signed_and_again_where_nobody_heard() {
    if !["docker", "mosquitto_passwd"].into_iter().all(skip::has) {
        return;
    }
    // Ours is away at first.
    let (ours, phone, heart) =
        (Receiver::start(&[503, 503]), Receiver::start(&[]), Receiver::start(&[]));
    let mut fleet = ByHand::start(1);
    told(&mut fleet, MOVES, [&ours, &phone, &heart]);
    let _ = heart.wait("a beat", |one| one.line.starts_with("GET /ping"));

    // The first release never becomes ready: there is nothing to go back to. The second has.
    let service = Service::new("web", free_port()).rollout("progress_deadline = \"5s\"");
    let good = fleet.file("web.toml", &service.clone().image("pith-demo:v1").toml());
    let _ = fleet.pith(&["deploy", "-f", &good]).expect_code(0);
    let bad = fleet.file("web.toml", &service.image("pith-demo:v3").toml());
    let _ = fleet.pith(&["deploy", "-f", &bad]).expect_code(3);

    let of_kind = |kind: &'static str| move |one: &Received| document(one)["kind"] == kind;
    let back = ours.wait("told of the rollback", of_kind("rolled_back"));
    assert!(back.line.starts_with("POST /hook?token=of-the-address"), "{}", back.line);
    assert!(is_signed(&back));
    let said = document(&back);
    assert_eq!(said["service"], "web");
    assert_eq!(said["revision"], 2);
    assert_eq!(said["reason"], "not_ready_in_time");
    assert_eq!(said["see"], "pith rollout status web");
    until_true("it was told again until it was heard", QUICKLY, || {
        ours.received().iter().filter(|one| of_kind("rolled_back")(one)).count() == 3
    });
    let text = phone.wait("the phone is told", |one| one.line.starts_with("POST /boards"));
    assert_eq!(text.header("title"), Some("web: rolled back"));
    assert!(String::from_utf8_lossy(&text.body).contains("pith rollout status web"));

    fleet.kill_agent(1);
    let lost = document(&ours.wait("told of the lost node", of_kind("node_lost")));
    assert_eq!(lost["node"], "board-1");
    fleet.start_agent(1);
    let _ = ours.wait("told that it is back", of_kind("node_back"));
    assert_eq!(phone.received().len(), 1, "the phone asked for rollbacks alone");

    let tested = fleet.pith(&["notify", "test", "-o", "json"]).expect_code(0);
    let targets: Value = serde_json::from_str(&tested.stdout).unwrap();
    assert_eq!(targets["targets"][0]["host"], "127.0.0.1");
    assert!(!tested.stdout.contains("of-the-address"), "an address may be a secret: {tested:?}");
    let _ = phone.wait("a test", |one| one.header("title") == Some("a test"));
}

#[test]
fn a_target_that_refuses_is_named_with_what_it_answered() {
    if !["docker", "mosquitto_passwd"].into_iter().all(skip::has) {
        return;
    }
    let (gone, phone, heart) =
        (Receiver::start(&[404]), Receiver::start(&[]), Receiver::start(&[]));
    let mut fleet = ByHand::start(0);
    told(&mut fleet, MOVES, [&gone, &phone, &heart]);
    let tested = fleet.pith(&["notify", "test"]).expect_code(1);
    assert!(tested.stdout.contains("it answered 404"), "{tested:?}");
    let listed = fleet.pith(&["notify", "ls"]).expect_code(1);
    assert!(listed.stdout.contains("phone") && listed.stdout.contains("404"), "{listed:?}");
}

/// A container of somebody else that takes images away, which goes with the test.
struct Watchtower(String);

impl Watchtower {
    const IMAGE: &str = "containrrr/watchtower:pith-notify-test";

    fn start() -> Self {
        let name = format!("pith-test-watchtower-{}", std::process::id());
        let _ = docker(&["tag", "pith-demo:v1", Self::IMAGE]);
        let _ = docker(&["run", "-d", "--name", &name, Self::IMAGE]);
        Self(name)
    }
}

impl Drop for Watchtower {
    fn drop(&mut self) {
        let _ = Command::new("docker").args(["rm", "-f", &self.0]).output();
        let _ = Command::new("docker").args(["rmi", Self::IMAGE]).output();
    }
}

#[test]
fn what_a_board_finds_wrong_with_itself_is_told_without_asking() {
    if !["docker", "mosquitto_passwd"].into_iter().all(skip::has) {
        return;
    }
    let watchtower = Watchtower::start();
    let (ours, phone, heart) = (Receiver::start(&[]), Receiver::start(&[]), Receiver::start(&[]));
    let mut fleet = ByHand::start(1);
    told(&mut fleet, EVERYTHING, [&ours, &phone, &heart]);
    let of_doctor = |one: &Received| document(one)["kind"] == "doctor_finding";
    let said = document(&ours.wait("told of what it found", of_doctor));
    assert_eq!(said["node"], "board-1");
    assert_eq!(said["see"], "pith node doctor board-1");
    let found = fleet.pith(&["node", "doctor", "board-1"]).expect_code(1);
    let message = said["message"].as_str().unwrap();
    let first = message.split(':').next().unwrap();
    assert!(found.stdout.contains(first), "{message}: {found:?}");
    drop(watchtower);

    // A coordinator that starts anew remembers what it has told.
    fleet.kill_coordinator();
    fleet.start_coordinator();
    let kept = std::fs::read_to_string(fleet.data().join("examined.json")).unwrap();
    assert!(kept.contains(first), "{kept}");
}
