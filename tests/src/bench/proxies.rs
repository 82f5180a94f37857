//! Our proxy beside HAProxy, as ratios of throughput: same backends, same client, a fresh network namespace for every
//! measurement, since connections that linger in one spoil the next.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::bench::sample::{Line, RUNS, Samples};
use crate::fleet::binaries;
use crate::wait::until_true;

const BACKENDS: u16 = 4;
const BACKEND_PORT: u16 = 9001;
const PROXY_PORT: u16 = 9000;
const SECONDS: u32 = 3;
const SOON: Duration = Duration::from_secs(10);

/// Whose proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Peer {
    /// `pith-agent proxy`.
    Ours,
    /// HAProxy.
    Haproxy,
}

/// The name of the argument with which the benchmark runs itself inside a namespace.
pub const CELL: &str = "--proxy-cell";

/// Measures http and tcp, kept-alive; about a minute.
#[must_use]
pub fn measure(demo_app: &Path) -> Vec<Line> {
    let cell = |mode: &str, peer: Peer| requests_per_s(demo_app, mode, peer);
    let mut lines = Vec::new();
    for (mode, least) in [("http", 0.8), ("tcp", 0.9)] {
        let pairs: Vec<(f64, f64)> =
            (0..RUNS).map(|_| (cell(mode, Peer::Ours), cell(mode, Peer::Haproxy))).collect();
        let (ours, theirs): (Vec<f64>, Vec<f64>) = pairs.into_iter().unzip();
        let ratio = Samples::ratios(&ours, &theirs);
        let figure = format!(
            "{ratio}, {:.0} and {:.0} requests/s",
            Samples::new(ours).median(),
            Samples::new(theirs).median()
        );
        lines.push(Line::checked(
            &format!("proxy / HAProxy, {mode}"),
            figure,
            &format!("at least {least}"),
            ratio.median() >= least,
        ));
    }
    lines
}

/// Runs one cell in a namespace of its own.
fn requests_per_s(demo_app: &Path, mode: &str, peer: Peer) -> f64 {
    let itself = std::env::current_exe().expect("the running program has a path");
    let peer = if peer == Peer::Ours { "ours" } else { "haproxy" };
    let output = Command::new("unshare")
        .args(["--net", "--"])
        .arg(itself)
        .args([CELL, mode, peer])
        .arg(demo_app)
        .env("PITH_BINARIES", binaries())
        .output()
        .expect("unshare can be run");
    let text = String::from_utf8_lossy(&output.stdout);
    text.trim()
        .parse()
        .unwrap_or_else(|_| panic!("{text}{}", String::from_utf8_lossy(&output.stderr)))
}

/// Inside the namespace: backends, proxy, client; prints requests per second.
///
/// # Panics
/// When a part does not come up.
pub fn cell(mode: &str, peer: &str, demo_app: &str) {
    let up = Command::new("ip").args(["link", "set", "lo", "up"]).status();
    assert!(up.is_ok_and(|status| status.success()), "the namespace has no loopback");
    let dir = tempfile::tempdir().expect("a temporary folder");
    let mut children: Vec<Child> =
        (0..BACKENDS).map(|n| backend(demo_app, BACKEND_PORT + n)).collect();
    for n in 0..BACKENDS {
        listens(BACKEND_PORT + n);
    }
    children.push(if peer == "ours" { ours(dir.path(), mode) } else { haproxy(dir.path(), mode) });
    listens(PROXY_PORT);
    println!("{}", wrk());
    for mut child in children {
        let _ = child.kill();
        let _ = child.wait();
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

fn ours(dir: &Path, mode: &str) -> Child {
    let config = dir.join("agent.toml");
    let text = format!(
        "name = \"bench\"\nstate_dir = \"{0}\"\nruntime_dir = \"{0}\"\ntrust_root = \"{0}/none\"\n[broker]\naddress = \"127.0.0.1:1\"\ntoken_file = \"{0}/none\"\n",
        dir.display()
    );
    fs::write(&config, text).expect("a file can be written");
    let child = Command::new(binaries().join("pith-agent"))
        .args(["proxy", "--config"])
        .arg(&config)
        .stderr(Stdio::null())
        .spawn();
    let child = child.expect("pith-agent can be run");
    let socket = dir.join("proxy.sock");
    until_true("the proxy's socket", SOON, || UnixStream::connect(&socket).is_ok());
    let backend = |n: u16| {
        format!(
            "{{\"id\":\"b{n}\",\"address\":\"127.0.0.1:{}\",\"weight\":1,\"state\":\"active\",\"release\":\"r\"}}",
            BACKEND_PORT + n
        )
    };
    let backends: Vec<String> = (0..BACKENDS).map(backend).collect();
    let request = format!(
        "{{\"op\":\"set\",\"table\":{{\"version\":1,\"routes\":[{{\"id\":\"bench\",\"listen\":[\"127.0.0.1:{PROXY_PORT}\"],\"protocol\":\"{mode}\",\"backends\":[{}]}}]}}}}\n",
        backends.join(",")
    );
    let mut stream = UnixStream::connect(&socket).expect("the proxy's socket");
    stream.write_all(request.as_bytes()).expect("the proxy takes a table");
    let mut answer = String::new();
    BufReader::new(stream).read_line(&mut answer).expect("the proxy answers");
    child
}

fn haproxy(dir: &Path, mode: &str) -> Child {
    let servers: Vec<String> =
        (0..BACKENDS).map(|n| format!("  server b{n} 127.0.0.1:{}", BACKEND_PORT + n)).collect();
    let text = format!(
        "global\n  nbthread 1\n  maxconn 4096\ndefaults\n  mode {mode}\n  timeout connect 5s\n  timeout client 60s\n  timeout server 60s\n  option {}\nlisten bench\n  bind 127.0.0.1:{PROXY_PORT}\n  balance roundrobin\n{}\n",
        if mode == "http" { "http-keep-alive" } else { "tcp-smart-accept" },
        servers.join("\n")
    );
    let config = dir.join("haproxy.cfg");
    fs::write(&config, text).expect("a file can be written");
    Command::new("haproxy")
        .arg("-f")
        .arg(&config)
        .stderr(Stdio::null())
        .spawn()
        .expect("haproxy can be run")
}

fn wrk() -> f64 {
    let duration = format!("-d{SECONDS}s");
    let url = format!("http://127.0.0.1:{PROXY_PORT}/");
    let output = Command::new("wrk")
        .args(["-t1", "-c32", &duration, &url])
        .output()
        .expect("wrk can be run");
    let text = String::from_utf8_lossy(&output.stdout);
    let line = text.lines().find(|line| line.starts_with("Requests/sec:"));
    line.and_then(|line| line.split_whitespace().nth(1)).and_then(|v| v.parse().ok()).unwrap_or(0.0)
}
