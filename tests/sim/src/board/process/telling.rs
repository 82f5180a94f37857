//! The story of a run, for people.

use agent::event_loop::Job;
use agent::execute::Task;
use agent::ledger::Pulled;
use agent::link::Outgoing;
use planner::node::LedgerChange;
use protocol::hello;
use protocol::manifest::{Assignment, Manifest};
use protocol::topic::Up;
use proxy::{Route, Table};

use super::Process;
use crate::board::hardware::Hardware;

impl Process {
    /// Tells which services stand differently now.
    pub(super) fn note_phases(&mut self, board: &Hardware) {
        if !board.trace.is_on() {
            return;
        }
        for (service, verdict) in self.agent.verdicts() {
            if self.phases.insert(service.clone(), verdict.phase) != Some(verdict.phase) {
                let why = verdict.waiting.as_ref().map_or("", |w| w.message.as_str());
                let text = || format!("{service}: {:?} {why}", verdict.phase);
                board.trace.note(board.now_ms, &board.name, text);
            }
        }
    }
}

/// What the agent itself tells people.
pub(super) fn said(outgoing: &Outgoing, board: &Hardware) {
    if outgoing.subject != Up::Event || !board.trace.is_on() {
        return;
    }
    if let Ok(event) = serde_json::from_slice::<hello::Event>(&outgoing.payload) {
        let of = event.service.map_or_else(String::new, |service| format!("{service}: "));
        let text = || format!("says \"{of}{}\"", event.message);
        board.trace.note(board.now_ms, &board.name, text);
    }
}

/// A container's id without its leading zeros.
pub(super) fn short(container: &str) -> String {
    format!("c{}", container.trim_start_matches('0'))
}

/// The container that a step is about.
pub(super) fn container(task: &Task) -> String {
    match task {
        Task::Start { container, .. }
        | Task::Terminate { container }
        | Task::Kill { container }
        | Task::Remove { container, .. } => format!(" {}", short(container)),
        Task::Create(_) | Task::CreateNetwork { .. } | Task::RemoveNetwork { .. } => String::new(),
    }
}

pub(super) fn table(table: &Table) -> String {
    let backend = |b: &proxy::Backend| {
        let state = match (b.state, b.weight) {
            (proxy::BackendState::Draining, _) => "drains",
            (proxy::BackendState::Active, 0) => "rests",
            (proxy::BackendState::Active, _) => "serves",
        };
        format!("{} {state}", short(&b.id))
    };
    let route = |route: &Route| {
        let backends: Vec<String> = route.backends.iter().map(backend).collect();
        let split =
            route.split.as_ref().map_or_else(String::new, |s| format!(" share {}", s.share));
        format!("{}{split}: {}", route.id, backends.join(", "))
    };
    table.routes.iter().map(route).collect::<Vec<_>>().join("; ")
}

pub(super) fn job(job: &Job) -> String {
    match job {
        Job::Accept { accepted, .. } => manifest(&accepted.manifest),
        Job::Succeed { root, .. } => format!("trust root {}", root.version),
        Job::Hold(holding) => format!("{}: a hold", holding.service),
        Job::Floor => "the floor of the time".to_owned(),
        Job::Record { service, change, .. } => format!("{service}: {}", recorded(change)),
        Job::Image { image, is_here: Pulled::Here } => format!("image {} is here", image.reference),
        Job::Image { image, is_here: Pulled::Gone } => format!("image {} is gone", image.reference),
    }
}

fn recorded(change: &LedgerChange) -> String {
    match change {
        LedgerChange::Begin { kept, room, .. } => {
            let (revision, template) = (kept.revision, kept.template.short());
            format!("begin r{revision} {template} try {} {room:?}", kept.attempt)
        }
        LedgerChange::Complete(_) => "complete".to_owned(),
        LedgerChange::GiveUp { failed, reason, message, then, .. } => {
            let (revision, template) = (failed.revision, failed.template.short());
            format!(
                "give up r{revision} {template} try {}: {reason}: {message}, then {then:?}",
                failed.attempt
            )
        }
        LedgerChange::Forget => "forget".to_owned(),
    }
}

fn manifest(manifest: &Manifest) -> String {
    let one = |a: &Assignment| {
        let held = if a.paused { " held" } else { "" };
        let beside = a.candidate.as_ref().map_or_else(String::new, |c| {
            format!(" + r{} {} x{} share {}", c.revision, c.release.short(), c.count, c.share)
        });
        let (name, release) = (&a.service, a.release.short());
        let Assignment { revision, count, attempt, restarts, .. } = a;
        format!(
            "{name} r{revision} {release} x{count} try {attempt} restarts {restarts}{held}{beside}"
        )
    };
    let services: Vec<String> = manifest.services.iter().map(one).collect();
    let generation = manifest.version.generation;
    format!("manifest {generation} ({}; removed {:?})", services.join(", "), manifest.removed)
}
