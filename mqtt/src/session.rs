//! A session: a task that connects, subscribes, moves the outbox, and tells its owner what happens.

mod connection;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bytes::Bytes;
use protocol::topic::Topic;
use tokio::sync::{Notify, mpsc};

use crate::backoff::{Backoff, Cause};
use crate::outbox::Outbox;
use connection::Ended;

/// Default pause between two pings; twice the usual, for metered links.
pub const KEEPALIVE: Duration = Duration::from_secs(120);
/// Larger packets are refused in both directions.
pub const MAX_PACKET_BYTES: usize = 512 * 1024;
/// Received messages not taken by the owner yet; more wait in the socket.
const MAX_QUEUED_EVENTS: usize = 64;

/// `host:port` of a broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// A name or an address.
    pub host: String,
    /// The port.
    pub port: u16,
}

/// Why text is not an address that can be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidAddress {
    /// Not `host:port`.
    #[error("`{0}` is not host:port, such as 10.0.0.2:1883")]
    Form(String),
    /// A static binary has no multicast name resolution.
    #[error("`{0}`: names in .local cannot be resolved here; use an address or a name in DNS")]
    Local(String),
}

impl std::str::FromStr for Address {
    type Err = InvalidAddress;
    fn from_str(text: &str) -> Result<Self, InvalidAddress> {
        let form = || InvalidAddress::Form(text.to_owned());
        let (host, port) = text.rsplit_once(':').ok_or_else(form)?;
        let port = port.parse().map_err(|_| form())?;
        let host = host.trim_start_matches('[').trim_end_matches(']');
        if host.is_empty() {
            return Err(form());
        }
        if host.trim_end_matches('.').to_ascii_lowercase().ends_with(".local") {
            return Err(InvalidAddress::Local(host.to_owned()));
        }
        Ok(Self { host: host.to_owned(), port })
    }
}

/// A user and a secret.
#[derive(Clone, PartialEq, Eq)]
pub struct Login {
    /// The user.
    pub user: String,
    /// The secret; never printed.
    pub secret: String,
}

impl std::fmt::Debug for Login {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Login({}, …)", self.user)
    }
}

/// What the broker publishes, retained where the topic is, when the session is gone without a goodbye.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Will {
    /// Where to.
    pub topic: Topic,
    /// What.
    pub payload: Vec<u8>,
}

/// Everything a session needs.
#[derive(Debug, Clone)]
pub struct Config {
    /// The broker.
    pub address: Address,
    /// The node's id, or the coordinator's.
    pub client_id: String,
    /// How it proves itself.
    pub login: Option<Login>,
    /// Exact filters, subscribed at every connect.
    pub subscriptions: Vec<String>,
    /// Said by the broker when the session is gone.
    pub will: Option<Will>,
    /// Between two pings.
    pub keepalive: Duration,
    /// First pause after a failure.
    pub backoff_base: Duration,
}

impl Config {
    /// A configuration with the defaults of a board.
    #[must_use]
    pub fn new(address: Address, client_id: &str) -> Self {
        Self {
            address,
            client_id: client_id.to_owned(),
            login: None,
            subscriptions: Vec::new(),
            will: None,
            keepalive: KEEPALIVE,
            backoff_base: Duration::from_secs(1),
        }
    }
}

/// What happens to a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Connected, and every subscription was granted: say hello and bring everything up to date.
    Up,
    /// Not connected; tried again after the pause.
    Down {
        /// What broke, for a person.
        reason: String,
        /// Whether the credentials were refused.
        refused: bool,
        /// The pause.
        retry_in: Duration,
    },
    /// A message on one of our topics.
    Message {
        /// Which.
        topic: Topic,
        /// What.
        payload: Bytes,
        /// Whether the broker had kept it.
        retained: bool,
    },
}

/// Figures of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stats {
    /// Whether it is up.
    pub is_up: bool,
    /// Messages handed to the broker.
    pub sent: u64,
    /// Messages received on topics of ours.
    pub received: u64,
    /// Messages received on other topics, which were dropped.
    pub foreign: u64,
    /// Messages dropped from the outbox.
    pub dropped: u64,
    /// Messages that wait or are not acknowledged.
    pub waiting: usize,
}

#[derive(Debug, Default)]
struct Shared {
    outbox: Mutex<Outbox>,
    changed: Notify,
    closing: AtomicBool,
    is_up: AtomicBool,
    sent: AtomicU64,
    received: AtomicU64,
    foreign: AtomicU64,
}

impl Shared {
    /// Held for a moment and never across an await; a panic while it is held leaves the outbox usable.
    fn outbox(&self) -> MutexGuard<'_, Outbox> {
        self.outbox.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// The owner's side of a session. Dropping every handle does not end it; [`Session`] does.
#[derive(Debug, Clone)]
pub struct Handle {
    shared: Arc<Shared>,
}

impl Handle {
    /// Takes a message into the outbox; never waits.
    pub fn publish(&self, topic: Topic, payload: impl Into<Bytes>) {
        self.shared.outbox().push(topic, payload.into());
        self.shared.changed.notify_one();
    }

    /// The session's figures.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let outbox = self.shared.outbox();
        Stats {
            is_up: self.shared.is_up.load(Ordering::Relaxed),
            sent: self.shared.sent.load(Ordering::Relaxed),
            received: self.shared.received.load(Ordering::Relaxed),
            foreign: self.shared.foreign.load(Ordering::Relaxed),
            dropped: outbox.dropped(),
            waiting: outbox.len(),
        }
    }
}

/// A running session: its events, and its end when dropped.
#[derive(Debug)]
pub struct Session {
    events: mpsc::Receiver<Event>,
    handle: Handle,
    task: tokio::task::JoinHandle<()>,
}

impl Session {
    /// Starts a session in a task of its own.
    #[must_use]
    pub fn start(config: Config) -> Self {
        let (sender, events) = mpsc::channel(MAX_QUEUED_EVENTS);
        let shared = Arc::new(Shared::default());
        let handle = Handle { shared: Arc::clone(&shared) };
        let task = tokio::spawn(run(config, shared, sender));
        Self { events, handle, task }
    }

    /// A handle to publish with.
    #[must_use]
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// The next event; `None` only after the session has ended. Cancel-safe.
    pub async fn next(&mut self) -> Option<Event> {
        self.events.recv().await
    }

    /// Sends what waits, says goodbye (so that no will is published) and ends, within `limit`.
    pub async fn close(mut self, limit: Duration) {
        self.handle.shared.closing.store(true, Ordering::Relaxed);
        self.handle.shared.changed.notify_one();
        let task = &mut self.task;
        let drained = async { while self.events.recv().await.is_some() {} };
        // Whatever was not sent within the limit is lost with the process; state is said again at the next hello.
        let _ = tokio::time::timeout(limit, async { tokio::join!(task, drained) }).await;
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Connects again and again until the owner is gone or closes.
async fn run(config: Config, shared: Arc<Shared>, events: mpsc::Sender<Event>) {
    let mut backoff = Backoff::new(config.backoff_base);
    loop {
        let (ended, stood) = connection::run(&config, &shared, &events).await;
        shared.is_up.store(false, Ordering::Relaxed);
        shared.outbox().disconnected();
        let (reason, cause) = match ended {
            Ended::Closed | Ended::OwnerGone => return,
            Ended::Refused(reason) => (reason, Cause::Refused),
            Ended::Broken(reason) => (reason, Cause::Network),
        };
        if shared.closing.load(Ordering::Relaxed) {
            return;
        }
        let retry_in = backoff.next(cause, stood, random());
        let refused = cause == Cause::Refused;
        if events.send(Event::Down { reason, refused, retry_in }).await.is_err() {
            return;
        }
        tokio::time::sleep(retry_in).await;
    }
}

fn random() -> u64 {
    // Without randomness the pauses are equal, which is worse for a fleet and no reason to stop.
    getrandom::u64().unwrap_or(u64::MAX / 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_name_host_and_port_and_never_local_names() {
        let parse = |text: &str| text.parse::<Address>().map(|a| format!("{} {}", a.host, a.port));
        assert_eq!(parse("10.0.0.2:1883").unwrap(), "10.0.0.2 1883");
        assert_eq!(parse("[::1]:1883").unwrap(), "::1 1883");
        assert!(matches!(parse("broker"), Err(InvalidAddress::Form(_))));
        assert!(matches!(parse("opi.local:1883"), Err(InvalidAddress::Local(_))));
    }
}
