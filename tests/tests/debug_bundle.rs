//! What a bug report gets: everything that is asked for, and nothing that is secret.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Command, Stdio};

use serde_json::Value;
use tests::fleet::Fleet;
use tests::http::free_port;
use tests::services::Service;
use tests::skip;

const SECRET: &str = "nobody-may-read-this";
const VARIABLE: &str = "neither-this";

#[test]
fn a_bundle_has_fleet_services_rollouts_and_findings_and_no_secret() {
    if !skip::has("docker") {
        return;
    }
    let fleet = Fleet::start(2);
    let secret = fleet.file("secret", SECRET);
    let mut set = fleet.command(&["secret", "set", "password"]);
    set.stdin(Stdio::from(fs::File::open(secret).unwrap()));
    assert!(set.status().unwrap().success());
    let service = Service::new("web", free_port()).image("pith-demo:v1").env("TOKEN", VARIABLE);
    let _ = fleet.deploy(&service).expect_code(0);

    let folder = fleet.scratch();
    let file = folder.join("report.tar");
    let name = file.to_string_lossy();
    let shown = fleet.json(&["debug", "bundle", &name]);
    assert_eq!(shown["missing"], Value::Array(Vec::new()), "{shown}");
    let again = fleet.pith(&["debug", "bundle", &name]).expect_code(1);
    assert!(again.stderr.contains("report.tar"), "{again:?}");

    let mode = fs::metadata(&file).unwrap().permissions().mode();
    assert_eq!(mode & 0o077, 0, "for whoever asked alone: {mode:o}");

    let bytes = fs::read(&file).unwrap();
    for secret in [SECRET, VARIABLE] {
        let is_there = bytes.windows(secret.len()).any(|part| part == secret.as_bytes());
        assert!(!is_there, "{secret} is in it");
    }
    let unpacked = Command::new("tar").arg("-xf").arg(&file).arg("-C").arg(folder).status();
    assert!(unpacked.unwrap().success());
    let read = |name: &str| {
        let text = fs::read(folder.join("pith-debug").join(name)).unwrap();
        serde_json::from_slice::<Value>(&text).unwrap()
    };
    assert_eq!(read("rollouts/default/web/newest.json")["state"], "succeeded");
    assert_eq!(read("nodes.json")["nodes"].as_array().unwrap().len(), 2);
    for node in ["node-1", "node-2"] {
        let found = read(&format!("doctor/{node}.json"));
        assert!(found["findings"].as_array().unwrap().len() > 10, "{found}");
    }
    assert!(!read("audit.json")["entries"].as_array().unwrap().is_empty());
}

#[test]
fn without_a_coordinator_nothing_is_left_behind() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("report.tar");
    let data = folder.path().join("data");
    let outcome = tests::fleet::pith(&data, &["debug", "bundle", &file.to_string_lossy()]).output();
    assert_eq!(outcome.unwrap().status.code(), Some(6));
    assert!(!file.exists());
}
