//! MQTT from outside: the CONNECT of a board, what a broker sends, what the embedded broker reads, and the messages that
//! nobody signs.

use std::str;

use bytes::BytesMut;
use coordinator::broker::MAX_PACKET_BYTES;
use coordinator::front::Connect;
use futures_util::FutureExt as _;
use protocol::hello::{Event, Load, Presence};
use protocol::topic::Topic;
use rmqtt::codec::v3::Codec;
use tokio_util::codec::Decoder as _;

use crate::envelopes::same;

/// As `coordinator::front` has it.
const MAX_CONNECT_BYTES: usize = 8 * 1024;

/// Bytes of a socket, a topic, or a message.
pub(crate) fn mqtt(bytes: &[u8]) {
    connect(bytes);
    for (topic, payload) in mqtt::session::publishes(bytes, MAX_PACKET_BYTES as usize) {
        assert!(topic.len() + payload.len() <= bytes.len());
        if let Ok(topic) = str::from_utf8(&topic) {
            name(topic);
        }
        message(&payload);
    }
    if let Ok(text) = str::from_utf8(bytes) {
        name(text);
    }
    message(bytes);
    broker(bytes);
}

fn connect(mut bytes: &[u8]) {
    let whole = bytes.len();
    let read =
        Connect::read(&mut bytes).now_or_never().expect("bytes that are there are not waited for");
    let Ok(connect) = read else { return };
    assert!(bytes.len() < whole);
    let packet = connect.with_login("a-node", "a token");
    if packet.len() > MAX_CONNECT_BYTES {
        // Our login is longer than the one that came; the broker behind the port takes more.
        return;
    }
    let mut rest = &packet[..];
    let again = Connect::read(&mut rest).now_or_never().expect("as above");
    assert_eq!(again.ok(), Some(connect), "it goes on with another login alone");
    assert!(rest.is_empty());
}

fn name(text: &str) {
    if let Some(topic) = Topic::parse(text) {
        assert_eq!(topic.to_string(), text);
    }
}

fn message(bytes: &[u8]) {
    same(&serde_json::from_slice::<Load>(bytes));
    same(&serde_json::from_slice::<Event>(bytes));
    same(&serde_json::from_slice::<Presence>(bytes));
}

fn broker(bytes: &[u8]) {
    let (codec, mut stream) = (&mut Codec::new(MAX_PACKET_BYTES), BytesMut::from(bytes));
    while let Ok(Some(_)) = codec.decode(&mut stream) {}
}
