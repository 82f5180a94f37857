//! How long until the last byte of traffic has moved, from typing the command: a blue-green switch on three nodes and its
//! undo, the undo of a rolling update with the old release warm, and the longest hold where one stops before the next starts.

use std::time::{Duration, Instant};

use load::{Config, Load};

use crate::bench::sample::{Line, RUNS, Samples};
use crate::fleet::Fleet;
use crate::http::free_port;
use crate::services::Service;

const NODES: u8 = 3;
/// Requests per second on kept connections, and as many on new ones, over all nodes.
const RATE: u32 = 300;
/// The switch's target, in seconds.
const SWITCH_S: f64 = 0.3;

/// Measures all of them; about two minutes.
#[must_use]
pub fn measure() -> Vec<Line> {
    let fleet = Fleet::start(u32::from(NODES));
    let mut lines = blue_green(&fleet);
    lines.extend(warm_undo(&fleet));
    let _ = fleet.stop();
    lines.extend(stop_first());
    lines
}

fn load(fleet: &Fleet, nodes: u8, port: u16) -> Load {
    Load::start(Config {
        targets: (1..=nodes).map(|node| fleet.address(node, port)).collect(),
        path: "/".to_owned(),
        kept_connections: 24,
        kept_rate: RATE,
        new_rate: RATE,
        websockets: 0,
    })
}

/// Runs a command and gives the seconds until the last answer of `old`.
fn moved_s(fleet: &Fleet, load: &Load, args: &[&str], old: &str) -> f64 {
    let begun = Instant::now();
    let _ = fleet.pith(args).expect_code(0);
    // What was due before the command ended has been answered by then.
    std::thread::sleep(Duration::from_millis(300));
    let last = load.last_answer_of(old).unwrap_or(begun).max(begun);
    last.duration_since(begun).as_secs_f64()
}

fn failed(what: &str, load: &Load, begun: Instant) -> Line {
    let summary = load.summary(begun, Instant::now());
    let figure = format!("{} of {}", summary.failed, summary.sent);
    Line::checked(&format!("{what}: failed"), figure, "0", summary.failed == 0)
}

fn blue_green(fleet: &Fleet) -> Vec<Line> {
    let port = free_port();
    let service = Service::new("switched", port)
        .scheduling("per_node = 2")
        .rollout("strategy = \"blue-green\"")
        .rollout("auto_promote = false");
    let _ = fleet.deploy(&service).expect_code(0);
    let load = load(fleet, NODES, port);
    let begun = Instant::now();
    let (mut there, mut back) = (Vec::new(), Vec::new());
    for _ in 0..RUNS {
        let _ = fleet.deploy(&service.clone().image("pith-demo:v2")).expect_code(4);
        there.push(moved_s(fleet, &load, &["rollout", "promote", "switched"], "v1"));
        back.push(moved_s(fleet, &load, &["rollout", "undo", "switched"], "v2"));
    }
    let line = |what: &str, times: Vec<f64>| {
        let times = Samples::new(times);
        let is_met = times.median() <= SWITCH_S;
        Line::checked(what, times.to_string(), "at most 0.3", is_met)
    };
    vec![
        line("blue-green on 3 nodes: promote typed to the last old answer, s", there),
        line("blue-green on 3 nodes: undo typed to the last new answer, s", back),
        failed("blue-green on 3 nodes, there and back", &load, begun),
    ]
}

fn warm_undo(fleet: &Fleet) -> Vec<Line> {
    let port = free_port();
    let service = Service::new("soaked", port).scheduling("per_node = 2").rollout("soak = \"10m\"");
    let _ = fleet.deploy(&service).expect_code(0);
    let load = load(fleet, NODES, port);
    let begun = Instant::now();
    let mut back = Vec::new();
    for _ in 0..RUNS {
        let _ = fleet.deploy(&service.clone().image("pith-demo:v2")).expect_code(0);
        back.push(moved_s(fleet, &load, &["rollout", "undo", "soaked"], "v2"));
    }
    let times = Samples::new(back);
    let is_met = times.median() <= 3.0;
    let what = "rolling on 3 nodes, old release warm: undo typed to the last new answer, s";
    vec![
        Line::checked(what, times.to_string(), "at most 3", is_met),
        failed("rolling on 3 nodes, there and back", &load, begun),
    ]
}

/// On one node alone: on several, another node's instance answers meanwhile and nothing is held.
fn stop_first() -> Vec<Line> {
    let fleet = Fleet::start(1);
    let port = free_port();
    let service = Service::new("stopped-first", port)
        .scheduling("per_node = 1")
        .rollout("max_surge = 0")
        .rollout("max_unavailable = 1");
    let _ = fleet.deploy(&service).expect_code(0);
    let load = load(&fleet, 1, port);
    let begun = Instant::now();
    let mut holds = Vec::new();
    for n in 0..RUNS {
        let image = if n % 2 == 0 { "pith-demo:v2" } else { "pith-demo:v1" };
        let from = Instant::now();
        let _ = fleet.deploy(&service.clone().image(image)).expect_code(0);
        holds.push(load.summary(from, Instant::now()).max.as_secs_f64() * 1000.0);
    }
    let holds = Samples::new(holds);
    let lines = vec![
        Line::checked(
            "stop-first, one node, one replica: longest hold, ms",
            holds.to_string(),
            "printed",
            true,
        ),
        failed("stop-first, one node, one replica", &load, begun),
    ];
    let _ = fleet.stop();
    lines
}
