//! A rolling replacement under an open-loop load, against the physical floor of the same run.
//!
//! The floor is what no orchestrator can beat one by one: for each replica creating and starting a container (timed in the
//! same run with the plain Docker command line) and the application's own start, then the drain of the last request.
//!
//! Containers start on the processors that serve the requests, and more slowly there than on an idle machine. So the floor of
//! a cell is what plain Docker takes beside the same load, while nothing is deployed; that of an idle machine stands beside
//! it. p99 is judged as it is, and what it comes to where plain Docker starts as many containers stands beside it.

use std::process::Command;
use std::time::{Duration, Instant};

use load::{Config, Load};

use crate::bench::sample::{Line, RUNS, Samples};
use crate::bench::swarm;
use crate::fleet::Fleet;
use crate::http::free_port;
use crate::private_docker::PrivateDocker;
use crate::services::Service;

/// Replicas that are replaced one by one.
pub const REPLICAS: u32 = 4;
/// The application listens this long after its start.
pub const START_MS: u32 = 500;
/// Requests per second.
pub const RATE: u32 = 500;
/// Work per request of the abrupt application.
pub const WORK_MS: u32 = 20;
const BEFORE: Duration = Duration::from_secs(3);
/// Runs of plain Docker beside the load of a cell.
const DOCKER_RUNS: usize = 3;
/// A rollout may raise p99 this much.
const MOST_P99: f64 = 1.2;

/// How clients connect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Clients {
    /// One connection per request.
    New,
    /// Kept-alive connections.
    Kept,
}

/// How the application takes SIGTERM.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Application {
    /// Finishes what it has.
    Graceful,
    /// Exits at once.
    Abrupt,
}

/// One replacement.
struct Run {
    sent: u64,
    failed: u64,
    all_new_s: f64,
    p99_ratio: f64,
}

/// What plain Docker does beside the load of a cell.
struct Plain {
    p99: Samples,
    create_s: f64,
}

/// Measures the four cells beside Swarm, and one replica; about ten minutes.
#[must_use]
pub fn measure() -> Vec<Line> {
    let fleet = Fleet::start(1);
    let create_s = create_and_start_s();
    let mut lines = Vec::new();
    for clients in [Clients::New, Clients::Kept] {
        for application in [Application::Graceful, Application::Abrupt] {
            let (ours_s, of_cell) = cell(&fleet, clients, application, REPLICAS, create_s);
            lines.extend(of_cell);
            lines.extend(beside_swarm(ours_s, clients, application));
        }
    }
    lines.extend(cell(&fleet, Clients::Kept, Application::Abrupt, 1, create_s).1);
    let _ = fleet.stop();
    lines
}

fn cell(
    fleet: &Fleet,
    clients: Clients,
    application: Application,
    replicas: u32,
    create_s: f64,
) -> (f64, Vec<Line>) {
    let name = format!("{clients:?}-{application:?}-{replicas}").to_lowercase();
    let (runs, plain) = replacements(fleet, &name, clients, application, replicas);
    let sent: u64 = runs.iter().map(|run| run.sent).sum();
    let failed: u64 = runs.iter().map(|run| run.failed).sum();
    let work_s = if application == Application::Abrupt { f64::from(WORK_MS) / 1000.0 } else { 0.0 };
    let floor = |create_s| f64::from(replicas) * (create_s + f64::from(START_MS) / 1000.0) + work_s;
    let (floor_s, idle_s) = (floor(plain.create_s), floor(create_s));
    let over = |floor_s| Samples::new(runs.iter().map(|run| run.all_new_s / floor_s).collect());
    let (ratio, of_idle) = (over(floor_s), over(idle_s));
    let p99 = Samples::new(runs.iter().map(|run| run.p99_ratio).collect());
    let what = format!("rolling {replicas}x, {clients:?} connections, {application:?} application")
        .to_lowercase();
    let ours_s = Samples::new(runs.iter().map(|run| run.all_new_s).collect()).median();
    let lines = vec![
        Line::checked(&format!("{what}: failed"), format!("{failed} of {sent}"), "0", failed == 0),
        Line::checked(
            &format!("{what}: time / floor of {floor_s:.2} s"),
            format!("{ratio}, {:.2} of an idle machine's {idle_s:.2} s", of_idle.median()),
            "at most 1.15",
            ratio.median() <= 1.15,
        ),
        Line::checked(
            &format!("{what}: p99 during / before"),
            format!("{p99}, {} where plain Docker starts as many", plain.p99),
            &format!("at most {MOST_P99}"),
            p99.median() <= MOST_P99,
        ),
    ];
    (ours_s, lines)
}

/// The same cell by Swarm, in the same run.
fn beside_swarm(ours_s: f64, clients: Clients, application: Application) -> Vec<Line> {
    if !PrivateDocker::is_possible() {
        return Vec::new();
    }
    let runs = swarm::measure(clients, application);
    let failed: Vec<String> = runs.iter().map(|run| run.failed.to_string()).collect();
    let theirs = Samples::new(runs.iter().map(|run| run.all_new_s).collect());
    let what = format!("rolling {REPLICAS}x, {clients:?} connections, {application:?} application")
        .to_lowercase();
    let ratio = ours_s / theirs.median();
    let figure =
        format!("{ratio:.2}, Swarm takes {theirs} s and fails {} requests", failed.join("/"));
    vec![Line::checked(&format!("{what}: time / Swarm's"), figure, "at most 0.35", ratio <= 0.35)]
}

fn replacements(
    fleet: &Fleet,
    name: &str,
    clients: Clients,
    application: Application,
    replicas: u32,
) -> (Vec<Run>, Plain) {
    let port = free_port();
    let mut service = Service::new(name, port)
        .scheduling(&format!("replicas = {replicas}"))
        .env("START_DELAY_MS", &START_MS.to_string());
    if application == Application::Abrupt {
        service = service.env("ABRUPT", "1").env("WORK_MS", &WORK_MS.to_string());
    }
    let _ = fleet.deploy(&service).expect_code(0);
    let (kept_rate, new_rate) = if clients == Clients::Kept { (RATE, 0) } else { (0, RATE) };
    let load = Load::start(Config {
        targets: vec![fleet.address(1, port)],
        path: "/".to_owned(),
        kept_connections: 32,
        kept_rate,
        new_rate,
        websockets: 0,
    });
    let mut runs = Vec::new();
    for n in 0..RUNS {
        let (old, new) = if n % 2 == 0 { ("v1", "v2") } else { ("v2", "v1") };
        let quiet = Instant::now();
        std::thread::sleep(BEFORE);
        let begun = Instant::now();
        let _ = fleet.deploy(&service.clone().image(&format!("pith-demo:{new}"))).expect_code(0);
        let ended = Instant::now();
        let all_new = load.last_answer_of(old).unwrap_or(begun).max(begun).duration_since(begun);
        let (before, during) = (load.summary(quiet, begun), load.summary(begun, ended));
        for error in &during.errors {
            eprintln!("  {name}: {error}");
        }
        let p99_ratio = during.p99.as_secs_f64() / before.p99.as_secs_f64();
        let (sent, failed) = (before.sent + during.sent, before.failed + during.failed);
        eprintln!("  {name}: {all_new:.2?} until all answers are new, {} failed", during.failed);
        runs.push(Run { sent, failed, all_new_s: all_new.as_secs_f64(), p99_ratio });
    }
    let p99 = (0..DOCKER_RUNS).map(|_| p99_beside_docker(&load, replicas)).collect();
    let plain = Plain { p99: Samples::new(p99), create_s: create_and_start_s() };
    drop(load);
    let _ = fleet.pith(&["rm", name, "--yes"]);
    (runs, plain)
}

/// p99 during / before, while plain Docker starts and removes as many containers in the rhythm of a rollout.
fn p99_beside_docker(load: &Load, replicas: u32) -> f64 {
    let quiet = Instant::now();
    std::thread::sleep(BEFORE);
    let begun = Instant::now();
    for _ in 0..replicas {
        let (_, id) = docker(&CREATE);
        let _ = docker(&["start", &id]);
        std::thread::sleep(Duration::from_millis(START_MS.into()));
        let _ = docker(&["rm", "-f", &id]);
    }
    let (before, during) = (load.summary(quiet, begun), load.summary(begun, Instant::now()));
    during.p99.as_secs_f64() / before.p99.as_secs_f64()
}

/// A container like those of a rollout, without a network of its own.
const CREATE: [&str; 5] = ["create", "--init", "--label", "io.pith.fixture=1", "pith-demo:v1"];

/// Runs Docker's command line; the seconds that it took and what it printed.
fn docker(args: &[&str]) -> (f64, String) {
    let begun = Instant::now();
    let output = Command::new("docker").args(args).output().expect("docker can be run");
    (begun.elapsed().as_secs_f64(), String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// Seconds that `docker create` and `docker start` take through the API, median; the command line's own start is taken off.
fn create_and_start_s() -> f64 {
    let once = |_| {
        let (nothing, _) = docker(&["version"]);
        let (create, id) = docker(&CREATE);
        let (start, _) = docker(&["start", &id]);
        let _ = docker(&["rm", "-f", &id]);
        (create + start - 2.0 * nothing).max(0.0)
    };
    Samples::new((0..RUNS).map(once).collect()).median()
}
