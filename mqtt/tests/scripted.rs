//! The session against a broker that misbehaves on purpose: a socket that answers byte by byte as the test says.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::time::Duration;

use mqtt::{BrokerAddress, Config, DownReason, Event, Handle, PublishError, Refusal, Session};
use protocol::topic::{Subject, Topic, Up};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

/// No event takes this long unless something is broken.
const LIMIT: Duration = Duration::from_secs(10);

const CONNECT: u8 = 1;
const PUBLISH: u8 = 3;
const SUBSCRIBE: u8 = 8;
const DISCONNECT: u8 = 14;

struct Scripted(TcpListener);

impl Scripted {
    async fn new() -> Self {
        Self(TcpListener::bind("127.0.0.1:0").await.unwrap())
    }

    fn config(&self) -> Config {
        let port = self.0.local_addr().unwrap().port();
        let address = BrokerAddress { host: "127.0.0.1".into(), port };
        let mut config = Config::new(address, "board".into(), vec!["a/b".into(), "a/c".into()]);
        config.pace.base = Duration::from_millis(10);
        config
    }

    async fn accept(&self) -> Peer {
        let (stream, _) = within(self.0.accept()).await.unwrap();
        let mut peer = Peer(stream);
        peer.expect(CONNECT).await;
        peer
    }

    /// A connection whose subscriptions are granted.
    async fn accept_up(&self) -> Peer {
        let mut peer = self.accept().await;
        peer.write(&[0x20, 2, 0, 0]).await;
        peer.answer_subscription([1, 1]).await;
        peer
    }
}

struct Peer(TcpStream);

impl Peer {
    /// The next packet's type and body.
    async fn read(&mut self) -> (u8, Vec<u8>) {
        let head = self.0.read_u8().await.unwrap();
        let (mut length, mut shift) = (0usize, 0);
        loop {
            let byte = self.0.read_u8().await.unwrap();
            length |= usize::from(byte & 0x7f) << shift;
            shift += 7;
            if byte & 0x80 == 0 {
                break;
            }
        }
        let mut body = vec![0; length];
        self.0.read_exact(&mut body).await.unwrap();
        (head >> 4, body)
    }

    async fn expect(&mut self, kind: u8) -> Vec<u8> {
        let (got, body) = within(self.read()).await;
        assert_eq!(got, kind);
        body
    }

    /// The payload and packet id of the next publish with QoS 1.
    async fn expect_publish(&mut self) -> (String, [u8; 2]) {
        let body = self.expect(PUBLISH).await;
        let topic_end = 2 + usize::from(u16::from_be_bytes([body[0], body[1]]));
        let id = [body[topic_end], body[topic_end + 1]];
        (String::from_utf8(body[topic_end + 2..].to_vec()).unwrap(), id)
    }

    async fn write(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).await.unwrap();
    }

    async fn answer_subscription(&mut self, codes: [u8; 2]) {
        let id = self.expect(SUBSCRIBE).await;
        self.write(&[0x90, 4, id[0], id[1], codes[0], codes[1]]).await;
    }

    async fn acknowledge(&mut self, id: [u8; 2]) {
        self.write(&[0x40, 2, id[0], id[1]]).await;
    }
}

async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(LIMIT, future).await.expect("in time")
}

async fn next(events: &mut mpsc::Receiver<Event>) -> Event {
    within(events.recv()).await.expect("the session lives")
}

fn topic(subject: Up) -> Topic {
    let (fleet, node) = ("a".repeat(32).parse().unwrap(), "b".repeat(32).parse().unwrap());
    Topic { fleet, node, subject: Subject::Up(subject) }
}

fn say(handle: &Handle, text: &'static str) {
    handle.publish(topic(Up::Event), text).unwrap();
}

#[tokio::test]
async fn a_refused_subscription_is_named_and_tried_again() {
    let broker = Scripted::new().await;
    let (_handle, mut events) = Session::start(broker.config(), 1);
    let mut peer = broker.accept().await;
    peer.write(&[0x20, 2, 0, 0]).await;
    peer.answer_subscription([1, 0x80]).await;
    let Event::Refused { reason, .. } = next(&mut events).await else { panic!("not refused") };
    assert_eq!(reason, Refusal::Subscription { filter: "a/c".into() });
    let _peer = broker.accept_up().await;
    assert_eq!(next(&mut events).await, Event::Up);
}

#[tokio::test]
async fn a_message_without_its_acknowledgement_is_sent_again() {
    let broker = Scripted::new().await;
    let (handle, mut events) = Session::start(broker.config(), 1);
    for text in ["one", "two"] {
        say(&handle, text);
    }
    let mut first = broker.accept_up().await;
    let (text, id) = first.expect_publish().await;
    assert_eq!(text, "one");
    assert_eq!(first.expect_publish().await.0, "two");
    first.acknowledge(id).await;
    drop(first);
    let mut second = broker.accept_up().await;
    let (text, id) = second.expect_publish().await;
    assert_eq!(text, "two");
    second.acknowledge(id).await;
    let closed = handle.close(LIMIT).await;
    assert_eq!((closed.left, handle.stats().sent, handle.stats().connects), (0, 2, 2));
    second.expect(DISCONNECT).await;
    assert_eq!(next(&mut events).await, Event::Up);
}

#[tokio::test]
async fn a_broker_that_stops_acknowledging_is_left() {
    let broker = Scripted::new().await;
    let mut config = broker.config();
    config.ack_timeout = Duration::from_millis(50);
    let (handle, mut events) = Session::start(config, 1);
    let _peer = broker.accept_up().await;
    assert_eq!(next(&mut events).await, Event::Up);
    say(&handle, "one");
    let Event::Down { reason, .. } = next(&mut events).await else { panic!("still up") };
    assert_eq!(reason, DownReason::Stalled);
}

#[tokio::test]
async fn a_broker_that_takes_the_connection_and_says_nothing_is_left() {
    let broker = Scripted::new().await;
    let mut config = broker.config();
    config.connect_timeout = Duration::from_secs(1);
    let (_handle, mut events) = Session::start(config, 1);
    let _peer = broker.accept().await;
    let Event::Down { reason, .. } = next(&mut events).await else { panic!("not down") };
    assert_eq!(reason, DownReason::TimedOut);
}

#[tokio::test]
async fn a_broker_that_never_answers_the_subscription_is_left() {
    let broker = Scripted::new().await;
    let mut config = broker.config();
    config.connect_timeout = Duration::from_secs(1);
    let (_handle, mut events) = Session::start(config, 1);
    let mut peer = broker.accept().await;
    peer.write(&[0x20, 2, 0, 0]).await;
    let Event::Down { reason, .. } = next(&mut events).await else { panic!("not down") };
    assert_eq!(reason, DownReason::TimedOut);
}

#[tokio::test]
async fn a_silent_broker_is_noticed_by_its_missing_ping_answer() {
    let broker = Scripted::new().await;
    let mut config = broker.config();
    config.keepalive = Duration::from_secs(1);
    let (_handle, mut events) = Session::start(config, 1);
    let _peer = broker.accept_up().await;
    assert_eq!(next(&mut events).await, Event::Up);
    let Event::Down { reason, .. } = next(&mut events).await else { panic!("still up") };
    assert_eq!(reason, DownReason::Silent);
}

#[tokio::test]
async fn garbage_ends_the_connection_and_not_the_session() {
    let broker = Scripted::new().await;
    let (_handle, mut events) = Session::start(broker.config(), 1);
    let mut peer = broker.accept_up().await;
    assert_eq!(next(&mut events).await, Event::Up);
    peer.write(&[0x00, 0x00, 0xff, 0xff]).await;
    assert!(matches!(next(&mut events).await, Event::Down { .. }));
    let _peer = broker.accept_up().await;
    assert_eq!(next(&mut events).await, Event::Up);
}

#[tokio::test]
async fn topics_that_are_not_ours_are_counted_and_dropped() {
    let broker = Scripted::new().await;
    let (handle, mut events) = Session::start(broker.config(), 1);
    let mut peer = broker.accept_up().await;
    peer.write(&[0x30, 5, 0, 1, b'x', b'h', b'i']).await;
    let ours = topic(Up::Load).to_string();
    let length = u8::try_from(2 + ours.len() + 2).unwrap();
    let topic_length = u8::try_from(ours.len()).unwrap();
    let packet = [&[0x30, length, 0, topic_length], ours.as_bytes(), b"ok"].concat();
    peer.write(&packet).await;
    assert_eq!(next(&mut events).await, Event::Up);
    let Event::Message { topic: got, .. } = next(&mut events).await else { panic!("no message") };
    assert_eq!(got, topic(Up::Load));
    assert_eq!((handle.stats().unknown, handle.stats().received), (1, 1));
}

#[tokio::test]
async fn the_owner_can_ask_for_a_new_connection() {
    let broker = Scripted::new().await;
    let (handle, mut events) = Session::start(broker.config(), 1);
    let _first = broker.accept_up().await;
    assert_eq!(next(&mut events).await, Event::Up);
    handle.reconnect();
    let Event::Down { reason, .. } = next(&mut events).await else { panic!("still up") };
    assert_eq!(reason, DownReason::Asked);
    let _peer = broker.accept_up().await;
    assert_eq!(next(&mut events).await, Event::Up);
}

#[tokio::test]
async fn closing_while_the_broker_is_away_says_what_is_left_and_ends_the_events() {
    let broker = Scripted::new().await;
    let config = broker.config();
    drop(broker);
    let (handle, mut events) = Session::start(config, 1);
    say(&handle, "one");
    assert!(matches!(next(&mut events).await, Event::Down { .. }));
    let closed = within(handle.close(Duration::from_millis(50))).await;
    assert_eq!(closed.left, 1);
    while within(events.recv()).await.is_some() {}
    assert_eq!(handle.publish(topic(Up::Event), "late"), Err(PublishError::Closed));
}

#[tokio::test]
async fn an_owner_that_takes_no_events_can_still_publish_and_close() {
    let broker = Scripted::new().await;
    let (handle, _events) = Session::start(broker.config(), 1);
    let mut peer = broker.accept_up().await;
    let ours = topic(Up::Load).to_string();
    let length = u8::try_from(2 + ours.len()).unwrap();
    let topic_length = u8::try_from(ours.len()).unwrap();
    let packet = [&[0x30, length, 0, topic_length], ours.as_bytes()].concat();
    for _ in 0..200 {
        peer.write(&packet).await;
    }
    say(&handle, "one");
    let closing = tokio::spawn({
        let handle = handle.clone();
        async move { handle.close(LIMIT).await }
    });
    let (_, id) = peer.expect_publish().await;
    peer.acknowledge(id).await;
    assert_eq!(within(closing).await.unwrap().left, 0);
}

#[tokio::test]
async fn a_name_under_local_is_refused_with_that_reason() {
    let mut config = Scripted::new().await.config();
    config.address.host = "broker.local".into();
    let (_handle, mut events) = Session::start(config, 1);
    let Event::Refused { reason, .. } = next(&mut events).await else { panic!("not refused") };
    assert_eq!(reason, Refusal::LocalName { host: "broker.local".into() });
}

/// Knows one name, as long as it is asked for as it should be.
#[derive(Debug)]
struct Knows(std::net::SocketAddr);

impl mqtt::Resolve for Knows {
    fn resolve(&self, at: String) -> mqtt::Resolving {
        let found = if at == "broker.local:1883" {
            // The first takes nobody.
            Ok(vec!["127.0.0.1:1".parse().unwrap(), self.0])
        } else {
            Err(std::io::Error::other(format!("asked for {at}")))
        };
        Box::pin(async move { found })
    }
}

#[tokio::test]
async fn a_name_under_local_is_found_by_the_owners_resolver_at_every_connect() {
    let broker = Scripted::new().await;
    let mut config = broker.config();
    let at = (config.address.host.parse::<std::net::IpAddr>().unwrap(), config.address.port);
    config.resolver = Some(mqtt::Resolver(std::sync::Arc::new(Knows(at.into()))));
    config.address = "broker.local:1883".parse().unwrap();
    let (_handle, mut events) = Session::start(config, 1);
    for _ in 0..2 {
        let peer = broker.accept_up().await;
        assert_eq!(next(&mut events).await, Event::Up);
        drop(peer);
        assert!(matches!(next(&mut events).await, Event::Down { .. }));
    }
}

#[tokio::test]
async fn an_address_that_gives_no_session_is_followed_by_the_next_and_one_that_did_is_kept() {
    let (broker, second) = (Scripted::new().await, Scripted::new().await);
    let mut config = broker.config();
    config.fallbacks = vec![second.config().address];
    drop(broker);
    let (_handle, mut events) = Session::start(config, 1);
    assert!(matches!(next(&mut events).await, Event::Down { .. }));
    let peer = second.accept_up().await;
    assert_eq!(next(&mut events).await, Event::Up);
    drop(peer);
    assert!(matches!(next(&mut events).await, Event::Down { .. }));
    let _peer = second.accept_up().await;
    assert_eq!(next(&mut events).await, Event::Up);
}

#[tokio::test]
async fn addresses_that_are_set_count_from_the_next_connect_on_and_the_one_that_stood_comes_first()
{
    let (old, new) = (Scripted::new().await, Scripted::new().await);
    let (handle, mut events) = Session::start(old.config(), 1);
    let peer = old.accept_up().await;
    assert_eq!(next(&mut events).await, Event::Up);
    handle.set_addresses(vec![new.config().address, old.config().address]);
    drop(peer);
    assert!(matches!(next(&mut events).await, Event::Down { .. }));
    let peer = old.accept_up().await;
    assert_eq!(next(&mut events).await, Event::Up, "it is still where it was");
    drop((peer, old));
    for _ in ["lost", "nobody there"] {
        assert!(matches!(next(&mut events).await, Event::Down { .. }));
    }
    let peer = new.accept_up().await;
    assert_eq!(next(&mut events).await, Event::Up, "it has moved");
    handle.set_addresses(vec![]);
    drop(peer);
    assert!(matches!(next(&mut events).await, Event::Down { .. }));
    let _peer = new.accept_up().await;
    assert_eq!(next(&mut events).await, Event::Up, "nowhere changes nothing");
}
