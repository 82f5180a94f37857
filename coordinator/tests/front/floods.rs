//! Many at once: A18 and the limits of one address.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::time::{Duration, Instant};

use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;

use crate::board::{Fleet, connect, tls};

const IDLE: usize = 200;
const FLOOD: usize = 1_000;
/// As `coordinator::front::Limits` has it.
const PLACES_OF_ONE_ADDRESS: usize = 512;

#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_silent_connections_do_not_hold_up_a_node() {
    let fleet = Fleet::start().await;
    let board = fleet.member("opi-1").await;
    let mut idle = Vec::new();
    for _ in 0..IDLE {
        idle.push(TcpStream::connect(fleet.address()).await.unwrap());
    }
    let started = Instant::now();
    let (_, connack) = board.log_in(&fleet).await;
    let took = started.elapsed();
    assert_eq!(connack, 0);
    eprintln!("logged in after {took:?} beside {IDLE} silent connections");
    assert!(took < Duration::from_secs(1), "{took:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_one_address_is_refused_beyond_its_places_and_others_come_in() {
    let fleet = Fleet::start().await;
    let board = fleet.member("opi-1").await;
    let mut flood = Vec::new();
    for _ in 0..FLOOD {
        flood.push(TcpStream::connect(fleet.address()).await.unwrap());
    }
    let from = Some("127.0.0.2:0".parse().unwrap());
    let own = board.certificate.as_ref().map(|pem| (pem.as_str(), &board.tls));
    let mut stream = tls(&fleet, own, None, from).await.unwrap();
    assert_eq!(connect(&mut stream, board.id().as_str()).await.unwrap(), 0);
    let mut refused = 0;
    for socket in &mut flood {
        let end = tokio::time::timeout(Duration::from_millis(5), socket.read_u8()).await;
        refused += usize::from(end.is_ok());
    }
    eprintln!("{refused} of {FLOOD} connections refused");
    assert!(refused >= FLOOD - PLACES_OF_ONE_ADDRESS, "{refused}");
}
