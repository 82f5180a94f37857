//! Joining over the port: token, lobby, certificate, session.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::time::Duration;

use coordinator::state::requests::NewToken;
use protocol::id::sha256_hex;
use protocol::join::{Answer, Token};

use crate::board::{Board, Fleet, code, send};

#[tokio::test(flavor = "multi_thread")]
async fn a_board_joins_waits_is_approved_and_logs_in() {
    let fleet = Fleet::start().await;
    let token = fleet.token(NewToken::default()).await;
    assert_eq!(token.ca_sha256, sha256_hex(fleet.ca().der()));
    assert_eq!(token.addresses, [fleet.address().to_string()]);
    let mut board = Board::new("opi-1");
    let (status, answer) = board.join(&fleet, &token).await;
    assert_eq!((status, code(&answer)), (202, "pending"));
    let lobby = fleet.client.nodes(None).await.unwrap().lobby;
    assert_eq!((lobby[0].name.as_str(), lobby[0].status.as_str()), ("opi-1", "pending"));
    fleet.client.approve("opi-1").await.unwrap();
    let (status, answer) = board.renew(&fleet).await;
    let Answer::Approved(approved) = answer else { panic!("{answer:?}") };
    assert_eq!(status, 200);
    assert_eq!(approved.roots.len(), 1);
    assert_eq!(approved.ca, fleet.ca().pem());
    assert_eq!(approved.times.expires_at - approved.times.renew_at, 30 * 86_400);
    board.certificate = Some(approved.certificate);
    let (_, connack) = board.log_in(&fleet).await;
    assert_eq!(connack, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_good_for_one_board_and_its_time_in_its_fleet() {
    let fleet = Fleet::start().await;
    let token = fleet.token(NewToken { approve: true, ..NewToken::default() }).await;
    let (first, second) = (Board::new("opi-1"), Board::new("opi-2"));
    assert_eq!(code(&first.join(&fleet, &token).await.1), "approved");
    let (status, answer) = second.join(&fleet, &token).await;
    assert_eq!((status, code(&answer)), (403, "token_used"));
    let short = fleet.token(NewToken { ttl_ms: 1, ..NewToken::default() }).await;
    tokio::time::sleep(Duration::from_millis(20)).await;
    assert_eq!(code(&second.join(&fleet, &short).await.1), "token_expired");
    let elsewhere = Fleet::start().await;
    let foreign = elsewhere.token(NewToken::default()).await;
    let ca = sha256_hex(fleet.ca().der());
    assert_ne!(foreign.ca_sha256, ca, "a board would not even send it");
    assert_eq!(code(&second.join(&fleet, &foreign).await.1), "wrong_fleet");
    let forged = Token { fleet: token.fleet.clone(), ..foreign };
    assert_eq!(code(&second.join(&fleet, &forged).await.1), "token_unknown");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_board_without_a_token_is_let_in_by_its_id() {
    let fleet = Fleet::start().await;
    let board = Board::new("opi-1");
    assert_eq!(code(&board.renew(&fleet).await.1), "unknown_node");
    fleet.client.approve(board.id().as_str()).await.unwrap();
    assert_eq!(code(&board.renew(&fleet).await.1), "approved");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_request_is_refused_in_words() {
    let fleet = Fleet::start().await;
    assert_eq!(send(&fleet, "GET", "/healthz", b"").await, (200, "ok".to_owned()));
    let (status, text) = send(&fleet, "POST", "/v1/join", b"{").await;
    assert_eq!(status, 400);
    assert!(text.contains("bad_request") && text.contains("not readable"), "{text}");
    assert_eq!(send(&fleet, "POST", "/v1/join", &[b' '; 65 * 1024]).await.0, 413);
    // The operators' API is for operators.
    for path in ["/v1/nodes", "/v1/services", "/v1/audit"] {
        let (status, text) = send(&fleet, "GET", path, b"").await;
        assert_eq!(status, 401, "{path}");
        assert!(text.contains("no_certificate"), "{text}");
    }
}
