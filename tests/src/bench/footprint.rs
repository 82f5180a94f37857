//! What agent and proxy cost while nothing happens, and how large they are.

use std::fs;
use std::path::Path;
use std::process::{Child, Command};
use std::time::Duration;

use crate::bench::sample::Line;
use crate::fleet::{Fleet, binaries};
use crate::http::free_port;
use crate::services::Service;

const IDLE: Duration = Duration::from_secs(60);
const SETTLE: Duration = Duration::from_secs(5);
const MIB: f64 = 1024.0 * 1024.0;

/// Figures of a process from /proc.
#[derive(Debug, Clone, Copy, Default)]
struct Process {
    pss_bytes: u64,
    switches: u64,
    ticks: u64,
    write_bytes: u64,
}

impl std::ops::Add for Process {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self {
            pss_bytes: self.pss_bytes + other.pss_bytes,
            switches: self.switches + other.switches,
            ticks: self.ticks + other.ticks,
            write_bytes: self.write_bytes + other.write_bytes,
        }
    }
}

fn read(pid: i32, file: &str) -> String {
    fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap_or_default()
}

fn field(text: &str, key: &str) -> u64 {
    let line = text.lines().find(|line| line.starts_with(key));
    line.and_then(|line| line.split_whitespace().nth(1)).and_then(|v| v.parse().ok()).unwrap_or(0)
}

/// A process's memory, shared pages by parts; 0 when it is gone.
#[must_use]
pub fn pss_bytes(pid: i32) -> u64 {
    field(&read(pid, "smaps_rollup"), "Pss:") * 1024
}

fn look(pid: i32) -> Process {
    let (status, stat) = (read(pid, "status"), read(pid, "stat"));
    let after_name = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let tick = |n: usize| {
        after_name.split_whitespace().nth(n).and_then(|v| v.parse::<u64>().ok()).unwrap_or(0)
    };
    Process {
        pss_bytes: pss_bytes(pid),
        switches: field(&status, "voluntary_ctxt_switches:")
            + field(&status, "nonvoluntary_ctxt_switches:"),
        ticks: tick(11) + tick(12),
        write_bytes: field(&read(pid, "io"), "write_bytes:"),
    }
}

fn node(fleet: &Fleet) -> Option<Process> {
    Some(look(fleet.process(1, "agent")?) + look(fleet.process(1, "proxy")?))
}

/// Measures; takes a little over two minutes.
///
/// # Panics
/// When the fleet does not come up.
#[must_use]
pub fn measure(floor_binary: &Path) -> Vec<Line> {
    let mut lines = vec![size()];
    let mut floor = Command::new(floor_binary).spawn().expect("the floor can be run");
    let fleet = Fleet::start(1);
    let idle = idle(&fleet, &mut floor, "idle, nothing runs", 7.0, &mut lines);
    let service = Service::new("ten", free_port()).scheduling("per_node = 10");
    let deployed = fleet.deploy(&service);
    if deployed.code == 0 {
        let _ = self::idle(&fleet, &mut floor, "idle, 10 instances", f64::INFINITY, &mut lines);
    } else {
        lines.push(Line::plain("10 instances", format!("deploy failed: {}", deployed.stderr)));
    }
    let _ = floor.kill();
    let _ = floor.wait();
    let _ = (idle, fleet.stop());
    lines
}

fn idle(
    fleet: &Fleet,
    floor: &mut Child,
    what: &str,
    most_mib: f64,
    lines: &mut Vec<Line>,
) -> Option<()> {
    std::thread::sleep(SETTLE);
    let floor_pid = i32::try_from(floor.id()).ok()?;
    let (before, floor_before) = (node(fleet)?, look(floor_pid));
    std::thread::sleep(IDLE);
    let (after, floor_after) = (node(fleet)?, look(floor_pid));
    #[expect(clippy::cast_precision_loss, reason = "figures for people")]
    let (mib, floor_mib) = (after.pss_bytes as f64 / MIB, floor_after.pss_bytes as f64 / MIB);
    #[expect(clippy::cast_precision_loss, reason = "figures for people")]
    let per_s = |count: u64| count as f64 / IDLE.as_secs_f64();
    let switches = per_s(after.switches - before.switches);
    let floor_switches = per_s(floor_after.switches - floor_before.switches);
    let written = after.write_bytes - before.write_bytes;
    let target =
        if most_mib.is_finite() { format!("at most {most_mib} MiB") } else { String::new() };
    let memory = format!("{mib:.2} MiB PSS (bare tokio: {floor_mib:.2})");
    lines.push(Line {
        holds: most_mib.is_finite().then_some(mib <= most_mib),
        ..Line::checked(&format!("agent + proxy, {what}"), memory, &target, true)
    });
    let is_gated = most_mib.is_finite();
    let wakeups = format!("{switches:.2}/s (bare tokio: {floor_switches:.2})");
    lines.push(Line {
        holds: is_gated.then_some(switches <= 2.0),
        ..Line::checked(
            &format!("context switches, {what}"),
            wakeups,
            if is_gated { "at most 2/s" } else { "" },
            true,
        )
    });
    let cpu = format!("{:.2} ms/s", per_s(after.ticks - before.ticks) * 10.0);
    lines.push(Line::plain(&format!("CPU, {what}"), cpu));
    lines.push(Line::checked(
        &format!("written in {} s, {what}", IDLE.as_secs()),
        format!("{written} bytes"),
        "0 bytes",
        written == 0,
    ));
    Some(())
}

fn size() -> Line {
    let bytes = fs::metadata(binaries().join("pith-agent")).map_or(0, |m| m.len());
    #[expect(clippy::cast_precision_loss, reason = "figures for people")]
    let mb = bytes as f64 / 1e6;
    Line::checked("pith-agent, static, stripped", format!("{mb:.2} MB"), "at most 5 MB", mb <= 5.0)
}
