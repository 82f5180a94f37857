//! The agent's side of the control socket.

use super::lines::Lines;
use super::{Applied, Event, Reply, Request, Snapshot};
use crate::limits::{CALL_DEADLINE, RENEWAL_DEADLINE};
use crate::table::Table;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::net::UnixStream;
use tokio::time::{Instant, sleep, timeout_at};

/// Between two tries while a newer proxy takes over.
const BUSY_PAUSE: Duration = Duration::from_millis(20);
/// Between two tries of a watch to reach the proxy again: first and longest.
const RECONNECT_PAUSE_MIN: Duration = Duration::from_millis(50);
/// See [`RECONNECT_PAUSE_MIN`].
const RECONNECT_PAUSE_MAX: Duration = Duration::from_secs(2);

/// Talks to the proxy. Each call is a connection of its own, so that a proxy that was replaced is no case
/// of its own.
#[derive(Debug, Clone)]
pub struct Client {
    path: PathBuf,
    deadline: Duration,
}

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody answers on the socket.
    #[error("the proxy is not reachable at {path}")]
    Unreachable {
        /// The socket.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// The connection broke before the answer.
    #[error("the proxy broke off before it answered")]
    BrokeOff(#[source] io::Error),
    /// No answer in time, a take-over that does not end included.
    #[error("the proxy did not answer within {0:?}")]
    TimedOut(Duration),
    /// The proxy refused the request as a whole.
    #[error("the proxy refused: {0}")]
    Refused(String),
    /// An answer to another question.
    #[error("the proxy gave an answer that does not belong to the request")]
    Unexpected,
}

impl Client {
    /// Checks that a proxy listens at `path`.
    ///
    /// # Errors
    /// [`ClientError::Unreachable`].
    pub async fn connect(path: impl AsRef<Path>) -> Result<Self, ClientError> {
        let client = Self::new(path);
        client.open().await?;
        Ok(client)
    }

    /// A client that has not looked yet whether anyone listens.
    pub fn new(path: impl AsRef<Path>) -> Self {
        Self { path: path.as_ref().to_owned(), deadline: CALL_DEADLINE }
    }

    /// The same client with another deadline per call.
    #[must_use]
    pub fn with_deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// Puts a table in force. When this returned, a draining backend gets no new request.
    ///
    /// # Errors
    /// Every [`ClientError`]; addresses that could not be bound are in [`Applied::refused`] instead.
    pub async fn set(&self, table: &Table) -> Result<Applied, ClientError> {
        let reply = self.call(&Request::Set { table: table.clone() }).await?;
        if let Reply::Applied(applied) = reply {
            return Ok(applied);
        }
        Err(unexpected(reply))
    }

    /// Everything the proxy knows.
    ///
    /// # Errors
    /// Every [`ClientError`].
    pub async fn get(&self) -> Result<Snapshot, ClientError> {
        let reply = self.call(&Request::Get).await?;
        if let Reply::Snapshot(snapshot) = reply {
            return Ok(snapshot);
        }
        Err(unexpected(reply))
    }

    /// Has the proxy exchange itself; another process serves when this returned.
    ///
    /// # Errors
    /// Every [`ClientError`]; the proxy goes on then. One that is older than this request says that it does not understand it.
    pub async fn renew(&self) -> Result<(), ClientError> {
        let patient = self.clone().with_deadline(RENEWAL_DEADLINE);
        let reply = patient.call(&Request::Renew).await?;
        if matches!(reply, Reply::Renewed) { Ok(()) } else { Err(unexpected(reply)) }
    }

    /// Events, across restarts and take-overs of the proxy.
    pub fn watch(&self) -> Watch {
        Watch { client: self.clone(), lines: None, pause: RECONNECT_PAUSE_MIN }
    }

    async fn call(&self, request: &Request) -> Result<Reply, ClientError> {
        let until = Instant::now() + self.deadline;
        loop {
            let reply = timeout_at(until, self.call_once(request))
                .await
                .map_err(|_| ClientError::TimedOut(self.deadline))?;
            match reply {
                Ok(Reply::Busy) => (),
                // An old proxy that ended as we spoke; the new one answers at once.
                Err(ClientError::BrokeOff(_)) if Instant::now() + BUSY_PAUSE < until => (),
                other => return other,
            }
            if Instant::now() + BUSY_PAUSE >= until {
                return Err(ClientError::TimedOut(self.deadline));
            }
            sleep(BUSY_PAUSE).await;
        }
    }

    async fn call_once(&self, request: &Request) -> Result<Reply, ClientError> {
        let mut lines = self.open().await?;
        lines.send(request).await.map_err(ClientError::BrokeOff)?;
        let reply = lines.next().await.map_err(ClientError::BrokeOff)?;
        reply.ok_or_else(|| ClientError::BrokeOff(io::ErrorKind::UnexpectedEof.into()))
    }

    async fn open(&self) -> Result<Lines, ClientError> {
        let unreachable = |source| ClientError::Unreachable { path: self.path.clone(), source };
        UnixStream::connect(&self.path).await.map(Lines::new).map_err(unreachable)
    }
}

fn unexpected(reply: Reply) -> ClientError {
    match reply {
        Reply::Failed { error } => ClientError::Refused(error),
        Reply::Applied(_)
        | Reply::Snapshot(_)
        | Reply::HandingOver(_)
        | Reply::Retired { .. }
        | Reply::Renewed
        | Reply::Busy => ClientError::Unexpected,
    }
}

/// A stream of events.
#[derive(Debug)]
pub struct Watch {
    client: Client,
    lines: Option<Lines>,
    pause: Duration,
}

impl Watch {
    /// The next event. While no proxy answers it waits and tries again; after each reconnect an event
    /// comes at once. Cancel-safe.
    pub async fn next(&mut self) -> Event {
        loop {
            if let Some(lines) = &mut self.lines {
                if let Ok(Some(event)) = lines.next().await {
                    self.pause = RECONNECT_PAUSE_MIN;
                    return event;
                }
                self.lines = None;
                sleep(RECONNECT_PAUSE_MIN).await;
            }
            match self.open().await {
                Some(lines) => self.lines = Some(lines),
                None => {
                    let pause = self.pause;
                    self.pause = (pause * 2).min(RECONNECT_PAUSE_MAX);
                    sleep(pause).await;
                }
            }
        }
    }

    async fn open(&self) -> Option<Lines> {
        let mut lines = self.client.open().await.ok()?;
        lines.send(&Request::Watch).await.ok()?;
        Some(lines)
    }
}
