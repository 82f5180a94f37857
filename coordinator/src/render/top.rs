//! `pith node top`: what boards do now, as a table, and one of them whole. What is not known is `-`, never 0, and what a node that is
//! not heard of once said is not shown as if it were so now.

#[cfg(test)]
pub(crate) mod fixture;
pub(crate) mod tracks;

use std::cmp::Ordering;

use protocol::hello::Load;
use protocol::load::{BoardLoad, InstanceLoad};

use super::figures::{UNKNOWN, ago, bytes, count, part, percent, plain, share_of, span};
use super::table;
use crate::state::shown::{NodeShown, ServiceShown};
use tracks::{Rate, Track, Tracks};

/// A node in conflict or with a double is not called offline: so long after its last word it is taken to be.
const SILENT_MS: u64 = 3 * 60 * 1000;

/// What nodes are ordered by; figures with the largest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Sort {
    /// As the coordinator gives them: node-2 before node-10.
    #[default]
    Name,
    /// Busy share of all cores.
    Cpu,
    /// Share of memory in use.
    Memory,
    /// Share of the disk in use.
    Disk,
    /// The hottest zone.
    Temp,
}

impl Sort {
    /// Its name, as it is written after `--sort`.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Name => "name",
            Self::Cpu => "cpu",
            Self::Memory => "memory",
            Self::Disk => "disk",
            Self::Temp => "temp",
        }
    }

    /// The next one, round and round.
    pub(crate) const fn next(self) -> Self {
        match self {
            Self::Name => Self::Cpu,
            Self::Cpu => Self::Memory,
            Self::Memory => Self::Disk,
            Self::Disk => Self::Temp,
            Self::Temp => Self::Name,
        }
    }

    /// Orders nodes that are in the order of their names; unknown figures come last.
    pub(crate) fn apply(self, nodes: &mut [&NodeShown], now_ms: u64) {
        if self == Self::Name {
            return;
        }
        let figure = |node: &NodeShown| self.figure(known_load(node, now_ms)?);
        nodes.sort_by(|one, other| match (figure(one), figure(other)) {
            (Some(one), Some(other)) => other.total_cmp(&one),
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (None, None) => Ordering::Equal,
        });
    }

    fn figure(self, load: &Load) -> Option<f64> {
        let share = |used: Option<u64>, total: Option<u64>| {
            let total = total.filter(|total| *total > 0)?;
            Some(used? as f64 / total as f64)
        };
        match self {
            Self::Name => None,
            Self::Cpu => load.cpu.map(f64::from),
            Self::Memory => share(load.mem_used, load.mem_total),
            Self::Disk => share(load.disk_used, load.disk_total),
            Self::Temp => load.temp_c.map(f64::from),
        }
    }
}

/// What a node does now; none where it is not heard of.
pub(crate) fn known_load(node: &NodeShown, now_ms: u64) -> Option<&Load> {
    node.load.as_ref().filter(|_| is_heard(node, now_ms))
}

/// Whether what a node said last is about now.
pub(crate) fn is_heard(node: &NodeShown, now_ms: u64) -> bool {
    match node.status.as_str() {
        "offline" | "pending" | "revoked" => false,
        "conflict" | "cloned" => now_ms.saturating_sub(node.heard_ms) < SILENT_MS,
        _ => true,
    }
}

/// `ready`, or `offline, 3m ago`.
pub(crate) fn status(node: &NodeShown, now_ms: u64) -> String {
    if is_heard(node, now_ms) {
        return super::node_status(node);
    }
    format!("{}, {}", node.status, ago(node.heard_ms, now_ms))
}

/// The coordinator's time, as well as it can be known where its clock and this one differ: not before anything it has heard.
pub(crate) fn now_ms(nodes: &[NodeShown], here_ms: u64) -> u64 {
    nodes.iter().map(|node| node.heard_ms).fold(here_ms, u64::max)
}

/// Processor, memory, disk and temperature; with totals where there is room for them.
pub(crate) fn cells(load: Option<&Load>, with_totals: bool) -> [String; 4] {
    let show = if with_totals { share_of } else { part };
    let share = |used: Option<u64>, total: Option<u64>| {
        known(used.zip(total).and_then(|(u, t)| show(u, t)))
    };
    [
        known(load.and_then(|load| load.cpu).map(percent)),
        share(load.and_then(|load| load.mem_used), load.and_then(|load| load.mem_total)),
        share(load.and_then(|load| load.disk_used), load.and_then(|load| load.disk_total)),
        known(load.and_then(|load| load.temp_c).map(celsius)),
    ]
}

/// `pith node top`
pub(crate) fn nodes(nodes: &[&NodeShown], tracks: &Tracks, now_ms: u64) -> String {
    if nodes.is_empty() {
        return "no node has joined yet; `pith node token` makes the line to paste on a board\n"
            .to_owned();
    }
    let heads = [
        "NODE",
        "CPU",
        "MEM",
        "SWAP",
        "DISK",
        "TEMP",
        "LOAD1",
        "PRESSURE",
        "NET IN/OUT",
        "IO R/W",
        "UP",
    ];
    let mut rows = vec![heads.map(str::to_owned)];
    rows.extend(nodes.iter().map(|node| row(node, tracks.of(&node.id), now_ms)));
    safe(&table(&rows))
}

fn row(node: &NodeShown, track: Option<&Track>, now_ms: u64) -> [String; 11] {
    let load = known_load(node, now_ms);
    let board = load.and_then(|load| load.board.as_deref());
    let track = track.filter(|_| load.is_some());
    let [cpu, mem, disk, temp] = cells(load, true);
    let up = load.map(|load| span(load.up_s));
    let up = match (status(node, now_ms), up) {
        (status, None) if status == "ready" => UNKNOWN.to_owned(),
        (status, Some(up)) if status == "ready" => up,
        (status, None) => status,
        (status, Some(up)) => format!("{up}, {status}"),
    };
    [
        node.name.to_string(),
        cpu,
        mem,
        known(board.and_then(swap)),
        disk,
        temp,
        known(load.and_then(|load| load.load1).map(|load1| format!("{load1:.2}"))),
        known(board.and_then(|board| board.pressure).map(|waits| {
            let part = |share: f32| percent(share).trim_end_matches('%').to_owned();
            format!("{}/{}/{}%", part(waits.cpu), part(waits.memory), part(waits.io))
        })),
        rate(track.map(Track::net)),
        rate(track.map(Track::disk)),
        up,
    ]
}

/// `pith node top NAME`
pub(crate) fn node(node: &NodeShown, track: Option<&Track>, now_ms: u64) -> String {
    let load = known_load(node, now_ms);
    let board = load.and_then(|load| load.board.as_deref());
    let track = track.filter(|_| load.is_some());
    let mut text = String::new();
    for (head, value) in facts(node, load, board, track, now_ms) {
        text.push_str(&format!("{head:<11}{value}\n"));
    }
    let instances = load.map_or(&[][..], |load| &load.instances);
    if !instances.is_empty() {
        let heads = ["INSTANCE", "SERVICE", "CPU", "MEM/LIMIT", "NET IN/OUT", "RESTARTS", "OOMS"];
        let mut rows = vec![heads.map(str::to_owned)];
        rows.extend(instances.iter().map(|one| instance(one, track)));
        text.push('\n');
        text.push_str(&table(&rows));
    }
    safe(&text)
}

fn facts(
    node: &NodeShown,
    load: Option<&Load>,
    board: Option<&BoardLoad>,
    track: Option<&Track>,
    now_ms: u64,
) -> Vec<(&'static str, String)> {
    let [cpu, mem, disk, temp] = cells(load, true);
    let of_board = |show: fn(&BoardLoad) -> Option<String>| known(board.and_then(show));
    let capacity = &node.capacity;
    let waited = |show: fn(&BoardLoad) -> Option<f32>| known(board.and_then(show).map(percent));
    let services: Vec<&str> = node.services.iter().map(|name| name.as_str()).collect();
    vec![
        ("node", format!("{} ({}), {}", node.name, node.id, node.environment)),
        ("status", status(node, now_ms)),
        ("board", format!("{}, {} cores, {}", capacity.architecture, capacity.cores, node.address)),
        ("software", {
            let (kernel, engine) =
                (of_board(|board| board.kernel.clone()), of_board(|board| board.engine.clone()));
            format!("agent {}, kernel {kernel}, engine {engine}", node.agent_version)
        }),
        ("up", known(load.map(|load| span(load.up_s)))),
        ("cpu", {
            let load1 = known(load.and_then(|load| load.load1).map(|load1| format!("{load1:.2}")));
            let (iowait, steal) = (waited(|board| board.iowait), waited(|board| board.steal));
            format!("{cpu}, iowait {iowait}, steal {steal}, load of one minute {load1}")
        }),
        ("cores", of_board(cores)),
        ("frequency", of_board(frequency)),
        ("memory", mem),
        ("swap", of_board(swap)),
        ("zram", of_board(zram)),
        ("disk", disk),
        ("inodes", of_board(inodes)),
        ("io", said(track.map(Track::disk), "read", "written")),
        ("network", said(track.map(Track::net), "in", "out")),
        ("pressure", of_board(pressure)),
        (
            "temp",
            match board.map(zones).filter(|zones| !zones.is_empty()) {
                Some(zones) => format!("{temp}: {zones}"),
                None => temp,
            },
        ),
        ("services", if services.is_empty() { UNKNOWN.to_owned() } else { services.join(", ") }),
    ]
}

fn instance(one: &InstanceLoad, track: Option<&Track>) -> [String; 7] {
    let limit = known(one.mem_max.map(bytes));
    [
        one.instance.clone(),
        one.service.to_string(),
        known(one.cpu.map(percent)),
        known(one.mem_used.map(|used| format!("{}/{limit}", bytes(used)))),
        rate(track.map(|track| track.instance_net(&one.instance))),
        one.restarts.to_string(),
        known(one.ooms.map(|ooms| ooms.to_string())),
    ]
}

/// One service, on the nodes that run it, instance by instance.
pub(crate) fn service(service: &ServiceShown) -> String {
    let mut text = format!(
        "service    {} ({})\nrevision   {}, {}\nimage      {}\nready      {} of {}\nstate      {}\n\n",
        service.name,
        service.environment,
        service.revision,
        service.rollout,
        service.image,
        service.ready,
        service.desired,
        super::service_state(service)
    );
    let heads = ["NODE", "READY", "INSTANCE", "STATE", "RESTARTS", "WHY"];
    let mut rows = vec![heads.map(str::to_owned)];
    for on in &service.nodes {
        let away = if on.online { "" } else { "offline" };
        let why = on.message.clone().unwrap_or_else(|| away.to_owned());
        let ready = format!("{}/{}", on.ready, on.desired);
        let (mut node, mut ready, mut why) = (on.node.to_string(), ready, why);
        if on.instances.is_empty() {
            rows.push([
                node,
                ready,
                UNKNOWN.to_owned(),
                UNKNOWN.to_owned(),
                UNKNOWN.to_owned(),
                why,
            ]);
            continue;
        }
        for one in &on.instances {
            let state = super::instance_state(one.state);
            rows.push([
                std::mem::take(&mut node),
                std::mem::take(&mut ready),
                one.name.clone(),
                if on.online { state.to_owned() } else { format!("{state}?") },
                one.restarts.to_string(),
                std::mem::take(&mut why),
            ]);
        }
    }
    text.push_str(&table(&rows));
    safe(&text)
}

fn known(value: Option<String>) -> String {
    value.unwrap_or_else(|| UNKNOWN.to_owned())
}

fn celsius(degrees: f32) -> String {
    format!("{:.0}°C", degrees.clamp(-999.0, 999.0))
}

fn swap(board: &BoardLoad) -> Option<String> {
    match (board.swap_used?, board.swap_total?) {
        (_, 0) => Some("none".to_owned()),
        (used, total) => share_of(used, total),
    }
}

fn zram(board: &BoardLoad) -> Option<String> {
    Some(format!("{} in {} of memory", bytes(board.zram_stored?), bytes(board.zram_used?)))
}

fn inodes(board: &BoardLoad) -> Option<String> {
    match (board.inodes_used?, board.inodes_total?) {
        (_, 0) => Some("made as needed".to_owned()),
        (used, total) => Some(format!("{} of {}", part(used, total)?, count(total))),
    }
}

fn cores(board: &BoardLoad) -> Option<String> {
    let each: Vec<String> = board.cores.iter().map(|busy| percent(*busy)).collect();
    (!each.is_empty()).then(|| each.join(" "))
}

fn frequency(board: &BoardLoad) -> Option<String> {
    let of = board.mhz_max.map_or(String::new(), |most| format!(" of {most}"));
    let mhz = board.mhz.map(|mhz| format!("{mhz}{of} MHz"));
    let slowed =
        board.throttled.map(|is| if is { "throttled" } else { "not throttled" }.to_owned());
    match (mhz, slowed) {
        (None, None) => None,
        (mhz, slowed) => Some([mhz, slowed].into_iter().flatten().collect::<Vec<_>>().join(", ")),
    }
}

fn pressure(board: &BoardLoad) -> Option<String> {
    let waits = board.pressure?;
    let (cpu, memory, io) = (percent(waits.cpu), percent(waits.memory), percent(waits.io));
    Some(format!("cpu {cpu}, memory {memory}, io {io} of the last ten seconds"))
}

fn zones(board: &BoardLoad) -> String {
    let zone = |(name, degrees): &(String, f32)| format!("{} {}", plain(name), celsius(*degrees));
    board.zones.iter().map(zone).collect::<Vec<_>>().join(", ")
}

fn per_second(rate: f64) -> String {
    // Saturates, and what is negative or no number is 0: neither can come of counters.
    bytes(rate as u64)
}

/// `12K/640B`: a second, in and out.
fn rate(rate: Option<Rate>) -> String {
    let Rate { into, out } = rate.unwrap_or_default();
    match (into, out) {
        (None, None) => UNKNOWN.to_owned(),
        (into, out) => format!("{}/{}", known(into.map(per_second)), known(out.map(per_second))),
    }
}

fn said(rate: Option<Rate>, one: &str, other: &str) -> String {
    let Rate { into, out } = rate.unwrap_or_default();
    let figure = |rate: Option<f64>| known(rate.map(|rate| format!("{}/s", per_second(rate))));
    format!("{} {one}, {} {other}", figure(into), figure(out))
}

/// Whole lines, each of them safe on a terminal.
fn safe(text: &str) -> String {
    text.lines().map(|line| plain(line) + "\n").collect()
}

#[cfg(test)]
mod tests;
