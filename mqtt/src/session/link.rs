//! One connection to the broker. The only file that knows the client library.
//!
//! The library's event loop is used once and thrown away: it neither backs off nor keeps what a clean session loses,
//! and both are ours. It is polled in a task of its own, which nothing cancels half-way and which never publishes, so
//! that a full request channel cannot lock it up.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use protocol::topic::{Qos, Retain};
use rumqttc::{
    AsyncClient, Broker, ConnectReturnCode, ConnectionError, EventLoop, LastWill, MqttOptions,
    NetworkOptions, Packet as MqttPacket, PublishNotice, PublishOptions, QoS, StateError,
    SubscribeFilter, SubscribeReasonCode,
};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::config::{Config, Resolver};
use crate::event::{DownReason, Refusal};
use crate::outbox::Outgoing;
use crate::tls::{self, Tls};

/// Requests between the session and the poll task. The outbox holds the rest.
const REQUESTS_MAX: usize = 8;
/// Packets between the poll task and the session.
const PACKETS_MAX: usize = 8;

/// Why a connection ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Failure {
    /// It may work the next time.
    Down(DownReason),
    /// Someone has to change something.
    Refused(Refusal),
}

/// What a connection says.
#[derive(Debug)]
pub(super) enum Packet {
    /// The broker took the connection.
    Accepted,
    /// It answered the subscriptions: the position of the first that was refused.
    Subscribed(Option<usize>),
    /// A publish.
    Message { topic: Bytes, payload: Bytes, retained: bool },
    /// Something else came in: a sign of life.
    Heard,
    /// Something went out, so that there is room again.
    Written,
    /// It is over; nothing follows. None after our own disconnect.
    Ended(Option<Failure>),
}

/// Room for the message, or not now.
#[derive(Debug)]
pub(super) enum Offered {
    Taken(Acknowledgement),
    Full,
}

/// Resolves once the broker has the message.
#[derive(Debug)]
pub(super) struct Acknowledgement(PublishNotice);

impl Acknowledgement {
    /// Whether it was acknowledged; false when the connection ended before.
    pub(super) async fn arrived(self) -> bool {
        self.0.wait_async().await.is_ok()
    }
}

/// A connection; dropping it closes the socket.
#[derive(Debug)]
pub(super) struct Link {
    client: AsyncClient,
    packets: mpsc::Receiver<Packet>,
    poll_task: JoinHandle<()>,
}

impl Drop for Link {
    fn drop(&mut self) {
        self.poll_task.abort();
    }
}

impl Link {
    /// Begins to connect; the answer comes as a packet.
    pub(super) fn open(config: &Config, tls: Option<Tls>) -> Self {
        let mut options = options(config);
        let way = Way { resolver: config.resolver.clone(), silence: config.keepalive * 3 / 2 };
        match tls {
            Some(tls) => options.set_socket_connector(move |host, network| {
                let (tls, way) = (tls.clone(), way.clone());
                async move { tls.connect(reach(host, network, way).await?).await }
            }),
            None => {
                options.set_socket_connector(move |host, network| reach(host, network, way.clone()))
            }
        };
        let builder = AsyncClient::builder(options).capacity(REQUESTS_MAX);
        let (client, mut event_loop) = builder.build();
        let mut network = NetworkOptions::new();
        network.set_tcp_nodelay(true);
        network.set_connection_timeout(config.connect_timeout.as_secs().max(1));
        event_loop.set_network_options(network);
        let (packets_in, packets) = mpsc::channel(PACKETS_MAX);
        let poll_task = tokio::spawn(poll(event_loop, packets_in, config.max_packet_bytes));
        Self { client, packets, poll_task }
    }

    /// The next packet. Cancel-safe: it waits on a channel only.
    pub(super) async fn next(&mut self) -> Packet {
        self.packets.recv().await.unwrap_or(Packet::Ended(None))
    }

    /// Subscribes to all filters in one packet, so that one answer covers them.
    pub(super) fn subscribe(&self, filters: &[String]) -> Result<(), Failure> {
        let filters = filters.iter().map(|f| SubscribeFilter::new(f.clone(), QoS::AtLeastOnce));
        self.client
            .try_subscribe_many(filters.collect::<Vec<_>>())
            .map_err(|e| Failure::Down(DownReason::Protocol(e.to_string())))
    }

    /// Offers a message to the connection; never waits.
    pub(super) fn offer(&self, message: &Outgoing) -> Offered {
        let subject = message.topic.subject;
        let options = PublishOptions::new(quality(subject.qos())).retain(kept(subject.retain()));
        let topic = message.topic.to_string();
        match self.client.try_publish_tracked(topic, message.payload.clone(), options) {
            Ok(notice) => Offered::Taken(Acknowledgement(notice)),
            // Full, or ended: then the end follows as a packet. The topic and the size were checked before.
            Err(_) => Offered::Full,
        }
    }

    /// Says goodbye, so that the broker keeps the will to itself; waits for it until `patience` is over.
    pub(super) async fn disconnect(mut self, patience: Duration) {
        if self.client.try_disconnect_now().is_err() {
            return;
        }
        let goodbye = async { while !matches!(self.next().await, Packet::Ended(_)) {} };
        // Late or not, the socket is closed by the drop that follows.
        let _ = tokio::time::timeout(patience, goodbye).await;
    }
}

/// How the broker is reached.
#[derive(Debug, Clone)]
struct Way {
    resolver: Option<Resolver>,
    /// What was sent and is not acknowledged for this long ends the connection: whoever sends within its keepalive sends no pings, and
    /// would learn of a link that died silently from the kernel's sixteenth try, a quarter of an hour later (tcp(7), `tcp_retries2`).
    silence: Duration,
}

/// Connects to the first address of `host:port` that takes it.
async fn reach(host: String, network: NetworkOptions, way: Way) -> io::Result<TcpStream> {
    let impatient = |stream: TcpStream| {
        socket2::SockRef::from(&stream).set_tcp_user_timeout(Some(way.silence)).map(|()| stream)
    };
    let Some(resolver) = way.resolver else {
        return rumqttc::default_socket_connect(host, network).await.and_then(impatient);
    };
    let mut last = None;
    for address in resolver.0.resolve(host).await? {
        match rumqttc::default_socket_connect(address.to_string(), network.clone()).await {
            Ok(stream) => return impatient(stream),
            Err(error) => last = Some(error),
        }
    }
    Err(last.unwrap_or_else(|| io::Error::from(io::ErrorKind::NotFound)))
}

fn options(config: &Config) -> MqttOptions {
    let broker = Broker::tcp(config.address.host_for_lookup(), config.address.port);
    let mut options = MqttOptions::new(config.client_id.clone(), broker);
    let keepalive_s = u16::try_from(config.keepalive.as_secs()).unwrap_or(u16::MAX);
    options.set_keep_alive(keepalive_s);
    options.set_clean_session(true);
    options.set_max_packet_size(config.max_packet_bytes, config.max_packet_bytes);
    options.set_request_channel_capacity(REQUESTS_MAX);
    options.set_inflight(u16::try_from(config.outbox.in_flight.max(1)).unwrap_or(u16::MAX));
    if let Some(credentials) = &config.credentials {
        options.set_credentials(credentials.user.clone(), credentials.secret.clone());
    }
    if let Some(presence) = &config.presence {
        let subject = presence.topic.subject;
        options.set_last_will(LastWill::new(
            presence.topic.to_string(),
            presence.offline.clone(),
            quality(subject.qos()),
            kept(subject.retain()),
        ));
    }
    options
}

fn quality(qos: Qos) -> QoS {
    match qos {
        Qos::AtMostOnce => QoS::AtMostOnce,
        Qos::AtLeastOnce => QoS::AtLeastOnce,
    }
}

fn kept(retain: Retain) -> bool {
    match retain {
        Retain::Kept => true,
        Retain::Passing => false,
    }
}

/// Topic and payload of each publish in the bytes of a broker, as a connection reads them, until one does not end there or
/// is none.
#[cfg(any(test, feature = "testing"))]
pub(super) fn read(bytes: &[u8], limit_bytes: usize) -> Vec<(Bytes, Bytes)> {
    let (mut stream, mut found) = (bytes.into(), Vec::new());
    while let Ok(packet) = MqttPacket::read(&mut stream, limit_bytes) {
        if let Packet::Message { topic, payload, .. } = translate(packet) {
            found.push((topic, payload));
        }
    }
    found
}

/// Runs the library's event loop until it fails, which ends the connection, or nobody listens.
async fn poll(mut event_loop: EventLoop, packets: mpsc::Sender<Packet>, limit_bytes: usize) {
    loop {
        let packet = match event_loop.poll().await {
            Ok(rumqttc::Event::Incoming(packet)) => translate(packet),
            Ok(rumqttc::Event::Outgoing(_)) => Packet::Written,
            Err(ConnectionError::RequestsDone) => Packet::Ended(None),
            Err(error) => Packet::Ended(Some(explain(error, limit_bytes))),
        };
        let last = matches!(packet, Packet::Ended(_));
        if packets.send(packet).await.is_err() || last {
            return;
        }
    }
}

#[expect(clippy::wildcard_enum_match_arm, reason = "all other packets are only signs of life")]
fn translate(packet: MqttPacket) -> Packet {
    match packet {
        MqttPacket::ConnAck(_) => Packet::Accepted,
        MqttPacket::SubAck(answer) => Packet::Subscribed(
            answer.return_codes.iter().position(|code| *code == SubscribeReasonCode::Failure),
        ),
        MqttPacket::Publish(publish) => Packet::Message {
            topic: publish.topic,
            payload: publish.payload,
            retained: publish.retain,
        },
        _ => Packet::Heard,
    }
}

#[expect(clippy::wildcard_enum_match_arm, reason = "the library's errors are open-ended")]
fn explain(error: ConnectionError, limit_bytes: usize) -> Failure {
    let down = match error {
        ConnectionError::ConnectionRefused(code) => return refused(code),
        ConnectionError::NetworkTimeout
        | ConnectionError::FlushTimeout
        | ConnectionError::DisconnectTimeout => DownReason::TimedOut,
        ConnectionError::Io(error) => return of_io(&error, unreachable_or_closed),
        ConnectionError::MqttState(
            StateError::Io(error) | StateError::Deserialization(rumqttc::Error::Io(error)),
        ) => {
            return of_io(&error, |error| DownReason::Closed(error.to_string()));
        }
        ConnectionError::MqttState(StateError::ConnectionAborted) => {
            DownReason::Closed("closed by the broker".into())
        }
        ConnectionError::MqttState(StateError::AwaitPingResp) => DownReason::Silent,
        ConnectionError::MqttState(StateError::Deserialization(
            rumqttc::Error::PayloadSizeLimitExceeded(_),
        )) => DownReason::PacketTooLarge { limit_bytes },
        other => DownReason::Protocol(other.to_string()),
    };
    Failure::Down(down)
}

/// TLS speaks through errors of IO. In TLS 1.3 what the broker thinks of our certificate comes with its first answer.
fn of_io(error: &io::Error, otherwise: fn(&io::Error) -> DownReason) -> Failure {
    match tls::refusal(error) {
        Some(Ok(refusal)) => Failure::Refused(refusal),
        Some(Err(reason)) => Failure::Down(reason),
        None => Failure::Down(otherwise(error)),
    }
}

#[expect(clippy::wildcard_enum_match_arm, reason = "the kinds of IO errors are open-ended")]
fn unreachable_or_closed(error: &io::Error) -> DownReason {
    match error.kind() {
        io::ErrorKind::ConnectionReset
        | io::ErrorKind::ConnectionAborted
        | io::ErrorKind::BrokenPipe
        | io::ErrorKind::UnexpectedEof => DownReason::Closed(error.to_string()),
        _ => DownReason::Unreachable(error.to_string()),
    }
}

fn refused(code: ConnectReturnCode) -> Failure {
    match code {
        ConnectReturnCode::Success => {
            Failure::Down(DownReason::Protocol("refused as success".into()))
        }
        ConnectReturnCode::ServiceUnavailable => Failure::Down(DownReason::Unavailable),
        ConnectReturnCode::RefusedProtocolVersion => Failure::Refused(Refusal::Version),
        ConnectReturnCode::BadClientId => Failure::Refused(Refusal::ClientId),
        ConnectReturnCode::BadUserNamePassword | ConnectReturnCode::NotAuthorized => {
            Failure::Refused(Refusal::Credentials)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_link_that_dies_silently_is_noticed_by_what_is_not_acknowledged() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let way = Way { resolver: None, silence: Duration::from_secs(180) };
        let stream = reach(address, NetworkOptions::new(), way).await.unwrap();
        let patience = socket2::SockRef::from(&stream).tcp_user_timeout().unwrap();
        assert_eq!(patience, Some(Duration::from_secs(180)));
    }
}
