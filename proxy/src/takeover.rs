//! One proxy replacing another without closing a port.
//!
//! ```text
//! new: TakeOver ------> old: freezes the table, names listeners
//! new: SendListeners -> old: passes the sockets (SCM_RIGHTS, unix(7))
//! new: accepts on them; Accepting -> old: stops accepting, gives its counters, answers with Connection: close
//! new: takes the control socket's path; asks the old one for its numbers and passes tables on until it ends
//! ```

use crate::control::lines::Lines;
use crate::control::{BackendStatus, Counter, Reply, Request, Snapshot};
use crate::limits::{FDS_PER_MESSAGE, LISTENERS_MAX, PREDECESSOR_DEADLINE};
use crate::listen::Listener;
use crate::live::Live;
use crate::table::BackendState;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags,
};
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::Interest;
use tokio::net::UnixStream;
use tokio::time::timeout;

/// How often the older proxy is asked while a backend drains, and otherwise.
const ASK_DRAINING: Duration = Duration::from_millis(50);
/// See [`ASK_DRAINING`]. A retired proxy ends later than this after its last connection.
pub(crate) const ASK_QUIET: Duration = Duration::from_secs(1);

/// Why a running proxy could not be taken over from.
#[derive(Debug, thiserror::Error)]
pub enum TakeOverError {
    /// The conversation broke.
    #[error("the running proxy broke off during the take-over")]
    BrokeOff(#[from] io::Error),
    /// It answered something else.
    #[error("the running proxy does not hand over (is another take-over under way?)")]
    Refused,
    /// It did not answer in time.
    #[error("the running proxy did not answer in time")]
    TimedOut(#[from] tokio::time::error::Elapsed),
}

/// The proxy that was taken over from, while it still serves kept connections.
#[derive(Debug)]
pub(crate) struct Predecessor {
    lines: Lines,
    last: Option<Snapshot>,
    told: Vec<BackendStatus>,
}

/// Takes everything from the proxy at `path`. `None` when none runs there.
pub(crate) async fn from_running(
    path: &Path,
    live: &Arc<Live>,
) -> Result<Option<Predecessor>, TakeOverError> {
    let Ok(stream) = UnixStream::connect(path).await else {
        return Ok(None);
    };
    let mut lines = Lines::new(stream);
    let Reply::HandingOver(offer) = call(&mut lines, &Request::TakeOver).await? else {
        return Err(TakeOverError::Refused);
    };
    if offer.listeners.len() > LISTENERS_MAX {
        return Err(TakeOverError::Refused);
    }
    lines.send(&Request::SendListeners).await?;
    let receiving = receive(lines.stream(), offer.listeners.len());
    let sockets = timeout(PREDECESSOR_DEADLINE, receiving).await??;
    let listeners = offer.listeners.into_iter().zip(sockets);
    let listener =
        |(address, socket)| Listener { address, socket: std::net::TcpListener::from(socket) };
    live.adopt(listeners.map(listener).collect());
    live.set(offer.table).map_err(|_| TakeOverError::Refused)?;
    let Reply::Retired { counters } = call(&mut lines, &Request::Accepting).await? else {
        return Err(TakeOverError::Refused);
    };
    live.inherit(&counters);
    Ok(Some(Predecessor { lines, last: None, told: Vec::new() }))
}

async fn call(lines: &mut Lines, request: &Request) -> Result<Reply, TakeOverError> {
    let conversation = async {
        lines.send(request).await?;
        lines.next().await?.ok_or(io::Error::from(io::ErrorKind::UnexpectedEof))
    };
    Ok(timeout(PREDECESSOR_DEADLINE, conversation).await??)
}

impl Predecessor {
    /// Asks, and remembers the numbers of a snapshot.
    pub(crate) async fn ask(&mut self, request: &Request) -> Result<(), TakeOverError> {
        let conversation = async {
            self.lines.send(request).await?;
            self.lines.next().await?.ok_or(io::Error::from(io::ErrorKind::UnexpectedEof))
        };
        if let Reply::Snapshot(snapshot) = timeout(PREDECESSOR_DEADLINE, conversation).await?? {
            self.last = Some(snapshot);
        }
        Ok(())
    }

    /// What it counted since it was taken over.
    pub(crate) fn counters(&self) -> Vec<Counter> {
        self.last.iter().flat_map(|last| last.counters.clone()).collect()
    }

    /// Adds its work to ours.
    pub(crate) fn add_to(&self, statuses: &mut [BackendStatus]) {
        for older in self.statuses() {
            let same =
                |one: &&mut BackendStatus| one.route == older.route && one.backend == older.backend;
            if let Some(status) = statuses.iter_mut().find(same) {
                status.in_flight += older.in_flight;
                status.connections += older.connections;
                status.requests_started += older.requests_started;
                status.connect_errors += older.connect_errors;
            }
        }
    }

    /// Whether anything changed since the last call.
    pub(crate) fn has_news(&mut self) -> bool {
        let now = self.statuses().to_vec();
        let news = now != self.told;
        self.told = now;
        news
    }

    /// How long to wait before asking again.
    pub(crate) fn pause(&self) -> Duration {
        let drains = self
            .statuses()
            .iter()
            .any(|one| one.state == BackendState::Draining && one.in_flight + one.connections > 0);
        if drains { ASK_DRAINING } else { ASK_QUIET }
    }

    fn statuses(&self) -> &[BackendStatus] {
        self.last.as_ref().map_or(&[], |last| &last.backends)
    }
}

/// Passes sockets, some with each message; a message carries one byte, since an empty one carries nothing.
pub(crate) async fn send(stream: &UnixStream, sockets: &[Arc<OwnedFd>]) -> io::Result<()> {
    for batch in sockets.chunks(FDS_PER_MESSAGE) {
        let fds: Vec<_> = batch.iter().map(|socket| socket.as_fd()).collect();
        stream
            .async_io(Interest::WRITABLE, || {
                let mut space =
                    [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FDS_PER_MESSAGE))];
                let mut control = SendAncillaryBuffer::new(&mut space);
                control.push(SendAncillaryMessage::ScmRights(&fds));
                let byte = [IoSlice::new(b"f")];
                Ok(rustix::net::sendmsg(stream, &byte, &mut control, SendFlags::NOSIGNAL)?)
            })
            .await?;
    }
    Ok(())
}

async fn receive(stream: &UnixStream, count: usize) -> io::Result<Vec<OwnedFd>> {
    let mut sockets = Vec::with_capacity(count);
    while sockets.len() < count {
        let read = || {
            let mut space =
                [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FDS_PER_MESSAGE))];
            let mut control = RecvAncillaryBuffer::new(&mut space);
            let mut byte = [0];
            let mut into = [IoSliceMut::new(&mut byte)];
            let flags = RecvFlags::CMSG_CLOEXEC;
            let message = rustix::net::recvmsg(stream, &mut into, &mut control, flags)?;
            let mut received = Vec::new();
            for part in control.drain() {
                if let RecvAncillaryMessage::ScmRights(fds) = part {
                    received.extend(fds);
                }
            }
            Ok((message.bytes, received))
        };
        let (bytes, received) = stream.async_io(Interest::READABLE, read).await?;
        if bytes == 0 || received.is_empty() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        sockets.extend(received);
    }
    Ok(sockets)
}
