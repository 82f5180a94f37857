//! The port alone: silence, floods and a broker that is not there. What nodes do through it is in tests/front.rs.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::*;
use crate::data_dir::DataDir;

const PATIENCE: Duration = Duration::from_secs(20);

async fn front(limits: Limits) -> (tempfile::TempDir, Front) {
    let dir = tempfile::tempdir().unwrap();
    let data = DataDir::at(dir.path());
    let fleet = data.init().unwrap().id;
    let ca = Arc::new(Ca::open(&data, &fleet).unwrap());
    let config = FrontConfig {
        limits,
        ca,
        door: Door::new(fleet).unwrap(),
        broker: None,
        router: axum::Router::new(),
    };
    let bound = Bound::to("127.0.0.1:0".parse().unwrap()).await.unwrap();
    (dir, Front::start(bound, config).unwrap())
}

/// Waits until the other side has closed.
async fn closed(socket: &mut TcpStream) {
    let mut rest = Vec::new();
    let end = tokio::time::timeout(PATIENCE, socket.read_to_end(&mut rest)).await;
    assert!(end.is_ok(), "it is still open");
}

#[tokio::test]
async fn whoever_is_silent_is_dropped_when_the_time_to_log_in_is_over() {
    let limits = Limits { login_within: Duration::from_millis(200), ..Limits::default() };
    let (_dir, front) = front(limits).await;
    let mut silent = TcpStream::connect(front.local_addr()).await.unwrap();
    closed(&mut silent).await;
    let mut dripping = TcpStream::connect(front.local_addr()).await.unwrap();
    // The head of a TLS record whose rest never comes.
    dripping.write_all(&[0x16, 0x03, 0x01, 0x02, 0x00, 0x01]).await.unwrap();
    closed(&mut dripping).await;
}

#[tokio::test]
async fn what_is_not_tls_is_dropped_at_once() {
    let (_dir, front) = front(Limits::default()).await;
    let mut plain = TcpStream::connect(front.local_addr()).await.unwrap();
    plain.write_all(b"\x10\x0c\x00\x04MQTT\x04\x02\x00\x3c\x00\x00").await.unwrap();
    closed(&mut plain).await;
}

#[tokio::test]
async fn an_address_beyond_its_places_is_dropped_unanswered_and_another_is_served() {
    let limits = Limits { max_waiting_per_address: 3, ..Limits::default() };
    let (_dir, front) = front(limits).await;
    let mut held = Vec::new();
    for _ in 0..3 {
        held.push(TcpStream::connect(front.local_addr()).await.unwrap());
    }
    let mut fourth = TcpStream::connect(front.local_addr()).await.unwrap();
    closed(&mut fourth).await;
    let elsewhere = tokio::net::TcpSocket::new_v4().unwrap();
    elsewhere.bind("127.0.0.2:0".parse().unwrap()).unwrap();
    let mut elsewhere = elsewhere.connect(front.local_addr()).await.unwrap();
    let waits = tokio::time::timeout(Duration::from_millis(200), elsewhere.read_u8()).await;
    assert!(waits.is_err(), "it is waited for");
}

#[tokio::test]
async fn an_address_that_is_taken_is_named_with_the_mend() {
    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let error = bind(taken.local_addr().unwrap()).await.unwrap_err();
    let listen = taken.local_addr().unwrap();
    let error = FrontError::Listen { listen, source: error }.to_string();
    assert!(error.contains("[broker] listen"), "{error}");
}
