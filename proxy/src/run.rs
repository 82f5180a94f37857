//! The life of a proxy process: start fresh or from a running one, serve, retire or shut down.

use crate::control::server::Control;
use crate::limits::{CONNECTIONS_MAX, POOL_IDLE_MAX, RESERVED_FILES, RETIRED_MAX, SHUTDOWN_GRACE};
use crate::live::Live;
use crate::state_file;
use crate::takeover::{self, TakeOverError};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

/// Between two looks at the requests in flight while shutting down.
const SHUTDOWN_LOOK: Duration = Duration::from_millis(10);

/// How a proxy runs.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where agents connect. Its folder must exist and be the owner's alone.
    pub control_socket: PathBuf,
    /// A copy of the table, on tmpfs.
    pub state_file: PathBuf,
    /// Whether a running proxy is replaced.
    pub take_over: TakeOver,
    /// Who starts another process that takes over, when that is asked for; none: nobody.
    pub renewal: Option<Renewal>,
}

/// Is told to start another process, and tells when that one serves, or why it does not.
pub type Renewal = mpsc::Sender<oneshot::Sender<Result<(), String>>>;

/// Whether a running proxy is replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TakeOver {
    /// None may run; the copy of the last table is restored.
    Fresh,
    /// Listeners, table and counters come from the running one; without one it is `Fresh`.
    FromRunning,
}

/// Why a proxy cannot run.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// Another proxy answers on the control socket.
    #[error("a proxy already runs at {0}; replace it with --take-over")]
    AlreadyRunning(PathBuf),
    /// The control socket cannot be made.
    #[error("the control socket {path} cannot be made")]
    ControlSocket {
        /// The socket.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// See [`TakeOverError`].
    #[error("taking over from the running proxy failed; it serves on")]
    TakeOver(#[from] TakeOverError),
}

/// Runs until `shutdown` resolves (requests in flight get 10 s) or until a newer proxy took over and the
/// last connection ended (an hour at most) or the newer one did. Meant for a process of its own with a tokio `current_thread`
/// runtime, IO and time enabled; tasks are spawned with `tokio::spawn`, so no `LocalSet` is needed. What is
/// open when it returns ends with the runtime.
///
/// # Errors
/// [`RunError`]; nothing of a running proxy is changed then.
pub async fn run(options: Options, shutdown: impl Future<Output = ()>) -> Result<(), RunError> {
    let live = Live::new(connections_max());
    let socket = &options.control_socket;
    let predecessor = match options.take_over {
        TakeOver::FromRunning => takeover::from_running(socket, &live).await?,
        TakeOver::Fresh => None,
    };
    if predecessor.is_none() {
        if UnixStream::connect(socket).await.is_ok() {
            return Err(RunError::AlreadyRunning(socket.clone()));
        }
        restore(&live, &options.state_file);
    }
    let listener =
        bind(socket).map_err(|source| RunError::ControlSocket { path: socket.clone(), source })?;
    let took_over = predecessor.is_some();
    tracing::info!(socket = %socket.display(), took_over, "proxy serves");
    let control =
        Control::new(Arc::clone(&live), options.state_file.clone(), predecessor, options.renewal);
    // Dropped, a set aborts its tasks.
    let mut tasks = JoinSet::new();
    tasks.spawn(Arc::clone(&control).serve(listener));
    tasks.spawn(sweep(Arc::clone(&live)));
    let follower = Arc::clone(&control);
    tasks.spawn(async move { follower.follow_predecessor().await });
    let until_used_up = async {
        control.retired().await;
        tracing::info!("a newer proxy took over");
        let _ = timeout(RETIRED_MAX, until_unused(&live, &control)).await;
        // The newer one asks once more for what was counted last.
        sleep(takeover::ASK_QUIET * 2).await;
    };
    tokio::select! {
        // Each ends our service; the others are not needed after it.
        () = until_used_up => return Ok(()),
        () = control.orphaned() => tracing::warn!("the newer proxy is gone, nobody sets our table any more"),
        () = shutdown => {}
    }
    live.retire();
    let until = Instant::now() + SHUTDOWN_GRACE;
    while live.in_flight() > 0 && Instant::now() < until {
        sleep(SHUTDOWN_LOOK).await;
    }
    // Once taken over, the path leads to the newer one.
    if !control.is_retired() {
        let _ = std::fs::remove_file(socket);
    }
    Ok(())
}

/// An accept loop holds a permit too, but ended with its listener. A proxy that we took over from ourselves
/// reports through us, so it must end first.
async fn until_unused(live: &Live, control: &Control) {
    let _ = live.connections.acquire_many(live.connections_max).await;
    control.follow_predecessor().await;
}

fn restore(live: &Arc<Live>, state_file: &Path) {
    let Some(table) = state_file::read(state_file) else {
        return;
    };
    let version = table.version;
    match live.set(table) {
        Ok(applied) => tracing::info!(version, refused = applied.refused.len(), "table restored"),
        Err(error) => tracing::warn!(%error, "the copy of the table is not valid, starting empty"),
    }
}

/// Made beside its place and renamed into it, so that the path always leads to a listening proxy.
fn bind(path: &Path) -> io::Result<UnixListener> {
    let temporary = path.with_extension("new");
    match std::fs::remove_file(&temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => (),
    }
    let listener = UnixListener::bind(&temporary)?;
    std::fs::set_permissions(&temporary, std::fs::Permissions::from_mode(0o600))?;
    std::fs::rename(&temporary, path)?;
    Ok(listener)
}

/// Raises the soft limit of open files as far as allowed; a connection needs two.
fn connections_max() -> u32 {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    let files = match setrlimit(Resource::Nofile, raised) {
        Ok(()) => limit.maximum,
        Err(_) => limit.current,
    };
    let allowed = files.map_or(u64::MAX, |files| files.saturating_sub(RESERVED_FILES) / 2);
    allowed.clamp(16, CONNECTIONS_MAX as u64) as u32
}

/// Two wake-ups a minute close what is idle for too long, and take a renewed certificate.
async fn sweep(live: Arc<Live>) {
    loop {
        sleep(POOL_IDLE_MAX / 2).await;
        live.sweep_idle(Instant::now());
        live.shared.between.refresh();
    }
}
