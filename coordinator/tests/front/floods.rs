//! Many at once: A18, A19 and the limits of one address.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use protocol::topic::{Subject, Topic, Up};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_rustls::client::TlsStream;

use crate::board::{Board, Fleet, connect, tls};

const IDLE: usize = 200;
const FLOOD: usize = 1_000;
/// At once, before that.
const JOINING: usize = 20;
/// Behind so many addresses, as a fleet of several places is.
const PLACES: u8 = 4;
/// What A19 of the threat table grants.
const ALL_IN_WITHIN: Duration = Duration::from_secs(60);
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

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_boards_that_come_back_at_once_are_in_and_heard_within_a_minute() {
    let fleet = Arc::new(Fleet::start().await);
    let mut joining = JoinSet::new();
    for worker in 0..JOINING {
        let fleet = Arc::clone(&fleet);
        joining.spawn(async move {
            let mut boards = Vec::new();
            for number in (worker..FLOOD).step_by(JOINING) {
                boards.push(fleet.member(&format!("opi-{number}")).await);
            }
            boards
        });
    }
    let boards = joining.join_all().await.into_iter().flatten();
    let (started, mut coming) = (Instant::now(), JoinSet::new());
    for (number, board) in boards.enumerate() {
        let fleet = Arc::clone(&fleet);
        let place = u8::try_from(number % usize::from(PLACES)).unwrap();
        let from = SocketAddr::from((Ipv4Addr::new(127, 0, 1, place + 1), 0));
        coming.spawn(async move { comes_back(&board, &fleet, from).await });
    }
    let mut sessions = Vec::new();
    let all = async {
        while let Some(one) = coming.join_next().await {
            sessions.push(one.unwrap());
        }
    };
    let in_time = tokio::time::timeout(ALL_IN_WITHIN, all).await.is_ok();
    eprintln!("{} of {FLOOD} in and acknowledged after {:?}", sessions.len(), started.elapsed());
    assert!(in_time, "{} of {FLOOD} after {ALL_IN_WITHIN:?}", sessions.len());
    let heard = || async {
        let nodes = fleet.client.nodes(None).await.unwrap().nodes;
        nodes.iter().filter(|node| !node.agent_version.is_empty()).count()
    };
    while heard().await < FLOOD {
        assert!(started.elapsed() < ALL_IN_WITHIN, "{} of {FLOOD} were heard", heard().await);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Logs in and says hello until it is acknowledged; one that finds no place, or whose connection breaks, comes again, as every client does.
async fn comes_back(board: &Board, fleet: &Fleet, from: SocketAddr) -> TlsStream<TcpStream> {
    let (mut stream, mut breaks) = (says_hello(board, fleet, from).await, 0);
    loop {
        match stream {
            Ok(stream) => return stream,
            Err(error) => {
                breaks += 1;
                eprintln!("{}: {error}, the {breaks}. time", board.id());
                tokio::time::sleep(Duration::from_millis(500)).await;
            }
        }
        stream = says_hello(board, fleet, from).await;
    }
}

async fn says_hello(
    board: &Board,
    fleet: &Fleet,
    from: SocketAddr,
) -> std::io::Result<TlsStream<TcpStream>> {
    let own = board.certificate.as_ref().map(|pem| (pem.as_str(), &board.tls));
    let mut stream = tls(fleet, own, None, Some(from)).await?;
    assert_eq!(connect(&mut stream, board.id().as_str()).await?, 0);
    let id = fleet.ca().fleet();
    let subject = Subject::Up(Up::Hello);
    let topic = Topic { fleet: id.clone(), node: board.id(), subject }.to_string();
    stream.write_all(&publish(&topic, &board.hello(id))).await?;
    let mut puback = [0; 4];
    stream.read_exact(&mut puback).await?;
    assert_eq!(puback, [0x40, 2, 0, 1]);
    Ok(stream)
}

/// A PUBLISH of MQTT 3.1.1 with QoS 1 and packet identifier 1.
fn publish(topic: &str, payload: &[u8]) -> Vec<u8> {
    let mut body = u16::try_from(topic.len()).unwrap().to_be_bytes().to_vec();
    body.extend(topic.as_bytes());
    body.extend([0, 1]);
    body.extend(payload);
    let (mut packet, mut length) = (vec![0x32], body.len());
    while length >= 0x80 {
        packet.push(u8::try_from(length & 0x7f).unwrap() | 0x80);
        length >>= 7;
    }
    packet.push(u8::try_from(length).unwrap());
    packet.extend(body);
    packet
}
