//! A proxy that is asked to exchange itself starts another process of what `launch` chooses now, which takes its listeners, and tells
//! systemd whom the unit is about from then on.
//!
//! ```text
//! Renew -> launch --apart proxy --take-over: becomes nobody's child, prints its pid -> it answers on the socket -> MAINPID
//! ```
//! Where it does not come to serve, the old one goes on as if nothing had been asked.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use sd_notify::NotifyState;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::net::UnixStream;
use tokio::process::Command;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{sleep, timeout};
use tracing::{info, warn};

use crate::update::LAUNCHER_VARIABLE;

/// For the other process to serve.
const PATIENCE: Duration = Duration::from_secs(20);
const LOOK: Duration = Duration::from_millis(50);

/// What another process is started with.
#[derive(Debug, Clone)]
pub struct Exchange {
    /// `agent.toml`.
    pub config: PathBuf,
    /// Where the proxy answers.
    pub socket: PathBuf,
}

impl Exchange {
    /// Answers what is asked, one after another, until nobody can ask.
    pub async fn serve(self, mut asked: mpsc::Receiver<oneshot::Sender<Result<(), String>>>) {
        while let Some(done) = asked.recv().await {
            let result = self.once().await;
            if let Err(why) = &result {
                warn!(why, "the proxy goes on as it is");
            }
            // Whoever asked may have gone.
            let _ = done.send(result);
        }
    }

    async fn once(&self) -> Result<(), String> {
        let launcher = std::env::var_os(LAUNCHER_VARIABLE)
            .ok_or("it was not started by `pith-agent launch`, as the units of the package do")?;
        let pid = timeout(PATIENCE, self.start(Path::new(&launcher))).await;
        let pid = pid.map_err(|_| "the other proxy does not start".to_owned())??;
        let serving = async {
            while serving(&self.socket).await != Some(pid) {
                if !Path::new(&format!("/proc/{pid}")).exists() {
                    return Err("the other proxy ended before it served".to_owned());
                }
                sleep(LOOK).await;
            }
            Ok(())
        };
        let late = |_| "the other proxy does not serve in time".to_owned();
        timeout(PATIENCE, serving).await.map_err(late)??;
        info!(pid, "another proxy serves");
        // Without systemd nobody listens.
        if let Err(error) = sd_notify::notify(&[NotifyState::MainPid(pid)]) {
            warn!(%error, "systemd was not told of the other proxy");
        }
        Ok(())
    }

    async fn start(&self, launcher: &Path) -> Result<u32, String> {
        let mut command = Command::new(launcher);
        command.args(["launch", "--apart", "proxy", "--take-over", "--config"]).arg(&self.config);
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        let failed = |error: std::io::Error| format!("{}: {error}", launcher.display());
        let mut child = command.spawn().map_err(failed)?;
        let mut line = String::new();
        if let Some(said) = child.stdout.take() {
            BufReader::new(said).read_line(&mut line).await.map_err(failed)?;
        }
        child.wait().await.map_err(failed)?;
        line.trim().parse().map_err(|_| format!("{} started nothing", launcher.display()))
    }
}

/// Whose socket it is.
async fn serving(socket: &Path) -> Option<u32> {
    let pid = UnixStream::connect(socket).await.ok()?.peer_cred().ok()?.pid()?;
    u32::try_from(pid).ok()
}
