//! What happens on the way: departures, arrivals, losses and the broker's own rules.

use super::{
    Bytes, Cause, ClientId, Delivery, DownReason, Duration, Event, FakeBroker, Flight, Leg, Line,
    Order, Qos, Retain, Token, Topic, Way,
};

impl FakeBroker {
    pub(super) fn depart(&mut self, at_ms: u64, client: ClientId, flight: Flight) {
        let connection = self.peer(client).connection;
        self.legs.insert((at_ms, self.next_leg), Leg { client, connection, flight });
        self.next_leg += 1;
    }

    /// Departs on a lane: not before what left earlier on it.
    fn depart_in_order(&mut self, now_ms: u64, client: ClientId, way: Way, flight: Flight) {
        let lane = match (self.faults.order, &flight) {
            (Order::PerTopic, Flight::Publish { topic, .. })
            | (Order::PerTopic, Flight::Deliver(Event::Message { topic, .. })) => {
                (client, way, Some(topic.clone()))
            }
            _ => (client, way, None),
        };
        let earliest = self.lanes.get(&lane).copied().unwrap_or(0);
        let at_ms = (now_ms + self.delay()).max(earliest);
        self.lanes.insert(lane, at_ms);
        self.depart(at_ms, client, flight);
    }

    pub(super) fn arrive(&mut self, leg: Leg, now_ms: u64) {
        let Leg { client, connection, flight } = leg;
        if self.peer(client).connection != connection {
            self.counters.cut += 1;
            return;
        }
        match flight {
            Flight::Connect => self.establish(client, now_ms),
            Flight::Silence => {
                self.will(client, now_ms);
                self.lose(client, DownReason::Silent, now_ms);
            }
            Flight::Publish { token, topic, payload } => {
                self.take(client, token, topic, payload, now_ms);
            }
            Flight::Acknowledge(token) => {
                self.peer(client).outbox.acked(token);
                self.feed(client, now_ms);
            }
            Flight::Deliver(event) => {
                self.counters.delivered += 1;
                self.ready.push(Delivery { client, event });
            }
        }
    }

    /// A try to connect reaches the broker, or does not.
    fn establish(&mut self, client: ClientId, now_ms: u64) {
        let running = self.running;
        let peer = self.peer(client);
        if !running || peer.partitioned {
            self.lose(client, DownReason::Unreachable("nothing listens".into()), now_ms);
            return;
        }
        peer.line = Line::Up;
        peer.backoff.connected(now_ms);
        peer.outbox.connected();
        if let Some(presence) = peer.settings.presence.clone() {
            peer.outbox.push(presence.topic, presence.online.into());
        }
        let filters = peer.settings.subscriptions.clone();
        self.ready.push(Delivery { client, event: Event::Up });
        let kept: Vec<(Topic, Bytes)> = self
            .retained
            .iter()
            .filter(|(topic, _)| filters.iter().any(|f| covers(f, &topic.to_string())))
            .map(|(topic, payload)| (topic.clone(), payload.clone()))
            .collect();
        for (topic, payload) in kept {
            self.send(client, Event::Message { topic, payload, retained: true }, now_ms);
        }
        self.feed(client, now_ms);
    }

    /// Moves messages from the outbox onto the network.
    pub(super) fn feed(&mut self, client: ClientId, now_ms: u64) {
        while let Some(message) = self.peer(client).outbox.next() {
            self.peer(client).outbox.sent(message.token);
            if self.peer(client).line != Line::Up {
                continue;
            }
            let (token, topic, payload) = (message.token, message.topic, message.payload);
            let flight = Flight::Publish { token, topic, payload };
            self.depart_in_order(now_ms, client, Way::ToBroker, flight);
        }
    }

    /// A publish reaches the broker.
    fn take(&mut self, client: ClientId, token: Token, topic: Topic, payload: Bytes, now_ms: u64) {
        self.counters.published += 1;
        let kicked = self.chance(self.faults.kick_percent);
        if topic.subject.qos() == Qos::AtLeastOnce && !kicked {
            self.depart_in_order(now_ms, client, Way::ToClient, Flight::Acknowledge(token));
        }
        self.route(topic, payload, now_ms);
        if kicked {
            self.kick(client, now_ms);
        }
    }

    /// Keeps and passes on, as the topic says.
    fn route(&mut self, topic: Topic, payload: Bytes, now_ms: u64) {
        if topic.subject.retain() == Retain::Kept {
            if payload.is_empty() {
                self.retained.remove(&topic);
            } else {
                self.retained.insert(topic.clone(), payload.clone());
            }
        }
        let name = topic.to_string();
        for index in 0..self.peers.len() {
            let peer = &self.peers[index];
            let listens = peer.settings.subscriptions.iter().any(|f| covers(f, &name));
            if peer.line == Line::Up && listens {
                let (topic, payload) = (topic.clone(), payload.clone());
                let event = Event::Message { topic, payload, retained: false };
                self.send(ClientId(index), event, now_ms);
            }
        }
    }

    /// The broker sends to a session: perhaps never, perhaps twice.
    fn send(&mut self, client: ClientId, event: Event, now_ms: u64) {
        if self.chance(self.faults.drop_percent) {
            self.counters.lost += 1;
            return;
        }
        if self.chance(self.faults.duplicate_percent) {
            self.counters.duplicated += 1;
            self.depart_in_order(now_ms, client, Way::ToClient, Flight::Deliver(event.clone()));
        }
        self.depart_in_order(now_ms, client, Way::ToClient, Flight::Deliver(event));
    }

    /// The broker publishes the session's last will.
    pub(super) fn will(&mut self, client: ClientId, now_ms: u64) {
        if let Some(presence) = self.peer(client).settings.presence.clone() {
            self.route(presence.topic, presence.offline.into(), now_ms);
        }
    }

    /// Everything under way on this session's connection is void.
    pub(super) fn cut(&mut self, client: ClientId) {
        self.peer(client).connection += 1;
        self.lanes.retain(|(owner, ..), _| *owner != client);
    }

    /// The session sees that its connection is gone, and will try again.
    pub(super) fn lose(&mut self, client: ClientId, reason: DownReason, now_ms: u64) {
        self.cut(client);
        self.lost_at_ms = now_ms;
        let peer = self.peer(client);
        peer.line = Line::Down;
        peer.outbox.disconnected();
        let retry_in: Duration = peer.backoff.next(now_ms, Cause::Network);
        self.ready.push(Delivery { client, event: Event::Down { reason, retry_in } });
        let wait_ms = u64::try_from(retry_in.as_millis()).unwrap_or(u64::MAX);
        // At least a millisecond, so that a broker that is away cannot hold the time still.
        let at_ms = now_ms.saturating_add(wait_ms.max(1));
        self.depart(at_ms, client, Flight::Connect);
    }
}

/// MQTT 3.1.1 §4.7: `+` is one level, `#` the rest, its parent included.
fn covers(filter: &str, topic: &str) -> bool {
    let mut levels = topic.split('/');
    for part in filter.split('/') {
        if part == "#" {
            return true;
        }
        match levels.next() {
            Some(level) if part == "+" || part == level => {}
            _ => return false,
        }
    }
    levels.next().is_none()
}

#[cfg(test)]
mod tests {
    use super::covers;

    #[test]
    fn filters_cover_topics_as_the_standard_says() {
        let yes =
            [("a/b", "a/b"), ("a/+/c", "a/b/c"), ("a/#", "a/b/c"), ("a/#", "a"), ("#", "a/b")];
        let no = [("a/b", "a/b/c"), ("a/+", "a"), ("a/+", "a/b/c"), ("b/#", "a/b")];
        for (filter, topic) in yes {
            assert!(covers(filter, topic), "{filter} {topic}");
        }
        for (filter, topic) in no {
            assert!(!covers(filter, topic), "{filter} {topic}");
        }
    }
}
