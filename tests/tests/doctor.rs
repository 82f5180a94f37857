//! What a board finds of itself: on the board without an agent, and through the coordinator; on the real engine, with a Watchtower
//! beside it and an image to go back to that somebody removed.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::os::unix::fs::MetadataExt as _;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::Value;
use tests::docker::docker;
use tests::fleet::{Fleet, Outcome, binaries};
use tests::http::free_port;
use tests::registry::Registry;
use tests::services::Service;
use tests::skip;
use tests::wait::until_true;

const SOON: Duration = Duration::from_secs(40);
/// As people run it, and as nobody but this test tags it.
const WATCHTOWER: &str = "containrrr/watchtower:pith-doctor-test";

fn agent(config: &str, args: &[&str]) -> Outcome {
    let mut command = Command::new(binaries().join("pith-agent"));
    command.arg("doctor").args(args).args(["--config", config]);
    command.env("NO_COLOR", "1").stdin(Stdio::null());
    Outcome::of(&command.output().unwrap())
}

fn document(outcome: &Outcome) -> Value {
    serde_json::from_str(&outcome.stdout).unwrap_or_else(|e| panic!("{e}: {outcome:?}"))
}

/// What a check has found, each as `severity: seen`.
fn found<'a>(document: &'a Value, id: &str) -> Vec<(&'a str, &'a Value)> {
    let findings = document["findings"].as_array().unwrap().iter();
    let of_it = findings.filter(|one| one["id"] == id);
    of_it.map(|one| (one["severity"].as_str().unwrap(), one)).collect()
}

/// A container of somebody else, which goes with the test.
struct Neighbour(String);

impl Neighbour {
    fn start(image: &str) -> Self {
        let name = format!("pith-test-neighbour-{}", std::process::id());
        let _ = docker(&["tag", "pith-demo:v1", image]);
        let _ = docker(&["run", "-d", "--name", &name, image]);
        Self(name)
    }
}

impl Drop for Neighbour {
    fn drop(&mut self) {
        let _ = Command::new("docker").args(["rm", "-f", &self.0]).output();
        let _ = Command::new("docker").args(["rmi", WATCHTOWER]).output();
    }
}

#[test]
fn a_board_that_has_not_joined_is_examined_without_an_agent() {
    if !skip::has("docker") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("agent.toml");
    let folder = dir.path().display();
    let text = format!(
        "name = \"bare\"\nstate_dir = \"{folder}/state\"\nruntime_dir = \"{folder}/run\"\n"
    );
    std::fs::write(&config, text).unwrap();
    let config = config.to_string_lossy().into_owned();

    let neighbour = Neighbour::start(WATCHTOWER);
    let outcome = agent(&config, &["-o", "json"]).expect_code(1);
    let shown = document(&outcome);
    assert_eq!(
        (&shown["board"], &shown["agent_version"]),
        (&"bare".into(), &env!("CARGO_PKG_VERSION").into())
    );
    let updater = found(&shown, "updater");
    assert!(updater.len() == 1 && updater[0].0 == "problem", "{updater:?}");
    let (seen, mend) = (&updater[0].1["seen"], &updater[0].1["mend"]);
    assert!(
        seen.as_str().unwrap().contains(&neighbour.0)
            && mend.as_str().unwrap().contains("docker rm -f"),
        "{updater:?}"
    );
    assert_eq!(found(&shown, "joined")[0].0, "note");
    // What this machine really is.
    let engine = found(&shown, "engine-version");
    let version = docker(&["version", "--format", "{{.Server.Version}}"]);
    assert!(
        engine[0].0 == "ok" && engine[0].1["seen"].as_str().unwrap().contains(&version),
        "{engine:?}"
    );
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    assert_eq!(found(&shown, "kernel-version")[0].1["seen"], kernel.trim());
    // Nothing that cannot be told here is said to be well, and everything bad has its why and its mend.
    for one in shown["findings"].as_array().unwrap() {
        let is_bad = one["severity"] == "problem" || one["severity"] == "warning";
        assert!(!is_bad || (one["why"].is_string() && one["mend"].is_string()), "{one}");
    }
    assert!(!std::path::Path::new(&format!("{folder}/state")).exists(), "it changes nothing");

    let text = agent(&config, &[]).expect_code(1).stdout;
    assert!(text.starts_with("bare  agent ") && text.contains("mend: `docker rm -f "), "{text}");
    drop(neighbour);
    let without = document(&agent(&config, &["-o", "json"]));
    assert_eq!(found(&without, "updater")[0].0, "ok");
    // A Docker that is not there is found, and is no reason to find nothing else.
    let text = std::fs::read_to_string(&config).unwrap() + "docker = \"/does/not/exist.sock\"\n";
    std::fs::write(&config, text).unwrap();
    let away = document(&agent(&config, &["-o", "json"]).expect_code(1));
    assert_eq!(found(&away, "engine")[0].0, "problem");
    assert_eq!(found(&away, "kernel-version").len(), 1);
}

fn on_board(fleet: &Fleet, revision: usize) -> Value {
    fleet.json(&["rollout", "history", "web"])["revisions"][revision - 1]["on_board"].clone()
}

/// The same board in a network of its own, with real rules that keep the service's port closed: found with the rule. What the rules
/// let in is well.
fn check_firewall(fleet: &Fleet, port: u16) {
    let is_root = std::fs::metadata("/proc/self").is_ok_and(|meta| meta.uid() == 0);
    if !is_root || !skip::has("nft") || !skip::has("unshare") {
        return;
    }
    let config = std::fs::read_to_string(fleet.data().join("nodes/node-1/agent.toml")).unwrap();
    // As a board listens.
    let config = config.replace("listen = [\"127.0.0.1\"]", "listen = [\"0.0.0.0\"]");
    let config = fleet.file("board.toml", &config);
    let examine = |rule: &str| {
        let rules = format!(
            "table inet filter {{\nchain input {{\ntype filter hook input priority 0; policy accept;\n\
             iif lo accept; {rule}\n}}\n}}\n"
        );
        let rules = fleet.file("rules.nft", &rules);
        let agent = binaries().join("pith-agent");
        let line =
            format!("nft -f {rules} && exec {} doctor -o json --config {config}", agent.display());
        let output = Command::new("unshare").args(["-n", "sh", "-c", &line]).output().unwrap();
        document(&Outcome::of(&output))
    };
    let closed = examine(&format!("tcp dport {port} drop"));
    let (severity, finding) = found(&closed, "firewall-ports")[0];
    let seen = finding["seen"].as_str().unwrap();
    assert!(
        severity == "problem"
            && seen.contains(&format!("inet filter input: tcp dport {port} drop")),
        "{finding}"
    );
    assert!(
        finding["mend"].as_str().unwrap().contains(&format!("tcp dport {port} accept")),
        "{finding}"
    );
    assert_eq!(found(&closed, "firewall-services")[0].0, "ok", "{closed}");
    let open = examine(&format!("tcp dport {port} accept; tcp dport 8080 drop"));
    assert_eq!(found(&open, "firewall-ports")[0].0, "ok", "{open}");
    assert_eq!(found(&open, "firewall-services")[0].0, "problem", "{open}");
}

#[test]
fn an_image_to_go_back_to_that_somebody_removed_is_found_from_afar() {
    if !["docker", "docker-registry", "skopeo", "curl"].into_iter().all(skip::has) {
        return;
    }
    let registry = Registry::start();
    let images =
        ["v1", "v2"].map(|tag| registry.push(&format!("pith-demo:{tag}"), &format!("web:{tag}")));
    let gone = format!("{}@{}", registry.image("web"), registry.digest("web:v1"));
    let fleet = Fleet::start(1);
    let port = free_port();
    let web = Service::new("web", port);
    for image in &images {
        let _ = fleet.deploy(&web.clone().image(image)).expect_code(0);
    }
    let all = serde_json::json!({ "here": 1, "of": 1, "silent": 0 });
    until_true("the board says which images it has", SOON, || {
        on_board(&fleet, 1) == all && on_board(&fleet, 2) == all
    });
    let history = fleet.pith(&["rollout", "history", "web"]).expect_code(0).stdout;
    assert!(history.contains("ON BOARD") && history.contains("  1/1  "), "{history}");

    let examine = || fleet.pith(&["node", "doctor", "node-1", "-o", "json"]);
    let shown = document(&examine());
    assert_eq!(shown["board"], "node-1");
    assert_eq!(found(&shown, "kept-images")[0].0, "ok", "{shown}");
    assert_eq!(found(&shown, "identity-clone")[0].0, "ok", "the coordinator's word");
    assert_eq!(found(&shown, "identity-of-this-board")[0].0, "ok", "{shown}");
    assert_eq!(found(&shown, "listen-ports")[0].0, "ok", "{shown}");

    let _ = docker(&["rmi", &gone]);
    let outcome = examine().expect_code(1);
    let shown = document(&outcome);
    let kept = found(&shown, "kept-images");
    assert!(kept.len() == 1 && kept[0].0 == "problem", "{kept:?}");
    let mend = kept[0].1["mend"].as_str().unwrap().to_owned();
    assert!(mend.starts_with(&format!("`docker pull {gone}`")), "{mend}");
    let none = serde_json::json!({ "here": 0, "of": 1, "silent": 0 });
    until_true("the history knows", SOON, || on_board(&fleet, 1) == none);
    assert_eq!(on_board(&fleet, 2), all);
    // Root on the board sees the same.
    let config = fleet.data().join("nodes/node-1/agent.toml").to_string_lossy().into_owned();
    let here = document(&agent(&config, &["-o", "json"]).expect_code(1));
    assert_eq!(found(&here, "kept-images"), kept);
    assert_eq!(found(&here, "agent")[0].0, "ok", "{here}");

    // The mend is what it says.
    let command = mend.split('`').nth(1).unwrap();
    let words: Vec<&str> = command.split(' ').skip(1).collect();
    let _ = docker(&words);
    until_true("it is back", SOON, || {
        found(&document(&examine()), "kept-images")[0].0 == "ok" && on_board(&fleet, 1) == all
    });

    check_firewall(&fleet, port);

    let nobody = fleet.pith(&["node", "doctor", "nobody"]).expect_code(2);
    assert!(nobody.stderr.contains("pith node ls"), "{nobody:?}");
    let text = fleet.pith(&["node", "doctor", "node-1"]).stdout;
    assert!(text.starts_with("node-1  agent ") && text.contains("SEVERITY  CHECK"), "{text}");
    assert_eq!(fleet.stop(), 0);
}
