//! The task of a session: connect, subscribe, move the outbox, wait, again.
//!
//! It owns the state; the handle only fills the outbox and states wishes. It must not look into payloads.
//!
//! ```text
//! Waiting --delay over--> Connecting --CONNACK, SUBACK--> Up --lost--> Waiting
//!    any --close--> Flushing (at most until the deadline) --> over
//! ```

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use bytes::Bytes;
use protocol::topic::Topic;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};
use tracing::{debug, info, warn};

use super::link::{Failure, Link, Offered, Packet};
use super::{Shared, Wish};
use crate::backoff::{Backoff, Cause};
use crate::config::Config;
use crate::event::{DownReason, Event, Refusal};
use crate::outbox::Token;

/// A connection ended; what follows.
enum Next {
    Retry(Failure),
    Over,
}

/// How far a connection is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Until the subscriptions are granted: then up.
    Connecting,
    /// Until it breaks, or the owner closes: then parting.
    Up,
    /// The last messages go out; then it is over.
    Parting,
}

/// The task's state.
pub(super) struct Driver {
    config: Config,
    shared: Arc<Shared>,
    events: mpsc::Sender<Event>,
    wishes: watch::Receiver<Wish>,
    backoff: Backoff,
    started: Instant,
    /// Since the last turn.
    was_up: bool,
    /// Wishes to connect without waiting that were there when the last try began.
    retries: u64,
}

/// The state of one connection.
struct Connection {
    link: Link,
    phase: Phase,
    /// When connecting, or the oldest missing acknowledgement, takes too long.
    patience_until: Instant,
    acks: JoinSet<(Token, bool)>,
}

impl Driver {
    pub(super) fn new(
        config: Config,
        seed: u64,
        shared: Arc<Shared>,
        events: mpsc::Sender<Event>,
        wishes: watch::Receiver<Wish>,
    ) -> Self {
        let backoff = Backoff::new(config.pace, seed);
        let started = Instant::now();
        Self { config, shared, events, wishes, backoff, started, was_up: false, retries: 0 }
    }

    /// Runs until closed; the number of messages left in the outbox.
    pub(super) async fn run(mut self) -> usize {
        let mut delay = self.backoff.first(self.config.first_delay_max);
        loop {
            if !self.wait(delay).await {
                return self.shared.outbox().len();
            }
            let next = self.connect().await;
            self.shared.connected.store(false, Relaxed);
            self.shared.outbox().disconnected();
            let Next::Retry(failure) = next else { return self.shared.outbox().len() };
            delay = self.tell(failure).await;
            self.turn();
        }
    }

    /// To the next address, if this one gave no session.
    fn turn(&mut self) {
        if std::mem::take(&mut self.was_up) || self.config.fallbacks.is_empty() {
            return;
        }
        let next = self.config.fallbacks.remove(0);
        let before = std::mem::replace(&mut self.config.address, next);
        self.config.fallbacks.push(before);
    }

    /// Waits; false when the session is to end.
    async fn wait(&mut self, delay: Duration) -> bool {
        let until = Instant::now() + delay;
        loop {
            let wish = *self.wishes.borrow_and_update();
            if wish.close_by.is_some() {
                return false;
            }
            if wish.retries != self.retries {
                return true;
            }
            tokio::select! {
                // Cancel-safe: a point in time, a flag and a version counter; no arm takes anything.
                () = sleep_until(until) => return true,
                () = self.events.closed() => return false,
                changed = self.wishes.changed() => if changed.is_err() {
                    // All handles are gone: nobody publishes or closes, but the receiver still listens.
                    sleep_or_closed(until, &self.events).await;
                    return !self.events.is_closed();
                },
            }
        }
    }

    /// Takes other addresses, where the owner has given some.
    fn take_addresses(&mut self) {
        let Some(mut all) = self.shared.take_addresses() else { return };
        let current = all.iter().position(|one| *one == self.config.address).unwrap_or(0);
        self.config.address = all.remove(current);
        self.config.fallbacks = all;
    }

    /// One connection from beginning to end.
    async fn connect(&mut self) -> Next {
        self.retries = self.wishes.borrow().retries;
        self.take_addresses();
        if self.config.resolver.is_none() && self.config.address.needs_multicast_dns() {
            let host = self.config.address.host.clone();
            return Next::Retry(Failure::Refused(Refusal::LocalName { host }));
        }
        let mut connection = Connection {
            link: Link::open(&self.config, self.shared.tls()),
            phase: Phase::Connecting,
            // The library's own timeout is one of these; the answer to the subscriptions gets the other.
            patience_until: Instant::now() + self.config.connect_timeout * 2,
            acks: JoinSet::new(),
        };
        let reconnects = self.wishes.borrow().reconnects;
        let ended = loop {
            self.feed(&mut connection);
            let wish = *self.wishes.borrow_and_update();
            if wish.reconnects != reconnects {
                break Next::Retry(Failure::Down(DownReason::Asked));
            }
            if wish.close_by.is_some() {
                if connection.phase == Phase::Up {
                    self.farewell(&mut connection);
                    continue;
                }
                if self.shared.outbox().is_empty() {
                    break Next::Over;
                }
            }
            if let Some(next) = self.step(&mut connection, wish.close_by).await {
                break next;
            }
        };
        self.part(connection).await;
        if self.wishes.borrow().close_by.is_some() { Next::Over } else { ended }
    }

    /// Ends a connection. A goodbye is said only when all is sent: otherwise the broker shall tell the will.
    async fn part(&self, connection: Connection) {
        let Connection { link, phase, mut acks, .. } = connection;
        let close_by = self.wishes.borrow().close_by;
        match close_by {
            Some(close_by) if phase == Phase::Parting && self.shared.outbox().is_empty() => {
                link.disconnect(close_by.saturating_duration_since(Instant::now())).await;
            }
            _ => drop(link),
        }
        // What was acknowledged up to the end is done with; the others resolve now, without an answer.
        while let Some(done) = acks.join_next().await {
            if let Ok((token, true)) = done {
                self.settle(token);
            }
        }
    }

    /// Waits for one thing to happen and deals with it; the end of the connection if that was it.
    async fn step(
        &mut self,
        connection: &mut Connection,
        close_by: Option<Instant>,
    ) -> Option<Next> {
        let Connection { link, acks, patience_until, phase } = connection;
        let impatient = *phase == Phase::Connecting || !acks.is_empty();
        // Every arm is cancel-safe: channel receives, finished tasks, a stored permit, a version counter, points in time.
        tokio::select! {
            packet = link.next() => self.take(connection, packet).await.err(),
            Some(done) = acks.join_next(), if !acks.is_empty() => {
                if let Ok((token, true)) = done {
                    self.settle(token);
                    *patience_until = Instant::now() + self.config.ack_timeout;
                }
                None
            }
            () = self.shared.pushed.notified() => None,
            // The guard: once all handles are gone it would be ready for ever.
            _ = self.wishes.changed(), if self.wishes.has_changed().is_ok() => None,
            () = sleep_until(*patience_until), if impatient => {
                let reason = match phase {
                    Phase::Connecting => DownReason::TimedOut,
                    Phase::Up | Phase::Parting => DownReason::Stalled,
                };
                Some(Next::Retry(Failure::Down(reason)))
            }
            () = sleep_until(close_by.unwrap_or(self.started)), if close_by.is_some() => Some(Next::Over),
            () = self.events.closed() => Some(Next::Over),
        }
    }

    /// Deals with what the connection said.
    async fn take(&mut self, connection: &mut Connection, packet: Packet) -> Result<(), Next> {
        if !matches!(packet, Packet::Written | Packet::Ended(_)) {
            *self.shared.last_received() = Some(std::time::Instant::now());
        }
        match packet {
            Packet::Accepted if self.config.subscriptions.is_empty() => {
                self.come_up(connection).await
            }
            Packet::Accepted => {
                connection.patience_until = Instant::now() + self.config.connect_timeout;
                connection.link.subscribe(&self.config.subscriptions).map_err(Next::Retry)
            }
            Packet::Subscribed(Some(position)) => {
                let filter = self.config.subscriptions.get(position).cloned().unwrap_or_default();
                Err(Next::Retry(Failure::Refused(Refusal::Subscription { filter })))
            }
            Packet::Subscribed(None) => self.come_up(connection).await,
            Packet::Message { topic, payload, retained } => {
                self.receive(&topic, payload, retained).await
            }
            Packet::Heard | Packet::Written => Ok(()),
            Packet::Ended(Some(failure)) => Err(Next::Retry(failure)),
            Packet::Ended(None) => {
                Err(Next::Retry(Failure::Down(DownReason::Closed("ended by this side".into()))))
            }
        }
    }

    async fn come_up(&mut self, connection: &mut Connection) -> Result<(), Next> {
        connection.phase = Phase::Up;
        connection.patience_until = Instant::now() + self.config.ack_timeout;
        self.backoff.connected(self.now_ms());
        {
            let mut outbox = self.shared.outbox();
            outbox.connected();
            if let Some(presence) = &self.config.presence {
                outbox.push(presence.topic.clone(), Bytes::from(presence.online.clone()));
            }
        }
        self.shared.connects.fetch_add(1, Relaxed);
        self.shared.connected.store(true, Relaxed);
        self.was_up = true;
        info!(broker = %self.config.address, "session is up");
        self.emit(Event::Up).await
    }

    async fn receive(&mut self, name: &[u8], payload: Bytes, retained: bool) -> Result<(), Next> {
        let Some(topic) = std::str::from_utf8(name).ok().and_then(Topic::parse) else {
            self.shared.unknown.fetch_add(1, Relaxed);
            debug!(topic = %name.escape_ascii(), "a topic that is not ours");
            return Ok(());
        };
        self.shared.received.fetch_add(1, Relaxed);
        self.emit(Event::Message { topic, payload, retained }).await
    }

    /// Moves messages from the outbox to the connection while both have room.
    fn feed(&mut self, connection: &mut Connection) {
        let mut outbox = self.shared.outbox();
        while let Some(message) = outbox.next() {
            let Offered::Taken(acknowledgement) = connection.link.offer(&message) else { return };
            outbox.sent(message.token);
            if connection.acks.is_empty() {
                connection.patience_until = Instant::now() + self.config.ack_timeout;
            }
            let token = message.token;
            connection.acks.spawn(async move { (token, acknowledgement.arrived().await) });
        }
    }

    /// Counts an acknowledged (or, at QoS 0, written) message.
    fn settle(&self, token: Token) {
        self.shared.outbox().acked(token);
        self.shared.sent.fetch_add(1, Relaxed);
    }

    /// The last message of a session that is closed.
    fn farewell(&self, connection: &mut Connection) {
        connection.phase = Phase::Parting;
        let Some(presence) = &self.config.presence else { return };
        self.shared.outbox().push(presence.topic.clone(), Bytes::from(presence.offline.clone()));
    }

    /// Hands an event to the owner, waiting for room; a closing session drops it instead.
    async fn emit(&mut self, event: Event) -> Result<(), Next> {
        let mut wishes = self.wishes.clone();
        let closing = async {
            if wishes.wait_for(|wish| wish.close_by.is_some()).await.is_err() {
                std::future::pending::<()>().await;
            }
        };
        // Cancel-safe: a permit that is not used goes back, and the wish stays stated.
        tokio::select! {
            biased;
            permit = self.events.reserve() => match permit {
                Ok(permit) => permit.send(event),
                Err(_) => return Err(Next::Over),
            },
            () = closing => {}
        }
        Ok(())
    }

    /// Tells the owner why the connection ended; how long to wait now.
    async fn tell(&mut self, failure: Failure) -> Duration {
        let cause = match failure {
            Failure::Down(_) => Cause::Network,
            Failure::Refused(_) => Cause::Refused,
        };
        let retry_in = self.backoff.next(self.now_ms(), cause);
        let retry_ms = retry_in.as_millis();
        let event = match failure {
            Failure::Down(reason) => {
                info!(broker = %self.config.address, %reason, retry_ms, "session is down");
                Event::Down { reason, retry_in }
            }
            Failure::Refused(reason) => {
                warn!(broker = %self.config.address, %reason, retry_ms, "session is refused");
                Event::Refused { reason, retry_in }
            }
        };
        // A dropped receiver ends the session at the next wait.
        let _ = self.emit(event).await;
        retry_in
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

async fn sleep_or_closed(until: Instant, events: &mpsc::Sender<Event>) {
    tokio::select! {
        () = sleep_until(until) => {}
        () = events.closed() => {}
    }
}
