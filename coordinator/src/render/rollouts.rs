//! Rollouts as sentences, in the manner of kubectl; what failed, with its evidence.

use planner::fleet::NodeState;
use protocol::id::NodeName;
use protocol::report::Evidence;

use super::clock;
use super::figures::plain;
use super::table::table;
use crate::state::records::Failure;
use crate::state::records::Kind;
use crate::state::requests::Accepted;
use crate::state::shown::{
    DifferenceShown, HistoryShown, NodeProgressShown, OnBoard, RetiredShown, RevisionInFull,
    RolloutShown,
};

/// The first line of a deploy or undo.
#[must_use]
pub fn accepted(accepted: &Accepted, rollout: &RolloutShown) -> String {
    let name = &accepted.service.name;
    let revision = accepted.revision;
    if accepted.unchanged {
        return format!("{name} unchanged: revision {revision} runs this already\n");
    }
    let from =
        accepted.from_revision.map_or(String::new(), |from| format!(", from revision {from}"));
    format!("{name} revision {revision}: {}{from}\n", rollout.image)
}

/// A rollout on its way.
#[must_use]
pub fn rollout_lines(rollout: &RolloutShown) -> Vec<String> {
    let name = &rollout.service;
    let all = rollout.nodes.len();
    let count = |state: &str| rollout.nodes.iter().filter(|node| node.state == state).count();
    let head = match rollout.state.as_str() {
        "rolling_back" => {
            let from = rollout.from_revision.unwrap_or(0);
            format!("Rolling \"{name}\" back to revision {from}: {}", rollout.message)
        }
        "pending" | "in_progress"
            if rollout.reason.is_some() || count("trying") + count("standing") > 0 =>
        {
            format!("Rollout of \"{name}\": {}", rollout.message)
        }
        "pending" | "in_progress" => format!(
            "Waiting for rollout of \"{name}\" to finish: {} of {all} nodes updated...",
            count("updated")
        ),
        // What stands is said by the closing sentence.
        _ => return Vec::new(),
    };
    let moving = rollout.nodes.iter().filter(|node| node.state != "waiting");
    // Nodes say why, and applications what they answered.
    std::iter::once(head).chain(moving.map(node_line)).map(|line| plain(&line)).collect()
}

pub(crate) fn node_line(node: &NodeProgressShown) -> String {
    let why = match (&node.reason, &node.message) {
        (_, _) if node.state == "updated" || node.state == "reverted" => String::new(),
        (Some(reason), Some(message)) => format!("  {reason}: {message}"),
        (Some(reason), None) => format!("  {reason}"),
        (None, Some(message)) => format!("  {message}"),
        (None, None) => String::new(),
    };
    let NodeProgressShown { name, state, updated, ready, desired, .. } = node;
    format!("  {name}  {state}  {updated}/{desired} new, {ready} ready{why}")
}

/// The closing sentence of a rollout that succeeded.
#[must_use]
pub fn rolled_out(rollout: &RolloutShown) -> String {
    let done = rollout.nodes.iter().filter(|node| node.state == "updated").count();
    let away = pending(rollout);
    let took = took(rollout);
    format!(
        "service \"{}\" successfully rolled out: revision {} on {done} {}{took}{away}\n",
        rollout.service,
        rollout.revision,
        if done == 1 { "node" } else { "nodes" },
    )
}

fn took(rollout: &RolloutShown) -> String {
    let Some(ended) = rollout.ended_ms else { return String::new() };
    let ms = ended.saturating_sub(rollout.started_ms);
    format!(" in {}.{} s", ms / 1000, ms % 1000 / 100)
}

fn pending(rollout: &RolloutShown) -> String {
    let all = &rollout.pending;
    if all.is_empty() {
        return String::new();
    }
    let is_held = |name: &&str| {
        let mut nodes = rollout.nodes.iter();
        nodes.any(|node| node.name.as_str() == *name && node.state == NodeState::Held.as_str())
    };
    let (held, away): (Vec<&str>, Vec<&str>) = all.iter().map(NodeName::as_str).partition(is_held);
    let mut parts = Vec::new();
    if !away.is_empty() {
        parts.push(format!("{} offline, takes it on return", away.join(", ")));
    }
    if !held.is_empty() {
        parts.push(format!("{} held locally, takes it when released there", held.join(", ")));
    }
    format!("; {} pending: {}", all.len(), parts.join("; "))
}

/// Why a rollout did not succeed, with everything that was seen.
#[must_use]
pub fn not_rolled_out(rollout: &RolloutShown) -> String {
    let RolloutShown { service, revision, message, .. } = rollout;
    let what = match (rollout.state.as_str(), rollout.from_revision) {
        ("rolled_back", Some(from)) => format!("revision {revision} was rolled back to {from}"),
        ("failed", _) => format!("revision {revision} failed, and there is nothing to go back to"),
        ("paused", _) => format!("revision {revision} is paused"),
        ("awaiting_promotion", _) => format!("revision {revision} awaits promotion"),
        (state, _) => format!("revision {revision} is {state}"),
    };
    let reason = rollout.reason.map_or(String::new(), |reason| format!(" [{reason}]"));
    let is_error =
        !matches!(rollout.state.as_str(), "awaiting_promotion" | "paused" | "in_progress");
    let prefix = if is_error || !rollout.failures.is_empty() { "error: " } else { "" };
    let mut text = format!("{prefix}service \"{service}\": {what}{reason}\n");
    if rollout.failures.is_empty() {
        text.push_str(&format!("  {}\n", plain(message)));
    }
    for failure in &rollout.failures {
        text.push_str(&evidence(failure));
    }
    text
}

fn evidence(failure: &Failure) -> String {
    let message = plain(&failure.message);
    let mut text = format!("  {}: {}: {message}\n", failure.node, failure.reason);
    let Some(Evidence { probe, exit_code, oom_killed, log }) = &failure.evidence else {
        return text;
    };
    if let Some(probe) = probe {
        text.push_str(&format!("    last probe: {}\n", plain(probe.trim_end())));
    }
    if let Some(code) = exit_code {
        let memory = if *oom_killed { ", killed for its memory" } else { "" };
        text.push_str(&format!("    exit code:  {code}{memory}\n"));
    }
    if !log.is_empty() {
        text.push_str("    last log lines:\n");
        for line in log {
            text.push_str(&format!("      | {}\n", plain(line.trim_end())));
        }
    }
    text
}

/// `pith rollout status`
#[must_use]
pub fn rollout(rollout: &RolloutShown) -> String {
    let RolloutShown { service, environment, revision, state, image, .. } = rollout;
    let from = rollout.from_revision.map_or("none".to_owned(), |from| from.to_string());
    let mut text = format!(
        "service   {service} ({environment})\nrevision  {revision}, from {from}\nimage     {image}\nstate     {state}"
    );
    if let Some(reason) = rollout.reason {
        text.push_str(&format!(" [{reason}]"));
    }
    text.push_str(&format!(
        "\n          {}\nstarted   {}",
        plain(&rollout.message),
        clock(rollout.started_ms)
    ));
    text.push_str(&format!("{}, by {}\n", took(rollout), rollout.by));
    if let Some(cause) = &rollout.cause {
        text.push_str(&format!("cause     {cause}\n"));
    }
    let mut rows = vec![["NODE", "STATE", "NEW", "READY", "WHY"].map(str::to_owned)];
    for node in &rollout.nodes {
        rows.push([
            node.name.to_string(),
            node.state.clone(),
            format!("{}/{}", node.updated, node.desired),
            node.ready.to_string(),
            why(node),
        ]);
    }
    text.push('\n');
    text.push_str(&table(&rows));
    for failure in &rollout.failures {
        text.push_str(&evidence(failure));
    }
    text
}

fn why(node: &NodeProgressShown) -> String {
    match (&node.reason, &node.message) {
        (Some(reason), Some(message)) => format!("{reason}: {message}"),
        (Some(reason), None) => reason.to_string(),
        (None, Some(message)) => message.clone(),
        (None, None) => String::new(),
    }
}

/// The answer to a verb that steers a rollout and is not waited for.
#[must_use]
pub fn steered(rollout: &RolloutShown) -> String {
    let RolloutShown { service, revision, state, message, .. } = rollout;
    format!("service \"{service}\": revision {revision} is {state}: {message}\n")
}

/// `pith rollout history --revision N`
#[must_use]
pub fn revision(shown: &RevisionInFull) -> String {
    let mut text = rollout(&shown.rollout);
    text.push_str(&format!(
        "pinned    {}\nrelease   {} ({})\n\n",
        shown.rollout.pinned, shown.rollout.counter, shown.rollout.release
    ));
    text.push_str(shown.file.trim_end());
    text.push('\n');
    text
}

/// `pith release retire`
#[must_use]
pub fn retired(shown: &RetiredShown) -> String {
    let RetiredShown { service, below, unchanged, told, offline } = shown;
    if *unchanged {
        return format!(
            "{service}: nothing changed: releases below {below} are retired already, and a floor never falls\n"
        );
    }
    let nodes = |count: usize| if count == 1 { "node is" } else { "nodes are" };
    let mut text = format!("{service}: releases below {below} are retired");
    if !told.is_empty() {
        text.push_str(&format!("; {} {} told", told.len(), nodes(told.len())));
    }
    if !offline.is_empty() {
        let names: Vec<&str> = offline.iter().map(NodeName::as_str).collect();
        text.push_str(&format!("; offline, told on return: {}", names.join(", ")));
    }
    text.push('\n');
    text
}

/// `pith rollout diff`
#[must_use]
pub fn difference(shown: &DifferenceShown) -> String {
    let DifferenceShown { service, from, to, changes, .. } = shown;
    if changes.is_empty() {
        return format!("{service}: revisions {from} and {to} are the same\n");
    }
    let mut text = format!("{service}: from revision {from} to {to}\n");
    text.extend(changes.iter().map(super::change));
    text
}

/// `6/6`; `4/5, 1 silent`.
fn on_board(OnBoard { here, of, silent }: OnBoard) -> String {
    match (of, silent) {
        (0, _) => "-".to_owned(),
        (_, 0) => format!("{here}/{of}"),
        (_, silent) => format!("{here}/{of}, {silent} silent"),
    }
}

/// `pith rollout history`
#[must_use]
pub fn history(history: &HistoryShown) -> String {
    let mut rows = vec![
        [
            "REVISION",
            "RELEASE",
            "STATE",
            "STARTED",
            "TOOK",
            "IMAGE",
            "ON BOARD",
            "BY",
            "CHANGE-CAUSE",
        ]
        .map(str::to_owned),
    ];
    for revision in &history.revisions {
        let current = if history.current == Some(revision.revision) { "*" } else { "" };
        let cause = match (&revision.cause, revision.undo_to, revision.kind) {
            (Some(cause), _, _) => cause.clone(),
            (None, Some(to), _) => format!("undo to revision {to}"),
            (None, None, Kind::Restart) => "restart".to_owned(),
            (None, None, Kind::Promote) => "promoted from another environment".to_owned(),
            (None, None, Kind::Deploy | Kind::Undo) => String::new(),
        };
        let took = revision.ended_ms.map(|ended| ended.saturating_sub(revision.started_ms));
        let state = match revision.reason {
            Some(reason) => format!("{} [{reason}]", revision.state),
            None => revision.state.clone(),
        };
        rows.push([
            format!("{}{current}", revision.revision),
            format!("{}{}", revision.counter, if revision.retired { " retired" } else { "" }),
            state,
            clock(revision.started_ms),
            took.map_or("-".to_owned(), |ms| format!("{}.{} s", ms / 1000, ms % 1000 / 100)),
            revision.image.clone(),
            on_board(revision.on_board),
            revision.by.clone(),
            cause,
        ]);
    }
    table(&rows)
}
