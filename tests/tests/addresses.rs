//! Whoever asks a service gets that service's answer: addresses of instances that die while others are made, two services on
//! one inner port, names across rollouts.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::process::Stdio;
use std::time::{Duration, Instant};

use load::{Config, Load, Summary};
use tests::docker::{self, Container};
use tests::fleet::Fleet;
use tests::http::{free_port, get};
use tests::services::Service;
use tests::skip;
use tests::wait::{until, until_true};

const SOON: Duration = Duration::from_secs(20);
const KEPT: usize = 8;
/// An instance that is killed takes the requests in flight at it along: one on each kept connection at most, and the new
/// ones of that moment.
const LOST_PER_KILL: u64 = KEPT as u64 + 2;

fn load(fleet: &Fleet, port: u16, path: &str) -> Load {
    Load::start(Config {
        targets: vec![fleet.address(1, port)],
        path: path.to_owned(),
        kept_connections: KEPT,
        kept_rate: 50,
        new_rate: 50,
        websockets: 0,
    })
}

fn since(load: &Load, from: Instant) -> Summary {
    load.summary(from, Instant::now())
}

fn versions(summary: &Summary) -> Vec<&str> {
    summary.versions.keys().map(String::as_str).collect()
}

fn instances(fleet: &Fleet, service: &str) -> Vec<Container> {
    let mut all = docker::containers(&fleet.label());
    all.retain(|c| c.state == "running" && c.labels["io.pith.service"] == service);
    all
}

/// Services that are reachable by their names only, all on one inner port.
struct Hidden<'a> {
    fleet: &'a Fleet,
    inner: u16,
}

impl Hidden<'_> {
    fn deploy(&self, name: &str, version: &str) {
        let inner = self.inner;
        let text = format!(
            "name = \"{name}\"\nimage = \"pith-demo:v1\"\nper_node = 2\nstop_grace = \"5s\"\n\
             env = {{ VERSION = \"{version}\", PORT = \"{inner}\" }}\n\
             [[ports]]\ntarget = {inner}\n\
             [health.readiness]\nhttp = {{ path = \"/ready\", port = {inner} }}\nperiod = \"1s\"\n\
             [rollout]\nprogress_deadline = \"10s\"\ndrain = \"3s\"\n"
        );
        let file = self.fleet.file(&format!("{name}.toml"), &text);
        let _ = self.fleet.pith(&["deploy", "-f", &file]).expect_code(0);
    }

    /// The path by which the demo application calls one of them.
    fn path(&self, name: &str) -> String {
        format!("/call?url=http://{name}:{}/", self.inner)
    }
}

#[test]
fn instances_that_die_while_others_are_made_never_lend_their_addresses() {
    if !skip::has("docker") {
        return;
    }
    let fleet = Fleet::start(1);
    let (port_a, port_b) = (free_port(), free_port());
    let of = |name, port, version| Service::new(name, port).env("VERSION", version);
    let _ = fleet.deploy(&of("a", port_a, "of-a").scheduling("replicas = 3")).expect_code(0);
    let _ = fleet.deploy(&of("b", port_b, "of-b").scheduling("replicas = 1")).expect_code(0);
    let (a, b, from) = (load(&fleet, port_a, "/"), load(&fleet, port_b, "/"), Instant::now());

    let kills: [&[&str]; 4] = [&["kill"], &["rm", "-f"], &["kill"], &["rm", "-f"]];
    for (kill, count) in kills.into_iter().zip(["4", "1", "4", "1"]) {
        let victims = instances(&fleet, "a");
        assert_eq!(victims.len(), 3);
        let mut scale =
            fleet.command(&["scale", "b", count]).stdout(Stdio::null()).spawn().unwrap();
        for victim in &victims[..2] {
            let _ = docker::docker(&[kill, &[&*victim.id]].concat());
        }
        assert!(scale.wait().unwrap().success());
        until_true("as many as before", SOON, || instances(&fleet, "a").len() == 3);
    }
    let (of_a, of_b) = (since(&a, from), since(&b, from));
    assert_eq!((versions(&of_a), versions(&of_b)), (vec!["of-a"], vec!["of-b"]));
    assert_eq!(of_b.failed, 0, "{:?}", of_b.errors);
    let kills = 2 * kills.len() as u64;
    assert!(of_a.failed <= kills * LOST_PER_KILL, "{} {:?}", of_a.failed, of_a.errors);
    eprintln!("{} of {} requests to the killed ones failed", of_a.failed, of_a.sent);
}

#[test]
fn two_services_on_one_inner_port_are_told_apart_by_name_and_not_reachable_from_outside() {
    if !skip::has("docker") {
        return;
    }
    let fleet = Fleet::start(1);
    let hidden = Hidden { fleet: &fleet, inner: free_port() };
    hidden.deploy("world-state", "of-world");
    hidden.deploy("chat-service", "of-chat");
    let port = free_port();
    let _ = fleet.deploy(&Service::new("gateway", port)).expect_code(0);
    let call = |name: &str| {
        let (status, body) = get(fleet.address(1, port), &hidden.path(name)).unwrap();
        (status, body.split_whitespace().next().unwrap_or_default().to_owned())
    };
    for _ in 0..4 {
        assert_eq!(call("world-state"), (200, "of-world".to_owned()));
        assert_eq!(call("chat-service"), (200, "of-chat".to_owned()));
    }
    assert!(get(fleet.address(1, hidden.inner), "/").is_err(), "the node has no such port open");

    // A service that goes takes its name along; what comes then may have its addresses, and has a name of its own.
    let (calls, from) = (load(&fleet, port, &hidden.path("world-state")), Instant::now());
    until("calls are answered", SOON, || calls.last_answer_of("of-world"));
    let _ = fleet.pith(&["rm", "world-state", "--yes"]).expect_code(0);
    hidden.deploy("lobby", "of-lobby");
    assert_eq!(call("lobby"), (200, "of-lobby".to_owned()));
    assert_eq!(call("chat-service"), (200, "of-chat".to_owned()));
    until_true("the name is gone", SOON, || call("world-state").0 != 200);
    assert_eq!(versions(&since(&calls, from)), ["of-world"]);
}

#[test]
fn a_name_works_through_every_rollout_of_the_service_that_has_it() {
    if !skip::has("docker") {
        return;
    }
    let fleet = Fleet::start(1);
    let hidden = Hidden { fleet: &fleet, inner: free_port() };
    hidden.deploy("world-state", "first");
    let port = free_port();
    let gateway = Service::new("gateway", port).scheduling("per_node = 2");
    let _ = fleet.deploy(&gateway).expect_code(0);
    let (calls, from) = (load(&fleet, port, &hidden.path("world-state")), Instant::now());
    until("calls are answered", SOON, || calls.last_answer_of("first"));
    for version in ["second", "third"] {
        hidden.deploy("world-state", version);
        until("the new one answers", SOON, || calls.last_answer_of(version));
    }
    // The caller too: its new instances know the name from their first moment.
    let _ = fleet.deploy(&gateway.image("pith-demo:v2")).expect_code(0);
    let _ = fleet.pith(&["rollout", "undo", "world-state"]).expect_code(0);
    let summary = since(&calls, from);
    assert_eq!(summary.failed, 0, "{:?}", summary.errors);
    assert_eq!(versions(&summary), ["first", "second", "third"]);
    let last = Instant::now();
    let summary = until("only the old one answers", SOON, || {
        Some(since(&calls, last)).filter(|summary| summary.sent > 100)
    });
    assert_eq!(versions(&summary), ["second"]);
}
