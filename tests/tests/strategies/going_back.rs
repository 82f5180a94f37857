//! The ways back: by itself within the soak time, by undo; with nobody there to help.

use std::time::{Duration, Instant};

use tests::docker;
use tests::fleet::Fleet;
use tests::http::free_port;
use tests::registry::Registry;
use tests::services::Service;
use tests::skip;
use tests::wait::{until, until_true};

use crate::world::{
    Away, SOON, all_told, check_nothing_failed, check_version, load, running, running_of, version,
};

/// Ends of an instance within its soak time that condemn its release.
const ENDS: usize = 3;
const WARM_WITHIN: Duration = Duration::from_secs(3);
const COLD_WITHIN: Duration = Duration::from_secs(15);

fn has_gone_back(fleet: &Fleet) -> bool {
    fleet.rollout("web")["state"] == "rolled_back"
}

#[test]
fn what_turns_bad_while_it_soaks_goes_back_by_itself_also_with_nobody_there() {
    if !skip::has("docker") {
        return;
    }
    let fleet = Fleet::start(2);
    let port = free_port();
    let service = Service::new("web", port)
        .rollout("soak = \"2m\"")
        .rollout("batch = 2")
        // Long enough for a busy machine to start it, and over before it turns bad.
        .rollout("progress_deadline = \"10s\"");
    let _ = fleet.deploy(&service).expect_code(0);
    let (load, begun) = (load(&fleet, 2, port, 50), Instant::now());
    let bad = service.clone().image("pith-demo:v2").env("UNREADY_AFTER_S", "12");
    let _ = fleet.deploy(&bad).expect_code(0);
    check_version(&fleet, 1, port, "v2");
    until_true("it goes back by itself", SOON, || has_gone_back(&fleet));
    assert_eq!(fleet.rollout("web")["reason"], "failed_in_soak");
    check_version(&fleet, 1, port, "v1");
    check_version(&fleet, 2, port, "v1");
    check_nothing_failed(&load, begun);

    let _ = fleet.deploy(&service.image("pith-demo:v4")).expect_code(0);
    let release = fleet.rollout("web")["release"].as_str().unwrap().to_owned();
    let victim = running_of(&fleet, "node-1", &release);
    let [victim] = victim.as_slice() else { panic!("one instance per node: {victim:?}") };
    let away = Away::begin(&fleet);
    for end in 1..=ENDS {
        until_true(&format!("it runs before end {end}"), SOON, || {
            docker::docker(&["inspect", "-f", "{{.State.Running}}", victim]) == "true"
        });
        let _ = docker::docker(&["kill", victim]);
    }
    until_true("the node goes back alone", SOON, || {
        version(&fleet, 1, port).as_deref() == Some("v1") && !running(&fleet).contains(victim)
    });
    check_version(&fleet, 2, port, "v4");
    drop(away);
    until_true("the other node is told back", SOON, || has_gone_back(&fleet));
    check_version(&fleet, 1, port, "v1");
    check_version(&fleet, 2, port, "v1");
    let status = fleet.rollout("web");
    assert_eq!(status["reason"], "failed_in_soak", "{status}");
}

/// Undoes what runs, stops coordinator and broker as soon as the nodes know, and says when the old version was back on all.
fn undo_alone(fleet: &Fleet, nodes: u8, port: u16, old: &str) -> Duration {
    let _ = fleet.pith(&["rollout", "undo", "web", "--detach"]).expect_code(0);
    let returned = Instant::now();
    until_true("the nodes know", SOON, || all_told(fleet));
    let _away = Away::begin(fleet);
    until(&format!("{old} is back"), SOON, || {
        let is_back = (1..=nodes).all(|node| version(fleet, node, port).as_deref() == Some(old));
        is_back.then(|| returned.elapsed())
    })
}

#[test]
fn an_undo_needs_neither_registry_nor_broker_once_the_nodes_know() {
    if !["docker", "docker-registry", "skopeo", "curl"].into_iter().all(skip::has) {
        return;
    }
    let registry = Registry::start();
    let images = ["v1", "v2", "v4"]
        .map(|tag| registry.push(&format!("pith-demo:{tag}"), &format!("team/web:{tag}")));
    let fleet = Fleet::start(2);
    let port = free_port();
    // A cold start takes its time, so that coordinator and broker are gone before it is over.
    let service = Service::new("web", port)
        .scheduling("per_node = 2")
        .rollout("batch = 2")
        .env("START_DELAY_MS", "1000");
    let _ = fleet.deploy(&service.clone().image(&images[0])).expect_code(0);
    let (load, begun) = (load(&fleet, 2, port, 50), Instant::now());
    let warm = service.clone().image(&images[1]).rollout("soak = \"5m\"");
    let _ = fleet.deploy(&warm).expect_code(0);
    registry.stop();
    let took = undo_alone(&fleet, 2, port, "v1");
    eprintln!("warm: the old version was back after {:.1} s", took.as_secs_f64());
    assert!(took <= WARM_WITHIN, "warm, the old version was back after {took:?}");
    until_true("the undo succeeds", SOON, || fleet.rollout("web")["state"] == "succeeded");

    registry.start_again();
    let _ = fleet.deploy(&service.image(&images[2])).expect_code(0);
    until_true("nothing old runs", SOON, || running(&fleet).len() == 4);
    registry.stop();
    let took = undo_alone(&fleet, 2, port, "v1");
    eprintln!("cold: the old version was back after {:.1} s", took.as_secs_f64());
    assert!(took <= COLD_WITHIN, "cold, the old version was back after {took:?}");
    until_true("the undo succeeds", SOON, || fleet.rollout("web")["state"] == "succeeded");
    check_nothing_failed(&load, begun);
}
