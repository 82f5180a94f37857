//! What `pith-agent ps` prints.

use protocol::report::{InstanceReport, InstanceState, Phase, ServiceReport};

use super::Board;
use crate::engine::{Container, ContainerState};

/// The board, its services and their instances. `now_s` is Unix seconds.
#[must_use]
pub fn board(board: &Board, now_s: u64) -> String {
    let Board { name, report, .. } = board;
    let mut text = format!(
        "{name}  {}  manifest {}.{}\n",
        report.environment, report.seen.epoch, report.seen.generation
    );
    for alarm in &report.alarms {
        text.push_str(&format!("  {}: {}\n", alarm.reason, alarm.message));
    }
    let mut rows = vec![row(["SERVICE", "IMAGE", "READY", "STATE", ""])];
    rows.extend(report.services.iter().map(|of_it| service(board, of_it, now_s)));
    if report.services.is_empty() {
        text.push_str("nothing runs here\n");
        return text;
    }
    let widths: [usize; 4] = std::array::from_fn(|column| {
        rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0)
    });
    for (index, cells) in rows.iter().enumerate() {
        let [a, b, c, d, why] = cells;
        let [w, x, y, z] = widths;
        let line = format!("{a:w$}  {b:x$}  {c:y$}  {d:z$}  {why}");
        text.push_str(&format!("{}\n", line.trim_end()));
        let of_it = index.checked_sub(1).and_then(|index| report.services.get(index));
        for one in of_it.iter().flat_map(|of_it| &of_it.instances) {
            text.push_str(&format!("  {}\n", instance(one)));
        }
    }
    text
}

fn row(cells: [&str; 5]) -> [String; 5] {
    cells.map(str::to_owned)
}

fn service(board: &Board, of_it: &ServiceReport, now_s: u64) -> [String; 5] {
    let running = of_it.instances.iter().find(|i| i.state == InstanceState::Ready);
    let release = of_it.held.as_ref().map(|held| &held.release);
    let release = release.or(running.or(of_it.instances.first()).map(|i| &i.release));
    let image = release.and_then(|id| board.images.get(id)).cloned().unwrap_or_default();
    let state = match (&of_it.held, of_it.phase) {
        (Some(held), _) => {
            let reason = held.reason.as_ref().map_or_else(String::new, |text| format!(": {text}"));
            let age = age(now_s.saturating_sub(held.since_s));
            format!("held locally by {} for {age}{reason}", held.by)
        }
        (None, phase) => phase_of(phase).to_owned(),
    };
    let detail =
        of_it.detail.as_ref().filter(|d| d.reason != protocol::reason::Reason::HeldLocally);
    let given_up = of_it
        .given_up
        .as_ref()
        .filter(|_| matches!(of_it.phase, Phase::RollingBack | Phase::RolledBack | Phase::Failed));
    let why = match (detail, given_up) {
        (_, Some(given_up)) => format!("{}: {}", given_up.reason, given_up.message),
        (Some(detail), None) => format!("{}: {}", detail.reason, detail.message),
        (None, None) if of_it.phase == Phase::Held => {
            format!("the coordinator wants revision {}", of_it.revision)
        }
        (None, None) => String::new(),
    };
    let ready = format!("{}/{}", of_it.ready, of_it.desired);
    [of_it.service.to_string(), image, ready, state, why]
}

const fn phase_of(phase: Phase) -> &'static str {
    match phase {
        Phase::Running => "running",
        Phase::Updating => "updating",
        Phase::RollingBack => "rolling back",
        Phase::RolledBack => "rolled back",
        Phase::Failed => "failed",
        Phase::Degraded => "degraded",
        Phase::Removing => "being removed",
        Phase::Held => "held locally",
    }
}

fn instance(one: &InstanceReport) -> String {
    let state = match one.state {
        InstanceState::Created => "created",
        InstanceState::Starting => "starting",
        InstanceState::Ready => "ready",
        InstanceState::Unready => "unready",
        InstanceState::Warm => "warm",
        InstanceState::Draining => "draining",
        InstanceState::Stopping => "stopping",
        InstanceState::Kept => "kept for the way back",
        InstanceState::Crashed => "crashed",
    };
    match one.restarts {
        0 => format!("{}  {state}", one.name),
        restarts => format!("{}  {state}, {restarts} restarts", one.name),
    }
}

/// What Docker has, where no agent answers.
#[must_use]
pub fn containers(containers: &[Container]) -> String {
    let line = |container: &Container| {
        let state = match &container.state {
            ContainerState::Created => "created".to_owned(),
            ContainerState::Running { age_ms } => format!("running for {}", age(age_ms / 1_000)),
            ContainerState::Exited { code, .. } => format!("exited with {code}"),
        };
        format!("{}  {}  {state}\n", container.identity.service, container.name)
    };
    containers.iter().map(line).collect()
}

/// `12 s`, `4 min`, `3 h`, `2 d`.
fn age(secs: u64) -> String {
    match secs {
        0..60 => format!("{secs} s"),
        60..3_600 => format!("{} min", secs / 60),
        3_600..86_400 => format!("{} h", secs / 3_600),
        _ => format!("{} d", secs / 86_400),
    }
}
