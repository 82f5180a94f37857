//! Tokens, the lobby and what became of a node, for people.

use crate::state::shown::{MemberShown, NodesShown, RevokedShown, RunsShown, TokenShown};

/// The line to paste, alone.
#[must_use]
pub fn token(token: &TokenShown) -> String {
    format!("pith-agent join {}\n", token.token)
}

/// What to do with it.
#[must_use]
pub fn token_use(token: &TokenShown) -> String {
    let after = if token.approve {
        "it is let in at once"
    } else {
        "then it waits for `pith node approve NAME`"
    };
    format!(
        "run this line on the board, as root, for one node; {after}. It looks for the coordinator at {}",
        token.addresses.join(", ")
    )
}

/// What approving did.
#[must_use]
pub fn approved(member: &MemberShown) -> String {
    format!(
        "node {} ({}) is admitted to environment {}\n",
        member.name, member.id, member.environment
    )
}

/// What follows from a revocation.
#[must_use]
pub fn revoked(revoked: &RevokedShown) -> String {
    let RevokedShown { id, name, already, services, .. } = revoked;
    if *already {
        return format!(
            "node {name} ({id}) was revoked before\n{}",
            super::secrets::to_rotate(revoked)
        );
    }
    let mut text = format!(
        "node {name} ({id}) is revoked: its connection is cut, its identity and certificates are refused from now on\n\
         what runs on the board goes on until somebody switches it off\n"
    );
    if !services.is_empty() {
        let names: Vec<&str> = services.iter().map(|service| service.as_str()).collect();
        text.push_str(&format!(
            "{} had instances there: a board that joins under the same name takes its place, `pith scale` or the next deploy \
             places them elsewhere\n",
            names.join(", ")
        ));
    }
    text.push_str(&super::secrets::to_rotate(revoked));
    text.push_str("an external broker needs the new list of revoked certificates: `pith broker mosquitto` writes it\n");
    text
}

/// A member that has not said hello, in the table of nodes.
pub(super) fn row(member: &MemberShown) -> [String; 9] {
    let unknown = || "-".to_owned();
    [
        member.name.clone(),
        member.status.clone(),
        member.environment.to_string(),
        unknown(),
        unknown(),
        unknown(),
        unknown(),
        unknown(),
        unknown(),
    ]
}

/// What an operator has to do about nodes, below their table.
pub(super) fn hints(nodes: &NodesShown) -> String {
    let heard = nodes.nodes.iter().filter(|node| node.status == "pending");
    let heard = heard.map(|node| (node.name.as_str(), node.id.as_str()));
    let pending = || nodes.lobby.iter().filter(|member| member.status == "pending");
    let unheard = pending().filter(|member| member.runs.is_empty());
    let unheard = unheard.map(|member| (member.name.as_str(), member.id.as_str()));
    let mut text = String::new();
    for (name, id) in heard.chain(unheard) {
        text.push_str(&format!("{name} ({id}) waits: `pith node approve {name}` lets it in\n"));
    }
    // The name is the board's own word; what it runs was signed for its id.
    for member in pending().filter(|member| !member.runs.is_empty()) {
        let MemberShown { id, name, .. } = member;
        text.push_str(&format!(
            "{name} ({id}) comes back and waits: `pith node approve {id}` lets it in\n"
        ));
        let run =
            |one: &RunsShown| format!("{} (revision {}) x{}", one.service, one.revision, one.count);
        let runs: Vec<String> = member.runs.iter().map(run).collect();
        text.push_str(&format!("{} was told to run {}\n", member.name, runs.join(", ")));
    }
    for absent in &nodes.absent {
        let name = absent.name.as_ref().map_or("a board", |name| name.as_str());
        let id = &absent.id;
        text.push_str(&format!(
            "{name} ({id}) is known to others and has not come back: they go on with it; `pith node revoke {id}` ends that\n"
        ));
    }
    for (node, why) in nodes.nodes.iter().filter_map(|node| Some((node, node.conflict.as_ref()?))) {
        text.push_str(&format!(
            "{} is in conflict: {why}; it runs on and is told nothing: `pith fleet reconcile` shows and mends it\n",
            node.name
        ));
    }
    for node in &nodes.nodes {
        for alarm in &node.alarms {
            text.push_str(&format!("{}: {}: {}\n", node.name, alarm.reason, alarm.message));
        }
    }
    for node in nodes.nodes.iter().filter(|node| node.cloned) {
        text.push_str(&format!(
            "{} is two boards with one identity, see `pith events`: remove the keys on the copy and join it anew\n",
            node.name
        ));
    }
    text
}
