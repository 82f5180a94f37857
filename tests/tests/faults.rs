//! Things die in the middle: agent, proxy, broker, instances. What a user would notice is asserted: no request fails that
//! need not, the rollout completes, nothing is doubled, nothing is left over.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use load::{Config, Load, Summary};
use tests::docker;
use tests::fleet::Fleet;
use tests::http::{free_port, get};
use tests::services::Service;
use tests::skip;
use tests::wait::{until, until_true};

const SOON: Duration = Duration::from_secs(30);
/// Between two steps of an agent that is not waiting for anything.
const QUIET: Duration = Duration::from_secs(2);

fn load(fleet: &Fleet, port: u16) -> Load {
    Load::start(Config {
        targets: vec![fleet.address(1, port)],
        path: "/".to_owned(),
        kept_connections: 8,
        kept_rate: 50,
        new_rate: 50,
        websockets: 0,
    })
}

fn kill(pid: i32, signal: &str) {
    let status = Command::new("kill").args([signal, &pid.to_string()]).status();
    assert!(status.unwrap().success(), "kill {signal} {pid}");
}

/// Everything from `from` until now, once what is in flight has ended.
fn since(load: &Load, from: Instant) -> Summary {
    load.summary(from, Instant::now())
}

/// The process of a node that came after `before`.
fn another(fleet: &Fleet, which: &str, before: i32) -> i32 {
    until(&format!("another {which}"), SOON, || {
        fleet.process(1, which).filter(|pid| *pid != before && is_alive(*pid))
    })
}

fn is_alive(pid: i32) -> bool {
    Path::new(&format!("/proc/{pid}")).exists()
}

fn running(fleet: &Fleet) -> Vec<String> {
    let running = docker::containers(&fleet.label()).into_iter().filter(|c| c.state == "running");
    running.map(|c| c.name).collect()
}

#[test]
fn an_agent_killed_at_any_step_of_a_replacement_completes_it_without_a_failed_request() {
    if !skip::has("docker") {
        return;
    }
    let files = tempfile::tempdir().unwrap();
    let path = |name: &str| files.path().join(name).to_string_lossy().into_owned();
    let (point, count, log) = (path("point"), path("count"), path("log"));
    let env = [
        ("PITH_FAILPOINT", format!("@{point}")),
        ("PITH_FAILPOINT_COUNT", count.clone()),
        ("PITH_FAILPOINT_LOG", log.clone()),
    ];
    let env: Vec<(&str, &str)> = env.iter().map(|(k, v)| (*k, v.as_str())).collect();
    let fleet = Fleet::start_with(&["--nodes", "1"], &env);
    let port = free_port();
    let service = Service::new("hello", port).scheduling("per_node = 2");
    let _ = fleet.deploy(&service).expect_code(0);
    let load = load(&fleet, port);

    let taken = || std::fs::read_to_string(&log).unwrap().lines().count();
    let deploy = |image: &str| {
        for file in [&count, &log] {
            std::fs::write(file, "").unwrap();
        }
        let outcome = fleet.deploy(&service.clone().image(image));
        let steps = std::fs::read_to_string(&log).unwrap();
        assert_eq!(outcome.code, 0, "{outcome:?}\nsteps:\n{steps}");
    };
    // Two replacements first: from then on each finds the containers of the one before last to start again or remove.
    deploy("pith-demo:v2");
    deploy("pith-demo:v1");
    // A rollout has succeeded before the old is tidied away, which is steps too.
    let steps = settled(&taken);
    assert!(steps > 5, "the failpoints are compiled in");

    for step in 1..=steps {
        for side in ["before", "after"] {
            let image = if side == "before" { "pith-demo:v2" } else { "pith-demo:v1" };
            let (from, agent) = (Instant::now(), fleet.process(1, "agent").unwrap());
            std::fs::write(&point, format!("step:{step}:{side}")).unwrap();
            deploy(image);
            // Two instances that are ready at the same moment share a step: this replacement may have had fewer.
            if settled(&taken) >= step {
                another(&fleet, "agent", agent);
            } else {
                assert!(step > 5, "{side} step {step}: a replacement has at least five steps");
            }
            std::fs::write(&point, "").unwrap();
            until_true(&format!("killed {side} step {step}: two run"), SOON, || {
                running(&fleet).len() == 2
            });
            let summary = since(&load, from);
            assert_eq!(summary.failed, 0, "killed {side} step {step}: {:?}", summary.errors);
        }
    }
}

/// How many steps were taken once none is added for a while.
fn settled(taken: &impl Fn() -> usize) -> usize {
    let mut last = (taken(), Instant::now());
    until("the agent has nothing left to do", SOON, || {
        let now = taken();
        if now != last.0 {
            last = (now, Instant::now());
        }
        (last.1.elapsed() > QUIET).then_some(now)
    })
}

#[test]
fn an_agent_that_restarts_under_load_is_not_noticed() {
    if !skip::has("docker") {
        return;
    }
    let fleet = Fleet::start(1);
    let port = free_port();
    let _ = fleet.deploy(&Service::new("hello", port).scheduling("per_node = 2")).expect_code(0);
    let (load, before, from) = (load(&fleet, port), running(&fleet), Instant::now());
    let agent = fleet.process(1, "agent").unwrap();
    kill(agent, "-KILL");
    another(&fleet, "agent", agent);
    let _ = fleet.deploy(&Service::new("other", free_port())).expect_code(0);
    assert_eq!(since(&load, from).failed, 0, "{:?}", since(&load, from).errors);
    let after = running(&fleet);
    assert!(before.iter().all(|name| after.contains(name)), "{before:?} {after:?}");
}

#[test]
fn a_proxy_that_is_killed_comes_back_with_its_routes_by_itself() {
    if !skip::has("docker") {
        return;
    }
    let fleet = Fleet::start(1);
    let port = free_port();
    let _ = fleet.deploy(&Service::new("hello", port)).expect_code(0);
    let proxy = fleet.process(1, "proxy").unwrap();
    let agent = fleet.process(1, "agent").unwrap();
    kill(agent, "-STOP");
    kill(proxy, "-KILL");
    until_true("the proxy serves again, without its agent", SOON, || {
        get(fleet.address(1, port), "/").is_ok_and(|(status, _)| status == 200)
    });
    kill(agent, "-CONT");
    let _ = fleet.deploy(&Service::new("hello", port).image("pith-demo:v2")).expect_code(0);
    assert!(get(fleet.address(1, port), "/").unwrap().1.starts_with("v2"));
}

#[test]
fn an_instance_that_dies_is_started_again_and_its_requests_go_elsewhere() {
    if !skip::has("docker") {
        return;
    }
    let fleet = Fleet::start(1);
    let port = free_port();
    let _ = fleet.deploy(&Service::new("hello", port).scheduling("per_node = 2")).expect_code(0);
    let victim = running(&fleet).remove(0);
    let _ = docker::docker(&["kill", &victim]);
    until_true("the instance runs again", SOON, || running(&fleet).contains(&victim));
    let phase = || fleet.json(&["ps"]).to_string();
    until_true("ps says it runs", SOON, || phase().contains("\"running\""));
    assert_eq!(get(fleet.address(1, port), "/").unwrap().0, 200);
}

#[test]
fn two_instances_never_write_one_volume_even_when_the_agent_is_killed_in_the_middle() {
    if !skip::has("docker") {
        return;
    }
    let fleet = Fleet::start(1);
    let port = free_port();
    let service = Service::new("db", port)
        .env("VOLUME_LOCK", "/data")
        .extra("[[volumes]]\nname = \"data\"\npath = \"/data\"");
    let _ = fleet.deploy(&service).expect_code(0);
    for image in ["pith-demo:v2", "pith-demo:v1"] {
        let file = fleet.file("db.toml", &service.clone().image(image).toml());
        let mut deploy = fleet.command(&["deploy", "-f", &file]).spawn().unwrap();
        let agent = fleet.process(1, "agent").unwrap();
        kill(agent, "-KILL");
        another(&fleet, "agent", agent);
        assert!(deploy.wait().unwrap().success());
        let names = running(&fleet);
        assert_eq!(names.len(), 1, "{names:?}");
        let log = docker::docker(&["logs", &names[0]]);
        assert!(!log.to_uppercase().contains("DOUBLE"), "{log}");
    }
    let label = fleet.label();
    assert_eq!(fleet.stop(), 0);
    for volume in docker::volumes(&label) {
        let _ = docker::docker(&["volume", "rm", &volume]);
    }
}

#[test]
fn what_runs_goes_on_without_coordinator_and_broker_and_starts_at_boot_without_them() {
    if !skip::has("docker") {
        return;
    }
    let fleet = Fleet::start(1);
    let port = free_port();
    let _ = fleet.deploy(&Service::new("hello", port)).expect_code(0);
    // Stopped, the coordinator and its broker answer nobody; the nodes are processes of their own.
    kill(i32::try_from(fleet.pid()).unwrap(), "-STOP");
    let victim = running(&fleet).remove(0);
    let _ = docker::docker(&["kill", &victim]);
    until_true("the instance runs again", SOON, || {
        get(fleet.address(1, port), "/").is_ok_and(|(status, _)| status == 200)
    });
    kill(i32::try_from(fleet.pid()).unwrap(), "-CONT");
    let _ = fleet.deploy(&Service::new("hello", port).image("pith-demo:v2")).expect_code(0);
}
