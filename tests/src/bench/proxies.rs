//! Our proxy beside HAProxy and nginx, as ratios of throughput: same backends, same client, a fresh network namespace for
//! every measurement, since connections that linger in one spoil the next. And what an idle connection costs it.

mod idle;
mod peers;

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::bench::sample::{Line, RUNS, Samples};
use crate::fleet::binaries;
use crate::wait::until_true;
use peers::Peer;

const BACKENDS: u16 = 4;
const BACKEND_PORT: u16 = 9001;
const PROXY_PORT: u16 = 9000;
const SECONDS: u32 = 3;
const SOON: Duration = Duration::from_secs(10);
const IDLE_TARGET_BYTES: f64 = 8.0 * 1024.0;

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    /// Requests per second over HTTP, on 32 kept connections.
    Http,
    /// The same, the proxy copying bytes.
    Tcp,
    /// Requests per second over HTTP, each on a connection of its own.
    New,
    /// Bytes of memory per idle connection.
    Idle,
}

const MODES: [(Mode, &str); 4] =
    [(Mode::Http, "http"), (Mode::Tcp, "tcp"), (Mode::New, "new"), (Mode::Idle, "idle")];

impl Mode {
    fn name(self) -> &'static str {
        MODES.iter().find(|(mode, _)| *mode == self).map_or("", |(_, name)| *name)
    }

    /// What the proxy is told.
    fn protocol(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Http | Self::New | Self::Idle => "http",
        }
    }
}

/// The name of the argument with which the benchmark runs itself inside a namespace.
pub const CELL: &str = "--proxy-cell";

/// Measures throughput and memory; about three minutes.
#[must_use]
pub fn measure(demo_app: &Path) -> Vec<Line> {
    let cell = |mode: Mode, peer: Peer| figure(demo_app, mode, peer);
    let ratio = |what: &str, mode: Mode, peer: Peer, least: Option<f64>| {
        let pairs: Vec<(f64, f64)> =
            (0..RUNS).map(|_| (cell(mode, Peer::Ours), cell(mode, peer))).collect();
        compared(what, pairs, least)
    };
    vec![
        ratio("proxy / HAProxy, http", Mode::Http, Peer::Haproxy, Some(0.9)),
        ratio("proxy / HAProxy, tcp", Mode::Tcp, Peer::Haproxy, Some(0.95)),
        ratio("proxy / nginx, http, new connections", Mode::New, Peer::Nginx, Some(0.9)),
        ratio("the same, nginx keeping upstreams too", Mode::New, Peer::NginxKeeping, None),
        idle_connections((0..RUNS).map(|_| cell(Mode::Idle, Peer::Ours)).collect()),
    ]
}

fn compared(what: &str, pairs: Vec<(f64, f64)>, least: Option<f64>) -> Line {
    let (ours, theirs): (Vec<f64>, Vec<f64>) = pairs.into_iter().unzip();
    let ratio = Samples::ratios(&ours, &theirs);
    let figure = format!(
        "{ratio}, {:.0} and {:.0} requests/s",
        Samples::new(ours).median(),
        Samples::new(theirs).median()
    );
    match least {
        Some(least) => {
            Line::checked(what, figure, &format!("at least {least}"), ratio.median() >= least)
        }
        None => Line::plain(what, figure),
    }
}

fn idle_connections(bytes: Vec<f64>) -> Line {
    let kib = Samples::new(bytes.into_iter().map(|bytes| bytes / 1024.0).collect());
    let most = IDLE_TARGET_BYTES / 1024.0;
    Line::checked(
        &format!("one of {} idle connections, KiB PSS", idle::CONNECTIONS),
        kib.to_string(),
        &format!("at most {most}"),
        kib.median() <= most,
    )
}

/// Runs one cell in a namespace of its own.
fn figure(demo_app: &Path, mode: Mode, peer: Peer) -> f64 {
    let itself = std::env::current_exe().expect("the running program has a path");
    let output = Command::new("unshare")
        .args(["--net", "--"])
        .arg(itself)
        .args([CELL, mode.name(), peer.name()])
        .arg(demo_app)
        .env("PITH_BINARIES", binaries())
        .output()
        .expect("unshare can be run");
    let text = String::from_utf8_lossy(&output.stdout);
    text.trim()
        .parse()
        .unwrap_or_else(|_| panic!("{text}{}", String::from_utf8_lossy(&output.stderr)))
}

/// Inside the namespace: backends, proxy, client; prints the figure.
///
/// # Panics
/// When a part does not come up.
pub fn cell(mode: &str, peer: &str, demo_app: &str) {
    let (mode, _) = MODES.into_iter().find(|(_, name)| *name == mode).expect("a mode");
    let peer = Peer::named(peer).expect("a peer");
    let up = Command::new("ip").args(["link", "set", "lo", "up"]).status();
    assert!(up.is_ok_and(|status| status.success()), "the namespace has no loopback");
    let dir = tempfile::tempdir().expect("a temporary folder");
    let mut parts = Parts(Vec::new());
    parts.0.extend((0..BACKENDS).map(|n| backend(demo_app, BACKEND_PORT + n)));
    for n in 0..BACKENDS {
        listens(BACKEND_PORT + n);
    }
    let proxy = peer.start(dir.path(), mode);
    let pid = proxy.id();
    parts.0.push(proxy);
    listens(PROXY_PORT);
    match mode {
        Mode::Http | Mode::Tcp => println!("{}", wrk(&[])),
        Mode::New => println!("{}", wrk(&["-H", "Connection: close"])),
        Mode::Idle => println!("{}", idle::bytes_each(pid)),
    }
}

/// The processes of a cell, ended with it, a failed one's too.
struct Parts(Vec<Child>);

impl Drop for Parts {
    fn drop(&mut self) {
        for part in &mut self.0 {
            let _ = part.kill();
            let _ = part.wait();
        }
    }
}

fn backend(demo_app: &str, port: u16) -> Child {
    let mut command = Command::new(demo_app);
    command.env("PORT", port.to_string()).env("VERSION", "v1").stdout(Stdio::null());
    command.spawn().expect("the demo application can be run")
}

fn listens(port: u16) {
    until_true("a port listens", SOON, || {
        std::net::TcpStream::connect(("127.0.0.1", port)).is_ok()
    });
}

fn wrk(more: &[&str]) -> f64 {
    let duration = format!("-d{SECONDS}s");
    let url = format!("http://127.0.0.1:{PROXY_PORT}/");
    let output = Command::new("wrk")
        .args(["-t1", "-c32", &duration])
        .args(more)
        .arg(&url)
        .output()
        .expect("wrk can be run");
    let text = String::from_utf8_lossy(&output.stdout);
    // What failed is no throughput.
    assert!(!text.contains("Non-2xx") && !text.contains("Socket errors"), "{text}");
    let line = text.lines().find(|line| line.starts_with("Requests/sec:"));
    let figure = line.and_then(|line| line.split_whitespace().nth(1)).and_then(|v| v.parse().ok());
    figure.unwrap_or_else(|| panic!("wrk said no figure: {text}"))
}
