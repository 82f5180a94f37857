//! `pith ps SERVICE`: what runs of a service on each node, and under it what ran there before.

use protocol::id::NodeName;
use protocol::report::{InstanceReport, InstanceState};
use serde::Serialize;

use super::{instance_state, service_state, table};
use crate::state::shown::{NodeProgressShown, RolloutShown, ServiceOnNode, ServiceShown};

/// A service, with what became of its last revisions on each node.
#[derive(Debug, Clone, Serialize)]
pub struct ServiceWithHistory {
    /// As `pith ps` has it.
    #[serde(flatten)]
    pub service: ServiceShown,
    /// Newest first.
    pub history: Vec<RolloutShown>,
}

/// A line for the service, and a table with the instances of each node and, set in, its former revisions.
#[must_use]
pub fn service(shown: &ServiceWithHistory) -> String {
    let of = &shown.service;
    let mut text = format!(
        "{} in {}: revision {}, {}/{} ready, {}; {}\n\n",
        of.name,
        of.environment,
        of.revision,
        of.ready,
        of.desired,
        of.image,
        service_state(of)
    );
    let heads = ["NODE", "INSTANCE", "REVISION", "IMAGE", "STATE", "RESTARTS", "ERROR"];
    let mut rows = vec![heads.map(str::to_owned)];
    for on in &of.nodes {
        if on.instances.is_empty() {
            let state = on.phase.map_or("nothing is known yet", |_| "no instance").to_owned();
            let dash = || "-".to_owned();
            rows.push([on.node.to_string(), dash(), dash(), dash(), state, dash(), error_on(on)]);
        }
        for instance in &on.instances {
            rows.push(line_of(shown, on, instance));
        }
        for rollout in &shown.history {
            rows.extend(line_before(shown, rollout, &on.node));
        }
    }
    text.push_str(&table(&rows));
    text
}

fn line_of(
    shown: &ServiceWithHistory,
    on: &ServiceOnNode,
    instance: &InstanceReport,
) -> [String; 7] {
    let made_it = shown.history.iter().find(|rollout| rollout.release == instance.release);
    let state = instance_state(instance.state);
    [
        on.node.to_string(),
        instance.name.clone(),
        made_it.map_or_else(|| "-".to_owned(), |rollout| rollout.revision.to_string()),
        made_it.map_or_else(|| instance.release.short().to_owned(), |r| r.image.clone()),
        if on.online { state.to_owned() } else { format!("{state}?") },
        instance.restarts.to_string(),
        if is_well(instance.state) { String::new() } else { error_on(on) },
    ]
}

/// What a revision that does not stand came to on a node; none where it never was for it.
fn line_before(
    shown: &ServiceWithHistory,
    rollout: &RolloutShown,
    node: &NodeName,
) -> Option<[String; 7]> {
    if rollout.revision == shown.service.revision {
        return None;
    }
    // One that still waited when it ended never ran there.
    let ran = |of: &&NodeProgressShown| of.name == *node && of.state != "waiting";
    let progress = rollout.nodes.iter().find(ran)?;
    let failure = rollout.failures.iter().find(|failure| failure.node == *node);
    let error = match failure {
        Some(failure) => format!("{}: {}", failure.reason, failure.message),
        None => error_of(progress),
    };
    // What ran there, and runs no more.
    let state = if progress.state == "updated" { "replaced" } else { &progress.state };
    let revision = rollout.revision.to_string();
    let empty = String::new;
    Some([
        " \\_".to_owned(),
        empty(),
        revision,
        rollout.image.clone(),
        state.to_owned(),
        empty(),
        error,
    ])
}

const fn is_well(state: InstanceState) -> bool {
    match state {
        InstanceState::Ready
        | InstanceState::Warm
        | InstanceState::Draining
        | InstanceState::Stopping
        | InstanceState::Kept => true,
        InstanceState::Created
        | InstanceState::Starting
        | InstanceState::Unready
        | InstanceState::Crashed => false,
    }
}

fn error_on(on: &ServiceOnNode) -> String {
    explained(on.reason.map(|reason| reason.to_string()), on.message.as_deref())
}

fn error_of(progress: &NodeProgressShown) -> String {
    explained(progress.reason.map(|reason| reason.to_string()), progress.message.as_deref())
}

fn explained(reason: Option<String>, message: Option<&str>) -> String {
    match (reason, message.map(str::to_owned)) {
        (Some(reason), Some(message)) => format!("{reason}: {message}"),
        (Some(text), None) | (None, Some(text)) => text,
        (None, None) => String::new(),
    }
}
