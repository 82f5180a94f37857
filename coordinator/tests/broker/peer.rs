//! A client of the field's own crate, with deadlines instead of sleeps.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::BytesMut;
use rumqttc::mqttbytes::QoS;
use rumqttc::mqttbytes::v4::{
    Connect, ConnectReturnCode, LastWill, Packet, Publish, SubscribeReasonCode,
};
use rumqttc::{
    AckMode, AsyncClient, ConnectionError, Event, EventLoop, MqttOptions, PublishOptions,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::brokers::token;

/// For anything that should happen at once, on a busy machine.
pub(crate) const DEADLINE: Duration = Duration::from_secs(20);
const PACKET_LIMIT: usize = 4 * 1024 * 1024;
const REQUESTS: usize = 512;

/// How a client presents itself.
#[derive(Clone)]
pub(crate) struct Login {
    options: MqttOptions,
}

impl Login {
    pub(crate) fn new(address: SocketAddr, client_id: &str) -> Self {
        let mut options = MqttOptions::new(client_id, (address.ip().to_string(), address.port()));
        options.set_credentials(client_id, token(client_id));
        options.set_max_packet_size(PACKET_LIMIT, PACKET_LIMIT);
        Self { options }
    }

    pub(crate) fn credentials(mut self, username: &str, password: &str) -> Self {
        self.options.set_credentials(username, password.to_owned());
        self
    }

    pub(crate) fn will(mut self, topic: &str, payload: &str) -> Self {
        self.options.set_last_will(LastWill::new(topic, payload, QoS::AtLeastOnce, true));
        self
    }

    pub(crate) fn keepalive_s(mut self, seconds: u16) -> Self {
        self.options.set_keep_alive(seconds);
        self
    }

    pub(crate) fn persistent(mut self) -> Self {
        self.options.set_clean_session(false);
        self
    }

    pub(crate) fn acknowledging_nothing(mut self) -> Self {
        self.options.set_ack_mode(AckMode::Manual);
        self
    }

    /// A connected client that nobody drives: it keeps its socket and says nothing more.
    pub(crate) async fn connect_silent(
        &self,
    ) -> Result<(AsyncClient, EventLoop, bool), ConnectionError> {
        let builder = AsyncClient::builder(self.options.clone());
        let (client, mut events) = builder.capacity(REQUESTS).build();
        loop {
            let event = timeout(DEADLINE, events.poll()).await.expect("an answer to CONNECT")?;
            if let Event::Incoming(Packet::ConnAck(answer)) = event {
                return Ok((client, events, answer.session_present));
            }
        }
    }

    pub(crate) async fn try_connect(&self) -> Result<Peer, ConnectionError> {
        let (client, mut events, session_present) = self.connect_silent().await?;
        let (sender, incoming) = mpsc::unbounded_channel();
        let driver = tokio::spawn(async move {
            // Ends with the connection; the receiver then sees the channel closed.
            while let Ok(event) = events.poll().await {
                if let Event::Incoming(packet) = event {
                    let _ = sender.send(packet);
                }
            }
        });
        Ok(Peer { client, incoming, waiting: VecDeque::new(), driver, session_present })
    }

    /// Connects, says goodbye and waits until the broker, too, has closed: it took the goodbye for one. A client that closes at once cannot know, and
    /// one that then comes again races its own DISCONNECT, which a broker may read after the new CONNECT (it came by another connection).
    pub(crate) async fn connect_and_leave(&self) {
        let address = self.options.broker().tcp_address().expect("a broker at a TCP address");
        let mut connect = Connect::new(self.options.client_id());
        connect.last_will = self.options.last_will();
        connect.set_auth(self.options.auth().clone());
        let visit = async {
            let mut socket = TcpStream::connect(address).await?;
            socket.write_all(&bytes_of(Packet::Connect(connect))).await?;
            let mut answer = [0; 4];
            socket.read_exact(&mut answer).await?;
            assert_eq!(answer, *b"\x20\x02\0\0", "the broker accepts");
            socket.write_all(&bytes_of(Packet::Disconnect)).await?;
            socket.shutdown().await?;
            socket.read_to_end(&mut Vec::new()).await
        };
        timeout(DEADLINE, visit).await.expect("the broker closes").expect("a connection");
    }

    /// Comes again as a session does where the broker is not available: the embedded one refuses a client so while it still takes down the session
    /// that the client had a moment ago.
    pub(crate) async fn connect(&self) -> Peer {
        const LATER: ConnectReturnCode = ConnectReturnCode::ServiceUnavailable;
        let coming = async {
            loop {
                match self.try_connect().await {
                    Err(ConnectionError::ConnectionRefused(LATER)) => {
                        tokio::task::yield_now().await
                    }
                    other => break other,
                }
            }
        };
        timeout(DEADLINE, coming).await.expect("in time").expect("the broker accepts")
    }
}

/// A connected client.
pub(crate) struct Peer {
    client: AsyncClient,
    incoming: mpsc::UnboundedReceiver<Packet>,
    /// Messages that came while something else was awaited.
    waiting: VecDeque<Publish>,
    driver: JoinHandle<()>,
    pub(crate) session_present: bool,
}

impl Peer {
    pub(crate) async fn subscribe(&mut self, filter: &str) -> Vec<SubscribeReasonCode> {
        self.client.subscribe(filter, QoS::AtLeastOnce).await.expect("a queued request");
        self.answer(|packet| {
            let Packet::SubAck(answer) = packet else { return None };
            Some(answer.return_codes.clone())
        })
        .await
    }

    /// Publishes with QoS 1 and waits for the broker's acknowledgement.
    pub(crate) async fn publish(&mut self, topic: &str, payload: impl Into<Vec<u8>>) {
        self.publish_with(topic, payload.into(), PublishOptions::at_least_once()).await;
    }

    pub(crate) async fn publish_retained(&mut self, topic: &str, payload: impl Into<Vec<u8>>) {
        self.publish_with(topic, payload.into(), PublishOptions::at_least_once().retained()).await;
    }

    /// Publishes without waiting for anything.
    pub(crate) async fn send(&self, topic: &str, payload: Vec<u8>) {
        let options = PublishOptions::at_least_once();
        self.client.publish(topic.to_owned(), payload, options).await.expect("a queued request");
    }

    async fn publish_with(&mut self, topic: &str, payload: Vec<u8>, options: PublishOptions) {
        self.client.publish(topic.to_owned(), payload, options).await.expect("a queued request");
        self.answer(|packet| matches!(packet, Packet::PubAck(_)).then_some(())).await;
    }

    pub(crate) async fn message(&mut self) -> Publish {
        if let Some(message) = self.waiting.pop_front() {
            return message;
        }
        loop {
            if let Packet::Publish(message) = self.packet().await {
                return message;
            }
        }
    }

    pub(crate) async fn text(&mut self) -> (String, String) {
        let message = self.message().await;
        (topic_of(&message), String::from_utf8_lossy(&message.payload).into_owned())
    }

    /// Every message up to and including the one with this payload.
    pub(crate) async fn messages_until(&mut self, last: &str) -> Vec<Publish> {
        let mut messages = Vec::new();
        loop {
            let message = self.message().await;
            let found = message.payload == last.as_bytes();
            messages.push(message);
            if found {
                return messages;
            }
        }
    }

    /// Waits until the broker ends the connection.
    pub(crate) async fn ended(&mut self) {
        let end = async { while self.incoming.recv().await.is_some() {} };
        timeout(DEADLINE, end).await.expect("the broker ends the connection");
    }

    /// Closes the socket without a DISCONNECT.
    pub(crate) async fn vanish(self) {
        self.driver.abort();
        let _ = self.driver.await;
    }

    /// Says goodbye and waits until the connection is over.
    pub(crate) async fn disconnect(mut self) {
        self.client.disconnect().await.expect("a queued request");
        self.ended().await;
    }

    /// The first packet that is wanted; messages before it wait for `message`.
    async fn answer<T>(&mut self, wanted: impl Fn(&Packet) -> Option<T>) -> T {
        loop {
            let packet = self.packet().await;
            if let Some(found) = wanted(&packet) {
                return found;
            }
            if let Packet::Publish(message) = packet {
                self.waiting.push_back(message);
            }
        }
    }

    async fn packet(&mut self) -> Packet {
        let next = timeout(DEADLINE, self.incoming.recv()).await.expect("a packet in time");
        next.expect("the connection stands")
    }
}

fn bytes_of(packet: Packet) -> BytesMut {
    let mut bytes = BytesMut::new();
    packet.write(&mut bytes, PACKET_LIMIT).expect("a packet of ours");
    bytes
}

pub(crate) fn topic_of(message: &Publish) -> String {
    String::from_utf8_lossy(&message.topic).into_owned()
}
