//! A node's own policy on real Docker: what it denies never becomes a container, whatever was signed (A16).

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::time::Duration;

use tests::docker::{self, docker};
use tests::fleet::Fleet;
use tests::http::{free_port, get};
use tests::policies::allow;
use tests::services::Service;
use tests::skip;
use tests::wait::{holds, until_true};

const SOON: Duration = Duration::from_secs(60);

fn folder(fleet: &Fleet, name: &str) -> PathBuf {
    let path = std::fs::canonicalize(fleet.scratch()).unwrap().join(name);
    std::fs::create_dir_all(&path).unwrap();
    path
}

fn mount(host: &std::path::Path) -> String {
    format!(
        "[[volumes]]\nhost = {:?}\npath = \"/data\"\nread_only = true\n",
        host.display().to_string()
    )
}

fn running(fleet: &Fleet) -> Vec<String> {
    let all = docker::containers(&fleet.label()).into_iter();
    all.filter(|container| container.state == "running").map(|container| container.id).collect()
}

fn config(container: &str, what: &str) -> String {
    docker(&["inspect", "-f", &format!("{{{{json .HostConfig.{what}}}}}"), container])
}

/// `privileged` stands at the top of a file, before any table.
fn privileged(service: &Service) -> String {
    format!("privileged = true\n{}", service.toml())
}

fn deploy(fleet: &Fleet, text: &str) -> tests::fleet::Outcome {
    let file = fleet.file("service.toml", text);
    fleet.pith(&["deploy", "-f", &file])
}

/// A Docker inside of a container that is not privileged itself can start none, whoever asks.
fn can_be_privileged() -> bool {
    let once = ["run", "--rm", "--privileged", "--env", "EXIT_AFTER_S=0.1", "pith-demo:v1", "once"];
    let output = std::process::Command::new("docker").args(once).output().unwrap();
    if !output.status.success() {
        let why = String::from_utf8_lossy(&output.stderr);
        eprintln!("SKIPPED: this machine's Docker starts no privileged container: {why}");
    }
    output.status.success()
}

#[test]
fn what_the_policy_denies_is_refused_and_what_it_allows_runs() {
    if !skip::has("docker") || !skip::can_write_policies() {
        return;
    }
    let fleet = Fleet::start(1);
    let service = Service::new("web", free_port());
    let _ = fleet.deploy(&service).expect_code(0);
    let before = running(&fleet);
    let second = service.clone().image("pith-demo:v2");

    let allowed = folder(&fleet, "allowed");
    let secret = folder(&fleet, "secret");
    symlink(&secret, allowed.join("link")).unwrap();
    let inside = folder(&fleet, "allowed/inside");

    let refused = deploy(&fleet, &privileged(&second)).expect_code(5);
    assert!(refused.stderr.contains("`privileged = true`"), "{refused:?}");
    let refused = fleet.deploy(&second.clone().extra(&mount(&inside))).expect_code(5);
    assert!(refused.stderr.contains("host_paths = ["), "{refused:?}");
    assert_eq!(running(&fleet), before, "nothing old stopped");

    let text = format!("privileged = true\nhost_paths = [{:?}]\n", allowed.display().to_string());
    allow(&fleet, &text);

    // The name is allowed, and only the node can know where it leads.
    let led_out = fleet.deploy(&second.clone().extra(&mount(&allowed.join("link")))).expect_code(3);
    assert!(led_out.stderr.contains("policy_denied"), "{led_out:?}");
    assert!(led_out.stderr.contains(&format!("leads to {}", secret.display())), "{led_out:?}");
    assert_eq!(running(&fleet), before, "nothing old stopped");

    let allowed_one = second.clone().extra(&mount(&inside));
    let _ = fleet.deploy(&allowed_one).expect_code(0);
    let now = running(&fleet);
    assert_eq!(now.len(), 1);
    assert!(config(&now[0], "Mounts").contains(&inside.display().to_string()));

    // Narrowed: what runs goes on and says so; what ends stays down until it is allowed again.
    allow(&fleet, "");
    let reason = || fleet.json(&["ps"])["services"][0]["nodes"][0]["reason"].clone();
    until_true("it says so", SOON, || reason() == "policy_denied");
    assert_eq!(running(&fleet), now);
    let shown = fleet.pith(&["ps"]).expect_code(0);
    assert!(shown.stdout.contains("is not started again"), "{shown:?}");
    let _ = docker(&["kill", &now[0]]);
    let phase = || fleet.json(&["ps"])["services"][0]["nodes"][0]["phase"].clone();
    until_true("it is degraded", SOON, || phase() == "degraded");
    holds("not started against the policy", Duration::from_secs(4), || running(&fleet).is_empty());
    allow(&fleet, &text);
    until_true("it runs again", SOON, || running(&fleet) == now);

    if can_be_privileged() {
        let _ = deploy(&fleet, &privileged(&allowed_one)).expect_code(0);
        assert_eq!(config(&running(&fleet)[0], "Privileged"), "true");
    }
    assert_eq!(fleet.stop(), 0);
}

#[test]
fn a_device_a_capability_and_the_nodes_network_are_given_as_asked() {
    if !skip::has("docker") || !skip::can_write_policies() {
        return;
    }
    let fleet = Fleet::start(2);
    let stick = "cap_add = [\"NET_ADMIN\"]\nreplicas = 1\n";
    let device = "[[devices]]\npath = \"/dev/null\"\ntarget = \"/dev/stick\"\n";
    let service = Service::new("stick", free_port()).scheduling(stick).extra(device);
    let refused = fleet.deploy(&service).expect_code(5);
    assert!(refused.stderr.contains("node-2: the node's policy"), "{refused:?}");
    allow(
        &fleet,
        "devices = [\"/dev/nul*\"]\ncapabilities = [\"NET_ADMIN\"]\n[services.exporter]\nhost_network = true\n",
    );
    let file = fleet.file("stick.toml", &service.toml());
    let plan = fleet.pith(&["plan", "-f", &file]).expect_code(10);
    assert!(plan.stdout.contains("must allow `devices = [\"/dev/null\"]`"), "{plan:?}");
    assert!(plan.stdout.contains("node-2 is left out"), "{plan:?}");
    let _ = fleet.deploy(&service).expect_code(0);
    let container = running(&fleet).remove(0);
    let devices = config(&container, "Devices");
    assert!(devices.contains("/dev/null") && devices.contains("/dev/stick"), "{devices}");
    assert!(config(&container, "CapAdd").contains("NET_ADMIN"));
    assert_eq!(config(&container, "Privileged"), "false");

    let port = free_port();
    let exporter = |version: u8| {
        format!(
            "name = \"exporter\"\nimage = \"pith-demo:v{version}\"\nreplicas = 1\nnetwork = \"host\"\n\
             env = {{ PORT = \"{port}\" }}\nstop_grace = \"5s\"\n[health.readiness]\n\
             http = {{ path = \"/ready\", port = {port} }}\nperiod = \"1s\"\n"
        )
    };
    let _ = deploy(&fleet, &exporter(1)).expect_code(0);
    let (_, body) = get(([127, 0, 0, 1], port).into(), "/").unwrap();
    assert!(body.starts_with("v1"), "{body}");
    let _ = deploy(&fleet, &exporter(2)).expect_code(0);
    let (_, body) = get(([127, 0, 0, 1], port).into(), "/").unwrap();
    assert!(body.starts_with("v2"), "the old one let go of the port first: {body}");
    assert_eq!(fleet.stop(), 0);
}
