//! One connection from CONNECT to its end. Disposable: the outbox is what lasts.
//!
//! The client's own event loop must never wait for a publish (its request channel would fill up and nobody would empty
//! it), so messages are only tried: what does not fit waits in the outbox for the next turn.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::Ordering;
use std::time::Duration;

use protocol::topic::{Qos, Retain, Topic};
use rumqttc::mqttbytes::QoS;
use rumqttc::mqttbytes::v4::{LastWill, Packet, Publish, SubscribeReasonCode};
use rumqttc::{AsyncClient, ConnectionError, EventLoop, MqttOptions, Outgoing, PublishOptions};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::{Config, Event, MAX_PACKET_BYTES, Shared};

/// Unacknowledged publishes at once; the client allocates for all of them.
const MAX_INFLIGHT: u16 = 16;
/// Requests on their way into the client.
const REQUESTS: usize = 32;
/// Packets read and not looked at yet.
const PACKETS: usize = 32;
/// From the TCP handshake to every SUBACK; slow links need their time.
const SETUP_LIMIT: Duration = Duration::from_secs(20);

/// How a connection ended.
pub(super) enum Ended {
    /// Closed on request.
    Closed,
    /// Nobody takes events any more.
    OwnerGone,
    /// The broker does not take the credentials or a subscription.
    Refused(String),
    /// Anything else.
    Broken(String),
}

struct Connection<'a> {
    config: &'a Config,
    shared: &'a Shared,
    events: &'a mpsc::Sender<Event>,
    client: AsyncClient,
    /// Ids of publishes handed over, in order, until the client tells their packet id.
    handed_over: VecDeque<u64>,
    /// Packet id to outbox id of what is not acknowledged.
    unacknowledged: BTreeMap<u16, u64>,
    up_since: Option<Instant>,
    saying_goodbye: bool,
}

/// Runs one connection to its end; how it ended, and how long it had been up.
pub(super) async fn run(
    config: &Config,
    shared: &Shared,
    events: &mpsc::Sender<Event>,
) -> (Ended, Duration) {
    let (client, driver) = AsyncClient::builder(options(config)).capacity(REQUESTS).build();
    let (sender, mut packets) = mpsc::channel(PACKETS);
    // In a task of its own, because a poll that is dropped half way loses what it had begun.
    let _driving = AbortOnDrop(tokio::spawn(poll(driver, sender)));
    let mut connection = Connection {
        config,
        shared,
        events,
        client,
        handed_over: VecDeque::new(),
        unacknowledged: BTreeMap::new(),
        up_since: None,
        saying_goodbye: false,
    };
    let ended = connection.drive(&mut packets).await;
    (ended, connection.up_since.map_or(Duration::ZERO, |since| since.elapsed()))
}

type Polled = Result<rumqttc::Event, ConnectionError>;

/// Polls until the first error: the client would connect again by itself, and at once.
async fn poll(mut driver: EventLoop, packets: mpsc::Sender<Polled>) {
    loop {
        let polled = driver.poll().await;
        let is_over = polled.is_err();
        if packets.send(polled).await.is_err() || is_over {
            return;
        }
    }
}

struct AbortOnDrop(tokio::task::JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "most packets and errors of the client need no answer of ours"
)]
impl Connection<'_> {
    async fn drive(&mut self, packets: &mut mpsc::Receiver<Polled>) -> Ended {
        let setup_end = Instant::now() + SETUP_LIMIT;
        loop {
            self.send_waiting();
            let is_up = self.up_since.is_some();
            // All three are cancel-safe: the channel keeps what was not received, and a notice keeps its permit.
            let polled = tokio::select! {
                polled = packets.recv() => polled,
                () = self.shared.changed.notified() => continue,
                () = tokio::time::sleep_until(setup_end), if !is_up => {
                    return Ended::Broken(format!("no connection within {} s", SETUP_LIMIT.as_secs()));
                }
            };
            let ended = match polled {
                Some(Ok(rumqttc::Event::Incoming(packet))) => self.incoming(packet).await,
                Some(Ok(rumqttc::Event::Outgoing(outgoing))) => self.outgoing(&outgoing),
                Some(Err(error)) => Some(self.broken(&error)),
                None => Some(Ended::Broken("the client ended".to_owned())),
            };
            if let Some(ended) = ended {
                return ended;
            }
        }
    }

    fn broken(&self, error: &ConnectionError) -> Ended {
        if self.saying_goodbye {
            return Ended::Closed;
        }
        match error {
            ConnectionError::ConnectionRefused(code) => {
                Ended::Refused(format!("the broker refused the connection: {code:?}"))
            }
            other => Ended::Broken(other.to_string()),
        }
    }

    async fn incoming(&mut self, packet: Packet) -> Option<Ended> {
        match packet {
            Packet::ConnAck(_) if self.config.subscriptions.is_empty() => self.up().await,
            Packet::ConnAck(_) => {
                let filters = self.config.subscriptions.iter().cloned();
                let filters =
                    filters.map(|filter| rumqttc::SubscribeFilter::new(filter, QoS::AtLeastOnce));
                match self.client.try_subscribe_many(filters) {
                    Ok(()) => None,
                    Err(error) => Some(Ended::Broken(error.to_string())),
                }
            }
            Packet::SubAck(answer) => {
                if answer.return_codes.contains(&SubscribeReasonCode::Failure) {
                    return Some(Ended::Refused("the broker refused a subscription".to_owned()));
                }
                self.up().await
            }
            Packet::PubAck(answer) => {
                if let Some(id) = self.unacknowledged.remove(&answer.pkid) {
                    self.shared.outbox().acknowledged(id);
                }
                None
            }
            Packet::Publish(message) => self.message(message).await,
            _ => None,
        }
    }

    async fn up(&mut self) -> Option<Ended> {
        self.up_since = Some(Instant::now());
        self.shared.is_up.store(true, Ordering::Relaxed);
        self.shared.outbox().connected();
        self.tell(Event::Up).await
    }

    async fn message(&mut self, message: Publish) -> Option<Ended> {
        let topic = std::str::from_utf8(&message.topic).ok().and_then(Topic::parse);
        let Some(topic) = topic else {
            self.shared.foreign.fetch_add(1, Ordering::Relaxed);
            return None;
        };
        self.shared.received.fetch_add(1, Ordering::Relaxed);
        let (payload, retained) = (message.payload, message.retain);
        self.tell(Event::Message { topic, payload, retained }).await
    }

    async fn tell(&self, event: Event) -> Option<Ended> {
        self.events.send(event).await.is_err().then_some(Ended::OwnerGone)
    }

    fn outgoing(&mut self, outgoing: &Outgoing) -> Option<Ended> {
        match outgoing {
            Outgoing::Publish(0) => None,
            Outgoing::Publish(packet_id) => {
                if let Some(id) = self.handed_over.pop_front() {
                    self.unacknowledged.insert(*packet_id, id);
                }
                None
            }
            Outgoing::Disconnect => Some(Ended::Closed),
            _ => None,
        }
    }

    /// Hands over what waits, as much as fits; says goodbye when that is asked and nothing waits any more.
    fn send_waiting(&mut self) {
        if self.up_since.is_none() {
            return;
        }
        while self.handed_over.len() + self.unacknowledged.len() < usize::from(MAX_INFLIGHT) {
            let Some(message) = self.shared.outbox().next_to_send() else { break };
            let subject = message.topic.subject;
            let qos = match subject.qos() {
                Qos::AtMostOnce => QoS::AtMostOnce,
                Qos::AtLeastOnce => QoS::AtLeastOnce,
            };
            let options = PublishOptions::new(qos).retain(subject.retain() == Retain::Kept);
            let name = message.topic.to_string();
            if self.client.try_publish(name, message.payload, options).is_err() {
                self.shared.outbox().give_back(message.id);
                break;
            }
            self.shared.sent.fetch_add(1, Ordering::Relaxed);
            if qos == QoS::AtLeastOnce {
                self.handed_over.push_back(message.id);
            }
        }
        let closing = self.shared.closing.load(Ordering::Relaxed);
        if closing && !self.saying_goodbye && self.shared.outbox().is_empty() {
            self.saying_goodbye = self.client.try_disconnect().is_ok();
        }
    }
}

fn options(config: &Config) -> MqttOptions {
    let address = (config.address.host.clone(), config.address.port);
    let mut options = MqttOptions::new(config.client_id.clone(), address);
    let keepalive_s = u16::try_from(config.keepalive.as_secs()).unwrap_or(u16::MAX);
    options.set_keep_alive(keepalive_s.max(1));
    options.set_max_packet_size(MAX_PACKET_BYTES, MAX_PACKET_BYTES);
    options.set_inflight(MAX_INFLIGHT);
    options.set_clean_session(true);
    if let Some(login) = &config.login {
        options.set_credentials(login.user.clone(), login.secret.clone());
    }
    if let Some(will) = &config.will {
        let retain = will.topic.subject.retain() == Retain::Kept;
        let topic = will.topic.to_string();
        options.set_last_will(LastWill::new(topic, will.payload.clone(), QoS::AtLeastOnce, retain));
    }
    options
}
