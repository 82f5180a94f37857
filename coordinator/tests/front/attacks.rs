//! Who is not let in: A12, A13 and their relatives.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::time::{Duration, Instant};

use coordinator::ca::Ca;
use coordinator::data_dir::DataDir;
use tokio::io::AsyncWriteExt as _;

use crate::board::{Board, Fleet, code, connect, is_alive, is_cut, tls};

const UNACCEPTABLE_VERSION: u8 = 1;
const ID_REJECTED: u8 = 2;
const NOT_AUTHORIZED: u8 = 5;

#[tokio::test(flavor = "multi_thread")]
async fn no_certificate_is_no_session() {
    let fleet = Fleet::start().await;
    let member = fleet.member("opi-1").await;
    let mut stream = tls(&fleet, None, None, None).await.unwrap();
    assert_eq!(connect(&mut stream, member.id().as_str()).await.unwrap(), NOT_AUTHORIZED);
    let mut stream = tls(&fleet, None, Some(b"mqtt"), None).await.unwrap();
    assert_eq!(connect(&mut stream, "coordinator").await.unwrap(), NOT_AUTHORIZED);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_of_another_ca_is_refused_by_tls() {
    let fleet = Fleet::start().await;
    let mut member = fleet.member("opi-1").await;
    // The same fleet's names, under a key that is not the fleet's.
    let dir = tempfile::tempdir().unwrap();
    let other = Ca::open(&DataDir::at(dir.path()), fleet.ca().fleet()).unwrap();
    let forged = other.node(&member.id(), &member.tls_key(), 1_800_000_000).unwrap();
    member.certificate = Some(forged.pem);
    let refused = match member.tls(&fleet).await {
        // The client's half ends before the server has looked at the certificate (RFC 8446).
        Ok(mut stream) => connect(&mut stream, member.id().as_str()).await.map(drop),
        Err(error) => Err(error),
    };
    assert!(refused.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_that_is_over_is_refused_by_tls_and_renewed_without_it() {
    let fleet = Fleet::start().await;
    let mut member = fleet.member("opi-1").await;
    let long_ago = fleet.ca().node(&member.id(), &member.tls_key(), 1_600_000_000).unwrap();
    member.certificate = Some(long_ago.pem);
    let refused = match member.tls(&fleet).await {
        Ok(mut stream) => connect(&mut stream, member.id().as_str()).await.map(drop),
        Err(error) => Err(error),
    };
    assert!(refused.unwrap_err().to_string().to_lowercase().contains("expired"));
    assert_eq!(code(&member.renew(&fleet).await.1), "approved", "the last one given is not over");
}

#[tokio::test(flavor = "multi_thread")]
async fn another_nodes_client_id_is_refused_and_the_victim_stays_connected() {
    let fleet = Fleet::start().await;
    let (victim, thief) = (fleet.member("opi-1").await, fleet.member("opi-2").await);
    let (mut session, connack) = victim.log_in(&fleet).await;
    assert_eq!(connack, 0);
    for client_id in [victim.id().as_str(), "coordinator", "", &"x".repeat(100)] {
        let mut stream = thief.tls(&fleet).await.unwrap();
        assert_eq!(connect(&mut stream, client_id).await.unwrap(), ID_REJECTED, "{client_id}");
    }
    assert!(is_alive(&mut session).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_board_with_a_certificate_that_nobody_admitted_is_refused() {
    let fleet = Fleet::start().await;
    let mut stranger = Board::new("opi-9");
    let certificate = fleet.ca().node(&stranger.id(), &stranger.tls_key(), 1_900_000_000).unwrap();
    stranger.certificate = Some(certificate.pem);
    assert_eq!(stranger.log_in(&fleet).await.1, NOT_AUTHORIZED);
}

#[tokio::test(flavor = "multi_thread")]
async fn revoking_cuts_the_session_at_once_and_keeps_the_node_out() {
    let fleet = Fleet::start().await;
    let (board, other) = (fleet.member("opi-1").await, fleet.member("opi-2").await);
    let (mut session, _) = board.log_in(&fleet).await;
    let (mut untouched, _) = other.log_in(&fleet).await;
    assert!(is_alive(&mut session).await);
    let asked = Instant::now();
    let revoked = fleet.client.revoke("opi-1").await.unwrap();
    assert_eq!(revoked.id, board.id());
    assert!(is_cut(&mut session, Duration::from_secs(5)).await);
    eprintln!("cut after {:?}", asked.elapsed());
    assert_eq!(board.log_in(&fleet).await.1, NOT_AUTHORIZED);
    let (status, answer) = board.renew(&fleet).await;
    assert_eq!((status, code(&answer)), (403, "revoked"));
    assert!(is_alive(&mut untouched).await);
    assert!(fleet.client.revoke("opi-1").await.unwrap().already);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connect_that_is_too_large_malformed_or_of_another_version_is_refused() {
    let fleet = Fleet::start().await;
    let board = fleet.member("opi-1").await;
    let second = Duration::from_secs(2);
    let mut large = board.tls(&fleet).await.unwrap();
    large.write_all(&[0x10, 0xff, 0xff, 0x7f]).await.unwrap();
    assert!(is_cut(&mut large, second).await, "before the rest of it is read");
    let mut publish = board.tls(&fleet).await.unwrap();
    publish.write_all(&[0x30, 3, 0, 1, b'a']).await.unwrap();
    assert!(is_cut(&mut publish, second).await);
    let mut version_5 = board.tls(&fleet).await.unwrap();
    version_5.write_all(b"\x10\x0d\x00\x04MQTT\x05\x02\x00\x3c\x00\x00\x00").await.unwrap();
    let mut connack = [0; 4];
    tokio::io::AsyncReadExt::read_exact(&mut version_5, &mut connack).await.unwrap();
    assert_eq!(connack, [0x20, 2, 0, UNACCEPTABLE_VERSION]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_broker_behind_the_port_takes_nobody_without_an_internal_token() {
    let fleet = Fleet::start().await;
    let board = fleet.member("opi-1").await;
    let broker = fleet.coordinator.broker_address().unwrap();
    assert!(broker.ip().is_loopback());
    let mut socket = tokio::net::TcpStream::connect(broker).await.unwrap();
    socket.write_all(&crate::board::connect_packet(board.id().as_str())).await.unwrap();
    let mut connack = [0; 4];
    tokio::io::AsyncReadExt::read_exact(&mut socket, &mut connack).await.unwrap();
    assert_ne!(connack[3], 0);
}
