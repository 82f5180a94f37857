//! What waits to be sent, and what was sent and is not acknowledged yet.
//!
//! Pure; the real session and the simulated one run this same code. State (retained topics) and samples (QoS 0) keep
//! only the newest payload of a topic; events are kept each, up to a limit, and then lose the oldest with a count.
//!
//! ```text
//! push -> waiting --next, sent--> in flight --acked--> gone
//!            ^------- disconnected -------|   (state that a newer payload has replaced is not sent again)
//! ```

use std::collections::BTreeMap;

use bytes::Bytes;
use protocol::topic::{Qos, Retain, Topic};

/// How much an outbox holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// QoS 1 messages sent and not acknowledged, at most.
    pub in_flight: usize,
    /// Events kept, in flight or waiting.
    pub events: usize,
    /// Their payloads' bytes together.
    pub event_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { in_flight: 32, events: 256, event_bytes: 1024 * 1024 }
    }
}

/// Names one message of one outbox; later ones are greater.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Token(u64);

/// A message on its way out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outgoing {
    /// Give it back to [`Outbox::sent`] and [`Outbox::acked`].
    pub token: Token,
    /// Where to.
    pub topic: Topic,
    /// What.
    pub payload: Bytes,
}

/// What became of a pushed message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pushed {
    /// It waits.
    Queued,
    /// It waits in the place of an older payload of its topic.
    Replaced,
    /// It waits, and the oldest events had to go.
    DroppedOldest,
    /// A sample while offline: it is gone.
    DroppedOffline,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Link {
    Up,
    Down,
}

#[derive(Debug, Clone)]
struct Entry {
    topic: Topic,
    payload: Bytes,
}

/// The queue of one session.
#[derive(Debug, Clone)]
pub struct Outbox {
    limits: Limits,
    link: Link,
    next_token: u64,
    waiting: BTreeMap<Token, Entry>,
    in_flight: BTreeMap<Token, Entry>,
    /// The waiting message of each topic of which only the newest counts.
    newest: BTreeMap<Topic, Token>,
    dropped: u64,
}

impl Outbox {
    /// Empty and offline.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            link: Link::Down,
            next_token: 0,
            waiting: BTreeMap::new(),
            in_flight: BTreeMap::new(),
            newest: BTreeMap::new(),
            dropped: 0,
        }
    }

    /// Takes a message. Its topic says by which rules it is kept.
    pub fn push(&mut self, topic: Topic, payload: Bytes) -> Pushed {
        if topic.subject.qos() == Qos::AtMostOnce && self.link == Link::Down {
            self.dropped += 1;
            return Pushed::DroppedOffline;
        }
        let newest_only = is_newest_only(&topic);
        if newest_only && let Some(token) = self.newest.get(&topic) {
            let entry = self.waiting.get_mut(token).expect("what `newest` names waits");
            entry.payload = payload;
            return Pushed::Replaced;
        }
        let token = Token(self.next_token);
        self.next_token += 1;
        if newest_only {
            self.newest.insert(topic.clone(), token);
        }
        self.waiting.insert(token, Entry { topic, payload });
        if newest_only { Pushed::Queued } else { self.shed_events() }
    }

    /// The next message to send: none while offline, while the window is full, or when nothing waits. The same one
    /// until [`Outbox::sent`] takes it, so that a full channel loses nothing.
    #[must_use]
    pub fn next(&self) -> Option<Outgoing> {
        if self.link == Link::Down {
            return None;
        }
        let (token, entry) = self.waiting.first_key_value()?;
        let acknowledged = entry.topic.subject.qos() == Qos::AtLeastOnce;
        if acknowledged && self.in_flight.len() >= self.limits.in_flight {
            return None;
        }
        Some(Outgoing { token: *token, topic: entry.topic.clone(), payload: entry.payload.clone() })
    }

    /// The link took the message: QoS 0 is done with, QoS 1 waits for [`Outbox::acked`].
    pub fn sent(&mut self, token: Token) {
        let Some(entry) = self.waiting.remove(&token) else { return };
        if self.newest.get(&entry.topic) == Some(&token) {
            self.newest.remove(&entry.topic);
        }
        if entry.topic.subject.qos() == Qos::AtLeastOnce {
            self.in_flight.insert(token, entry);
        }
    }

    /// The broker took the message; false for one that is not in flight, such as an answer of an older connection.
    pub fn acked(&mut self, token: Token) -> bool {
        self.in_flight.remove(&token).is_some()
    }

    /// The session stands and is subscribed.
    pub fn connected(&mut self) {
        self.link = Link::Up;
    }

    /// The session is gone: what was in flight waits again, in its old order, unless newer state of its topic waits;
    /// samples are dropped.
    pub fn disconnected(&mut self) {
        self.link = Link::Down;
        let mut newest_sent: BTreeMap<Topic, Token> = BTreeMap::new();
        for (token, entry) in std::mem::take(&mut self.in_flight) {
            if is_newest_only(&entry.topic) {
                if self.newest.contains_key(&entry.topic) {
                    continue;
                }
                if let Some(older) = newest_sent.insert(entry.topic.clone(), token) {
                    self.waiting.remove(&older);
                }
            }
            self.waiting.insert(token, entry);
        }
        self.newest.append(&mut newest_sent);
        let before = self.waiting.len();
        self.waiting.retain(|_, entry| entry.topic.subject.qos() == Qos::AtLeastOnce);
        self.newest.retain(|topic, _| topic.subject.qos() == Qos::AtLeastOnce);
        self.dropped += (before - self.waiting.len()) as u64;
    }

    /// Messages waiting or in flight.
    #[must_use]
    pub fn len(&self) -> usize {
        self.waiting.len() + self.in_flight.len()
    }

    /// Whether nothing waits and nothing is in flight.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// QoS 1 messages in flight.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.in_flight.len()
    }

    /// Events and samples lost since the start.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Drops the oldest waiting events until the limits hold; the newest always stays.
    fn shed_events(&mut self) -> Pushed {
        let mut pushed = Pushed::Queued;
        loop {
            let kept = self.waiting.iter().chain(&self.in_flight);
            let events = kept.filter(|(_, entry)| !is_newest_only(&entry.topic));
            let (count, bytes) =
                events.fold((0, 0), |(n, sum), (_, entry)| (n + 1, sum + entry.payload.len()));
            if count <= self.limits.events && bytes <= self.limits.event_bytes {
                return pushed;
            }
            let mut waiting = self.waiting.iter().filter(|(_, e)| !is_newest_only(&e.topic));
            let (Some((&oldest, _)), Some(_)) = (waiting.next(), waiting.next()) else {
                return pushed;
            };
            self.waiting.remove(&oldest);
            self.dropped += 1;
            pushed = Pushed::DroppedOldest;
        }
    }
}

/// State and samples: an older payload of the topic is worth nothing once there is a newer one.
fn is_newest_only(topic: &Topic) -> bool {
    topic.subject.retain() == Retain::Kept || topic.subject.qos() == Qos::AtMostOnce
}

#[cfg(test)]
mod tests;
