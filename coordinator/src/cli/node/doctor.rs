//! `pith node doctor`: what a board finds of itself, and what the coordinator knows of it that the board cannot.

use std::io::IsTerminal as _;

use protocol::doctor::{Colour, Examination, Finding, Severity};

use super::super::logs::ended;
use super::super::session::Session;
use super::super::{CliError, Exit};
use crate::client::Client;
use crate::examining::{self, NotExamined};
use crate::state::shown::NodeShown;

/// What a board found, or how its answer ended without.
pub(in crate::cli) enum Looked {
    Found(Examination),
    Ended(Exit),
}

pub(super) async fn run(session: &Session, client: &Client, who: &str) -> Result<Exit, CliError> {
    let found = tokio::select! {
        // Cancel-safe: what was not read yet is not wanted after Ctrl-C.
        looked = examine(client, who) => match looked? {
            Looked::Found(found) => found,
            Looked::Ended(exit) => return Ok(exit),
        },
        _ = tokio::signal::ctrl_c() => return Ok(Exit::Interrupted),
    };
    let has_colour = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let colour = if has_colour { Colour::On } else { Colour::Off };
    session.print_coloured(&found, |found| found.to_text(colour));
    Ok(if found.has_problem() { Exit::Failed } else { Exit::Done })
}

/// Has a board look at itself; with what only the coordinator knows of it.
pub(in crate::cli) async fn examine(client: &Client, who: &str) -> Result<Looked, CliError> {
    let found = match examining::examine(client, who).await {
        Ok(found) => found,
        Err(NotExamined::Ended(node, end)) => return Ok(Looked::Ended(ended(&node, &end))),
        Err(NotExamined::Client(error)) => return Err(error.into()),
        Err(error @ NotExamined::Away(..)) => {
            return Err(CliError::failed(format_args!(
                "{error}; `sudo pith-agent doctor` on the board needs no coordinator (an agent older than this \
                 coordinator does not know `doctor`)"
            )));
        }
        Err(error @ (NotExamined::Lost(..) | NotExamined::TooLong | NotExamined::NotOne(..))) => {
            return Err(CliError::failed(error));
        }
    };
    let nodes = client.nodes(None).await?.nodes;
    let node = nodes.iter().find(|node| node.name.as_str() == who || node.id.as_str() == who);
    Ok(Looked::Found(match node {
        Some(node) => known(found, node),
        None => found,
    }))
}

/// With what only the coordinator sees.
fn known(mut found: Examination, node: &NodeShown) -> Examination {
    let name = &node.name;
    found = found.with(match node.cloned {
        true => Finding::new("identity-clone", Severity::Problem, "two boards speak under this identity")
            .because("they take turns: neither keeps what it is told")
            .mend(format!(
                "on the copy: `systemctl stop pith-agent pith-proxy`, `rm -r /var/lib/pith`, then join with a token of its own; where it is not known \
                 which is the copy: `pith node revoke {name}`, and both join anew"
            )),
        false => Finding::new("identity-clone", Severity::Ok, "one board speaks under this identity"),
    });
    if let Some(conflict) = &node.conflict {
        let finding = Finding::new("conflict", Severity::Problem, conflict)
            .because("nothing is signed for it: it runs on and is told nothing")
            .mend("`pith fleet reconcile` shows what would change");
        found = found.with(finding);
    }
    for alarm in &node.alarms {
        let finding = Finding::new(
            "node-alarm",
            Severity::Warning,
            format!("{}: {}", alarm.reason, alarm.message),
        )
        .because("the node's own alarm: it stops nothing and ends by itself")
        .mend("`pith events` says since when");
        found = found.with(finding);
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clone_is_what_only_the_coordinator_sees() {
        let nothing = Examination {
            board: "opi-2".parse().unwrap(),
            agent_version: "0.1.0".to_owned(),
            as_root: false,
            findings: Vec::new(),
        };
        let node = serde_json::json!({
            "id": "0".repeat(32), "name": "opi-2", "environment": "default", "status": "ready", "labels": {},
            "address": "10.0.0.7", "agent_version": "0.1.0", "heard_ms": 0, "generation": 0, "refused": {},
            "capacity": { "architecture": "arm64", "cores": 4, "memory_bytes": 1 },
            "seen": { "epoch": 1, "generation": 1 }, "services": [], "held": {}, "alarms": [], "cloned": false,
        });
        let mut node: NodeShown = serde_json::from_value(node).unwrap();
        assert!(!known(nothing.clone(), &node).has_problem());
        node.cloned = true;
        let found = known(nothing, &node);
        assert_eq!(found.findings[0].id, "identity-clone");
        assert!(found.has_problem() && found.findings[0].mend.is_some());
    }
}
