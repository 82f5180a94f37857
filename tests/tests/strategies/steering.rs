//! A person in the middle of a rollout: hold, go on, end, start anew; and what is told of it later.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::Value;
use tests::client::versions;
use tests::fleet::Fleet;
use tests::http::free_port;
use tests::services::Service;
use tests::skip;
use tests::wait::{holds, until, until_true};

use crate::world::{SOON, check_nothing_failed, load, running};

const REPLICAS: usize = 4;
/// Longer than the next instance would have needed.
const HELD: Duration = Duration::from_secs(3);

/// Deploys and comes back when the first of the replicas is new, and not all are.
fn deploy_to_the_middle(fleet: &Fleet, service: &Service) {
    let file = fleet.file("web.toml", &service.toml());
    let _ = fleet.pith(&["deploy", "-f", &file, "--detach"]).expect_code(0);
    until_true("the first of the replicas is new", SOON, || {
        fleet.rollout("web")["nodes"][0]["updated"].as_u64() >= Some(1)
    });
    assert_eq!(fleet.rollout("web")["state"], "in_progress", "it is in the middle");
}

fn only(fleet: &Fleet, port: u16) -> Vec<String> {
    versions(fleet.address(1, port), 200).into_keys().collect()
}

/// Waits until what is on its way has arrived.
fn settled(fleet: &Fleet) -> BTreeSet<String> {
    let mut before = running(fleet);
    until("containers come and go no more", SOON, || {
        holds("a moment", Duration::from_millis(500), || true);
        let now = running(fleet);
        let is_same = now == before;
        before = now;
        is_same.then(|| before.clone())
    })
}

#[test]
fn a_rollout_is_held_goes_on_is_ended_and_started_anew_and_all_of_it_is_told() {
    if !skip::has("docker") {
        return;
    }
    let fleet = Fleet::start(1);
    let port = free_port();
    let service = Service::new("web", port)
        .scheduling(&format!("replicas = {REPLICAS}"))
        .rollout("min_ready = \"1s\"");
    let _ = fleet.deploy(&service.clone().rollout("min_ready = \"0s\"")).expect_code(0);
    let load = load(&fleet, 1, port, 50);
    let begun = std::time::Instant::now();

    deploy_to_the_middle(&fleet, &service.clone().image("pith-demo:v2"));
    let _ = fleet.pith(&["rollout", "pause", "web"]).expect_code(0);
    let mix = settled(&fleet);
    holds("the mix", HELD, || running(&fleet) == mix && fleet.rollout("web")["state"] == "paused");
    assert_eq!(only(&fleet, port), ["v1", "v2"]);
    let watched = fleet.pith(&["rollout", "status", "web", "--watch"]).expect_code(4);
    assert!(watched.stderr.contains("paused"), "{watched:?}");
    let _ = fleet.pith(&["rollout", "resume", "web"]).expect_code(0);
    assert_eq!(only(&fleet, port), ["v2"]);

    // An instance with requests in flight that is told to end loses them: those of the aborted release are drained, too.
    let abrupt = service.clone().image("pith-demo:v4").env("ABRUPT", "1").env("WORK_MS", "30");
    deploy_to_the_middle(&fleet, &abrupt);
    let _ = fleet.pith(&["rollout", "abort", "web"]).expect_code(0);
    assert_eq!(fleet.rollout("web")["state"], "aborted");
    assert_eq!(only(&fleet, port), ["v2"]);

    until_true("nothing else runs", SOON, || running(&fleet).len() == REPLICAS);
    let before = running(&fleet);
    let _ = fleet.pith(&["rollout", "restart", "web", "--cause", "for luck"]).expect_code(0);
    until_true("nothing else runs", SOON, || running(&fleet).len() == REPLICAS);
    assert!(before.is_disjoint(&running(&fleet)), "every container is new");
    assert_eq!(only(&fleet, port), ["v2"]);
    check_nothing_failed(&load, begun);
    check_what_is_told(&fleet, &service);
}

fn check_what_is_told(fleet: &Fleet, service: &Service) {
    let file = fleet.file("late.toml", &service.clone().image("pith-demo:v4").toml());
    let late = fleet.pith(&["deploy", "-f", &file, "--if-revision", "2"]);
    assert_eq!(late.code, 1, "{late:?}");
    assert!(late.stderr.contains("is at revision 4 by now, not 2"), "{late:?}");
    let late = fleet.pith(&["rollout", "undo", "web", "--if-revision", "3"]);
    assert!(late.code == 1 && late.stderr.contains("not 3"), "{late:?}");

    let history = fleet.json(&["rollout", "history", "web"]);
    let revisions = history["revisions"].as_array().unwrap();
    let told = |key: &str| revisions.iter().map(|r| r[key].clone()).collect::<Vec<Value>>();
    assert_eq!(told("kind"), ["deploy", "deploy", "deploy", "restart"]);
    assert_eq!(told("state"), ["succeeded", "succeeded", "aborted", "succeeded"]);
    assert_eq!(told("cause")[3], "for luck");
    for revision in revisions {
        let at = |key: &str| revision[key].as_u64();
        assert!(at("ended_ms") > at("started_ms"), "every revision took its time: {revision}");
    }
    let text = fleet.pith(&["rollout", "history", "web"]).expect_code(0).stdout;
    assert!(
        text.contains("TOOK") && text.contains("for luck") && text.contains("aborted"),
        "{text}"
    );

    let diff = fleet.json(&["rollout", "diff", "web", "1", "2"]);
    let changes = diff["changes"].as_array().unwrap();
    let paths: Vec<&str> = changes.iter().filter_map(|change| change["path"].as_str()).collect();
    assert_eq!(paths, ["image", "image.pinned", "rollout.min_ready"], "{diff}");
    let image = &changes[0];
    assert!(image["before"].as_str().is_some_and(|text| text.contains("v1")), "{image}");
    assert!(image["after"].as_str().is_some_and(|text| text.contains("v2")), "{image}");
    let anew = fleet.pith(&["rollout", "diff", "web", "2", "4"]).expect_code(0);
    assert!(anew.stdout.contains("+ restarts: 1"), "{anew:?}");
    let same = fleet.pith(&["rollout", "diff", "web", "2", "2"]).expect_code(0);
    assert!(same.stdout.contains("are the same"), "{same:?}");
}
