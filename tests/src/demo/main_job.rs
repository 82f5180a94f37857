//! The main job on a fleet: a good version under load, a bad one refused, and back; with a table at the end.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::demo::rollouts::{Timed, run, say};
use crate::demo::table::render;
use crate::demo::watch::Watch;
use crate::fleet::Fleet;
use crate::http::get;
use crate::services::Service;
use crate::wait::until_true;
use load::{Config, Load};

/// Nodes of the fleet it is shown on.
pub const NODES: u8 = 3;
const PER_NODE: u32 = 2;
const WEBSOCKETS: usize = 50;
const DRAIN_S: u64 = 2;
const DEADLINE_S: u64 = 8;
/// The load runs this long before the first rollout, to know what is usual.
const BEFORE: Duration = Duration::from_secs(5);

/// One line of the table.
struct Act {
    timed: Timed,
    expected_code: i32,
    expected_version: &'static str,
    versions: Vec<String>,
}

/// Shows it on a fleet of [`NODES`] nodes, with `hello` on this port: version 1, a good version 2 under load, a version 3 that is
/// never ready, back to version 1. Gives whether it was done: no request failed, every version is what it should be.
///
/// # Panics
/// When `pith` cannot be run, or the WebSockets do not open within 10 s.
#[must_use]
pub fn show(fleet: Fleet, port: u16) -> bool {
    say(&format!(
        "Three nodes on this machine, service `hello` on port {port}, two instances a node.\n"
    ));
    let hello = Service::new("hello", port)
        .scheduling(&format!("per_node = {PER_NODE}"))
        .rollout(&format!("drain = \"{DRAIN_S}s\""))
        .rollout(&format!("progress_deadline = \"{DEADLINE_S}s\""));
    let good = |version: &str| {
        fleet.file(
            &format!("{version}.toml"),
            &hello.clone().image(&format!("pith-demo:{version}")).toml(),
        )
    };
    let bad = hello.clone().image("pith-demo:v3").env("NEVER_READY", "1");
    let (first, second, third) = (good("v1"), good("v2"), fleet.file("v3.toml", &bad.toml()));

    let mut acts = vec![act(&fleet, port, "deploy v1", &["deploy", "-f", &first], 0, "v1")];
    let load = Arc::new(Load::start(load_config(&fleet, port)));
    until_true("the WebSockets open", Duration::from_secs(10), || {
        load.sockets_open() == WEBSOCKETS
    });
    say("The load: 200 requests/s on kept-alive connections, 200 on new ones, 50 WebSockets.\n");
    let quiet_from = Instant::now();
    std::thread::sleep(BEFORE);
    let quiet_to = Instant::now();
    {
        let _watch = Watch::begin(Arc::clone(&load));
        acts.push(act(&fleet, port, "deploy v2 (good)", &["deploy", "-f", &second], 0, "v2"));
        acts.push(act(&fleet, port, "deploy v3 (never ready)", &["deploy", "-f", &third], 3, "v2"));
        acts.push(act(
            &fleet,
            port,
            "rollout undo to v1",
            &["rollout", "undo", "hello", "--to-revision", "1"],
            0,
            "v1",
        ));
        std::thread::sleep(Duration::from_secs(1));
    }
    let end = Instant::now();
    let before = load.summary(quiet_from, quiet_to);
    let all = load.summary(quiet_from, end);
    table(&acts, &load, before.p50, before.p99);
    say(&format!(
        "\n{} requests, {} failed. {WEBSOCKETS} WebSockets were held open through it; cut: {} times\n\
         (a connection cannot be moved: each of the two good rollouts cuts every one of them once, after `drain`).",
        all.sent,
        all.failed,
        load.sockets_cut()
    ));
    for error in &all.errors {
        say(&format!("  failed: {error}"));
    }
    drop(load);
    let code = fleet.stop();
    verdict(&acts, all.failed, all.sent, code)
}

fn load_config(fleet: &Fleet, port: u16) -> Config {
    Config {
        targets: (1..=NODES).map(|node| fleet.address(node, port)).collect(),
        path: "/".to_owned(),
        kept_connections: 30,
        kept_rate: 200,
        new_rate: 200,
        websockets: WEBSOCKETS,
    }
}

fn act(
    fleet: &Fleet,
    port: u16,
    what: &str,
    args: &[&str],
    expected_code: i32,
    expected_version: &'static str,
) -> Act {
    let timed = run(fleet, what, args);
    let version = |node| match get(fleet.address(node, port), "/") {
        Ok((_, body)) => body.split_whitespace().next().unwrap_or_default().to_owned(),
        Err(error) => error,
    };
    let versions = (1..=NODES).map(version).collect();
    Act { timed, expected_code, expected_version, versions }
}

impl Act {
    fn is_as_expected(&self) -> bool {
        self.timed.code == self.expected_code
            && self.versions.iter().all(|v| v == self.expected_version)
    }
}

fn table(acts: &[Act], load: &Load, p50_before: Duration, p99_before: Duration) {
    let ms = |time: Duration| format!("{:.1}", time.as_secs_f64() * 1000.0);
    // The first deploy comes before the load.
    let moved = |before, during, sent| {
        if sent == 0 { "-".to_owned() } else { format!("{} -> {}", ms(before), ms(during)) }
    };
    let row = |act: &Act| {
        let seen = load.summary(act.timed.begun, act.timed.begun + act.timed.took);
        vec![
            act.timed.what.clone(),
            format!("{:.1}", act.timed.took.as_secs_f64()),
            act.timed.code.to_string(),
            seen.sent.to_string(),
            seen.failed.to_string(),
            moved(p50_before, seen.p50, seen.sent),
            moved(p99_before, seen.p99, seen.sent),
            act.versions.join(" "),
        ]
    };
    let rows: Vec<Vec<String>> = acts.iter().map(row).collect();
    let head =
        ["what", "seconds", "exit", "sent", "failed", "p50 ms", "p99 ms", "answers of node-1 2 3"];
    say(&render(&head, &rows));
    let floor = u64::from(NODES) * DRAIN_S;
    say(&format!(
        "\nPhysical floor of a good rollout: {NODES} nodes one after another, each {PER_NODE} x (create and start a container, ~0.1 s;\n\
        the application starts at once) and the WebSockets' drain of {DRAIN_S} s: about {floor}.{} s. A bad one ends {DEADLINE_S} s after its start\n\
        (`progress_deadline`).",
        u64::from(NODES) * u64::from(PER_NODE)
    ));
}

fn verdict(acts: &[Act], failed: u64, sent: u64, code: i32) -> bool {
    let mut is_good = failed == 0 && sent > 0 && code == 0;
    for act in acts.iter().filter(|act| !act.is_as_expected()) {
        let Act { timed, expected_code, expected_version, versions } = act;
        say(&format!(
            "NOT AS EXPECTED: {}: exit code {} (expected {expected_code}), answers {versions:?} (expected {expected_version})",
            timed.what, timed.code
        ));
        is_good = false;
    }
    if code != 0 {
        say(&format!("NOT AS EXPECTED: pith dev ended with code {code}"));
    }
    say(if is_good { "\nEverything as it should be." } else { "\nThe main job was not done." });
    is_good
}
