//! From a blank Debian to a first deploy, and the second under load.

use std::time::{Duration, Instant};

use load::{Config, Load};

use crate::board::lab::{self, Coordinator, NODE, PATIENCE, Parts, SERVICE, web};
use crate::board::results::{Results, Row};
use crate::board::{Board, COORDINATOR, OTHER_PORT, SERVICE_PORT};
use crate::fleet::Outcome;
use crate::http;
use crate::services::Service;

/// Before and after the rollout.
const MARGIN: Duration = Duration::from_secs(10);
const KEPT_RATE: u32 = 10;
const NEW_RATE: u32 = 2;
/// Its serial port, which every emulated board has.
const DEVICE: &str = "/dev/ttyAMA0";

pub(super) fn run(parts: &Parts, _: &Results) -> Vec<Row> {
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
    install(parts, &board, &coordinator, "joining as");
    assert_eq!(coordinator.node()["status"], "ready");
    took("`pith node install` by one who may sudo, to ready", begun);
    let begun = Instant::now();
    install(parts, &board, &coordinator, "already so: it has joined this fleet");
    took("the same again, which changes nothing", begun);

    board.put(&parts.demo, "/root/demo.tar");
    board.must("docker load -qi /root/demo.tar && rm /root/demo.tar");
    let begun = Instant::now();
    let _ = coordinator.deploy(&web("v1"), &["--timeout", "5m"]).expect_code(0);
    took("first deploy, to ready", begun);
    let answer = http::get(board.address(SERVICE_PORT), "/");
    assert!(answer.as_ref().is_ok_and(|(status, _)| *status == 200), "{answer:?}");

    rows.push(stick(&board, &coordinator));
    rows.extend(roll(&board, &coordinator));
    let _ = coordinator.deploy(&web("v1"), &["--timeout", "5m"]).expect_code(0);

    board.shut_down();
    coordinator.kill();
    lab::keep(parts, &board, &folder.join("fleet"));
    rows
}

fn install(parts: &Parts, board: &Board, coordinator: &Coordinator, says: &str) {
    let (target, ssh) = board.login();
    let package = parts.package.to_string_lossy();
    let mut command = coordinator.command(&["node", "install", &target, "--name", NODE]);
    command.args(["--package", &package, "--address", COORDINATOR, "--timeout", "5m"]);
    command.args(["--allow", &format!("devices={DEVICE}")]).env("PITH_SSH", ssh);
    let outcome = Outcome::of(&command.output().expect("pith can be run")).expect_code(0);
    assert!(outcome.stdout.contains(says), "{says}: {outcome:?}\n{}", board.last_words());
}

/// A device that the board has is seen by an agent that may open none, and given to a container.
fn stick(board: &Board, coordinator: &Coordinator) -> Row {
    let device = format!("[[devices]]\npath = \"{DEVICE}\"\ntarget = \"/dev/stick\"\n");
    let service = Service::new("stick", OTHER_PORT).image("pith-demo-arm64:v1").extra(&device);
    let service = service.rollout("progress_deadline = \"4m\"");
    let _ = coordinator.deploy(&service, &["--timeout", "5m"]).expect_code(0);
    let has = board.said(
        "docker inspect --format '{{json .HostConfig.Devices}}' $(docker ps -q --filter label=io.pith.service=stick)",
    );
    assert!(has.contains(DEVICE) && has.contains("/dev/stick"), "{has}");
    let _ = coordinator.pith(&["rm", "stick", "--yes"]).expect_code(0);
    Row::held("a device of the board in a container", DEVICE)
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
