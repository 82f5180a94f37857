//! Releases of the agent, for people.

use std::time::Duration;

use super::table::table;
use crate::state::agents::AgentTarget;
use crate::state::shown::{AgentRolloutShown, AgentsShown};

/// After a release.
#[must_use]
pub fn released(shown: &AgentsShown) -> String {
    let Some(newest) = shown.releases.first() else { return String::new() };
    format!(
        "agent {} for {} is released; `pith agent rollout` brings nodes to it\n",
        newest.version,
        newest.platforms.join(", ")
    )
}

/// `pith agent status`
#[must_use]
pub fn status(shown: &AgentsShown) -> String {
    if shown.releases.is_empty() {
        return "no agent was released: boards run that of their package; `pith agent release FILE...` signs one\n".to_owned();
    }
    let mut rows = vec![["VERSION", "NUMBER", "PLATFORMS", "CONFIRMED", "BY"].map(str::to_owned)];
    rows.extend(shown.releases.iter().map(|release| {
        let number = release.counter.to_string();
        let confirmed = if release.confirmed { "yes" } else { "no" }.to_owned();
        let platforms = release.platforms.join(",");
        [release.version.clone(), number, platforms, confirmed, release.by.clone()]
    }));
    let mut text = table(&rows);
    let Some(rollout) = &shown.rollout else {
        text.push_str("nodes are brought to none of them yet: `pith agent rollout`\n");
        return text;
    };
    text.push_str(&format!("\n{}\n", headline(rollout)));
    let mut rows = vec![["NODE", "AGENT", "STATUS"].map(str::to_owned)];
    rows.extend(rollout.nodes.iter().map(|node| {
        let offline = if node.online { "" } else { ", offline" };
        let why = node.why.as_deref().map_or(String::new(), |why| format!(": {why}"));
        [node.node.clone(), node.agent_version.clone(), format!("{}{offline}{why}", node.phase)]
    }));
    text.push_str(&table(&rows));
    text
}

fn headline(rollout: &AgentRolloutShown) -> String {
    let done = rollout.nodes.iter().filter(|node| node.phase == "confirmed").count();
    let of = rollout.nodes.len();
    let why = rollout.why.as_deref().map_or(String::new(), |why| format!(": {why}"));
    let next = match rollout.state.as_str() {
        "failed" => "; `pith agent resume` goes on without that node, `pith agent undo` goes back",
        "paused" => "; `pith agent resume` goes on",
        "pending" => "; nodes that are offline take it when they are back",
        _ => "",
    };
    format!("agent {}: {}, {done} of {of} nodes{why}{next}", rollout.version, rollout.state)
}

/// While it is followed.
#[must_use]
pub fn lines(shown: &AgentsShown, since: Duration) -> Vec<String> {
    let Some(rollout) = &shown.rollout else { return Vec::new() };
    let under_way = rollout
        .nodes
        .iter()
        .filter(|node| ["told", "downloading", "trying"].contains(&node.phase.as_str()));
    let under_way =
        under_way.map(|node| format!("{} {}", node.node, node.phase)).collect::<Vec<_>>();
    vec![format!("{} ({} s) {}", headline(rollout), since.as_secs(), under_way.join(", "))]
}

/// `0.2.0 -> 0.3.0 (trying)` in the table of nodes.
#[must_use]
pub fn version(now: &str, target: Option<&AgentTarget>) -> String {
    let Some(AgentTarget { version, phase, why }) = target else { return now.to_owned() };
    let why = why.as_deref().map_or(String::new(), |why| format!(": {why}"));
    format!("{now} -> {version} ({phase}{why})")
}
