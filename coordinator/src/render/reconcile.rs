//! What a reconciliation would do, for the operator who has to say yes.

use super::table::table;
use crate::state::shown::{NodeReconciled, ReconcileShown, Reconciling, RunShown};

/// `pith fleet reconcile`
#[must_use]
pub fn shown(shown: &ReconcileShown) -> String {
    let mut text = String::new();
    if shown.nodes.is_empty() {
        text.push_str("no node is in conflict\n");
    }
    for node in &shown.nodes {
        text.push_str(&head(node));
    }
    let mut rows = vec![["NODE", "SERVICE", "RUNS", "THEN", "ACTION"].map(str::to_owned)];
    for node in &shown.nodes {
        for of_it in &node.services {
            rows.push([
                node.node.to_string(),
                of_it.service.to_string(),
                run(of_it.runs.as_ref()),
                run(of_it.then.as_ref()),
                action(of_it.action).to_owned(),
            ]);
        }
    }
    if rows.len() > 1 {
        text.push_str(&table(&rows));
    }
    if !shown.unheard.is_empty() {
        let names: Vec<&str> = shown.unheard.iter().map(|name| name.as_str()).collect();
        text.push_str(&format!(
            "not heard since the coordinator's start: {}; what they run is not shown, and not removed without being shown\n",
            names.join(", ")
        ));
    }
    text
}

fn head(node: &NodeReconciled) -> String {
    let NodeReconciled { node, conflict, seen, signed, .. } = node;
    match conflict {
        Some(why) => format!(
            "{node} is in conflict: {why} (epoch {} there, {} here)\n",
            seen.epoch, signed.epoch
        ),
        None => format!("{node} keeps services that are not assigned to it\n"),
    }
}

/// `revision 2 ×1 pith-demo:v2`
fn run(run: Option<&RunShown>) -> String {
    let Some(RunShown { revision, release, image, count }) = run else { return "-".to_owned() };
    let what = match (image, release) {
        (Some(image), _) => image.clone(),
        (None, Some(release)) => format!("release {} (not known here)", release.short()),
        (None, None) => "?".to_owned(),
    };
    format!("revision {revision} ×{count} {what}")
}

const fn action(action: Reconciling) -> &'static str {
    match action {
        Reconciling::Keep => "keep",
        Reconciling::Replace => "replace",
        Reconciling::Scale => "scale",
        Reconciling::Start => "start",
        Reconciling::Remove => "remove",
    }
}
