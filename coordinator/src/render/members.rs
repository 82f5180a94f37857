//! Tokens, the lobby and what became of a node, for people.

use crate::state::shown::{
    LostVolume, MemberShown, NodesShown, ReplacementShown, RevokedShown, RunsShown, TokenShown,
};

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

/// What replacing a board would do.
#[must_use]
pub fn replacing(old: &ReplacementShown, new: &str) -> String {
    let ReplacementShown { name, id, environment, services, lost, online, .. } = old;
    let heard = if *online {
        "which is online: it is cut off, and what runs on it goes on there until it is switched off"
    } else {
        "which is offline"
    };
    let mut text =
        format!("{new} takes the place of {name} ({id}) in environment {environment}, {heard}\n");
    if services.is_empty() {
        text.push_str("it was to run nothing\n");
    } else {
        let names: Vec<&str> = services.iter().map(|service| service.as_str()).collect();
        text.push_str(&format!("it gets what that was to run: {}\n", names.join(", ")));
    }
    for LostVolume { service, volume, exclusive } in lost {
        let copies = if *exclusive {
            "its only writer was there: no other board has this data"
        } else {
            "others may have the like"
        };
        text.push_str(&format!("gone with the old board: {volume} of {service}; {copies}\n"));
    }
    text
}

/// What replacing by a node did.
#[must_use]
pub fn replaced(shown: &ReplacementShown, new: &str) -> String {
    let id = shown.node.as_ref().map_or_else(String::new, |id| format!(" ({id})"));
    format!(
        "{new}{id} is {} from now on; {} ({}) is revoked\n",
        shown.name,
        shown.name,
        shown.id.short()
    )
}

/// What remains to be done after it.
#[must_use]
pub fn after_replacing(old: &ReplacementShown) -> String {
    let mut text = String::new();
    if !old.secrets.is_empty() {
        text.push_str("the old board had secrets: `pith secret sync` seals them for the new one");
        let names: Vec<String> = old.secrets.iter().map(|secret| secret.name.to_string()).collect();
        text.push_str(&format!(
            "; where it is in foreign hands, `pith secret rotate` them: {}\n",
            names.join(", ")
        ));
    }
    if !old.lost.is_empty() && old.online {
        text.push_str(
            "its volumes are still on the old board: copy what is needed before it is wiped\n",
        );
    }
    text.push_str("what the old board runs goes on until it is switched off: `pith-agent uninstall --yes` there\n");
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
