//! Images from real registries: what a tag is pinned to, what a node pulls, and every way in which that goes wrong before
//! anything old is stopped.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::process::Command;
use std::time::Duration;

use tests::docker;
use tests::fleet::{Fleet, Outcome};
use tests::http::{free_port, get};
use tests::registry::Registry;
use tests::services::Service;
use tests::skip;
use tests::wait::until;

const SOON: Duration = Duration::from_secs(30);
const ACCOUNT: &str = "pi:raspberry";

fn can_run() -> bool {
    ["docker", "docker-registry", "skopeo", "curl"].into_iter().all(skip::has)
}

fn version(fleet: &Fleet, port: u16) -> String {
    let (status, body) = get(fleet.address(1, port), "/").unwrap();
    assert_eq!(status, 200, "{body}");
    body.split_whitespace().next().unwrap_or_default().to_owned()
}

/// Ids of the containers that run.
fn running(fleet: &Fleet) -> Vec<String> {
    let running = docker::containers(&fleet.label()).into_iter().filter(|c| c.state == "running");
    running.map(|c| c.id).collect()
}

fn deploy_image(fleet: &Fleet, image: &str) -> Outcome {
    fleet.pith(&["deploy", "hello", "--image", image])
}

/// A fleet of one node whose service `hello` is `v1` of the local Docker.
fn fleet_with_hello() -> (Fleet, u16) {
    let fleet = Fleet::start(1);
    let port = free_port();
    let _ = fleet.deploy(&Service::new("hello", port)).expect_code(0);
    (fleet, port)
}

/// The deploy failed with this reason, and what ran before runs untouched.
#[track_caller]
fn check_failed(fleet: &Fleet, port: u16, before: &[String], outcome: Outcome, says: &[&str]) {
    let outcome = outcome.expect_code(3);
    for part in says {
        assert!(outcome.stderr.contains(part), "`{part}` is not said: {outcome:?}");
    }
    assert_eq!(fleet.rollout("hello")["state"], "rolled_back");
    assert_eq!(running(fleet), before, "nothing old was stopped");
    assert_eq!(version(fleet, port), "v1");
}

#[test]
fn a_tag_is_pinned_to_its_digest_and_the_node_pulls_by_it() {
    if !can_run() {
        return;
    }
    let registry = Registry::start();
    let image = registry.push("pith-demo:v1", "team/hello:stable");
    let digest = registry.digest("team/hello:stable");
    let fleet = Fleet::start(1);
    let port = free_port();
    let service = Service::new("hello", port).image(&image);
    let _ = fleet.deploy(&service).expect_code(0);
    let status = fleet.rollout("hello");
    assert!(status["pinned"].as_str().unwrap().contains(&digest), "{status}");
    assert_eq!(status["image"], image.as_str());
    let container = running(&fleet).remove(0);
    let used = docker::docker(&["inspect", "-f", "{{.Config.Image}}", &container]);
    assert_eq!(used, format!("{}@{digest}", registry.image("team/hello")));

    // The tag moves: what was deployed stays what it was, and a deploy of the same file is something to do.
    registry.push("pith-demo:v2", "team/hello:stable");
    let file = fleet.file("hello.toml", &service.toml());
    let _ = fleet.pith(&["plan", "-f", &file]).expect_code(10);
    let _ = docker::docker(&["kill", &container]);
    until("the instance runs again", SOON, || {
        get(fleet.address(1, port), "/").ok().filter(|(status, _)| *status == 200)
    });
    assert_eq!(version(&fleet, port), "v1");
    let _ = fleet.pith(&["deploy", "-f", &file]).expect_code(0);
    assert_eq!(version(&fleet, port), "v2");
    let _ = fleet.pith(&["rollout", "undo", "hello"]).expect_code(0);
    assert_eq!(version(&fleet, port), "v1");
}

#[test]
fn a_plan_says_which_nodes_pull_and_how_large_and_nothing_fails_for_a_size() {
    if !can_run() {
        return;
    }
    let registry = Registry::start();
    let image = registry.push("pith-demo:v1", "team/hello:v1");
    let index = {
        let _ = registry.push("pith-demo:v2", "team/hello:v2");
        registry.push_index("team/hello", "v2", "amd64")
    };
    let fleet = Fleet::start(2);
    let service = Service::new("hello", free_port());
    let plan = |image: &str| {
        let file = fleet.file("hello.toml", &service.clone().image(image).toml());
        let text = fleet.pith(&["plan", "-f", &file]).expect_code(10).stdout;
        let json = fleet.pith(&["plan", "-f", &file, "-o", "json"]).expect_code(10).stdout;
        let json: serde_json::Value = serde_json::from_str(&json).unwrap();
        (text, json)
    };

    let (text, json) = plan(&image);
    let (arch, bytes) =
        (docker::docker(&["info", "-f", "{{.Architecture}}"]), registry.bytes("team/hello:v1"));
    let pulls = json["pulls"].as_array().unwrap();
    let named: Vec<_> = pulls.iter().map(|pull| pull["node"].as_str().unwrap()).collect();
    assert_eq!(named, ["node-1", "node-2"], "{json}");
    assert!(pulls.iter().all(|pull| pull["bytes"] == bytes), "{bytes} on {arch}: {json}");
    assert!(text.contains("pull: node-1, node-2: at most "), "{text}");
    if arch == "x86_64" {
        let (_, json) = plan(&index);
        assert_eq!(json["pulls"][0]["bytes"], registry.bytes("team/hello:v2"), "{json}");
    }

    let _ = fleet.deploy(&service.clone().image(&image)).expect_code(0);
    let file = fleet.file("more.toml", &service.clone().image(&image).env("MORE", "1").toml());
    let text = fleet.pith(&["plan", "-f", &file]).expect_code(10).stdout;
    assert!(text.contains("pull: nothing, every node that takes it has the image"), "{text}");
    let (text, json) = plan("pith-demo:v1");
    assert!(text.contains("pull: nothing, only the local Docker has the image"), "{text}");
    assert_eq!((&json["image_is_local"], &json["pulls"]), (&true.into(), &serde_json::json!([])));

    let pinned = format!("{}@{}", registry.image("team/hello"), registry.digest("team/hello:v2"));
    registry.stop();
    let (text, json) = plan(&pinned);
    assert!(text.contains("pull: node-1, node-2: size unknown ("), "{text}");
    assert!(json["pulls"][0]["bytes"].is_null(), "{json}");
}

#[test]
fn an_image_that_the_registry_does_not_know_is_refused_at_deploy_with_its_name() {
    if !can_run() {
        return;
    }
    let registry = Registry::start();
    let (fleet, port) = fleet_with_hello();
    let (before, image) = (running(&fleet), registry.image("team/hello:v9"));
    let outcome = deploy_image(&fleet, &image).expect_code(1);
    assert!(outcome.stderr.contains(&image), "{outcome:?}");
    let history = fleet.json(&["rollout", "history", "hello"]);
    assert_eq!(history["revisions"].as_array().map(Vec::len), Some(1), "{history}");
    assert_eq!((running(&fleet), version(&fleet, port).as_str()), (before, "v1"));
}

#[test]
fn a_registry_with_credentials_is_named_when_they_are_missing_and_serves_when_they_are_there() {
    if !can_run() || !skip::has("htpasswd") {
        return;
    }
    let registry = Registry::start_with_account(ACCOUNT);
    let image = registry.push("pith-demo:v2", "team/hello:v2");
    let (fleet, port) = fleet_with_hello();

    let refused = deploy_image(&fleet, &image).expect_code(1);
    for part in [registry.address(), "refuses", "registries.toml"] {
        assert!(refused.stderr.contains(part), "`{part}` is not said: {refused:?}");
    }

    // Only the person who deploys is known there; the node is not.
    let before = running(&fleet);
    let login = docker_login(&fleet, registry.address());
    let deploy = &mut fleet.command(&["deploy", "hello", "--image", &image]);
    let outcome = run(deploy.env("DOCKER_CONFIG", login));
    check_failed(&fleet, port, &before, outcome, &["registry_denied", registry.address()]);

    let (user, password) = ACCOUNT.split_once(':').unwrap();
    let registries = format!(
        "[[registry]]\nhost = \"{}\"\nusername = \"{user}\"\npassword = \"{password}\"\n",
        registry.address()
    );
    std::fs::write(fleet.data().join("registries.toml"), registries).unwrap();
    let _ = deploy_image(&fleet, &image).expect_code(0);
    assert_eq!(version(&fleet, port), "v2");
}

#[test]
fn a_login_that_is_sealed_to_the_nodes_is_used_for_the_pull_and_lies_nowhere_in_clear() {
    if !can_run() || !skip::has("htpasswd") {
        return;
    }
    let registry = Registry::start_with_account(ACCOUNT);
    let image = registry.push("pith-demo:v2", "team/hello:v2");
    let (fleet, port) = fleet_with_hello();
    let (user, password) = ACCOUNT.split_once(':').unwrap();
    let file = fleet.scratch().join("password");
    std::fs::write(&file, format!("{password}\n")).unwrap();
    let (host, file) = (registry.address(), file.to_str().unwrap());
    let set = ["secret", "set", "pulls", "--registry", host, "--username", user];
    let _ = fleet.pith(&[&set[..], &["--from-file", file]].concat()).expect_code(0);
    let listed = fleet.pith(&["secret", "ls"]).expect_code(0);
    assert!(listed.stdout.contains(&format!("pulls from {host}")), "{listed:?}");

    let login = docker_login(&fleet, registry.address());
    let deploy = &mut fleet.command(&["deploy", "hello", "--image", &image]);
    let _ = run(deploy.env("DOCKER_CONFIG", login)).expect_code(0);
    assert_eq!(version(&fleet, port), "v2");

    for word in [password, "cGk6cmFzcGJlcnJ5"] {
        let found = Command::new("grep").args(["-rla", word]).arg(fleet.data()).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&found.stdout), "", "`{word}` in clear");
        for container in docker::containers(&fleet.label()) {
            let inspected = docker::docker(&["inspect", &container.id]);
            assert!(!inspected.contains(word), "{inspected}");
        }
    }
}

/// A folder such as `docker login` leaves.
fn docker_login(fleet: &Fleet, registry: &str) -> std::path::PathBuf {
    let dir = fleet.scratch().join("docker");
    std::fs::create_dir(&dir).unwrap();
    // Base64 of ACCOUNT.
    let auth = "cGk6cmFzcGJlcnJ5";
    let config = format!(r#"{{"auths": {{"{registry}": {{"auth": "{auth}"}}}}}}"#);
    std::fs::write(dir.join("config.json"), config).unwrap();
    dir
}

fn run(command: &mut Command) -> Outcome {
    let output = command.output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let code = output.status.code().unwrap_or(-1);
    Outcome { code, stdout: text(&output.stdout), stderr: text(&output.stderr) }
}

#[test]
fn an_image_that_vanishes_between_deploy_and_pull_fails_and_the_old_release_stays() {
    if !can_run() {
        return;
    }
    let registry = Registry::start();
    let image = registry.push("pith-demo:v2", "team/hello:v2");
    let (fleet, port) = fleet_with_hello();
    let before = running(&fleet);
    let agent = fleet.process(1, "agent").unwrap().to_string();
    let signal = |name: &str| {
        assert!(Command::new("kill").args([name, &agent]).status().unwrap().success());
    };
    signal("-STOP");
    let detached = fleet.pith(&["deploy", "hello", "--image", &image, "--detach"]);
    registry.delete("team/hello:v2");
    signal("-CONT");
    let _ = detached.expect_code(0);
    let outcome = fleet.pith(&["rollout", "status", "hello", "--watch"]);
    check_failed(&fleet, port, &before, outcome, &["image_not_found", &image]);
}

#[test]
fn other_bytes_under_a_pinned_digest_are_never_run_and_the_old_release_stays() {
    if !can_run() {
        return;
    }
    let registry = Registry::start();
    let (fleet, port) = fleet_with_hello();
    let before = running(&fleet);
    let other = registry.push("pith-demo:v3", "team/other:v3");
    assert_eq!(other, registry.image("team/other:v3"));
    let agent = fleet.process(1, "agent").unwrap().to_string();
    let signal = |name: &str| {
        assert!(Command::new("kill").args([name, &agent]).status().unwrap().success());
    };
    // What the digest was pinned to stands in the signed release; then the registry's owner serves something else for it. The
    // image is like no other: what the engine has pulled once, and verified, it does not ask for again.
    let swapped = |name: &str, swap: &dyn Fn()| {
        let image = registry.push_bytes(1, name);
        signal("-STOP");
        let detached = fleet.pith(&["deploy", "hello", "--image", &image, "--detach"]);
        swap();
        signal("-CONT");
        let _ = detached.expect_code(0);
        fleet.pith(&["rollout", "status", "hello", "--watch"])
    };
    let outcome = swapped("team/manifest:v2", &|| {
        registry.swap(&registry.digest("team/manifest:v2"), &registry.digest("team/other:v3"));
    });
    check_failed(&fleet, port, &before, outcome, &["pull_failed", "verification failed"]);
    let outcome = swapped("team/layer:v2", &|| {
        let (layer, other) =
            (registry.first_layer("team/layer:v2"), registry.first_layer("team/other:v3"));
        registry.swap(&layer, &other);
    });
    check_failed(&fleet, port, &before, outcome, &["pull_failed", "verification failed"]);
}

#[test]
fn an_image_for_another_processor_fails_before_anything_old_is_stopped() {
    if !can_run() {
        return;
    }
    let registry = Registry::start();
    let image = registry.push_for("arm64", "pith-demo:v2", "team/hello:arm");
    let index = registry.push_index("team/hello", "arm", "arm64");
    let (fleet, port) = fleet_with_hello();
    let before = running(&fleet);
    let says = ["wrong_platform"];
    check_failed(&fleet, port, &before, deploy_image(&fleet, &image), &says);
    check_failed(&fleet, port, &before, deploy_image(&fleet, &index), &says);
}

#[test]
fn a_registry_that_is_away_is_waited_for_and_then_pulled_from() {
    if !can_run() {
        return;
    }
    let registry = Registry::start();
    let image = registry.push("pith-demo:v2", "team/hello:v2");
    let (fleet, port) = fleet_with_hello();
    let pinned = format!("{}@{}", registry.image("team/hello"), registry.digest("team/hello:v2"));
    assert_eq!(image, registry.image("team/hello:v2"));
    registry.stop();
    let _ = fleet.pith(&["deploy", "hello", "--image", &pinned, "--detach"]).expect_code(0);
    until("the rollout says what it waits for", SOON, || {
        fleet.rollout("hello").to_string().contains("registry_unreachable").then_some(())
    });
    assert_eq!(version(&fleet, port), "v1");
    registry.start_again();
    let _ = fleet.pith(&["rollout", "status", "hello", "--watch"]).expect_code(0);
    assert_eq!(version(&fleet, port), "v2");
}
