//! One session with a broker, and the handle its owner holds.
//!
//! Owns the public face: starting, publishing, counting, closing. The work is in `session/driver.rs` (the task) and
//! `session/link.rs` (one connection). Publishing never waits; it puts a message into the outbox.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use protocol::topic::Topic;
use tokio::sync::{Notify, mpsc, watch};

use crate::config::{BrokerAddress, Config};
use crate::event::Event;
use crate::outbox::{Outbox, Pushed};
use crate::tls::Tls;

mod driver;
mod link;

/// Events that wait for the owner. When it is full the session reads no more from the broker, so an owner that takes
/// no events for a keepalive loses the connection, not messages unnoticed.
const EVENTS_MAX: usize = 64;
/// Bytes of an MQTT head beside topic and payload: type, length, topic length, packet id.
const HEAD_BYTES: usize = 1 + 4 + 2 + 2;

/// Starts sessions.
#[derive(Debug, Clone, Copy)]
pub struct Session;

impl Session {
    /// Starts a session in a task of the current tokio runtime. It connects, and connects again, until it is closed
    /// or the receiver is dropped, after which the broker tells the will. `seed` makes the waits of this board differ from those of the others.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    #[must_use]
    pub fn start(config: Config, seed: u64) -> (Handle, mpsc::Receiver<Event>) {
        let shared = Arc::new(Shared::new(&config));
        let (events_in, events) = mpsc::channel(EVENTS_MAX);
        let (wish, wishes) = watch::channel(Wish::default());
        let (over_in, over) = watch::channel(None);
        let driver = driver::Driver::new(config, seed, Arc::clone(&shared), events_in, wishes);
        tokio::spawn(async move {
            let left = driver.run().await;
            over_in.send_replace(Some(Closed { left }));
        });
        (Handle { shared, wish: Arc::new(wish), over }, events)
    }
}

/// Topic and payload of each publish in the bytes of a broker, as a session with this limit takes them in.
#[cfg(any(test, feature = "testing"))]
#[must_use]
pub fn publishes(bytes: &[u8], max_packet_bytes: usize) -> Vec<(Bytes, Bytes)> {
    link::read(bytes, max_packet_bytes)
}

/// What the owner wants of the running session.
#[derive(Debug, Clone, Copy, Default)]
struct Wish {
    close_by: Option<tokio::time::Instant>,
    reconnects: u64,
    retries: u64,
}

/// What the handle and the task both see.
#[derive(Debug)]
struct Shared {
    outbox: Mutex<Outbox>,
    pushed: Notify,
    max_packet_bytes: usize,
    connected: AtomicBool,
    sent: AtomicU64,
    received: AtomicU64,
    unknown: AtomicU64,
    connects: AtomicU64,
    last_received: Mutex<Option<Instant>>,
    /// For the next connect.
    tls: Mutex<Option<Tls>>,
    /// For the next connect, until it has taken them.
    addresses: Mutex<Option<Vec<BrokerAddress>>>,
}

impl Shared {
    fn new(config: &Config) -> Self {
        Self {
            outbox: Mutex::new(Outbox::new(config.outbox)),
            pushed: Notify::new(),
            max_packet_bytes: config.max_packet_bytes,
            connected: AtomicBool::new(false),
            sent: AtomicU64::new(0),
            received: AtomicU64::new(0),
            unknown: AtomicU64::new(0),
            connects: AtomicU64::new(0),
            last_received: Mutex::new(None),
            tls: Mutex::new(config.tls.clone()),
            addresses: Mutex::new(None),
        }
    }

    /// Never held across an await. A panic elsewhere leaves an outbox that is whole.
    fn outbox(&self) -> MutexGuard<'_, Outbox> {
        self.outbox.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tls(&self) -> Option<Tls> {
        self.tls.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn take_addresses(&self) -> Option<Vec<BrokerAddress>> {
        self.addresses.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn last_received(&self) -> MutexGuard<'_, Option<Instant>> {
        self.last_received.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Why a message was not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PublishError {
    /// It would be cut off by the broker, and again after every reconnect.
    #[error("{bytes} bytes for {topic} are above the packet limit of {limit_bytes}")]
    TooLarge {
        /// Where to.
        topic: Topic,
        /// The packet's size.
        bytes: usize,
        /// The configured limit.
        limit_bytes: usize,
    },
    /// The session was closed.
    #[error("the session is closed")]
    Closed,
}

/// What a closed session leaves behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Closed {
    /// Messages that the broker has not acknowledged.
    pub left: usize,
}

/// Counters of a session since its start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stats {
    /// Whether it stands and is subscribed.
    pub connected: bool,
    /// How often it came up.
    pub connects: u64,
    /// Messages the broker acknowledged, and samples written.
    pub sent: u64,
    /// Messages taken from our topics.
    pub received: u64,
    /// Messages on topics that are not ours, dropped.
    pub unknown: u64,
    /// Events and samples the outbox lost.
    pub dropped: u64,
    /// Messages waiting or in flight.
    pub outbox: usize,
    /// When the broker last sent anything, a ping's answer included.
    pub last_received: Option<Instant>,
}

/// The owner's side of a session; clones are the same session.
#[derive(Debug, Clone)]
pub struct Handle {
    shared: Arc<Shared>,
    wish: Arc<watch::Sender<Wish>>,
    over: watch::Receiver<Option<Closed>>,
}

impl Handle {
    /// Puts a message into the outbox and returns at once; the topic says with which promise it is sent and kept.
    ///
    /// # Errors
    /// When it can never be sent: above the packet limit, or the session is closed.
    pub fn publish(&self, topic: Topic, payload: impl Into<Bytes>) -> Result<Pushed, PublishError> {
        let payload = payload.into();
        let bytes = HEAD_BYTES + topic.to_string().len() + payload.len();
        let limit_bytes = self.shared.max_packet_bytes;
        if bytes > limit_bytes {
            return Err(PublishError::TooLarge { topic, bytes, limit_bytes });
        }
        if self.over.borrow().is_some() || self.wish.is_closed() {
            return Err(PublishError::Closed);
        }
        let pushed = self.shared.outbox().push(topic, payload);
        self.shared.pushed.notify_one();
        Ok(pushed)
    }

    /// The counters now.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let shared = &self.shared;
        let (dropped, outbox) = {
            let outbox = shared.outbox();
            (outbox.dropped(), outbox.len())
        };
        Stats {
            connected: shared.connected.load(Relaxed),
            connects: shared.connects.load(Relaxed),
            sent: shared.sent.load(Relaxed),
            received: shared.received.load(Relaxed),
            unknown: shared.unknown.load(Relaxed),
            dropped,
            outbox,
            last_received: *shared.last_received(),
        }
    }

    /// Drops the connection and makes a new one, for an owner whose hello stays unanswered. Nothing happens while the
    /// session is down anyway.
    pub fn reconnect(&self) {
        self.wish.send_modify(|wish| wish.reconnects += 1);
    }

    /// Ends the wait before the next connect, for an owner that has mended what was refused. Nothing happens while the session stands.
    pub fn retry_now(&self) {
        if !self.shared.connected.load(Relaxed) {
            self.wish.send_modify(|wish| wish.retries += 1);
        }
    }

    /// Certificates for the next connect, such as renewed ones; the connection that stands stays as it is.
    pub fn set_tls(&self, tls: Tls) {
        *self.shared.tls.lock().unwrap_or_else(PoisonError::into_inner) = Some(tls);
    }

    /// Where the broker is looked for from the next connect on: first where it was found last, if that is among them, then in their
    /// order. None at all changes nothing; the connection that stands stays as it is.
    pub fn set_addresses(&self, addresses: Vec<BrokerAddress>) {
        if !addresses.is_empty() {
            let mut next = self.shared.addresses.lock().unwrap_or_else(PoisonError::into_inner);
            *next = Some(addresses);
        }
    }

    /// Says that the session is offline, sends what waits until `patience` is over, and disconnects. The events end.
    /// Events that nobody takes meanwhile are dropped.
    pub async fn close(&self, patience: Duration) -> Closed {
        let close_by = tokio::time::Instant::now() + patience;
        self.wish.send_modify(|wish| wish.close_by = wish.close_by.or(Some(close_by)));
        let mut over = self.over.clone();
        match over.wait_for(Option::is_some).await {
            Ok(closed) => closed.unwrap_or(Closed { left: 0 }),
            // The task is gone without a word: the runtime is shutting down.
            Err(_) => Closed { left: self.shared.outbox().len() },
        }
    }
}
