//! What a program shows of itself before it is tried: that it runs on this board, reads the board's files, and is the version that its
//! release names. It changes nothing and talks to nobody.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::Context as _;
use protocol::FORMAT;
use protocol::agent_release::AgentVersion;
use serde::{Deserialize, Serialize};
use tokio::process::Command;

use super::record;
use crate::tls::{self, Joined};
use crate::{identity, ledger, trust};

/// A card may take its time for four megabytes.
const PATIENCE: Duration = Duration::from_secs(60);
/// Characters of what a program says that a report repeats.
const MAX_SAID_CHARS: usize = 200;

/// What a program says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Said {
    /// Its own.
    pub version: AgentVersion,
    /// The newest that it speaks.
    pub format: u32,
}

impl Said {
    /// Whether it is what its release names.
    ///
    /// # Errors
    /// What it is instead.
    pub fn fits(&self, version: &AgentVersion) -> Result<(), String> {
        if self.version != *version {
            return Err(format!("the program is {}, its release says {version}", self.version));
        }
        if self.format < FORMAT {
            return Err(format!(
                "it speaks format {}, the agent here speaks {FORMAT}",
                self.format
            ));
        }
        Ok(())
    }
}

/// Runs `program self-test`.
///
/// # Errors
/// Why it does not pass, with what it wrote.
pub async fn ask(program: &Path, config: &Path) -> Result<Said, String> {
    let mut command = Command::new(program);
    command.arg("self-test").arg("--config").arg(config).env_clear();
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let run = command.spawn().map_err(|error| format!("it does not run here: {error}"))?;
    let ended = tokio::time::timeout(PATIENCE, run.wait_with_output()).await;
    let ended =
        ended.map_err(|_| format!("its self-test did not end in {} s", PATIENCE.as_secs()))?;
    let ended = ended.map_err(|error| format!("its self-test broke off: {error}"))?;
    if !ended.status.success() {
        let said: String =
            String::from_utf8_lossy(&ended.stderr).chars().take(MAX_SAID_CHARS).collect();
        return Err(format!("its self-test failed ({}): {}", ended.status, said.trim()));
    }
    serde_json::from_slice(&ended.stdout)
        .map_err(|_| "its self-test says nothing that is understood".to_owned())
}

/// The test itself, in the program that is asked.
///
/// # Errors
/// What of this board it cannot use.
pub fn run(path: &Path) -> anyhow::Result<Said> {
    let config = tls::config(path)?;
    let dir = &config.state_dir;
    let contents = ledger::look(dir).context("the ledger")?;
    let key = identity::load(dir)?;
    let root = trust::load(&config.root_file())?;
    let floor = tls::first_floor();
    floor.raise(contents.floor_s());
    if let Some(joined) = Joined::load(dir)? {
        joined.session(&root.fleet, &floor).context("the node's certificate")?;
    }
    let newest = contents.trust(&root).root;
    anyhow::ensure!(
        newest.fleet == root.fleet,
        "the trust root of {} is of another fleet",
        key.public().node_id()
    );
    record::read(dir).context("what is kept of agent releases")?;
    Ok(Said { version: crate::version::own(), format: FORMAT })
}
