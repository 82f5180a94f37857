//! The unix sockets: one that only its owner can open, and one for a group, if there is one. Who is at the other end is what
//! the kernel says.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use nix::unistd::{Gid, chown};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::{JoinHandle, JoinSet};

use super::caller::{Group, Peer};
use crate::front::http;

/// Connections of one socket.
const MAX_CONNECTIONS: usize = 512;
/// After an accept that failed, most often for want of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Answers under way get this long at the end.
const END_PATIENCE: Duration = Duration::from_secs(2);

/// A socket that is being served; it goes with this value.
#[derive(Debug)]
pub struct Serving {
    path: PathBuf,
    stop: watch::Sender<bool>,
    /// None once it is waited for.
    accepting: Option<JoinHandle<()>>,
}

impl Serving {
    /// Lets nobody in any more; what came is still answered.
    pub fn close(&self) {
        self.stop.send_replace(true);
        let _ = fs::remove_file(&self.path);
    }

    /// Closes it, and waits until every connection has ended.
    pub async fn end(mut self) {
        self.close();
        if let Some(accepting) = self.accepting.take() {
            // It ends by itself, within END_PATIENCE.
            let _ = accepting.await;
        }
    }
}

/// Why the API cannot be served.
#[derive(Debug, thiserror::Error)]
#[error("the API cannot be served on {path}: {source}")]
pub struct ServeError {
    path: PathBuf,
    source: io::Error,
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.close();
    }
}

/// Serves the API to root and this user; requests are accepted when this returns.
///
/// # Errors
/// Where the socket cannot be made.
pub fn serve(router: axum::Router, path: &Path) -> Result<Serving, ServeError> {
    start(router, path, None)
}

/// Serves the API to a group as well.
///
/// # Errors
/// Where the socket cannot be made, or not be given to the group.
pub fn serve_group(
    router: axum::Router,
    path: &Path,
    group: &Group,
) -> Result<Serving, ServeError> {
    start(router, path, Some(group.clone()))
}

fn start(router: axum::Router, path: &Path, group: Option<Group>) -> Result<Serving, ServeError> {
    let listener = bind(path, group.as_ref())
        .map_err(|source| ServeError { path: path.to_owned(), source })?;
    let (stop, stopped) = watch::channel(false);
    let accepting = Some(tokio::spawn(accept(listener, router, group, stopped)));
    Ok(Serving { path: path.to_owned(), stop, accepting })
}

fn bind(path: &Path, group: Option<&Group>) -> io::Result<UnixListener> {
    // The database's lock says that no other coordinator runs: what lies here is left over.
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    // Bound under a name nobody knows, and renamed once its mode is right: never open to others, not for a moment.
    let hidden = path.with_extension("new");
    let _ = fs::remove_file(&hidden);
    let listener = UnixListener::bind(&hidden)?;
    fs::set_permissions(&hidden, fs::Permissions::from_mode(0o600))?;
    if let Some(group) = group {
        chown(&hidden, None, Some(Gid::from_raw(group.gid)))?;
        fs::set_permissions(&hidden, fs::Permissions::from_mode(0o660))?;
    }
    fs::rename(&hidden, path)?;
    Ok(listener)
}

async fn accept(
    listener: UnixListener,
    router: axum::Router,
    group: Option<Group>,
    mut stopped: watch::Receiver<bool>,
) {
    let (places, group) = (Arc::new(Semaphore::new(MAX_CONNECTIONS)), group.map(Arc::new));
    let mut connections = JoinSet::new();
    loop {
        // Cancel-safe: accepting and joining lose nothing when dropped.
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(_) = connections.join_next() => continue,
            _ = stopped.wait_for(|stop| *stop) => break,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "a connection to the API could not be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
            tracing::warn!("a connection to the API is refused: too many at once");
            continue;
        };
        let (router, group, mut stopped) = (router.clone(), group.clone(), stopped.clone());
        connections.spawn(async move {
            let _place = place;
            let Some(peer) = peer(&stream, group).await else { return };
            let stop = async { drop(stopped.wait_for(|stop| *stop).await) };
            http::serve(stream, http::Who { peer, shown: None }, router, stop, END_PATIENCE).await;
        });
    }
    let ended = async { while connections.join_next().await.is_some() {} };
    let _ = tokio::time::timeout(END_PATIENCE, ended).await;
}

/// What the kernel says; users and groups may be looked up on other machines, which is not for this thread to wait for.
async fn peer(stream: &UnixStream, group: Option<Arc<Group>>) -> Option<Peer> {
    let found = stream.peer_cred().ok()?;
    let look = move || Peer::local(found.uid(), found.gid(), group.as_deref());
    tokio::task::spawn_blocking(look).await.ok()
}
