//! One-shot containers around a deploy, on real Docker through the real command line.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use tests::docker;
use tests::fleet::Fleet;
use tests::http::{free_port, get};
use tests::services::Service;
use tests::skip;

/// A hook that takes half a second and ends with this code.
fn hook(kind: &str, code: u8) -> String {
    format!(
        "[hooks.{kind}]\ncommand = [\"once\"]\nenv = {{ EXIT_AFTER_S = \"0.5\", EXIT_CODE = \"{code}\" }}\ntimeout = \"20s\"\n"
    )
}

fn version(fleet: &Fleet, port: u16) -> String {
    let (_, body) = get(fleet.address(1, port), "/").unwrap();
    body.split_whitespace().next().unwrap_or_default().to_owned()
}

#[test]
fn hooks_run_once_around_a_deploy_and_their_failure_stops_it_or_goes_back() {
    if !skip::has("docker") {
        return;
    }
    let fleet = Fleet::start(2);
    let port = free_port();
    let service = Service::new("web", port);
    let both = |service: &Service, pre: u8, post: u8| {
        service.clone().extra(&hook("pre_deploy", pre)).extra(&hook("post_deploy", post))
    };
    let first = fleet.deploy(&both(&service, 0, 0)).expect_code(0);
    assert!(first.stdout.contains("pre_deploy runs on node-1"), "{first:?}");
    assert!(first.stdout.contains("post_deploy runs on node-1"), "{first:?}");
    assert_eq!(version(&fleet, port), "v1");

    let second = service.clone().image("pith-demo:v2");
    let refused = fleet.deploy(&both(&second, 3, 0)).expect_code(3);
    assert!(refused.stderr.contains("hook_failed"), "{refused:?}");
    assert!(refused.stderr.contains("pre_deploy ended with code 3"), "{refused:?}");
    assert!(refused.stderr.contains("once-done code=3"), "its log is evidence: {refused:?}");
    assert_eq!(version(&fleet, port), "v1", "nothing was touched");

    let back = fleet.deploy(&both(&second, 0, 4)).expect_code(3);
    assert!(back.stderr.contains("post_deploy ended with code 4"), "{back:?}");
    assert_eq!(version(&fleet, port), "v1");
    assert_eq!(fleet.rollout("web")["state"], "rolled_back");

    let _ = fleet.deploy(&both(&second, 0, 0)).expect_code(0);
    assert_eq!(version(&fleet, port), "v2");
    let undone = fleet.pith(&["rollout", "undo", "web"]).expect_code(0);
    assert!(!undone.stdout.contains("deploy runs on"), "a way back runs no hook: {undone:?}");

    let label = fleet.label();
    let _ = fleet.pith(&["rm", "web", "--yes"]).expect_code(0);
    assert_eq!(docker::containers(&label), []);
    assert_eq!(fleet.stop(), 0);
}

#[test]
fn a_first_deploy_whose_hook_fails_leaves_nothing() {
    if !skip::has("docker") {
        return;
    }
    let fleet = Fleet::start(1);
    let service = Service::new("web", free_port()).extra(&hook("pre_deploy", 7));
    let failed = fleet.deploy(&service).expect_code(1);
    assert!(failed.stderr.contains("there is nothing to go back to"), "{failed:?}");
    let label = fleet.label();
    tests::wait::until_true("nothing is left", std::time::Duration::from_secs(20), || {
        docker::containers(&label).is_empty() && docker::networks(&label).is_empty()
    });
    let _ = fleet.deploy(&Service::new("web", free_port())).expect_code(0);
    assert_eq!(fleet.stop(), 0);
}
