//! The same replacement by Docker Swarm: `docker service update --update-order start-first`, on an engine of its own.
//!
//! Swarm's routing mesh needs kernel modules that machines like this lack, so its instances listen on the host's network with
//! `SO_REUSEPORT` and the kernel spreads connections over them: kinder to Swarm than its mesh.

use std::time::{Duration, Instant};

use load::{Config, Load};

use crate::bench::rolling::{Application, Clients, RATE, REPLICAS, START_MS, WORK_MS};
use crate::private_docker::PrivateDocker;
use crate::wait::until_true;

/// The argument with which the benchmark runs itself inside the engine's network.
pub const CELL: &str = "--swarm-load";
const PORT: u16 = 9200;
const RUNS: usize = 3;
const SOON: Duration = Duration::from_secs(60);
/// The load outlasts any replacement.
const LOAD: Duration = Duration::from_secs(20);

/// What one replacement gave.
#[derive(Debug, Clone, Copy)]
pub struct Run {
    /// Seconds until the last answer of the old version.
    pub all_new_s: f64,
    /// Requests that failed.
    pub failed: u64,
}

/// Replaces three times under load.
///
/// # Panics
/// When the engine or Swarm does not come up.
#[must_use]
pub fn measure(clients: Clients, application: Application) -> Vec<Run> {
    let docker = PrivateDocker::start(&[], &["pith-demo:v1", "pith-demo:v2"]);
    for version in ["v1", "v2"] {
        with_health_check(&docker, version);
    }
    let _ = docker.docker(&[
        "swarm",
        "init",
        "--advertise-addr",
        "127.0.0.1",
        "--listen-addr",
        "127.0.0.1:2377",
    ]);
    let mut create: Vec<String> = [
        "service",
        "create",
        "--detach",
        "--name",
        "roll",
        "--network",
        "host",
        "--no-resolve-image",
        "--update-order",
        "start-first",
        "--update-delay",
        "0s",
        "--env",
        "REUSE_PORT=1",
    ]
    .map(str::to_owned)
    .into();
    create.extend(["--replicas".to_owned(), REPLICAS.to_string()]);
    let mut env = vec![format!("PORT={PORT}"), format!("START_DELAY_MS={START_MS}")];
    if application == Application::Abrupt {
        env.extend(["ABRUPT=1".to_owned(), format!("WORK_MS={WORK_MS}")]);
    }
    create.extend(env.into_iter().flat_map(|pair| ["--env".to_owned(), pair]));
    create.push("pith-swarm:v1".to_owned());
    let _ = docker.docker(&create.iter().map(String::as_str).collect::<Vec<_>>());
    converged(&docker);
    (0..RUNS)
        .map(|n| replace(&docker, clients, if n % 2 == 0 { ("v1", "v2") } else { ("v2", "v1") }))
        .collect()
}

/// Swarm waits for Docker's own health check; an image FROM scratch has no shell, so it is part of the image.
fn with_health_check(docker: &PrivateDocker, version: &str) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let text = format!(
        "FROM pith-demo:{version}\nHEALTHCHECK --interval=1s --timeout=1s CMD [\"/demo-app\", \"probe\", \"/ready\"]\n"
    );
    std::fs::write(folder.path().join("Dockerfile"), text).expect("a file");
    let path = folder.path().to_string_lossy().into_owned();
    let _ = docker.docker(&["build", "-q", "-t", &format!("pith-swarm:{version}"), &path]);
}

fn converged(docker: &PrivateDocker) {
    let wanted = format!("{REPLICAS}/{REPLICAS}");
    until_true("Swarm runs all instances", SOON, || {
        docker.docker(&["service", "ls", "--format", "{{.Replicas}}"]) == wanted
    });
}

fn replace(docker: &PrivateDocker, clients: Clients, (old, new): (&str, &str)) -> Run {
    let itself = std::env::current_exe().expect("the running program has a path");
    let kind = if clients == Clients::Kept { "kept" } else { "new" };
    let mut load = docker.inside().command(itself);
    load.args([CELL, kind, old]).stdout(std::process::Stdio::piped());
    let load = load.spawn().expect("the benchmark can run itself");
    // The load needs a moment before the update; the cell counts from the first answer of the new version's update itself.
    std::thread::sleep(Duration::from_secs(2));
    let update = ["service", "update", "--detach", "--no-resolve-image", "--image"];
    let image = format!("pith-swarm:{new}");
    let begun = Instant::now();
    let _ = docker.docker(&[&update[..], &[image.as_str(), "roll"]].concat());
    let output = load.wait_with_output().expect("the load ends");
    let ended = Instant::now();
    let text = String::from_utf8_lossy(&output.stdout);
    let mut numbers =
        text.split_whitespace().map(|number| number.parse::<f64>().unwrap_or(f64::NAN));
    let (ago_s, failed) = (numbers.next().unwrap_or(f64::NAN), numbers.next().unwrap_or(f64::NAN));
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a small count")]
    let failed = failed as u64;
    Run { all_new_s: ended.duration_since(begun).as_secs_f64() - ago_s, failed }
}

/// Inside the network: the load; prints how many seconds before its end the old version answered last, and the failures.
///
/// # Panics
/// Never.
pub fn cell(kind: &str, old: &str) {
    let (kept_rate, new_rate) = if kind == "kept" { (RATE, 0) } else { (0, RATE) };
    let from = Instant::now();
    let mut load = Load::start(Config {
        targets: vec![(std::net::Ipv4Addr::LOCALHOST, PORT).into()],
        path: "/".to_owned(),
        kept_connections: 32,
        kept_rate,
        new_rate,
        websockets: 0,
    });
    std::thread::sleep(LOAD);
    load.stop();
    let failed = load.summary(from, Instant::now()).failed;
    let last = load.last_answer_of(old).unwrap_or(from);
    println!("{} {failed}", last.elapsed().as_secs_f64());
}
