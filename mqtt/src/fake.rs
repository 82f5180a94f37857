//! A broker in memory and the sessions on it, for seeded simulations: no runtime, no clock, no sockets.
//!
//! It uses the real [`Outbox`] and [`Backoff`], keeps retained messages and wills, and does to messages what networks
//! do. Time is an argument (`now_ms`, milliseconds, never going back), chance comes from the seed: equal calls give
//! equal deliveries. It must not know what payloads mean.
//!
//! ```text
//! publish -> outbox --delay--> broker (loses? keeps?) --delay, twice?--> poll -> Delivery { client, Event }
//!               ^----------- acknowledgement, delay -------|
//! ```

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use protocol::topic::{Qos, Retain, Topic};

use crate::backoff::{Backoff, Cause, Pace};
use crate::config::Presence;
use crate::event::{DownReason, Event};
use crate::outbox::{Limits, Outbox, Pushed, Token};
use crate::random::Seeded;

/// What may overtake what on one connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// Nothing: as on one TCP connection to one broker.
    Kept,
    /// A message may overtake those of other topics, as in a cluster of brokers.
    PerTopic,
}

/// What goes wrong, and how often.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Faults {
    /// Of 100 deliveries this many are lost although the broker acknowledged them.
    pub drop_percent: u8,
    /// Of 100 deliveries this many come twice.
    pub duplicate_percent: u8,
    /// Each way takes at least this long.
    pub delay_min_ms: u64,
    /// Each way takes at most this long.
    pub delay_max_ms: u64,
    /// What may overtake what.
    pub order: Order,
    /// Of 100 messages that reach the broker this many make it end the sender's session before it acknowledges.
    pub kick_percent: u8,
}

impl Default for Faults {
    /// A network that does nothing wrong and takes a millisecond.
    fn default() -> Self {
        Self {
            drop_percent: 0,
            duplicate_percent: 0,
            delay_min_ms: 1,
            delay_max_ms: 1,
            order: Order::Kept,
            kick_percent: 0,
        }
    }
}

/// One session of the simulation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClientId(usize);

/// A session's settings.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Client {
    /// As in `Config`: exact topics, or `+` for one level and `#` for the rest.
    pub subscriptions: Vec<String>,
    /// As in `Config`.
    pub presence: Option<Presence>,
    /// As in `Config`.
    pub pace: Pace,
    /// As in `Config`.
    pub outbox: Limits,
}

/// An event for a session's owner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery {
    /// Whose.
    pub client: ClientId,
    /// What a real session would have sent.
    pub event: Event,
}

/// What the broker did to messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counters {
    /// Reached the broker.
    pub published: u64,
    /// Reached a session.
    pub delivered: u64,
    /// Acknowledged and lost on purpose.
    pub lost: u64,
    /// Delivered once more on purpose.
    pub duplicated: u64,
    /// Gone with a connection.
    pub cut: u64,
}

/// How long it takes until both sides see that a partitioned connection is dead: one and a half keepalives.
const SILENCE_MS: u64 = 180_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Line {
    /// It stands; packets of older connections are void.
    Up,
    /// It stands for both sides, but nothing passes.
    Dead,
    /// It is gone; a try is scheduled.
    Down,
    /// Closed by its owner.
    Closed,
}

#[derive(Debug)]
struct Peer {
    settings: Client,
    outbox: Outbox,
    backoff: Backoff,
    line: Line,
    /// Counts connections; a flight belongs to one of them.
    connection: u64,
    partitioned: bool,
}

#[derive(Debug)]
enum Flight {
    Connect,
    Silence,
    Publish { token: Token, topic: Topic, payload: Bytes },
    Acknowledge(Token),
    Deliver(Event),
}

#[derive(Debug)]
struct Leg {
    client: ClientId,
    connection: u64,
    flight: Flight,
}

/// The broker, its sessions and the network between.
#[derive(Debug)]
pub struct FakeBroker {
    rng: Seeded,
    faults: Faults,
    running: bool,
    peers: Vec<Peer>,
    retained: BTreeMap<Topic, Bytes>,
    /// By time, then by the order of departure.
    legs: BTreeMap<(u64, u64), Leg>,
    next_leg: u64,
    /// The latest arrival of each lane; a later departure does not arrive before it.
    lanes: BTreeMap<(ClientId, Way, Option<Topic>), u64>,
    ready: Vec<Delivery>,
    lost_at_ms: u64,
    counters: Counters,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Way {
    ToBroker,
    ToClient,
}

mod network;

impl FakeBroker {
    /// A running broker without sessions.
    #[must_use]
    pub fn new(seed: u64, faults: Faults) -> Self {
        Self {
            rng: Seeded::new(seed),
            faults,
            running: true,
            peers: Vec::new(),
            retained: BTreeMap::new(),
            legs: BTreeMap::new(),
            next_leg: 0,
            lanes: BTreeMap::new(),
            ready: Vec::new(),
            lost_at_ms: 0,
            counters: Counters::default(),
        }
    }

    /// Adds a session, which begins to connect.
    pub fn connect(&mut self, settings: Client, now_ms: u64) -> ClientId {
        let client = ClientId(self.peers.len());
        let seed = self.rng.between(0, u64::MAX - 1);
        self.peers.push(Peer {
            outbox: Outbox::new(settings.outbox),
            backoff: Backoff::new(settings.pace, seed),
            settings,
            line: Line::Down,
            connection: 0,
            partitioned: false,
        });
        let at = now_ms + self.delay();
        self.depart(at, client, Flight::Connect);
        client
    }

    /// As `Handle::publish`.
    pub fn publish(
        &mut self,
        client: ClientId,
        topic: Topic,
        payload: impl Into<Bytes>,
        now_ms: u64,
    ) -> Pushed {
        let pushed = self.peer(client).outbox.push(topic, payload.into());
        self.feed(client, now_ms);
        pushed
    }

    /// Lets everything happen that is due; the events of it, in order.
    pub fn poll(&mut self, now_ms: u64) -> Vec<Delivery> {
        while let Some(entry) = self.legs.first_entry() {
            if entry.key().0 > now_ms {
                break;
            }
            let ((at_ms, _), leg) = entry.remove_entry();
            self.arrive(leg, at_ms);
        }
        std::mem::take(&mut self.ready)
    }

    /// When something happens next; none when nothing will by itself.
    #[must_use]
    pub fn next_wakeup(&self) -> Option<u64> {
        if !self.ready.is_empty() {
            return Some(self.lost_at_ms);
        }
        self.legs.first_key_value().map(|((at_ms, _), _)| *at_ms)
    }

    /// Changes what goes wrong from now on; what is under way stays as it is.
    pub fn set_faults(&mut self, faults: Faults) {
        self.faults = faults;
    }

    /// The broker ends this session; it comes back by its backoff.
    pub fn kick(&mut self, client: ClientId, now_ms: u64) {
        if matches!(self.peer(client).line, Line::Up | Line::Dead) {
            self.will(client, now_ms);
            self.lose(client, DownReason::Closed("kicked".into()), now_ms);
        }
    }

    /// [`FakeBroker::kick`] for all sessions.
    pub fn kick_all(&mut self, now_ms: u64) {
        for index in 0..self.peers.len() {
            self.kick(ClientId(index), now_ms);
        }
    }

    /// The broker dies without persistence: sessions and retained messages are gone, no will is published.
    pub fn stop(&mut self, now_ms: u64) {
        self.running = false;
        self.retained.clear();
        for index in 0..self.peers.len() {
            let client = ClientId(index);
            if matches!(self.peer(client).line, Line::Up | Line::Dead) {
                self.lose(client, DownReason::Closed("the broker stopped".into()), now_ms);
            }
        }
    }

    /// The broker serves again; the sessions find it by themselves.
    pub fn start(&mut self) {
        self.running = true;
    }

    /// Nothing passes to or from this session; both sides see it only after a keepalive and a half.
    pub fn partition(&mut self, client: ClientId, now_ms: u64) {
        let peer = self.peer(client);
        peer.partitioned = true;
        if peer.line == Line::Up {
            peer.line = Line::Dead;
            self.cut(client);
            self.depart(now_ms + SILENCE_MS, client, Flight::Silence);
        }
    }

    /// Lets this session through again. A connection that was dead in between breaks, as it would on the next packet.
    pub fn heal(&mut self, client: ClientId, now_ms: u64) {
        let peer = self.peer(client);
        peer.partitioned = false;
        if peer.line == Line::Dead {
            self.will(client, now_ms);
            self.lose(client, DownReason::Closed("the network came back".into()), now_ms);
        }
    }

    /// The broker forgets what it kept.
    pub fn forget_retained(&mut self) {
        self.retained.clear();
    }

    /// The session ends cleanly: it says that it is offline, and never comes back. What waits in its outbox is lost.
    pub fn close(&mut self, client: ClientId, now_ms: u64) {
        if self.peer(client).line == Line::Up {
            self.will(client, now_ms);
        }
        self.cut(client);
        self.peer(client).line = Line::Closed;
    }

    /// The session's process dies: the will is published, the outbox is gone, and it never comes back. Its successor
    /// is another session.
    pub fn crash(&mut self, client: ClientId, now_ms: u64) {
        self.close(client, now_ms);
        let limits = self.peer(client).settings.outbox;
        self.peer(client).outbox = Outbox::new(limits);
    }

    /// What the broker keeps for a topic.
    #[must_use]
    pub fn retained(&self, topic: &Topic) -> Option<&Bytes> {
        self.retained.get(topic)
    }

    /// Whether the session stands, as far as its owner knows.
    #[must_use]
    pub fn is_connected(&self, client: ClientId) -> bool {
        self.peers.get(client.0).is_some_and(|p| matches!(p.line, Line::Up | Line::Dead))
    }

    /// The session's outbox, to look at.
    ///
    /// # Panics
    /// For a session of another broker.
    #[must_use]
    pub fn outbox(&self, client: ClientId) -> &Outbox {
        &self.peers[client.0].outbox
    }

    /// What happened to messages so far.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.counters
    }

    fn peer(&mut self, client: ClientId) -> &mut Peer {
        &mut self.peers[client.0]
    }

    /// One way through the network.
    fn delay(&mut self) -> u64 {
        self.rng.between(self.faults.delay_min_ms, self.faults.delay_max_ms)
    }

    fn chance(&mut self, percent: u8) -> bool {
        percent > 0 && self.rng.between(1, 100) <= u64::from(percent)
    }
}

#[cfg(test)]
mod tests;
