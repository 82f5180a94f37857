//! A child process that is started again when it ends, and that the kernel ends with us.

use std::ffi::OsString;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::process::{Child, Command};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::DevError;
use super::successor::Successor;

/// First wait before a start after an end; doubled up to the longest while it keeps ending at once.
const RESTART_FIRST: Duration = Duration::from_millis(100);
const RESTART_LONGEST: Duration = Duration::from_secs(5);
/// Running this long makes the next wait the first again.
const STABLE_AFTER: Duration = Duration::from_secs(10);
/// Between SIGTERM and SIGKILL.
const END_WITHIN: Duration = Duration::from_secs(5);
const AGENT: &str = "pith-agent";

/// What to run.
#[derive(Debug, Clone)]
pub(super) struct Program {
    /// `agent` or `proxy`: names its pid file and its log.
    pub(super) role: &'static str,
    pub(super) path: PathBuf,
    pub(super) arguments: Vec<OsString>,
    /// Where `<role>.pid` and `<role>.log` are written.
    pub(super) folder: PathBuf,
    /// Where it answers, if another process may take its place.
    pub(super) socket: Option<PathBuf>,
}

/// A supervised child.
#[derive(Debug)]
pub(super) struct Supervised {
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
    pid_file: PathBuf,
}

impl Program {
    pub(super) fn log(&self) -> PathBuf {
        self.folder.join(format!("{}.log", self.role))
    }

    fn pid_file(&self) -> PathBuf {
        self.folder.join(format!("{}.pid", self.role))
    }

    /// By way of `pith run-child`, which asks the kernel to end it with us and then becomes the program. In a process
    /// group of its own, so that Ctrl-C reaches us alone and we end them in order.
    fn spawn(&self) -> Result<Child, DevError> {
        let failed = |source| DevError::Child { program: self.path.display().to_string(), source };
        let own = std::env::current_exe().map_err(failed)?;
        let log = File::options().create(true).append(true).open(self.log()).map_err(failed)?;
        let child = Command::new(own)
            .args(["run-child", "--parent", &std::process::id().to_string(), "--"])
            .arg(&self.path)
            .args(&self.arguments)
            .stdin(Stdio::null())
            .stdout(log.try_clone().map_err(failed)?)
            .stderr(log)
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .map_err(failed)?;
        self.note(child.id().unwrap_or(0)).map_err(failed)?;
        Ok(child)
    }

    fn note(&self, pid: impl std::fmt::Display) -> std::io::Result<()> {
        fs::write(self.pid_file(), format!("{pid}\n"))
    }

    /// The process that took our child's place.
    async fn successor(&self) -> Option<Successor> {
        Successor::at(self.socket.as_ref()?).await
    }
}

impl Supervised {
    /// Starts it; from then on it is started again whenever it ends.
    pub(super) fn start(program: Program) -> Result<Self, DevError> {
        let child = program.spawn()?;
        let (stop, stopped) = watch::channel(false);
        let pid_file = program.pid_file();
        let task = tokio::spawn(supervise(program, child, stopped));
        Ok(Self { stop, task, pid_file })
    }

    /// Ends it: SIGTERM, and SIGKILL where that does not help.
    pub(super) async fn stop(&mut self) {
        self.stop.send_replace(true);
        let _ = (&mut self.task).await;
        let _ = fs::remove_file(&self.pid_file);
    }
}

async fn supervise(program: Program, mut child: Child, mut stopped: watch::Receiver<bool>) {
    let mut pause = RESTART_FIRST;
    loop {
        let started = Instant::now();
        tokio::select! {
            // Cancel-safe: `wait` may be called again, the wish to stop stays.
            () = asked(&mut stopped) => return end(&program, child).await,
            status = child.wait() => {
                let status = status.map_or_else(|e| e.to_string(), |status| status.to_string());
                tracing::warn!(role = program.role, folder = %program.folder.display(), %status, "child ended");
            }
        }
        if started.elapsed() >= STABLE_AFTER {
            pause = RESTART_FIRST;
        }
        while let Some(mut successor) = program.successor().await {
            let pid = successor.pid().unwrap_or(0);
            tracing::info!(role = program.role, pid, "another process took over; it serves now");
            // Only a hint for people.
            let _ = program.note(pid);
            tokio::select! {
                // Cancel-safe: what is read is thrown away, the wish to stop stays.
                () = asked(&mut stopped) => return successor.end().await,
                () = successor.ended() => pause = RESTART_FIRST,
            }
        }
        child = loop {
            tokio::select! {
                // Cancel-safe: a sleep holds nothing.
                () = asked(&mut stopped) => return,
                () = tokio::time::sleep(pause) => {}
            }
            pause = (pause * 2).min(RESTART_LONGEST);
            match program.spawn() {
                Ok(child) => break child,
                Err(error) => tracing::error!(%error, "child could not be started"),
            }
        };
    }
}

/// Also when the owner is gone without a word.
async fn asked(stopped: &mut watch::Receiver<bool>) {
    let _ = stopped.wait_for(|stop| *stop).await;
}

async fn end(program: &Program, mut child: Child) {
    if let Some(pid) = child.id().and_then(|pid| i32::try_from(pid).ok()) {
        // One that has ended meanwhile is reaped below.
        let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
    }
    if tokio::time::timeout(END_WITHIN, child.wait()).await.is_err() {
        let _ = child.kill().await;
    }
    // It took over while the child still held connections.
    if let Some(successor) = program.successor().await {
        successor.end().await;
    }
}

/// `pith-agent` beside this program, else in PATH.
pub(super) fn find_agent() -> Result<PathBuf, DevError> {
    let own = std::env::current_exe().unwrap_or_default();
    let beside = own.parent().unwrap_or(Path::new(".")).to_owned();
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::iter::once(beside.clone())
        .chain(std::env::split_paths(&path))
        .map(|folder| folder.join(AGENT))
        .find(|candidate| candidate.is_file())
        .ok_or(DevError::NoAgent { beside })
}
