//! A proxy is replaced, or dies, under load. What a client may notice: nothing when it is replaced, the requests in flight
//! when it is killed.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use load::{Config, Load, Summary};
use serde_json::Value;
use tests::fleet::{Fleet, binaries};
use tests::http::{free_port, get};
use tests::services::Service;
use tests::skip;
use tests::wait::{until, until_true};

const SOON: Duration = Duration::from_secs(20);
const KEPT: usize = 8;
const WEBSOCKETS: usize = 6;
/// Requests that show that all is well again.
const ENOUGH: u64 = 150;
/// What a client waits at most for a proxy that was killed.
const AWAY_AT_MOST: Duration = Duration::from_secs(3);

fn load(fleet: &Fleet, port: u16, websockets: usize) -> Load {
    let load = Load::start(Config {
        targets: vec![fleet.address(1, port)],
        path: "/".to_owned(),
        kept_connections: KEPT,
        kept_rate: 60,
        new_rate: 60,
        websockets,
    });
    until_true("the WebSockets open", SOON, || load.sockets_open() == websockets);
    load
}

fn since(load: &Load, from: Instant) -> Summary {
    load.summary(from, Instant::now())
}

/// Waits until `ENOUGH` more requests were due and gives what became of all since `from`.
fn after_enough(load: &Load, from: Instant) -> Summary {
    let now = Instant::now();
    until("more requests", SOON, || (since(load, now).sent >= ENOUGH).then(|| since(load, from)))
}

/// What the proxy of node 1 says of itself; none while none answers.
fn snapshot(fleet: &Fleet) -> Option<Value> {
    let mut socket = UnixStream::connect(fleet.data().join("nodes/node-1/run/proxy.sock")).ok()?;
    socket.write_all(b"{\"op\":\"get\"}\n").ok()?;
    let mut line = String::new();
    BufReader::new(socket).read_line(&mut line).ok()?;
    // While it hands over it says that it is busy.
    serde_json::from_str::<Value>(&line).ok().filter(|said| said["pid"].is_u64())
}

fn serving(fleet: &Fleet) -> Option<i64> {
    snapshot(fleet)?["pid"].as_i64()
}

/// Requests ever counted on node 1.
fn requests(fleet: &Fleet) -> u64 {
    let snapshot = until("the proxy's numbers", SOON, || snapshot(fleet));
    snapshot["counters"].as_array().unwrap().iter().filter_map(|one| one["requests"].as_u64()).sum()
}

/// A proxy that a person started; ended with the test.
struct ByHand(Child);

impl ByHand {
    fn start(fleet: &Fleet, arguments: &[&str]) -> Self {
        let config = fleet.data().join("nodes/node-1/agent.toml");
        let log = std::fs::File::create(fleet.scratch().join("by-hand.log")).unwrap();
        let mut command = Command::new(binaries().join("pith-agent"));
        command.arg("proxy").args(arguments).arg("--config").arg(config);
        Self(command.stdin(Stdio::null()).stderr(log).spawn().unwrap())
    }

    fn taking_over(fleet: &Fleet) -> Self {
        let proxy = Self::start(fleet, &["--take-over"]);
        until_true("the new proxy serves", SOON, || serving(fleet) == Some(proxy.0.id().into()));
        proxy
    }

    fn kill(&mut self) {
        self.0.kill().unwrap();
        let _ = self.0.wait();
    }
}

impl Drop for ByHand {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn kill(pid: i32, signal: &str) {
    let status = Command::new("kill").args([signal, &pid.to_string()]).status();
    assert!(status.unwrap().success(), "kill {signal} {pid}");
}

fn is_alive(pid: i32) -> bool {
    // One that has ended and is not yet waited for still has a folder, and a state of Z.
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z'))
}

#[test]
fn a_proxy_is_replaced_under_load_and_nobody_notices() {
    if !skip::has("docker") {
        return;
    }
    let fleet = Fleet::start(1);
    let port = free_port();
    let service = Service::new("hello", port).scheduling("per_node = 2");
    let _ = fleet.deploy(&service).expect_code(0);
    let load = load(&fleet, port, WEBSOCKETS);
    let old = fleet.process(1, "proxy").unwrap();
    let _ = after_enough(&load, Instant::now());

    let (from, counted) = (Instant::now(), requests(&fleet));
    let mut by_hand = ByHand::taking_over(&fleet);
    let summary = after_enough(&load, from);
    assert_eq!(summary.failed, 0, "{:?}", summary.errors);
    assert_eq!(load.sockets_cut(), 0, "the old proxy keeps what is upgraded");
    assert!(requests(&fleet) >= counted + ENOUGH, "what was counted is inherited");
    assert!(is_alive(old), "it holds the WebSockets");

    // They are drained by the deploy, as they are without a take-over; then the old proxy has nothing left.
    let counted = requests(&fleet);
    let _ = fleet.deploy(&service.image("pith-demo:v2")).expect_code(0);
    let summary = after_enough(&load, from);
    assert_eq!(summary.failed, 0, "{:?}", summary.errors);
    until_true("the old proxy ends", SOON, || !is_alive(old));
    until_true("the WebSockets open again", SOON, || load.sockets_open() == WEBSOCKETS);
    assert!(requests(&fleet) >= counted, "the old proxy's last numbers are inherited");
    let by_hand_pid = i64::from(by_hand.0.id());
    assert_eq!(serving(&fleet), Some(by_hand_pid));

    // Whoever supervises the old one waits for the new one instead of trying again and again.
    let _ = after_enough(&load, from);
    assert_eq!(fleet.log().matches("child ended").count(), 1, "{}", fleet.log());
    assert_eq!(fleet.process(1, "proxy").map(i64::from), Some(by_hand_pid));
    let killed = Instant::now();
    by_hand.kill();
    until_true("another proxy serves", AWAY_AT_MOST, || {
        serving(&fleet).is_some_and(|pid| pid != by_hand_pid)
    });
    eprintln!("served again after {:?}", killed.elapsed());
    assert_eq!(get(fleet.address(1, port), "/").unwrap().0, 200);
}

#[test]
fn a_proxy_that_is_killed_under_load_costs_the_requests_in_flight_and_is_back_at_once() {
    if !skip::has("docker") {
        return;
    }
    let fleet = Fleet::start(1);
    let port = free_port();
    let service = Service::new("hello", port).scheduling("per_node = 2");
    let _ = fleet.deploy(&service).expect_code(0);
    let load = load(&fleet, port, 0);
    let begun = Instant::now();
    let _ = after_enough(&load, begun);

    let killed = Instant::now();
    kill(fleet.process(1, "proxy").unwrap(), "-KILL");
    until_true("the proxy serves again", AWAY_AT_MOST, || {
        get(fleet.address(1, port), "/").is_ok_and(|(status, _)| status == 200)
    });
    let back = Instant::now();
    let summary = after_enough(&load, back);
    assert_eq!(summary.failed, 0, "{:?}", summary.errors);
    // One for each kept connection, and the few new ones of that moment.
    let in_flight = load.summary(begun, killed).failed;
    assert!(in_flight <= KEPT as u64 + 2, "{in_flight} failed that were sent before");

    let deploying = Instant::now();
    let _ = fleet.deploy(&service.image("pith-demo:v2")).expect_code(0);
    let summary = after_enough(&load, deploying);
    assert_eq!(summary.failed, 0, "{:?}", summary.errors);
    assert!(get(fleet.address(1, port), "/").unwrap().1.starts_with("v2"));
}

#[test]
fn a_second_proxy_by_mistake_is_refused_and_an_old_one_can_be_ended() {
    if !skip::has("docker") {
        return;
    }
    let fleet = Fleet::start(1);
    let port = free_port();
    let _ = fleet.deploy(&Service::new("hello", port)).expect_code(0);
    let (load, begun) = (load(&fleet, port, WEBSOCKETS), Instant::now());
    let old = fleet.process(1, "proxy").unwrap();
    let mut mistaken = ByHand::start(&fleet, &[]);
    assert_eq!(mistaken.0.wait().unwrap().code(), Some(1));
    let said = std::fs::read_to_string(fleet.scratch().join("by-hand.log")).unwrap();
    assert!(said.contains("--take-over"), "{said}");
    assert_eq!(serving(&fleet), Some(old.into()));

    let by_hand = ByHand::taking_over(&fleet);
    assert!(is_alive(old), "it holds the WebSockets");
    kill(old, "-TERM");
    until_true("the old proxy ends", SOON, || !is_alive(old));
    until_true("the WebSockets open again", SOON, || load.sockets_open() == WEBSOCKETS);
    assert_eq!(serving(&fleet), Some(by_hand.0.id().into()), "its socket was left alone");
    let summary = load.summary(begun, Instant::now());
    assert_eq!(summary.failed, 0, "{:?}", summary.errors);
}

#[test]
fn dev_ends_the_proxy_that_took_over_beside_its_own() {
    if !skip::has("docker") {
        return;
    }
    let fleet = Fleet::start(1);
    let port = free_port();
    let _ = fleet.deploy(&Service::new("hello", port)).expect_code(0);
    let _load = load(&fleet, port, WEBSOCKETS);
    let old = fleet.process(1, "proxy").unwrap();
    let by_hand = ByHand::taking_over(&fleet);
    assert!(is_alive(old), "it holds the WebSockets");
    assert_eq!(fleet.stop(), 0);
    let pid = i32::try_from(by_hand.0.id()).unwrap();
    assert!(!is_alive(old) && !is_alive(pid), "both end with dev");
}

#[test]
fn a_proxy_that_took_over_and_dies_at_once_leaves_no_port_without_an_owner() {
    if !skip::has("docker") {
        return;
    }
    let fleet = Fleet::start(1);
    let port = free_port();
    let _ = fleet.deploy(&Service::new("hello", port)).expect_code(0);
    let load = load(&fleet, port, WEBSOCKETS);
    let old = fleet.process(1, "proxy").unwrap();
    let mut by_hand = ByHand::taking_over(&fleet);
    assert!(is_alive(old), "it holds the WebSockets");
    by_hand.kill();
    until_true("a proxy serves again", SOON, || {
        get(fleet.address(1, port), "/").is_ok_and(|(status, _)| status == 200)
    });
    let back = Instant::now();
    assert!(!is_alive(old), "nobody would set its table");
    let summary = after_enough(&load, back);
    assert_eq!(summary.failed, 0, "{:?}", summary.errors);
}
