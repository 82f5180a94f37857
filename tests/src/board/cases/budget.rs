//! What agent and proxy cost a board, idle and with ten instances, and what a deploy costs.

use std::time::Duration;

use crate::board::lab::{self, Parts, SERVICE, web};
use crate::board::results::{Results, Row};
use crate::board::{Board, COORDINATOR};

/// One hello and fifteen loads: what a day has 96 of.
const WINDOW: Duration = Duration::from_secs(900);
const WINDOWS_A_DAY: f64 = 96.0;
/// After a deploy, until everything that followed from it is over.
const SETTLE: Duration = Duration::from_secs(90);
const PROBED: Duration = Duration::from_secs(120);
/// Of the demo service.
const PROBE_ROUNDS_PER_S: f64 = 1.0;
const PROGRAMS: [&str; 2] = ["pith-agent", "pith-proxy"];

/// What the kernel counted of agent and proxy together.
#[derive(Debug, Clone, Copy, Default)]
struct Counted {
    written: f64,
    wakeups: f64,
    cpu_ns: f64,
    link_bytes: f64,
}

impl Counted {
    fn since(self, before: Self) -> Self {
        Self {
            written: self.written - before.written,
            wakeups: self.wakeups - before.wakeups,
            cpu_ns: self.cpu_ns - before.cpu_ns,
            link_bytes: self.link_bytes - before.link_bytes,
        }
    }
}

/// The idle board: nothing runs, nothing is asked.
pub(super) fn run(parts: &Parts, _: &Results) -> Vec<Row> {
    let (board, coordinator) = lab::serving(parts, "budget");
    count_link(&board);
    let _ = coordinator.pith(&["rm", SERVICE, "--yes"]).expect_code(0);
    std::thread::sleep(SETTLE);
    board.must("systemctl restart pith-agent pith-proxy");
    coordinator.wait_ready();
    std::thread::sleep(SETTLE);
    let mut rows = idle(&board, &coordinator);
    rows.push(sizes(parts));
    rows
}

/// A deploy, an instance that is probed, and ten.
pub(super) fn instances(parts: &Parts, _: &Results) -> Vec<Row> {
    let (board, coordinator) = lab::serving(parts, "instances");
    count_link(&board);
    let mut rows = Vec::new();

    let before = counted(&board);
    let _ = coordinator.deploy(&web("v2"), &["--timeout", "5m"]).expect_code(0);
    std::thread::sleep(SETTLE);
    let deploy = counted(&board).since(before);
    rows.push(Row::held(
        "bytes written by agent and proxy per deploy",
        format!("{:.0} kB", deploy.written / 1e3),
    ));

    rows.extend(probed(&board));

    let _ = coordinator
        .deploy(&web("v2").scheduling("per_node = 10"), &["--timeout", "8m"])
        .expect_code(0);
    std::thread::sleep(SETTLE);
    rows.push(Row::at_most("PSS of agent + proxy with 10 instances", pss_mib(&board), 8.0, "MiB"));
    rows
}

/// With one instance whose probe comes every second.
fn probed(board: &Board) -> Vec<Row> {
    let before = counted(board);
    std::thread::sleep(PROBED);
    let seen = counted(board).since(before);
    let seconds = PROBED.as_secs_f64();
    vec![
        Row::at_most(
            "wakeups per round of probes",
            seen.wakeups / seconds / PROBE_ROUNDS_PER_S,
            3.0,
            "(idle's one included)",
        ),
        Row::held("CPU per minute with a probe a second", cpu(seen, seconds)),
    ]
}

fn idle(board: &Board, coordinator: &lab::Coordinator) -> Vec<Row> {
    let pss = pss_mib(board);
    let (before, coordinator_before) = (counted(board), coordinator.written());
    std::thread::sleep(WINDOW);
    let seen = counted(board).since(before);
    let coordinator_written =
        coordinator.written().zip(coordinator_before).map(|(now, then)| now - then);
    let seconds = WINDOW.as_secs_f64();
    let a_day = |bytes: f64| bytes * WINDOWS_A_DAY / 1e6;
    #[allow(clippy::cast_precision_loss, reason = "bytes of minutes")]
    let coordinator_written = coordinator_written.unwrap_or(0) as f64;
    vec![
        Row::at_most("PSS of agent + proxy, idle", pss, 5.0, "MiB"),
        Row::at_most("bytes written a day, idle", a_day(seen.written), 1.0, "MB"),
        Row::held("bytes written an idle hour", format!("{:.0} B", seen.written * 4.0)),
        Row::at_most("wakeups a second without probes", seen.wakeups / seconds, 1.0, "/s"),
        Row::held("CPU per idle minute", cpu(seen, seconds)),
        Row::at_most(
            "IP bytes a day to and from the coordinator, TLS included",
            a_day(seen.link_bytes),
            1.0,
            "MB",
        ),
        Row::held("IP bytes an idle hour", format!("{:.0} kB", seen.link_bytes * 4.0 / 1e3)),
        Row::at_most(
            "written a day by the coordinator, one idle board",
            a_day(coordinator_written),
            5.0,
            "MB",
        ),
    ]
}

fn cpu(seen: Counted, seconds: f64) -> String {
    format!("{:.0} ms (emulated)", seen.cpu_ns / 1e6 / seconds * 60.0)
}

fn sizes(parts: &Parts) -> Row {
    let bytes = std::fs::metadata(parts.program()).map(|meta| meta.len());
    let bytes = bytes.expect("the program beside its package");
    #[allow(clippy::cast_precision_loss, reason = "a few megabytes")]
    let megabytes = bytes as f64 / 1e6;
    Row::at_most("size of pith-agent", megabytes, 4.0, "MB")
}

/// Packets of the link, both ways, whole.
fn count_link(board: &Board) {
    let address = COORDINATOR.split(':').next().unwrap_or_default();
    board.must(&format!(
        "nft 'add table ip seen; add counter ip seen link; \
         add chain ip seen out {{ type filter hook output priority 0; }}; add chain ip seen in {{ type filter hook input priority 0; }}; \
         add rule ip seen out ip daddr {address} counter name link; add rule ip seen in ip saddr {address} counter name link'"
    ));
}

fn counted(board: &Board) -> Counted {
    let line = PROGRAMS.map(|unit| {
        format!(
            "pid=$(systemctl show -p MainPID --value {unit}); grep ^write_bytes /proc/$pid/io; \
             grep -h ^voluntary_ctxt /proc/$pid/task/*/status; sed 's/^/ran: /' /proc/$pid/task/*/schedstat;"
        )
    });
    let said = board.said(&format!("{} nft list counter ip seen link", line.join(" ")));
    let mut all = Counted::default();
    for line in said.lines() {
        let mut words = line.split_whitespace();
        let number = |word: Option<&str>| word.and_then(|w| w.parse::<f64>().ok()).unwrap_or(0.0);
        match words.next() {
            Some("write_bytes:") => all.written += number(words.next()),
            Some("voluntary_ctxt_switches:") => all.wakeups += number(words.next()),
            Some("ran:") => all.cpu_ns += number(words.next()),
            // packets N bytes M
            Some("packets") => all.link_bytes += number(words.nth(2)),
            Some(_) | None => {}
        }
    }
    all
}

fn pss_mib(board: &Board) -> f64 {
    let line = PROGRAMS.map(|unit| {
        format!("grep ^Pss: /proc/$(systemctl show -p MainPID --value {unit})/smaps_rollup;")
    });
    let said = board.said(&line.join(" "));
    let kib = said.lines().filter_map(|line| line.split_whitespace().nth(1)?.parse::<f64>().ok());
    kib.sum::<f64>() / 1024.0
}
