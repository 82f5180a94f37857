//! The whole stack that people copy, with stand-in images: to staging in one deploy, then the same releases to production.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::fs;
use std::path::Path;

use tests::docker;
use tests::fleet::Fleet;
use tests::http::{free_port, get};
use tests::skip;

const SERVICES: [&str; 7] = [
    "postgres",
    "redis",
    "world-state",
    "persistence-service",
    "script-executor",
    "graphics-gateway",
    "chat-service",
];

/// A line of a service file as the demo application can play it: it listens where the real one does, and is ready at once.
fn stand_in(line: &str, name: &str, ports: &[(&str, u16)]) -> String {
    let key = line.split('=').next().unwrap_or_default().trim();
    let echo = match name {
        "postgres" => Some(5432),
        "redis" => Some(6379),
        _ => None,
    };
    match (key, echo) {
        ("image", None) => "image = \"pith-demo:v1\"".to_owned(),
        ("image", Some(port)) => {
            format!("image = \"pith-demo:v1\"\nenv = {{ TCP_ECHO_PORT = \"{port}\" }}")
        }
        ("env", Some(_)) => String::new(),
        ("command", Some(_)) => String::new(),
        ("command", None) => "command = [\"once\"]".to_owned(),
        ("initial_delay" | "min_ready", _) => format!("{key} = \"0s\""),
        ("period", _) => "period = \"1s\"".to_owned(),
        ("listen" | "preview_port", _) => {
            let (_, port) = ports.iter().find(|(port, _)| line.contains(port)).unwrap();
            format!("{key} = {port}")
        }
        // A port of the real one that the stand-in does not open under its number.
        ("target", None) => "target = 8080".to_owned(),
        _ => line.to_owned(),
    }
}

fn write_stand_ins(folder: &Path, ports: &[(&str, u16)]) {
    let config = Path::new(env!("CARGO_MANIFEST_DIR")).join("../config/game-world");
    for name in SERVICES {
        let file = format!("{name}.toml");
        let text = fs::read_to_string(config.join(&file)).unwrap();
        let lines: Vec<String> = text.lines().map(|line| stand_in(line, name, ports)).collect();
        fs::write(folder.join(file), lines.join("\n")).unwrap();
    }
}

#[test]
fn the_stack_goes_to_staging_in_one_deploy_and_the_same_releases_to_production() {
    if !skip::has("docker") {
        return;
    }
    let nodes = ["staging-1,env=staging", "opi-1,env=production", "opi-2,env=production"];
    let nodes = nodes.map(|node| format!("--node=name={node}"));
    let nodes: Vec<&str> =
        ["--nodes", "3"].into_iter().chain(nodes.iter().map(String::as_str)).collect();
    let fleet = Fleet::start_with(&nodes, &[]);
    let folder = tempfile::tempdir().unwrap();
    let ports = [("15001", free_port()), ("5000", free_port()), ("5001", free_port())];
    write_stand_ins(folder.path(), &ports);
    let path = folder.path().display().to_string();

    let deployed = fleet.pith(&["deploy", "-f", &path, "--env", "staging"]).expect_code(0);
    let place =
        |what: &str| deployed.stdout.find(&format!("service \"{what}\" successfully")).unwrap();
    assert!(place("postgres") < place("world-state"), "{deployed:?}");
    assert!(place("world-state") < place("graphics-gateway"), "{deployed:?}");
    assert!(deployed.stdout.contains("pre_deploy runs on staging-1"), "{deployed:?}");

    for service in SERVICES {
        let promote = ["promote", service, "--from", "staging", "--to", "production"];
        let _ = fleet.pith(&promote).expect_code(0);
        let release = |env: &str| {
            fleet.json(&["rollout", "status", service, "--env", env])["release"].clone()
        };
        assert_eq!(release("staging"), release("production"), "{service}");
        let again = fleet.pith(&promote).expect_code(0);
        assert!(again.stdout.contains("unchanged"), "{again:?}");
    }
    let production = fleet.json(&["ps", "--env", "production"]);
    for service in production["services"].as_array().unwrap() {
        assert_eq!(service["ready"], service["desired"], "{service}");
    }
    for node in [2, 3] {
        let (status, body) = get(fleet.address(node, ports[1].1), "/").unwrap();
        assert_eq!((status, body.starts_with("v1")), (200, true), "the gateway on node {node}");
    }

    let gateway = folder.path().join("graphics-gateway.toml").display().to_string();
    let update = ["deploy", "-f", &gateway, "--image", "pith-demo:v2", "--env", "staging"];
    let _ = fleet.pith(&update).expect_code(0);
    let promote = ["promote", "graphics-gateway", "--from", "staging", "--to", "production"];
    let _ = fleet.pith(&[&promote[..], &["--detach"]].concat()).expect_code(0);
    tests::wait::until_true("the canary stands", std::time::Duration::from_secs(30), || {
        let status = ["rollout", "status", "graphics-gateway", "--env", "production"];
        fleet.json(&status)["nodes"][0]["state"] == "standing"
    });
    let full = ["rollout", "promote", "graphics-gateway", "--full", "--env", "production"];
    let _ = fleet.pith(&full).expect_code(0);
    let (_, body) = get(fleet.address(3, ports[1].1), "/").unwrap();
    assert!(body.starts_with("v2"), "{body}");

    let chat = folder.path().join("chat-service.toml").display().to_string();
    let update = ["deploy", "-f", &chat, "--image", "pith-demo:v2", "--env", "production"];
    let waits = fleet.pith(&update).expect_code(4);
    assert!(waits.stderr.contains("awaits promotion"), "{waits:?}");
    let (_, blue) = get(fleet.address(2, ports[2].1), "/").unwrap();
    let (_, green) = get(fleet.address(2, ports[0].1), "/").unwrap();
    assert_eq!((&blue[..2], &green[..2]), ("v1", "v2"), "the preview port shows the new set");
    let _ = fleet.pith(&["rollout", "abort", "chat-service", "--env", "production"]).expect_code(0);
    let label = fleet.label();
    assert_eq!(fleet.stop(), 0);
    docker::remove_all(&label);
}
