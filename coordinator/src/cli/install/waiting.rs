//! The end of an installing: the coordinator sees the node ready, or what keeps it is shown.

use std::time::Duration;

use protocol::id::NodeId;

use super::{Installed, Visit, say};
use crate::cli::arguments::BoardArgs;
use crate::cli::follow::{self, Patience, Waited};
use crate::cli::{CliError, Exit};
use crate::install::package::VERSION;
use crate::install::plan::{self, Plan};
use crate::state::shown::NodeShown;

const AGAIN: Duration = Duration::from_millis(500);

/// What was done before the waiting.
pub(super) struct Begun {
    pub(super) installed: Vec<String>,
    /// Whether its hello must say this very version.
    pub(super) is_upgrade: bool,
}

impl Visit<'_> {
    pub(super) async fn finish(
        self,
        plan: Plan,
        begun: Begun,
        node: Option<NodeId>,
        args: &BoardArgs,
    ) -> Result<Exit, CliError> {
        let mut installed = Installed {
            name: None,
            id: node.clone(),
            status: "unknown".to_owned(),
            agent_version: String::new(),
            found: plan::found(&self.facts),
            done: begun.installed,
            already: plan.already,
            warnings: plan.warnings,
            undone: plan.undone,
        };
        let must_be_new = begun.is_upgrade && !installed.done.is_empty();
        let Some(node) = node else {
            say(
                self.session,
                "it belongs to no fleet yet: `pith node install` without --upgrade lets it join",
            );
            return Ok(self.end(&installed, Exit::Done));
        };
        say(self.session, "waiting for the coordinator to see it ready");
        let patience = Patience::at_most(Some(args.timeout.duration()));
        let waited = follow::wait(patience, self.until_ready(&node, must_be_new)).await?;
        let exit = match waited {
            Waited::Done(shown) => {
                installed.status.clone_from(&shown.status);
                installed.agent_version.clone_from(&shown.agent_version);
                installed.name = Some(shown.name.clone());
                let (name, version) = (&shown.name, &shown.agent_version);
                let environment = &shown.environment;
                say(
                    self.session,
                    &format!(
                        "node {name} ({node}) is ready in environment {environment}, agent {version}"
                    ),
                );
                if installed.undone.is_empty() { Exit::Done } else { Exit::NotFinished }
            }
            Waited::TimedOut => {
                eprintln!(
                    "it was not seen ready within {} s; on the board:",
                    args.timeout.0 / 1000
                );
                eprint!("{}", self.board.evidence().await);
                eprintln!("the same command goes on; `pith node ls` shows it once it comes");
                Exit::NotFinished
            }
            Waited::Interrupted => {
                eprintln!("the board goes on by itself; `pith node ls` shows it once it comes");
                Exit::Interrupted
            }
        };
        Ok(self.end(&installed, exit))
    }

    fn end(&self, installed: &Installed, exit: Exit) -> Exit {
        for line in &installed.undone {
            eprintln!("not done: {line}");
        }
        if self.session.is_json() {
            self.session.print(installed, |_| String::new());
        }
        exit
    }

    /// A node whose certificate is over, or whom the coordinator does not know, does not get there by itself.
    async fn until_ready(&self, id: &NodeId, must_be_new: bool) -> Result<NodeShown, CliError> {
        let mut said = String::new();
        loop {
            let shown = follow::patiently(|| self.client.nodes(None)).await?;
            let node = shown.nodes.into_iter().find(|node| node.id == *id);
            let member = shown.lobby.iter().find(|member| member.id == *id);
            let status = match (&node, member) {
                (Some(node), _) if must_be_new && node.agent_version != VERSION => {
                    format!("{}, agent {}", node.status, node.agent_version)
                }
                (Some(node), _) => node.status.clone(),
                (None, Some(member)) => format!("{}, not heard yet", member.status),
                (None, None) => "unknown to this coordinator".to_owned(),
            };
            let is_new = |node: &NodeShown| !must_be_new || node.agent_version == VERSION;
            if let Some(node) = node.filter(|node| node.status == "ready" && is_new(node)) {
                return Ok(node);
            }
            if status != said {
                let mend = match status.as_str() {
                    "pending" | "pending, not heard yet" => {
                        format!("; `pith node approve {id}` lets it in")
                    }
                    "unknown to this coordinator" => format!(
                        "; where it was restored from an older backup, `pith node approve {id}` lets it in"
                    ),
                    _ => String::new(),
                };
                say(self.session, &format!("  {status}{mend}"));
                said = status;
            }
            tokio::time::sleep(AGAIN).await;
        }
    }
}
