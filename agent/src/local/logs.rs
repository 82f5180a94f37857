//! What the containers of this fleet and node are and write, by Docker alone: it needs no agent.

use std::io::Write as _;

use futures_util::future::join_all;
use protocol::id::ServiceName;

use crate::config::Config;
use crate::engine::docker::Docker;
use crate::engine::{Container, ContainerState, Engine as _, Ours};
use crate::{identity, trust};

/// Containers of ours, with the engine that has them.
#[derive(Debug)]
pub struct Here {
    engine: Docker,
    /// By name.
    pub containers: Vec<Container>,
}

impl Here {
    /// Asks Docker.
    ///
    /// # Errors
    /// Where the node's key or trust root cannot be read, or Docker does not answer.
    pub async fn look(config: &Config) -> anyhow::Result<Self> {
        let node = identity::load(&config.state_dir)?.public().node_id();
        let fleet = trust::load(&config.root_file())?.fleet;
        let engine = Docker::at(&config.docker);
        let containers = engine.containers(&Ours { fleet, node }).await?;
        Ok(Self { engine, containers })
    }

    /// Writes the last lines of a service's instances to standard output, and what follows where that is asked for. Those
    /// that run; where none does, those that ended.
    ///
    /// # Errors
    /// Where nothing of it is here, or Docker breaks off.
    pub async fn logs(
        &self,
        service: &ServiceName,
        lines: usize,
        follow: bool,
    ) -> anyhow::Result<()> {
        let of_it = self.containers.iter().filter(|c| c.identity.service == *service);
        let of_it: Vec<&Container> = of_it.collect();
        if of_it.is_empty() {
            anyhow::bail!(
                "no container of `{service}` is on this board; `pith-agent ps` shows those that are"
            );
        }
        let runs = |c: &&&Container| matches!(c.state, ContainerState::Running { .. });
        let running: Vec<&Container> = of_it.iter().filter(runs).copied().collect();
        let shown = if running.is_empty() { of_it } else { running };
        let is_alone = shown.len() == 1;
        let each = shown.into_iter().map(|container| async move {
            let prefix = match is_alone {
                true => String::new(),
                false => format!("{}  ", container.name),
            };
            let say = |line: &str| {
                let mut out = std::io::stdout().lock();
                writeln!(out, "{prefix}{line}").and_then(|()| out.flush())
            };
            self.engine.logs(&container.id, lines, follow, say).await
        });
        for ended in join_all(each).await {
            ended?;
        }
        Ok(())
    }
}
