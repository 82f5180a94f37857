//! Answers as text: tables and sentences. Pure; every function gives whole lines.

pub mod agents;
pub mod archives;
pub(crate) mod figures;
pub mod members;
pub mod notify;
pub mod people;
mod progress;
pub mod ps;
pub mod reconcile;
mod rollouts;
pub mod secrets;
mod table;
pub(crate) mod top;
pub mod whereabouts;

#[cfg(test)]
mod lies;

use std::collections::BTreeMap;

use protocol::id::{NodeName, ServiceId, ServiceName};
use protocol::report::InstanceState;

pub use progress::Progress;
pub(crate) use rollouts::node_line;
pub use rollouts::{
    accepted, difference, history, not_rolled_out, retired, revision, rolled_out, rollout,
    rollout_lines, steered,
};
pub(crate) use table::table;

use crate::state::records::Happened;
use crate::state::shown::{
    ChangeShown, NodeShown, NodesShown, PlanShown, PsShown, RemovalShown, Removed, ServiceShown,
};

/// `pith ps`: services, then their instances.
#[must_use]
pub fn services(ps: &PsShown) -> String {
    if ps.services.is_empty() {
        return "nothing is deployed; `pith deploy -f FILE` deploys a service\n".to_owned();
    }
    let mut rows =
        vec![["ENVIRONMENT", "SERVICE", "REVISION", "READY", "IMAGE", "STATE"].map(str::to_owned)];
    for service in &ps.services {
        rows.push([
            service.environment.to_string(),
            service.name.to_string(),
            service.revision.to_string(),
            format!("{}/{}", service.ready, service.desired),
            service.image.clone(),
            service_state(service),
        ]);
    }
    let mut text = table(&rows);
    let mut rows = vec![
        ["INSTANCE", "SERVICE", "NODE", "SLOT", "STATE", "RESTARTS", "RELEASE"].map(str::to_owned),
    ];
    for service in &ps.services {
        for on in &service.nodes {
            for instance in &on.instances {
                let state = instance_state(instance.state);
                rows.push([
                    instance.name.clone(),
                    service.name.to_string(),
                    on.node.to_string(),
                    instance.slot.to_string(),
                    if on.online { state.to_owned() } else { format!("{state}?") },
                    instance.restarts.to_string(),
                    instance.release.short().to_owned(),
                ]);
            }
        }
    }
    if rows.len() > 1 {
        text.push('\n');
        text.push_str(&table(&rows));
    }
    text
}

pub(crate) fn service_state(service: &ServiceShown) -> String {
    let mut parts = Vec::new();
    match service.rollout.as_str() {
        "succeeded" if service.why.is_empty() => parts.push("running".to_owned()),
        "succeeded" => {}
        other => parts.push(other.to_owned()),
    }
    if !service.why.is_empty() {
        parts.push(format!("{}/{}: {}", service.ready, service.desired, service.why));
    }
    if let Some(count) = service.count_override {
        parts.push(format!("scaled to {count}"));
    }
    parts.join("; ")
}

/// The name of an instance's state.
const fn instance_state(state: InstanceState) -> &'static str {
    match state {
        InstanceState::Created => "created",
        InstanceState::Starting => "starting",
        InstanceState::Ready => "ready",
        InstanceState::Unready => "unready",
        InstanceState::Warm => "warm",
        InstanceState::Draining => "draining",
        InstanceState::Stopping => "stopping",
        InstanceState::Kept => "kept",
        InstanceState::Crashed => "crashed",
    }
}

/// `pith node ls`
#[must_use]
pub fn nodes(nodes: &NodesShown) -> String {
    if nodes.nodes.is_empty() && nodes.lobby.is_empty() {
        return "no node has joined yet; `pith node token` makes the line to paste on a board\n"
            .to_owned();
    }
    let mut rows = vec![
        [
            "NAME",
            "STATUS",
            "ENVIRONMENT",
            "ADDRESS",
            "VERSION",
            "CPU",
            "MEMORY",
            "TEMP",
            "SERVICES",
        ]
        .map(str::to_owned),
    ];
    rows.extend(nodes.nodes.iter().map(node_row));
    rows.extend(nodes.lobby.iter().map(members::row));
    let mut text = table(&rows);
    text.push_str(&members::hints(nodes));
    text
}

/// `ready, withheld, held locally: web`
fn node_status(node: &NodeShown) -> String {
    let alarms = node.alarms.iter().map(|alarm| alarm.reason.to_string());
    let held: Vec<&str> = node.held.keys().map(ServiceName::as_str).collect();
    let held = (!held.is_empty()).then(|| format!("held locally: {}", held.join(" ")));
    let parts: Vec<String> =
        std::iter::once(node.status.clone()).chain(alarms).chain(held).collect();
    parts.join(", ")
}

fn node_row(node: &NodeShown) -> [String; 9] {
    let load = node.load.as_ref();
    let unknown = || "-".to_owned();
    let percent = |share: f32| format!("{:.0}%", share * 100.0);
    let memory = load.and_then(|load| Some((load.mem_used?, load.mem_total?)));
    let services: Vec<&str> = node.services.iter().map(|name| name.as_str()).collect();
    [
        node.name.to_string(),
        node_status(node),
        node.environment.to_string(),
        node.address.clone(),
        agents::version(&node.agent_version, node.agent_target.as_ref()),
        load.and_then(|load| load.cpu).map_or_else(unknown, percent),
        memory.map_or_else(unknown, |(used, total)| format!("{}/{} MiB", used >> 20, total >> 20)),
        load.and_then(|load| load.temp_c).map_or_else(unknown, |temp| format!("{temp:.0}°C")),
        if services.is_empty() { unknown() } else { services.join(",") },
    ]
}

/// `pith plan`
#[must_use]
pub fn plan(plan: &PlanShown) -> String {
    let name = &plan.service;
    if !plan.anything {
        let revision = plan.from_revision.unwrap_or(0);
        return format!("{name}: nothing to do, revision {revision} runs this already\n");
    }
    let mut text = match plan.from_revision {
        Some(revision) => {
            format!("{name}: changes to revision {revision} in {}\n", plan.environment)
        }
        None => format!("{name}: new in {}\n", plan.environment),
    };
    if plan.from_revision.is_some() {
        text.extend(plan.changes.iter().map(change));
    }
    let mut rows = vec![["NODE", "NOW", "THEN", "ACTION"].map(str::to_owned)];
    for node in &plan.nodes {
        let away = if node.online { "" } else { " (offline: when it returns)" };
        rows.push([
            node.node.to_string(),
            node.before.to_string(),
            node.after.to_string(),
            format!("{}{away}", node.action),
        ]);
    }
    text.push_str(&table(&rows));
    text.push_str(&pulls(plan));
    for (number, step) in (1..).zip(&plan.steps) {
        text.push_str(&format!("{number}. {step}\n"));
    }
    for line in &plan.needs_policy {
        text.push_str(&format!("policy: every node that runs it must allow `{line}`\n"));
    }
    for (node, why) in &plan.left_out {
        text.push_str(&format!("{node} is left out: {why}\n"));
    }
    for note in &plan.notes {
        text.push_str(&format!("note: {note}\n"));
    }
    if plan.unplaced > 0 {
        text.push_str(&format!("{} instances find no node\n", plan.unplaced));
    }
    text
}

/// `pull: node-1, node-2: at most 12.3 MiB (arm64)`, one line for all that pull the same.
fn pulls(plan: &PlanShown) -> String {
    if plan.image_is_local {
        return "pull: nothing, only the local Docker has the image\n".to_owned();
    }
    if plan.pulls.is_empty() {
        return "pull: nothing, every node that takes it has the image\n".to_owned();
    }
    let mut groups: BTreeMap<(&str, Option<u64>), Vec<&str>> = BTreeMap::new();
    for pull in &plan.pulls {
        let alike = groups.entry((pull.architecture.as_str(), pull.bytes)).or_default();
        alike.push(pull.node.as_str());
    }
    let line = |((architecture, bytes), nodes): ((&str, Option<u64>), Vec<&str>)| {
        let each = if nodes.len() > 1 { " each" } else { "" };
        let size = match bytes {
            Some(bytes) => format!("at most {}{each}", size(bytes)),
            None => "size unknown".to_owned(),
        };
        format!("pull: {}: {size} ({architecture})\n", nodes.join(", "))
    };
    groups.into_iter().map(line).collect()
}

/// `640 B`, `12.3 KiB`, `12.3 MiB`, `1.2 GiB`; rounded up.
fn size(bytes: u64) -> String {
    let (unit, name) = match bytes {
        0..0x400 => return format!("{bytes} B"),
        0x400..0x10_0000 => (0x400, "KiB"),
        0x10_0000..0x4000_0000 => (0x10_0000_u64, "MiB"),
        _ => (0x4000_0000, "GiB"),
    };
    let tenths = u128::from(bytes).saturating_mul(10).div_ceil(u128::from(unit));
    format!("{}.{} {name}", tenths / 10, tenths % 10)
}

/// One difference, as a line.
fn change(change: &ChangeShown) -> String {
    match (&change.before, &change.after) {
        (Some(before), Some(after)) => format!("  ~ {}: {before} -> {after}\n", change.path),
        (None, Some(after)) => format!("  + {}: {after}\n", change.path),
        (Some(before), None) => format!("  - {}: {before}\n", change.path),
        (None, None) => String::new(),
    }
}

/// `pith scale`, at its end.
#[must_use]
pub fn scaled(service: &ServiceShown) -> String {
    let tail = if service.why.is_empty() { String::new() } else { format!(" ({})", service.why) };
    format!("{} scaled: {}/{} ready{tail}\n", service.name, service.ready, service.desired)
}

/// `pith scale`, on its way.
#[must_use]
pub fn scale_lines(service: &ServiceShown) -> Vec<String> {
    let mut lines = vec![format!(
        "Waiting for {} to scale: {} of {} instances are ready...",
        service.name, service.ready, service.desired
    )];
    for on in service.nodes.iter().filter(|on| !on.settled) {
        let why = on.message.as_deref().unwrap_or("has not answered yet");
        lines.push(format!("  {}  {}/{} ready  {why}", on.node, on.ready, on.desired));
    }
    lines
}

/// `pith rm`, on its way.
#[must_use]
pub fn removal_lines(id: &ServiceId, removal: &RemovalShown) -> Vec<String> {
    let names: Vec<&str> = removal.waiting.iter().map(NodeName::as_str).collect();
    match names.is_empty() {
        true => Vec::new(),
        false => vec![format!("Waiting for {} to be gone from {}...", id.name, names.join(", "))],
    }
}

/// `pith rm`, at its end.
#[must_use]
pub fn removed(id: &ServiceId, removed: &Removed, left: Option<&RemovalShown>) -> String {
    let mut text = format!("service \"{}\" removed", id.name);
    let names = |nodes: &[NodeName]| -> String {
        nodes.iter().map(NodeName::as_str).collect::<Vec<_>>().join(", ")
    };
    if let Some(left) = left.filter(|left| !left.offline.is_empty()) {
        text.push_str(&format!(", {} offline removes it on return", names(&left.offline)));
    }
    if let Some(left) = left.filter(|left| !left.held.is_empty()) {
        let held = names(&left.held);
        text.push_str(&format!(", {held} held locally removes it when it is released there"));
    }
    text.push('\n');
    for volume in &removed.volumes {
        text.push_str(&format!(
            "volume {volume} stays; `docker volume rm {volume}` on its node deletes it\n"
        ));
    }
    text
}

/// `pith events`
#[must_use]
pub fn events(events: &[Happened]) -> String {
    let line = |event: &Happened| {
        let what = match (&event.service, &event.node) {
            (Some(service), Some(node)) => format!("{service} on {node}"),
            (Some(service), None) => service.to_string(),
            (None, Some(node)) => node.to_string(),
            (None, None) => "fleet".to_owned(),
        };
        let reason = event.reason.map_or(String::new(), |reason| format!("[{reason}] "));
        let message = figures::plain(&event.message);
        format!("{}  {what:<24}  {reason}{message}\n", clock(event.at_ms))
    };
    events.iter().map(line).collect()
}

/// `2026-11-23T10:42:11Z` (civil from days, H. Hinnant, public domain algorithm).
#[must_use]
pub fn clock(unix_ms: u64) -> String {
    let secs = unix_ms / 1000;
    let (days, of_day) = (secs / 86_400, secs % 86_400);
    let shifted = days + 719_468;
    let era = shifted / 146_097;
    let day_of_era = shifted % 146_097;
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    let (hour, minute, second) = (of_day / 3600, of_day / 60 % 60, of_day % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

#[cfg(test)]
mod tests;
