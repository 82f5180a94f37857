//! What it costs to look at a fleet: the agent's processor time against `docker stats` on the same instances, bytes of a load, and how soon
//! what happens on a node is on the page and on `pith top`.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use crate::bench::sample::{Line, Samples};
use crate::by_hand::ByHand;
use crate::docker::docker;
use crate::http::free_port;
use crate::services::Service;
use crate::terminal::OnTerminal;

const INSTANCES: usize = 10;
const SPAN: Duration = Duration::from_secs(40);
const SETTLE: Duration = Duration::from_secs(8);
/// Losses of a node that are looked for on page and terminal.
const LOSSES: usize = 30;
const PATIENCE: Duration = Duration::from_secs(20);

/// Measures; about four minutes.
#[must_use]
pub fn measure() -> Vec<Line> {
    let fleet = ByHand::start(1);
    let service = Service::new("ten", free_port()).scheduling(&format!("per_node = {INSTANCES}"));
    let file = fleet.file("ten.toml", &service.toml());
    let _ = fleet.pith(&["deploy", "-f", &file]).expect_code(0);
    let mut lines = processor(&fleet);
    lines.extend(bytes(&fleet));
    lines.push(until_seen(&fleet, "the page", &mut Page::open(&fleet)));
    let mut top = Top(OnTerminal::start(&fleet.data(), "top"));
    let _ = top.0.sees("NODES");
    lines.push(until_seen(&fleet, "`pith top`", &mut top));
    lines
}

fn processor(fleet: &ByHand) -> Vec<Line> {
    let agent = || i32::try_from(fleet.agent_pid(1)).map_or(0, cpu_ns);
    let engine = || named("dockerd").into_iter().chain(named("containerd")).map(cpu_ns).sum();
    let ids = docker(&["ps", "-q", "--filter", &format!("label={}", fleet.label())]);
    let ids: Vec<&str> = ids.split_whitespace().collect();
    std::thread::sleep(SETTLE);
    let (alone, engine_alone) = (spent(&agent), spent(&engine));
    let looked = {
        let mut looker = fleet.command(&["node", "top", "--watch"]);
        let mut looker = looker.stdout(Stdio::null()).spawn().expect("pith can be run");
        std::thread::sleep(SETTLE);
        let looked = spent(&agent);
        let _ = (looker.kill(), looker.wait());
        looked
    };
    let stats = {
        let mut stats = Command::new("docker");
        let mut stats =
            stats.arg("stats").args(&ids).stdout(Stdio::null()).spawn().expect("docker");
        let own = i32::try_from(stats.id()).unwrap_or(0);
        std::thread::sleep(SETTLE);
        let spent = spent(&|| engine() + cpu_ns(own));
        let _ = (stats.kill(), stats.wait());
        spent
    };
    let theirs = (stats - engine_alone).max(0.0);
    let share = (looked - alone).max(0.0) / theirs;
    vec![
        Line::plain(
            &format!("agent, {INSTANCES} instances probed each second, nobody looks: CPU"),
            format!("{alone:.2} ms/s"),
        ),
        Line::plain(
            "the same while somebody looks (a load in detail each 2 s)",
            format!("{looked:.2} ms/s"),
        ),
        Line::plain(
            "`docker stats` of the same instances (engine and client, above the idle engine)",
            format!("{theirs:.2} ms/s"),
        ),
        Line::checked(
            "what looking adds to the agent, of what `docker stats` costs",
            format!("{share:.3}"),
            "at most 0.1",
            share <= 0.1,
        ),
    ]
}

/// Milliseconds of processor a second, over a while.
fn spent(ns: &impl Fn() -> u64) -> f64 {
    let before = ns();
    std::thread::sleep(SPAN);
    #[expect(clippy::cast_precision_loss, reason = "figures for people")]
    let ms = ns().saturating_sub(before) as f64 / 1e6;
    ms / SPAN.as_secs_f64()
}

/// Nanoseconds on a processor of all threads of a process (proc(5), schedstat).
fn cpu_ns(pid: i32) -> u64 {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let of_task = |task: fs::DirEntry| -> Option<u64> {
        let text = fs::read_to_string(task.path().join("schedstat")).ok()?;
        text.split_whitespace().next()?.parse().ok()
    };
    tasks.filter_map(of_task).sum()
}

fn named(name: &str) -> Vec<i32> {
    let found = Command::new("pgrep").args(["-x", name]).output().map(|found| found.stdout);
    let found = String::from_utf8(found.unwrap_or_default()).unwrap_or_default();
    found.split_whitespace().filter_map(|pid| pid.parse().ok()).collect()
}

fn bytes(fleet: &ByHand) -> Vec<Line> {
    let id = fleet.id("board-1");
    let hear = |messages: usize| {
        let heard = fleet.overhear(&id, "up/load", messages).wait_with_output();
        let heard = heard.expect("mosquitto_sub can be run").stdout;
        let sizes = heard.split(|byte| *byte == b'\n').map(<[u8]>::len).filter(|size| *size > 0);
        sizes.collect::<Vec<usize>>()
    };
    let idle = hear(1);
    let mut looker = fleet.command(&["node", "top", "--watch"]);
    let mut looker = looker.stdout(Stdio::null()).spawn().expect("pith can be run");
    std::thread::sleep(SETTLE);
    let looked = hear(3);
    let _ = (looker.kill(), looker.wait());
    let most =
        |sizes: &[usize]| sizes.iter().max().map_or_else(|| "-".to_owned(), ToString::to_string);
    vec![
        Line::plain("a load, nobody looks: bytes (JSON)", most(&idle)),
        Line::plain(
            &format!("a load in detail with {INSTANCES} instances: bytes (JSON)"),
            most(&looked),
        ),
    ]
}

/// Something that shows whether the node is there.
trait Shows {
    /// Waits until it says this of the node.
    fn waits_for(&mut self, status: &str);
}

struct Page(Receiver<String>);

impl Page {
    fn open(fleet: &ByHand) -> Self {
        let mut stream = UnixStream::connect(fleet.data().join("pith.sock")).expect("the API");
        let ask = b"GET /v1/live HTTP/1.1\r\nHost: pith\r\n\r\n";
        stream.write_all(ask).expect("the API takes a request");
        let (tell, views) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stream).lines().map_while(Result::ok) {
                if line.starts_with("data: ") && tell.send(line).is_err() {
                    return;
                }
            }
        });
        Self(views)
    }
}

impl Shows for Page {
    fn waits_for(&mut self, status: &str) {
        let status = format!("\"status\":\"{status}\"");
        while !self.0.recv_timeout(PATIENCE).expect("a view in time").contains(&status) {}
    }
}

struct Top(OnTerminal);

impl Shows for Top {
    fn waits_for(&mut self, status: &str) {
        let _ = self.0.sees(status);
    }
}

/// The node's broker says that it is gone; it is back with its next load, which comes each two seconds.
fn until_seen(fleet: &ByHand, what: &str, shows: &mut impl Shows) -> Line {
    let id = fleet.id("board-1");
    let mut times = Vec::new();
    for _ in 0..LOSSES {
        shows.waits_for("ready");
        let began = Instant::now();
        fleet.inject(&id, "up/presence", b"{\"online\":false,\"boot_id\":\"lost\"}\n", false);
        shows.waits_for("offline");
        times.push(began.elapsed().as_secs_f64() * 1000.0);
    }
    let worst = times.iter().copied().fold(0.0, f64::max);
    Line::checked(
        &format!("a node that is gone, until it is on {what}: ms"),
        Samples::new(times).to_string(),
        "p99 at most 500",
        worst <= 500.0,
    )
}
