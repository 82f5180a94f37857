//! Bodies, limits and what is refused.

use crate::lab::{Place, Running, Wire, accepting, backend, free_address, route};
use proxy::{Protocol, TakeOver};
use std::net::SocketAddr;

/// Answers with the request as it arrived.
async fn echoing() -> SocketAddr {
    accepting(|_, mut wire| async move {
        while let Some(request) = wire.message().await {
            let mut body = request.head.into_bytes();
            body.extend(request.body);
            let text = String::from_utf8(body).unwrap();
            wire.send(&format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{text}", text.len()))
                .await;
        }
    })
    .await
}

async fn in_front_of(address: SocketAddr) -> (Place, Running, SocketAddr) {
    let (place, listen) = (Place::new(), free_address());
    let proxy = place.start(TakeOver::Fresh).await;
    proxy.set(&[route(listen, Protocol::Http, vec![backend("a", address, 1)])]).await;
    (place, proxy, listen)
}

async fn status_of(listen: SocketAddr, text: &str) -> String {
    Wire::to(listen).await.ask(text).await.unwrap().status().to_owned()
}

#[tokio::test]
async fn forwarded_headers_are_ours_unless_the_peer_is_trusted() {
    let (_place, proxy, listen) = in_front_of(echoing().await).await;
    let text = "GET /x HTTP/1.1\r\nHost: shop:80\r\nX-Forwarded-For: 9.9.9.9\r\nTE: gzip\r\n\r\n";
    let seen = Wire::to(listen).await.ask(text).await.unwrap();
    assert!(seen.text().starts_with("GET /x HTTP/1.1\r\nHost: shop:80\r\n"));
    assert!(seen.text().contains("X-Forwarded-For: 127.0.0.1\r\n"), "{}", seen.text());
    assert!(seen.text().contains("X-Forwarded-Host: shop:80\r\n"));
    let mut trusting = route(listen, Protocol::Http, vec![backend("a", echoing().await, 1)]);
    trusting.trusted = vec!["127.0.0.1".parse().unwrap()];
    proxy.set(&[trusting]).await;
    let seen = Wire::to(listen).await.ask(text).await.unwrap();
    assert!(seen.text().contains("X-Forwarded-For: 9.9.9.9, 127.0.0.1\r\n"));
}

#[tokio::test]
async fn what_could_be_read_in_two_ways_is_refused_and_the_connection_closed() {
    let (_place, _proxy, listen) = in_front_of(echoing().await).await;
    let smuggled = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n\
                    0\r\n\r\nGET /admin HTTP/1.1\r\nHost: a\r\n\r\n";
    let mut wire = Wire::to(listen).await;
    assert_eq!(wire.ask(smuggled).await.unwrap().status(), "400");
    assert!(wire.rest().await.is_empty());
}

#[tokio::test]
async fn large_heads_http2_and_connect_are_answered_with_a_reason() {
    let (_place, _proxy, listen) = in_front_of(echoing().await).await;
    let large = format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "x".repeat(70_000));
    assert_eq!(status_of(listen, &large).await, "431");
    let allowed = format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "x".repeat(60_000));
    assert_eq!(status_of(listen, &allowed).await, "200");
    let preface = Wire::to(listen).await.ask("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
    assert!(preface.text().contains("protocol = \"tcp\""));
    assert_eq!(status_of(listen, "CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n").await, "501");
    assert_eq!(status_of(listen, "\u{16}\u{3}\u{1}\r\n\r\n").await, "400");
}

#[tokio::test]
async fn bodies_trailers_and_pipelined_requests_pass_as_they_are() {
    let (_place, _proxy, listen) = in_front_of(echoing().await).await;
    let mut wire = Wire::to(listen).await;
    wire.send("POST /1 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n\
               GET /2 HTTP/1.1\r\nHost: a\r\n\r\nGET /3 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        .await;
    let first = wire.message().await.unwrap();
    assert!(first.text().starts_with("POST /1") && first.text().ends_with("3\r\nabc\r\n0\r\n\r\n"));
    assert!(first.text().contains("Transfer-Encoding: chunked"));
    assert!(wire.message().await.unwrap().text().starts_with("GET /2"));
    let last = wire.message().await.unwrap();
    assert!(last.text().starts_with("GET /3") && last.head.contains("Connection: close"));
    assert!(wire.rest().await.is_empty());
}

#[tokio::test]
async fn head_and_empty_answers_have_no_body() {
    let address = accepting(|_, mut wire| async move {
        while let Some(request) = wire.message().await {
            let answer = match request.head.split(' ').nth(1).unwrap() {
                "/204" => "HTTP/1.1 204 No Content\r\n\r\n",
                "/304" => "HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n",
                _ => {
                    "HTTP/1.1 200 OK\r\nContent-Length: 9\r\nX-Hop: 1\r\nConnection: X-Hop\r\n\r\n"
                }
            };
            wire.send(answer).await;
        }
    })
    .await;
    let (_place, _proxy, listen) = in_front_of(address).await;
    let mut wire = Wire::to(listen).await;
    for line in ["GET /204", "GET /304", "HEAD /x", "GET /304"] {
        wire.send(&format!("{line} HTTP/1.1\r\nHost: a\r\n\r\n")).await;
        let head = wire.head_only().await;
        assert!(!head.contains("X-Hop") && !head.contains("close"), "{line}: {head}");
        assert!(wire.buffer.is_empty());
    }
}

#[tokio::test]
async fn an_old_client_gets_its_answer_and_the_end() {
    let address = accepting(|_, mut wire| async move {
        wire.message().await;
        wire.send("HTTP/1.0 200 OK\r\n\r\nuntil the end").await;
    })
    .await;
    let (_place, _proxy, listen) = in_front_of(address).await;
    for request in ["GET / HTTP/1.0\r\n\r\n", "GET / HTTP/1.1\r\nHost: a\r\n\r\n"] {
        let mut wire = Wire::to(listen).await;
        wire.send(request).await;
        let answer = String::from_utf8(wire.rest().await).unwrap();
        assert!(answer.contains("Connection: close") && answer.ends_with("until the end"));
    }
}

#[tokio::test]
async fn a_request_may_wait_for_100_continue() {
    let address = accepting(|_, mut wire| async move {
        let head = wire.head_only().await;
        assert!(head.contains("Expect: 100-continue"));
        wire.send("HTTP/1.1 100 Continue\r\n\r\n").await;
        assert_eq!(wire.exactly(5).await.unwrap(), b"hello");
        wire.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
        wire.rest().await;
    })
    .await;
    let (_place, _proxy, listen) = in_front_of(address).await;
    let mut wire = Wire::to(listen).await;
    wire.send("POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n")
        .await;
    assert!(wire.head_only().await.starts_with("HTTP/1.1 100"));
    assert_eq!(wire.ask("hello").await.unwrap().text(), "ok");
}
