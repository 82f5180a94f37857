//! What a fleet does, as a person sees it: `pith node top` and `pith top`, as text, as JSON, and on a terminal that is given back as it
//! was, whatever ends it.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::process::Command;
use std::time::Duration;

use serde_json::Value;
use tests::fleet::Fleet;
use tests::http::free_port;
use tests::services::Service;
use tests::skip;
use tests::terminal::{ENTERED, OnTerminal};
use tests::wait::until;

const SOON: Duration = Duration::from_secs(40);
fn signal(which: &str, pid: &str) {
    assert!(Command::new("kill").args([which, pid]).status().unwrap().success());
}

/// Lines that begin with the name of a node.
fn rows(text: &str) -> Vec<&str> {
    text.lines().filter(|line| line.starts_with("node-")).collect()
}

#[test]
fn the_load_of_every_node_is_told_to_whoever_looks() {
    if !skip::has("docker") {
        return;
    }
    let fleet = Fleet::start(2);
    // The first load of a board has no share of its processor: that is of the time between two.
    let shown = until("both nodes tell their load in detail", SOON, || {
        let shown = fleet.json(&["node", "top"]);
        let is_told =
            |node: &Value| node["load"]["cpu"].is_f64() && node["load"]["board"].is_object();
        shown["nodes"].as_array().unwrap().iter().all(is_told).then_some(shown)
    });
    let names: Vec<&str> =
        shown["nodes"].as_array().unwrap().iter().map(|n| n["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["node-1", "node-2"]);
    for node in shown["nodes"].as_array().unwrap() {
        let used = node["load"]["mem_used"].as_u64().unwrap();
        assert!(used > 0 && used < node["load"]["mem_total"].as_u64().unwrap(), "{node}");
    }
    let table = fleet.pith(&["node", "top", "--sort", "cpu"]).expect_code(0);
    assert!(table.stdout.starts_with("NODE    CPU "), "{table:?}");
    assert_eq!(rows(&table.stdout).len(), 2, "{table:?}");
    for row in rows(&table.stdout) {
        assert!(row.matches("% of ").count() >= 2, "memory and disk: {row}");
    }
    let whole = fleet.pith(&["node", "top", "node-2"]).expect_code(0);
    assert!(whole.stdout.starts_with("node       node-2 ("), "{whole:?}");
    assert!(whole.stdout.contains("status     ready\n"), "{whole:?}");
    let _ = fleet.pith(&["node", "top", "nobody"]).expect_code(2);

    let service = Service::new("web", free_port()).image("pith-demo:v3");
    let file = fleet.file("service.toml", &service.toml());
    let _ = fleet.pith(&["deploy", "-f", &file, "--detach"]).expect_code(0);
    let frame = until("a rollout says what it waits for", SOON, || {
        let frame = fleet.pith(&["top", "--once"]).expect_code(0).stdout;
        frame.contains("waiting_for_ready").then_some(frame)
    });
    assert!(frame.starts_with("pith top  nodes 2  services 1  rollouts 1\n"), "{frame}");
    assert!(rows(&frame).iter().all(|row| row.contains("ready ") && row.contains('%')), "{frame}");
    assert_eq!(rows(&frame).len(), 2, "{frame}");
    let document = fleet.json(&["top"]);
    assert_eq!(document["services"]["services"][0]["name"], "web");
    assert_eq!(document["nodes"]["nodes"].as_array().unwrap().len(), 2);
    let piped = fleet.pith(&["top"]).expect_code(0).stdout;
    assert!(piped.starts_with("pith top  nodes 2 ") && !piped.contains('\x1b'), "{piped}");
    assert_eq!(fleet.stop(), 0);
}

#[test]
fn the_terminal_gives_back_whatever_ends_it() {
    if !skip::has("docker") || !skip::has("script") {
        return;
    }
    let fleet = Fleet::start(2);
    let mut top = OnTerminal::start(&fleet.data(), "top");
    let _ = top.sees(ENTERED);
    let _ = top.sees("node-2");
    top.press("\r");
    let _ = top.sees("inodes");
    top.press("\x1b");
    let _ = top.sees("NODES");

    // A coordinator that hangs is called away, and its last frame goes on when it is back.
    let coordinator = fleet.pid().to_string();
    signal("-STOP", &coordinator);
    let _ = top.sees("last seen");
    signal("-CONT", &coordinator);
    let _ = top.sees("enter whole");
    top.press("q");
    top.gives_back(0);

    let mut ended = OnTerminal::start(&fleet.data(), "top");
    let _ = ended.sees("pid=");
    let pid = ended.sees(".");
    let _ = ended.sees("node-2");
    signal("-TERM", &pid);
    ended.gives_back(128 + 15);

    let mut interrupted = OnTerminal::start(&fleet.data(), "top");
    let _ = interrupted.sees("node-2");
    interrupted.press("/no");
    interrupted.press("\x03");
    interrupted.gives_back(0);
    assert_eq!(fleet.stop(), 0);
}
