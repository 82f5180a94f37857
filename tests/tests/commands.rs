//! Commands to nodes: logs of all of them in one answer, a command inside a container where the node's policy allows it, and
//! each of them done once, on the one node it was signed for (A15).

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::io::{BufRead as _, BufReader};
use std::process::Stdio;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::Value;
use tests::by_hand::ByHand;
use tests::docker::docker;
use tests::fleet::{Fleet, Outcome};
use tests::http::{free_port, get};
use tests::policies::allow;
use tests::services::Service;
use tests::skip;
use tests::wait::{holds, until_true};

const SOON: Duration = Duration::from_secs(30);
/// The application of the demo's image, run once more beside the one that serves.
const PROBE: [&str; 3] = ["/demo-app", "probe", "/ready"];
const USAGE: [&str; 2] = ["/demo-app", "nonsense"];

fn instances(fleet: &Fleet) -> Vec<(String, String)> {
    let services = fleet.json(&["ps"])["services"].clone();
    let nodes = services[0]["nodes"].as_array().unwrap().iter();
    let of_node = |on: &Value| {
        let node = on["node"].as_str().unwrap().to_owned();
        let names = on["instances"].as_array().unwrap().clone().into_iter();
        names.map(move |one| (node.clone(), one["name"].as_str().unwrap().to_owned()))
    };
    nodes.flat_map(of_node).collect()
}

fn exec(fleet: &Fleet, of: &str, more: &[&str], command: &[&str]) -> Outcome {
    fleet.pith(&[&["exec", of], more, &["--"], command].concat())
}

/// What is written later comes later, and what takes the place of an instance is read too, until the one who follows goes.
fn check_following(fleet: &Fleet, runs: &str) {
    let mut follower =
        fleet.command(&["logs", "web", "-f", "-n", "0"]).stdout(Stdio::piped()).spawn().unwrap();
    let (told, lines) = std::sync::mpsc::channel();
    let stdout = BufReader::new(follower.stdout.take().unwrap());
    std::thread::spawn(move || {
        for line in stdout.lines().map_while(Result::ok) {
            let _ = told.send(line);
        }
    });
    std::thread::sleep(Duration::from_secs(3));
    let _ = docker(&["kill", "-s", "TERM", runs]);
    let line = lines.recv_timeout(SOON).unwrap();
    assert!(line.starts_with(runs) && line.contains("event=signal"), "{line}");
    let began = |line: &String| line.contains("event=start");
    let starts = || loop {
        let line = lines.recv_timeout(SOON).unwrap();
        if began(&line) {
            return line.split(' ').next().unwrap().to_owned();
        }
    };
    let first = starts();
    let _ = fleet.pith(&["restart", "web", "--node", "node-2"]).expect_code(0);
    let second = starts();
    assert!(first.contains("-web-") && second != runs && second != first, "{first} {second}");
    follower.kill().unwrap();
    let _ = follower.wait();
}

/// Who goes without a word leaves no place taken: a board has four.
fn check_places(fleet: &Fleet) {
    for _ in 0..6 {
        let mut one = fleet.command(&["logs", "web", "-f", "-n", "1"]);
        let mut one = one.stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(one.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert!(line.contains(" | "), "{line}");
        one.kill().unwrap();
        let _ = one.wait();
    }
    until_true("there is a place", Duration::from_secs(10), || {
        !fleet.pith(&["logs", "web"]).stderr.contains("command_busy")
    });
}

#[test]
fn the_logs_of_all_nodes_are_one_answer_and_go_on_as_they_are_written() {
    if !skip::has("docker") {
        return;
    }
    let fleet = Fleet::start(2);
    let port = free_port();
    let _ = fleet.deploy(&Service::new("web", port)).expect_code(0);
    let all = instances(&fleet);
    assert_eq!(all.len(), 2);

    let shown = fleet.pith(&["logs", "web"]).expect_code(0);
    for (_, instance) in &all {
        let prefix = format!("{instance} | ");
        assert!(shown.stdout.lines().any(|line| line.starts_with(&prefix)), "{shown:?}");
    }
    let of_one = fleet.pith(&["logs", "web", "--node", "node-2", "-n", "1"]).expect_code(0);
    assert_eq!(of_one.stdout.lines().count(), 1, "{of_one:?}");
    assert!(of_one.stdout.starts_with(&all[1].1), "{of_one:?}");
    let of_instance = fleet.pith(&["logs", &all[0].1, "-o", "json"]).expect_code(0);
    let first: Value = serde_json::from_str(of_instance.stdout.lines().next().unwrap()).unwrap();
    assert_eq!((&first["node"], &first["instance"]), (&"node-1".into(), &all[0].1.clone().into()));
    assert!(first["line"].is_string() && first["channel"].is_string(), "{first}");

    // What is older than was asked for is not shown.
    until_true("nothing was written lately", SOON, || {
        fleet.pith(&["logs", "web", "--since", "2s"]).expect_code(0).stdout.is_empty()
    });
    let of_the_hour = fleet.pith(&["logs", "web", "--since", "1h"]).expect_code(0);
    assert_eq!(of_the_hour.stdout.matches("event=start").count(), 2, "{of_the_hour:?}");

    // What is replaced is looked at by asking for it, and named as it was.
    let nothing = fleet.pith(&["logs", "web", "--previous"]).expect_code(1);
    assert!(nothing.stderr.contains("command_no_such_instance"), "{nothing:?}");
    let _ = fleet.pith(&["logs", "nothing"]).expect_code(2);
    let _ = fleet.pith(&["logs", "web", "--node", "nobody"]).expect_code(2);

    // On one node anew, and only there.
    let _ = fleet.pith(&["restart", "web", "--node", "node-2"]).expect_code(0);
    let anew = instances(&fleet);
    let names = |of: &str| -> Vec<String> {
        anew.iter().filter(|(node, _)| node == of).map(|(_, name)| name.clone()).collect()
    };
    assert_eq!(names("node-1"), [all[0].1.clone()]);
    assert!(names("node-2").iter().any(|name| *name != all[1].1), "{anew:?}");
    let old = fleet.pith(&["logs", "web", "--node", "node-2", "--previous"]).expect_code(0);
    assert!(old.stdout.contains(&all[1].1) && old.stdout.contains("event=exit"), "{old:?}");
    let now = fleet.pith(&["logs", "web", "--node", "node-2"]).expect_code(0);
    let runs = now.stdout.split(' ').next().unwrap().to_owned();
    assert!(runs != all[1].1, "{now:?}");
    let _ = fleet.pith(&["restart", "web", "--node", "nobody"]).expect_code(2);

    check_following(&fleet, &runs);
    check_places(&fleet);
    until_true("it runs again", SOON, || get(fleet.address(2, port), "/").is_ok());
    assert_eq!(fleet.stop(), 0);
}

#[test]
fn a_command_runs_where_the_policy_allows_it_and_nowhere_else() {
    if !skip::has("docker") || !skip::can_write_policies() {
        return;
    }
    let fleet = Fleet::start(2);
    let _ = fleet.deploy(&Service::new("web", free_port())).expect_code(0);
    let refused = exec(&fleet, "web", &[], &PROBE).expect_code(5);
    assert!(refused.stderr.contains("exec = true"), "{refused:?}");

    allow(&fleet, "[services.web]\nexec = true\n");

    let _ = exec(&fleet, "web", &["--node", "node-1"], &PROBE).expect_code(0);
    let ended = exec(&fleet, "web", &[], &USAGE).expect_code(2);
    let said = format!("{}{}", ended.stdout, ended.stderr);
    assert!(said.contains("usage: demo-app"), "{ended:?}");
    let all = instances(&fleet);
    let _ = exec(&fleet, &all[0].1, &[], &PROBE).expect_code(0);
    // For a program: who wrote what and where, one document per line, how it ended last; the code is the command's all the same.
    let shown = exec(&fleet, "web", &["--node", "node-1", "-o", "json"], &USAGE).expect_code(2);
    let documents = shown.stdout.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let documents: Vec<Value> = documents.collect();
    let (end, written) = documents.split_last().unwrap();
    assert_eq!(*end, serde_json::json!({ "node": "node-1", "end": { "exited": { "code": 2 } } }));
    let of = |one: &Value| {
        (one["node"] == "node-1", one["instance"] == *all[0].1, one["channel"] == "stdout")
    };
    assert!(written.iter().all(|one| of(one) == (true, true, true)), "{written:?}");
    let text: String = written.iter().map(|one| one["text"].as_str().unwrap()).collect();
    assert!(text.contains("usage: demo-app"), "{text}");

    let unknown = exec(&fleet, &all[0].1, &[], &["/no/such/program"]);
    assert!(unknown.code != 0 && unknown.code != 5, "{unknown:?}");
    let elsewhere = exec(&fleet, &all[1].1, &[], &PROBE).expect_code(5);
    assert!(elsewhere.stderr.contains("command_exec_not_allowed"), "{elsewhere:?}");

    let audit = fleet.pith(&["audit"]).expect_code(0);
    assert!(audit.stdout.contains(&format!("default/web in {}", all[0].1)), "{audit:?}");
    assert_eq!(fleet.stop(), 0);
}

/// How often a command was started in a container since a moment.
fn starts(container: &str, since_s: u64) -> usize {
    let now_s = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() + 1;
    let (since, until) = (since_s.to_string(), now_s.to_string());
    let container = format!("container={container}");
    let events = ["events", "--since", &since, "--until", &until, "--filter", &container];
    let started = docker(&[&events[..], &["--format", "{{.Action}}"]].concat());
    // Probes of the kind `exec` would be counted too; this service has none.
    started.lines().filter(|line| line.starts_with("exec_start")).count()
}

fn refused(fleet: &ByHand, node: &str) -> Value {
    fleet.node(node)["refused"].clone()
}

#[test]
fn a_recorded_command_is_done_no_second_time_nor_elsewhere_nor_later() {
    let tools = ["docker", "mosquitto_sub", "mosquitto_pub", "mosquitto_passwd"];
    if !tools.into_iter().all(skip::has) || !skip::can_write_policies() {
        return;
    }
    let mut fleet = ByHand::start_allowing(2, "exec = true\n");
    let file = fleet.file("service.toml", &Service::new("web", free_port()).toml());
    let _ = fleet.pith(&["deploy", "-f", &file]).expect_code(0);
    let (first, second) = (fleet.id("board-1"), fleet.id("board-2"));
    let services = fleet.json(&["ps"])["services"].clone();
    let instance = services[0]["nodes"][0]["instances"][0]["name"].as_str().unwrap().to_owned();
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();

    let ear = fleet.overhear(&first, "down/command", 1);
    let run: Vec<&str> = [&["exec", &instance, "--"][..], &PROBE].concat();
    let _ = fleet.pith(&run).expect_code(0);
    let heard = ear.wait_with_output().unwrap();
    assert!(heard.status.success() && heard.stdout.starts_with(b"{"), "{heard:?}");
    assert_eq!(starts(&instance, since), 1);

    // Played again at once, also to the neighbour.
    fleet.inject(&first, "down/command", &heard.stdout.repeat(3), false);
    fleet.inject(&second, "down/command", &heard.stdout, false);
    until_true("it is counted", SOON, || refused(&fleet, "board-1")["command_replayed"] == 3);
    until_true("the neighbour counts it too", SOON, || {
        refused(&fleet, "board-2")["command_wrong_node"] == 1
    });
    assert_eq!(starts(&instance, since), 1);

    // And after its time: the node's own clock says so, and what it remembered by then is gone.
    std::thread::sleep(Duration::from_secs(protocol::command::LIFE_S + 3));
    fleet.inject(&first, "down/command", &heard.stdout, false);
    until_true("it is too late", SOON, || refused(&fleet, "board-1")["command_expired"] == 1);

    // Left in the broker for an agent that starts anew and remembers nothing.
    fleet.inject(&first, "down/command", &heard.stdout, true);
    fleet.restart_agent(1);
    until_true("it is of another process", SOON, || {
        refused(&fleet, "board-1")["command_unknown_nonce"] == 1
    });
    holds("it is done no second time", Duration::from_secs(2), || starts(&instance, since) == 1);
    let events = fleet.pith(&["events"]).expect_code(0).stdout;
    assert!(events.contains("[command_refused]"), "{events}");

    // Whoever asks now is answered all the same, also by a coordinator that has not heard a hello yet.
    fleet.inject(&first, "down/command", b"", true);
    fleet.kill_coordinator();
    fleet.start_coordinator();
    let _ = fleet.pith(&run).expect_code(0);
    assert_eq!(starts(&instance, since), 2);
}
