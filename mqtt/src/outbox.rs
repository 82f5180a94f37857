//! What waits to be sent. Retained topics are state: only the newest is worth sending. Others are events: each is sent, up
//! to a limit, oldest dropped first. Nothing leaves before the broker has acknowledged it.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use protocol::topic::{Qos, Retain, Topic};

/// Events kept while the broker is away.
pub const MAX_EVENTS: usize = 256;

/// One message of the outbox; ids rise with the order of publishing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Its place in the order.
    pub id: u64,
    /// Where to.
    pub topic: Topic,
    /// What.
    pub payload: Bytes,
}

#[derive(Debug, Clone)]
struct Entry {
    message: Message,
    sent: bool,
}

/// The outbox of one session.
#[derive(Debug, Default)]
pub struct Outbox {
    state: BTreeMap<Topic, Entry>,
    events: VecDeque<Entry>,
    passing: VecDeque<Message>,
    next_id: u64,
    connected: bool,
    dropped: u64,
}

impl Outbox {
    /// Takes a message. One at QoS 0 is dropped while there is no connection.
    pub fn push(&mut self, topic: Topic, payload: Bytes) {
        self.next_id += 1;
        let (qos, retain) = (topic.subject.qos(), topic.subject.retain());
        let message = Message { id: self.next_id, topic: topic.clone(), payload };
        match (qos, retain) {
            (Qos::AtMostOnce, _) if !self.connected => self.dropped += 1,
            (Qos::AtMostOnce, _) => self.passing.push_back(message),
            (Qos::AtLeastOnce, Retain::Kept) => {
                self.state.insert(topic, Entry { message, sent: false });
            }
            (Qos::AtLeastOnce, Retain::Passing) => {
                self.events.push_back(Entry { message, sent: false });
                if self.events.len() > MAX_EVENTS {
                    self.events.pop_front();
                    self.dropped += 1;
                }
            }
        }
    }

    /// The next message to hand to the connection, oldest first; it is not given again until [`Outbox::disconnected`].
    pub fn next_to_send(&mut self) -> Option<Message> {
        if !self.connected {
            return None;
        }
        let oldest_of = |entry: &&mut Entry| entry.message.id;
        let waiting = self.state.values_mut().chain(&mut self.events).filter(|entry| !entry.sent);
        if let Some(entry) = waiting.min_by_key(oldest_of) {
            entry.sent = true;
            return Some(entry.message.clone());
        }
        self.passing.pop_front()
    }

    /// The connection could not take it after all: it waits again.
    pub fn give_back(&mut self, id: u64) {
        let all = self.state.values_mut().chain(&mut self.events);
        all.filter(|entry| entry.message.id == id).for_each(|entry| entry.sent = false);
    }

    /// The broker has it. One that was replaced meanwhile stays for its newer content.
    pub fn acknowledged(&mut self, id: u64) {
        self.state.retain(|_, entry| entry.message.id != id);
        self.events.retain(|entry| entry.message.id != id);
    }

    /// A connection stands.
    pub fn connected(&mut self) {
        self.connected = true;
    }

    /// The connection is gone: whatever was not acknowledged is sent again.
    pub fn disconnected(&mut self) {
        self.connected = false;
        self.dropped += u64::try_from(self.passing.len()).unwrap_or(0);
        self.passing.clear();
        self.state.values_mut().chain(&mut self.events).for_each(|entry| entry.sent = false);
    }

    /// Messages that wait or are not acknowledged.
    #[must_use]
    pub fn len(&self) -> usize {
        self.state.len() + self.events.len() + self.passing.len()
    }

    /// Whether nothing waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Messages dropped so far.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.dropped
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::topic::{Subject, Up};

    fn topic(up: Up) -> Topic {
        Topic {
            fleet: "a".repeat(32).parse().unwrap(),
            node: "b".repeat(32).parse().unwrap(),
            subject: Subject::Up(up),
        }
    }

    fn sent(outbox: &mut Outbox) -> Vec<String> {
        std::iter::from_fn(|| outbox.next_to_send())
            .map(|m| String::from_utf8(m.payload.to_vec()).unwrap())
            .collect()
    }

    #[test]
    fn of_state_only_the_newest_is_sent_and_of_events_each() {
        let mut outbox = Outbox::default();
        for n in 1..=3 {
            outbox.push(topic(Up::Report), format!("report {n}").into());
            outbox.push(topic(Up::Event), format!("event {n}").into());
        }
        outbox.connected();
        assert_eq!(sent(&mut outbox), ["event 1", "event 2", "report 3", "event 3"]);
    }

    #[test]
    fn what_was_not_acknowledged_is_sent_again_after_a_reconnect() {
        let mut outbox = Outbox::default();
        outbox.connected();
        outbox.push(topic(Up::Event), "one".into());
        outbox.push(topic(Up::Event), "two".into());
        let first = outbox.next_to_send().unwrap();
        outbox.next_to_send().unwrap();
        outbox.acknowledged(first.id);
        outbox.disconnected();
        outbox.connected();
        assert_eq!(sent(&mut outbox), ["two"]);
    }

    #[test]
    fn state_that_changed_on_its_way_is_sent_once_more() {
        let mut outbox = Outbox::default();
        outbox.connected();
        outbox.push(topic(Up::Report), "old".into());
        let old = outbox.next_to_send().unwrap();
        outbox.push(topic(Up::Report), "new".into());
        outbox.acknowledged(old.id);
        assert_eq!(sent(&mut outbox), ["new"]);
    }

    #[test]
    fn samples_are_dropped_while_nobody_listens() {
        let mut outbox = Outbox::default();
        outbox.push(topic(Up::Load), "lost".into());
        outbox.connected();
        outbox.push(topic(Up::Load), "sent".into());
        assert_eq!(sent(&mut outbox), ["sent"]);
        assert_eq!(outbox.dropped(), 1);
    }

    #[test]
    fn events_are_bounded_and_the_oldest_go_first() {
        let mut outbox = Outbox::default();
        for n in 0..=MAX_EVENTS {
            outbox.push(topic(Up::Event), n.to_string().into());
        }
        outbox.connected();
        assert_eq!(sent(&mut outbox).first().map(String::as_str), Some("1"));
        assert_eq!(outbox.dropped(), 1);
    }
}
