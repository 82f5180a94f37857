//! Root on a board holds a service, takes it back and lets it go, with a coordinator that does not fight it and without one.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use load::{Config, Load};
use serde_json::Value;
use tests::boards::Boards;
use tests::fleet::{Fleet, Outcome, binaries};
use tests::http::{free_port, get};
use tests::services::Service;
use tests::skip;
use tests::wait::until_true;

const SOON: Duration = Duration::from_secs(40);
/// A coordinator that wanted to fight would have done it by then.
const LONG_ENOUGH: Duration = Duration::from_secs(4);
const REASON: &str = "the disk is being swapped";

/// `pith-agent …` of a node of `pith dev`.
fn on_node(fleet: &Fleet, node: u8, args: &[&str]) -> Outcome {
    let mut command = Command::new(binaries().join("pith-agent"));
    command.args(args).arg("--config");
    command.arg(fleet.data().join(format!("nodes/node-{node}/agent.toml")));
    Outcome::of(&command.stdin(Stdio::null()).output().unwrap())
}

fn on_board(boards: &Boards, args: &[&str]) -> Outcome {
    Outcome::of(&boards.agent(1, args).output().unwrap())
}

fn version(address: SocketAddr) -> String {
    let answer = get(address, "/").map(|(_, body)| body).unwrap_or_default();
    answer.split_whitespace().next().unwrap_or_default().to_owned()
}

fn on(shown: &Value, node: &str) -> Value {
    let nodes = shown["nodes"].as_array().into_iter().flatten();
    let mut nodes = nodes.filter(|one| one["name"] == node || one["node"] == node);
    nodes.next().cloned().unwrap_or_default()
}

/// What `pith ps`, `node ls` and `rollout status` say of node 2, which is held at revision 1.
fn check_shown(fleet: &Fleet) {
    let ps = fleet.pith(&["ps"]).expect_code(0).stdout;
    assert!(ps.contains("node-2: held locally by ") && ps.contains(REASON), "{ps}");
    let ls = fleet.pith(&["node", "ls"]).expect_code(0).stdout;
    assert!(ls.contains("held locally: web"), "{ls}");
    let status = fleet.pith(&["rollout", "status", "web"]).expect_code(0).stdout;
    assert!(status.contains("held_locally") && status.contains(REASON), "{status}");
    let shown = fleet.rollout("web");
    assert_eq!(shown["state"], "succeeded", "{shown}");
    assert_eq!(shown["pending"], serde_json::json!(["node-2"]), "{shown}");
    assert_eq!(on(&shown, "node-2")["reason"], "held_locally", "{shown}");
    let services = fleet.json(&["ps"]);
    let held = &on(&services["services"][0], "node-2")["held"];
    assert_eq!((&held["revision"], &held["reason"]), (&1.into(), &REASON.into()), "{services}");
    let events = fleet.pith(&["events"]).expect_code(0).stdout;
    assert!(events.contains("[held_locally] held locally by "), "{events}");
}

#[test]
fn a_rollout_goes_past_a_node_on_which_root_holds_the_service() {
    if !skip::has("docker") {
        return;
    }
    let fleet = Fleet::start(2);
    let port = free_port();
    let web = Service::new("web", port);
    let _ = fleet.deploy(&web).expect_code(0);
    let versions = || [1, 2].map(|node| version(fleet.address(node, port)));

    let unknown = on_node(&fleet, 2, &["hold", "shop"]).expect_code(5);
    assert!(unknown.stderr.contains("pith-agent ps"), "{unknown:?}");
    let held = on_node(&fleet, 2, &["hold", "web", "--reason", REASON]).expect_code(0);
    assert!(held.stdout.contains("held at revision 1"), "{held:?}");
    let shown = on_node(&fleet, 2, &["ps"]).expect_code(0).stdout;
    assert!(shown.contains("held locally by ") && shown.contains(REASON), "{shown}");

    let deployed = fleet.deploy(&web.clone().image("pith-demo:v2")).expect_code(0);
    let said = "1 pending: node-2 held locally, takes it when released there";
    assert!(deployed.stdout.contains(said), "{deployed:?}");
    assert_eq!(versions(), ["v2", "v1"]);
    check_shown(&fleet);

    // It outlives the agent, which `pith dev` starts again.
    let pid = fleet.process(2, "agent").unwrap();
    let _ = Command::new("kill").args(["-9", &pid.to_string()]).status();
    until_true("the agent runs again", SOON, || on_node(&fleet, 2, &["ps"]).code == 0);
    std::thread::sleep(LONG_ENOUGH);
    assert_eq!(versions(), ["v2", "v1"], "nobody fights it");

    let _ = on_node(&fleet, 2, &["release", "web"]).expect_code(0);
    until_true("the released node takes it", SOON, || versions() == ["v2", "v2"]);
    until_true("nothing is pending", SOON, || {
        let shown = fleet.rollout("web");
        shown["pending"] == serde_json::json!([]) && on(&shown, "node-2")["state"] == "updated"
    });
    let ls = fleet.pith(&["node", "ls"]).expect_code(0).stdout;
    assert!(!ls.contains("held"), "{ls}");
    let again = on_node(&fleet, 2, &["release", "web"]).expect_code(5);
    assert!(again.stderr.contains("is not held"), "{again:?}");

    // Where everybody is held the verb says so instead of waiting; the first that is released takes it.
    for node in [1, 2] {
        let _ = on_node(&fleet, node, &["hold", "web"]).expect_code(0);
    }
    let waits = fleet.deploy(&web).expect_code(4);
    assert!(waits.stderr.contains("every reachable node is held locally"), "{waits:?}");
    assert_eq!(versions(), ["v2", "v2"]);
    let _ = on_node(&fleet, 1, &["release", "web"]).expect_code(0);
    until_true("the rollout goes on", SOON, || fleet.rollout("web")["state"] == "succeeded");
    assert_eq!(versions(), ["v1", "v2"]);
    assert_eq!(fleet.stop(), 0);
}

#[test]
fn root_goes_back_without_coordinator_and_broker_and_no_request_is_lost() {
    if !skip::has("docker") {
        return;
    }
    let mut boards = Boards::start();
    boards.add(1);
    let port = free_port();
    let web = Service::new("web", port).scheduling("per_node = 2");
    boards.deploy(&web.toml());
    boards.deploy(&web.clone().image("pith-demo:v2").toml());
    let address = boards.at(1, port);
    assert_eq!(version(address), "v2");

    boards.kill_coordinator();
    let load = Load::start(Config {
        targets: vec![address],
        path: "/".to_owned(),
        kept_connections: 4,
        kept_rate: 40,
        new_rate: 40,
        websockets: 0,
    });
    let from = Instant::now();
    let undone = on_board(&boards, &["undo", "web"]).expect_code(0);
    assert!(undone.stdout.contains("held at revision 1"), "{undone:?}");
    let is_back = || {
        let text = on_board(&boards, &["ps", "-o", "json"]).stdout;
        let shown: Value = serde_json::from_str(&text).unwrap_or_default();
        let of_it = &shown["report"]["services"][0];
        let count = of_it["instances"].as_array().into_iter().flatten();
        of_it["ready"] == 2 && count.filter(|i| i["state"] == "ready").count() == 2
    };
    until_true("two of the release before serve, and nothing else", SOON, || {
        version(address) == "v1" && is_back()
    });
    std::thread::sleep(Duration::from_secs(1));
    let summary = load.summary(from, Instant::now());
    assert_eq!(summary.failed, 0, "{summary:?}");
    assert!(summary.sent > 50, "{summary:?}");
    drop(load);

    let logs = on_board(&boards, &["logs", "web", "-n", "5"]).expect_code(0);
    assert!(!logs.stdout.trim().is_empty(), "{logs:?}");
    let _ = on_board(&boards, &["logs", "shop"]).expect_code(1);

    // The coordinator comes back, is told, and leaves it.
    boards.start_coordinator();
    boards.wait_ready(1);
    until_true("it is reported", SOON, || {
        boards.pith(&["ps"]).stdout.contains("board-1: held locally by ")
    });
    std::thread::sleep(LONG_ENOUGH);
    assert_eq!(version(address), "v1", "nobody fights it");

    // Where no agent answers, Docker is asked, and the mend is said.
    boards.kill_board(1);
    let away = on_board(&boards, &["ps"]).expect_code(6);
    assert!(away.stderr.contains("systemctl start pith-agent"), "{away:?}");
    assert!(away.stdout.contains("web"), "{away:?}");
    let away = on_board(&boards, &["hold", "web"]).expect_code(6);
    assert!(away.stderr.contains("systemctl start pith-agent"), "{away:?}");
    boards.start_board(1);
    until_true("the agent answers", SOON, || on_board(&boards, &["ps"]).code == 0);
    let _ = on_board(&boards, &["release", "web"]).expect_code(0);
    until_true("the newest manifest counts again", SOON, || version(address) == "v2");
}
