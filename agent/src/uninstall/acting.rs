//! Does it: units, then containers, networks and volumes of ours. Each step can be done again.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::Context as _;
use protocol::units::Millis;

use super::Board;
use crate::engine::{Container, ContainerState, Engine as _, EngineError, Signal};

/// An instance gets what its service says, and no more than this.
const MAX_GRACE: Duration = Duration::from_secs(60);
const LOOK: Duration = Duration::from_millis(200);
/// After SIGKILL.
const AFTER_KILL: Duration = Duration::from_secs(10);
const UNIT_FOLDER: &str = "/usr/lib/systemd/system";
const UNITS: [&str; 2] = ["pith-agent.service", "pith-proxy.service"];

pub(super) async fn remove(board: &Board, volumes: bool, say: impl Fn(&str)) -> anyhow::Result<()> {
    stop_units(board, &say)?;
    end(board, &say).await?;
    // Nobody of ours starts anything any more: what is there now is what there is.
    for container in board.engine.containers(&board.ours).await? {
        board
            .engine
            .remove(&container.id)
            .await
            .with_context(|| format!("removing {}", container.name))?;
        say(&format!("removed container {}", container.name));
    }
    forget_secrets(board, &say)?;
    for network in &board.networks {
        board
            .engine
            .remove_network(&network.id)
            .await
            .with_context(|| format!("removing {}", network.name))?;
        say(&format!("removed network {}", network.name));
    }
    if volumes {
        for volume in &board.volumes {
            board
                .engine
                .remove_volume(volume)
                .await
                .with_context(|| format!("removing {volume}"))?;
            say(&format!("removed volume {volume}"));
        }
    }
    Ok(())
}

/// In clear, and nobody needs them any more.
fn forget_secrets(board: &Board, say: &impl Fn(&str)) -> anyhow::Result<()> {
    let folder = board.config.secrets_dir();
    match std::fs::remove_dir_all(&folder) {
        Ok(()) => say(&format!("removed the secrets in {}", folder.display())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => return Err(error).with_context(|| folder.display().to_string()),
    }
    Ok(())
}

/// An agent that runs on would make everything anew.
fn stop_units(board: &Board, say: &impl Fn(&str)) -> anyhow::Result<()> {
    if Path::new("/run/systemd/system").is_dir() {
        // What it has to say goes to the same terminal.
        let stopped = Command::new("systemctl").args(["disable", "--now"]).args(UNITS).status();
        let is_done = stopped.context("systemctl")?.success();
        let exist = UNITS.iter().any(|unit| Path::new(UNIT_FOLDER).join(unit).exists());
        anyhow::ensure!(is_done || !exist, "systemctl disable --now {} failed", UNITS.join(" "));
        say("stopped pith-agent and pith-proxy, now and at each boot");
    }
    let socket = board.config.agent_socket();
    let runs = std::os::unix::net::UnixStream::connect(&socket).is_ok();
    anyhow::ensure!(
        !runs,
        "an agent still answers at {}: stop it first, it would start everything anew",
        socket.display()
    );
    Ok(())
}

/// Asks every instance to end, waits as long as its service gives it, and kills what is left.
async fn end(board: &Board, say: &impl Fn(&str)) -> Result<(), EngineError> {
    let runs = |one: &Container| matches!(one.state, ContainerState::Running { .. });
    let mut left: Vec<Container> =
        board.engine.containers(&board.ours).await?.into_iter().filter(runs).collect();
    for container in &left {
        board.engine.signal(&container.id, Signal::Term).await?;
        say(&format!("asked {} to end", container.name));
    }
    let graces = board.ran.iter().map(|ran| ran.spec.stop_grace);
    let grace = graces.max().unwrap_or(Millis(10_000)).duration().min(MAX_GRACE);
    for (signal, patience) in [(None, grace), (Some(Signal::Kill), AFTER_KILL)] {
        if let Some(signal) = signal {
            for container in &left {
                board.engine.signal(&container.id, signal).await?;
                say(&format!(
                    "killed {}: it did not end within {} s",
                    container.name,
                    grace.as_secs()
                ));
            }
        }
        let until = tokio::time::Instant::now() + patience;
        while !left.is_empty() && tokio::time::Instant::now() < until {
            tokio::time::sleep(LOOK).await;
            left = board.engine.containers(&board.ours).await?.into_iter().filter(runs).collect();
        }
    }
    Ok(())
}
