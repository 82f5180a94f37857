//! A coordinator is set back to an old copy of its folder: its nodes refuse it and run on, it says so and pretends nothing, and
//! a signature of root lets them follow it again.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;
use tests::by_hand::ByHand;
use tests::http::{free_port, get};
use tests::services::Service;
use tests::skip;
use tests::wait::until_true;

const SOON: Duration = Duration::from_secs(40);

fn can_run() -> bool {
    ["docker", "mosquitto_passwd", "mosquitto_pub", "mosquitto_sub"].into_iter().all(skip::has)
}

fn version(fleet: &ByHand, k: u8, port: u16) -> Option<String> {
    let (status, body) = get(fleet.address(k, port), "/").ok()?;
    (status == 200).then(|| body.split_whitespace().next().unwrap_or_default().to_owned())
}

fn deploy(fleet: &ByHand, service: &Service, code: i32) -> tests::fleet::Outcome {
    let file = fleet.file("service.toml", &service.toml());
    fleet.pith(&["deploy", "-f", &file]).expect_code(code)
}

fn statuses(fleet: &ByHand) -> Vec<String> {
    let shown = fleet.json(&["node", "ls"]);
    let nodes = shown["nodes"].as_array().unwrap().iter();
    nodes.map(|node| node["status"].as_str().unwrap().to_owned()).collect()
}

fn copy(from: &Path, to: &Path) {
    let copied = Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap();
    assert!(copied.success());
}

/// What is shown while the nodes know more than the coordinator.
fn check_shown(fleet: &ByHand) {
    let nodes = fleet.pith(&["node", "ls"]).expect_code(0).stdout;
    assert!(nodes.contains("board-1 is in conflict: it has seen manifest"), "{nodes}");
    let ps = fleet.pith(&["ps"]).expect_code(0).stdout;
    assert!(ps.contains("board-1: conflict: ") && ps.contains("pith fleet reconcile"), "{ps}");
    let status = fleet.json(&["rollout", "status", "hello"]);
    assert_eq!(status["nodes"][0]["state"], "conflict", "{status}");
    assert_eq!(status["nodes"][0]["reason"], "conflict", "{status}");
    let events = fleet.pith(&["events"]).expect_code(0).stdout;
    assert!(events.contains("[conflict] conflict: it has seen manifest"), "{events}");
}

/// What is asked in vain.
fn check_refused(fleet: &ByHand, hello: &Service) {
    for image in ["pith-demo:v1", "pith-demo:v3"] {
        let refused = deploy(fleet, &hello.clone().image(image), 5);
        let says = "default/hello needs board-1, board-2, in conflict";
        assert!(refused.stderr.contains(says), "{refused:?}");
        assert!(refused.stderr.contains("`pith fleet reconcile`"), "{refused:?}");
    }
    let _ = fleet.pith(&["scale", "hello", "2"]).expect_code(5);
    let _ = fleet.pith(&["rm", "hello", "--yes"]).expect_code(5);
    let _ = fleet.pith(&["rollout", "restart", "hello"]).expect_code(5);
}

fn actions(shown: &Value) -> BTreeSet<String> {
    let nodes = shown["nodes"].as_array().unwrap().iter();
    let lines = nodes.flat_map(|node| {
        let services = node["services"].as_array().unwrap().iter();
        services
            .map(move |of_it| format!("{} {} {}", node["node"], of_it["service"], of_it["action"]))
    });
    lines.map(|line| line.replace('"', "")).collect()
}

#[test]
fn a_coordinator_from_an_old_copy_is_refused_shown_as_conflict_and_mended_by_root() {
    if !can_run() {
        return;
    }
    let mut fleet = ByHand::start_with(2, &["alice", "bob", "carol"]);
    let (port, other) = (free_port(), free_port());
    let hello = Service::new("hello", port);
    let key = |name: &str| fleet.path(&format!("{name}.key")).display().to_string();
    let (alice, bob) = (key("alice"), key("bob"));
    deploy(&fleet, &hello, 0);
    fleet.kill_coordinator();
    copy(&fleet.data(), &fleet.path("old"));
    fleet.start_coordinator();
    deploy(&fleet, &hello.clone().image("pith-demo:v2"), 0);
    deploy(&fleet, &Service::new("later", other), 0);
    until_true("the old instances are gone", SOON, || fleet.running().len() == 4);
    let before = fleet.running();
    fleet.kill_agent(2);

    fleet.kill_coordinator();
    std::fs::rename(fleet.data(), fleet.path("lost")).unwrap();
    copy(&fleet.path("old"), &fleet.data());
    fleet.start_coordinator();
    until_true("both are in conflict", SOON, || statuses(&fleet) == ["conflict", "conflict"]);
    check_shown(&fleet);
    check_refused(&fleet, &hello);
    assert_eq!(fleet.running(), before, "what runs is left alone");
    assert_eq!(version(&fleet, 1, port).as_deref(), Some("v2"));

    // What would change; nothing is signed.
    let shown = fleet.pith(&["fleet", "reconcile", "-o", "json"]).expect_code(5);
    assert!(shown.stderr.contains("pith fleet reconcile --yes"), "{shown:?}");
    let wanted = ["board-1 hello replace", "board-1 later remove"];
    let wanted = wanted.into_iter().chain(["board-2 hello replace", "board-2 later remove"]);
    let shown = serde_json::from_str(&shown.stdout).unwrap();
    assert_eq!(actions(&shown), wanted.map(str::to_owned).collect());
    let text = fleet.pith(&["fleet", "reconcile"]).expect_code(5).stdout;
    assert!(
        text.contains("revision 1 ×1 pith-demo:v1") && text.contains("not known here"),
        "{text}"
    );
    let one = ["fleet", "reconcile", "--yes", "--root-key", &alice];
    let one = fleet.pith(&one).expect_code(4);
    assert!(one.stdout.contains("needs 1 more signature(s)"), "{one:?}");
    assert_eq!(statuses(&fleet), ["conflict", "conflict"]);
    assert_eq!(fleet.running(), before);

    let file = fleet.path("data/root-2.json").display().to_string();
    let signed = fleet.pith(&["keys", "sign", &file, "--root-key", &bob]).expect_code(0);
    assert!(signed.stdout.contains("trust root 2 is in effect"), "{signed:?}");
    until_true("board-1 follows again", SOON, || {
        version(&fleet, 1, port).as_deref() == Some("v1") && version(&fleet, 1, other).is_none()
    });
    assert_eq!(version(&fleet, 2, port).as_deref(), Some("v2"), "its agent is off");
    fleet.start_agent(2);
    until_true("board-2 follows too", SOON, || {
        version(&fleet, 2, port).as_deref() == Some("v1") && version(&fleet, 2, other).is_none()
    });
    until_true("no conflict is left", SOON, || statuses(&fleet) == ["ready", "ready"]);
    let done = fleet.pith(&["fleet", "reconcile"]).expect_code(0);
    assert!(done.stdout.contains("no node is in conflict"), "{done:?}");
    deploy(&fleet, &hello.clone().image("pith-demo:v2"), 0);
    assert_eq!(version(&fleet, 1, port).as_deref(), Some("v2"));
    let status = fleet.json(&["rollout", "status", "hello"]);
    assert_eq!(status["revision"], 3, "the number of the deploy that was lost is not given again");
}
