//! From a blank Debian to a first deploy, and the second under load.

use std::time::{Duration, Instant};

use load::{Config, Load};

use crate::board::lab::{self, Coordinator, NODE, PATIENCE, Parts, SERVICE, web};
use crate::board::results::{Results, Row};
use crate::board::{Board, COORDINATOR, SERVICE_PORT};
use crate::http;

/// Before and after the rollout.
const MARGIN: Duration = Duration::from_secs(10);
const KEPT_RATE: u32 = 10;
const NEW_RATE: u32 = 2;

pub(super) fn run(parts: &Parts, _: &mut Results) -> Vec<Row> {
    let folder = parts.fresh("install");
    let mut coordinator = Coordinator::init(&folder.join("fleet"));
    coordinator.start();
    let mut board = Board::over(&parts.image, &parts.image.disk(), &folder, coordinator.address());
    let mut rows = Vec::new();
    let mut took = |what: &str, begun: Instant| {
        rows.push(Row::held(what, format!("{:.0} s", begun.elapsed().as_secs_f64())));
    };

    let begun = Instant::now();
    board.boot();
    board.wait("Docker", PATIENCE, "docker version");
    took("a blank board boots, to Docker", begun);

    let begun = Instant::now();
    board.put(&parts.package, "/root/pith-agent.deb");
    board.must("dpkg -i /root/pith-agent.deb");
    took("package copied and installed", begun);

    let begun = Instant::now();
    let token = coordinator.json(&["node", "token", "--approve", "--address", COORDINATOR]);
    let token = token["token"].as_str().expect("a token");
    board.must(&format!("echo {token} | pith-agent join - --name {NODE}"));
    board.must("systemctl enable --now pith-proxy pith-agent");
    coordinator.wait_ready();
    took("joined by token, to ready", begun);

    board.put(&parts.demo, "/root/demo.tar");
    board.must("docker load -qi /root/demo.tar && rm /root/demo.tar");
    let begun = Instant::now();
    let _ = coordinator.deploy(&web("v1"), &["--timeout", "5m"]).expect_code(0);
    took("first deploy, to ready", begun);
    let answer = http::get(board.address(SERVICE_PORT), "/");
    assert!(answer.as_ref().is_ok_and(|(status, _)| *status == 200), "{answer:?}");

    rows.extend(roll(&board, &coordinator));
    let _ = coordinator.deploy(&web("v1"), &["--timeout", "5m"]).expect_code(0);

    board.shut_down();
    coordinator.kill();
    lab::keep(parts, &board, &folder.join("fleet"));
    rows
}

fn roll(board: &Board, coordinator: &Coordinator) -> Vec<Row> {
    let load = Load::start(Config {
        targets: vec![board.address(SERVICE_PORT)],
        path: "/".to_owned(),
        kept_connections: 4,
        kept_rate: KEPT_RATE,
        new_rate: NEW_RATE,
        websockets: 0,
    });
    let begun = Instant::now();
    std::thread::sleep(MARGIN);
    let rolled = Instant::now();
    let _ = coordinator.deploy(&web("v2"), &["--timeout", "5m"]).expect_code(0);
    let took = rolled.elapsed();
    std::thread::sleep(MARGIN);
    let summary = load.summary(begun, Instant::now() - Duration::from_secs(2));
    assert!(summary.failed == 0, "{SERVICE}: {summary:?}");
    assert!(summary.versions.len() == 2, "both releases answered: {:?}", summary.versions);
    vec![
        Row::held("a rollout under load", format!("{:.0} s", took.as_secs_f64())),
        Row::held("requests during it, failed", format!("{}, {}", summary.sent, summary.failed)),
    ]
}
