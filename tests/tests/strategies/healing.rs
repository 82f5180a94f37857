//! A bad version is mended by deploying a good one: nobody has to remove, kill or reset anything.

use serde_json::Value;
use tests::fleet::Fleet;
use tests::http::free_port;
use tests::services::Service;
use tests::skip;
use tests::wait::until_true;

use crate::world::{SOON, check_version, running};

fn restarts(fleet: &Fleet) -> u64 {
    let ps = fleet.json(&["ps"]);
    let instances = ps["services"][0]["nodes"][0]["instances"].as_array().cloned();
    let all = instances.unwrap_or_default();
    all.iter().filter_map(|one: &Value| one["restarts"].as_u64()).sum()
}

#[test]
fn revision_3_replaces_a_crash_looping_revision_2_without_hands() {
    if !skip::has("docker") {
        return;
    }
    let fleet = Fleet::start(1);
    let port = free_port();
    let service = Service::new("web", port).scheduling("per_node = 2");
    let _ = fleet.deploy(&service).expect_code(0);
    // It is good when it is looked at, and ends for ever after.
    let looping = service.clone().image("pith-demo:v2").env("EXIT_AFTER_S", "2");
    let _ = fleet.deploy(&looping).expect_code(0);
    until_true("revision 2 crash-loops", SOON, || restarts(&fleet) >= 3);
    let _ = fleet.deploy(&service.clone().image("pith-demo:v4")).expect_code(0);
    check_version(&fleet, 1, port, "v4");
    assert_eq!(fleet.rollout("web")["state"], "succeeded");
    until_true("nothing else runs", SOON, || running(&fleet).len() == 2);

    // It never gets ready, and nothing goes back: that was asked for.
    let stands = service.clone().image("pith-demo:v2").rollout("on_failure = \"pause\"");
    let _ = fleet.deploy(&stands.env("CRASH", "1")).expect_code(4);
    assert_eq!(fleet.rollout("web")["state"], "paused");
    let _ = fleet.deploy(&service.image("pith-demo:v1")).expect_code(0);
    check_version(&fleet, 1, port, "v1");
    until_true("nothing else runs", SOON, || running(&fleet).len() == 2);
}

#[test]
fn a_first_version_that_crashes_is_replaced_by_the_next() {
    if !skip::has("docker") {
        return;
    }
    let fleet = Fleet::start(1);
    let port = free_port();
    let service = Service::new("web", port);
    let _ = fleet.deploy(&service.clone().env("CRASH", "1")).expect_code(1);
    assert_eq!(fleet.rollout("web")["state"], "failed");
    let _ = fleet.deploy(&service.image("pith-demo:v2")).expect_code(0);
    check_version(&fleet, 1, port, "v2");
}
