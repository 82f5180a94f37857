//! Heads as they are passed on.

use super::{Peer, Rejection, RequestHead, Then, answer, request};
use crate::framing::Framing;

fn check(text: &str, peer_is_trusted: &[&str]) -> Result<(RequestHead, String), Rejection> {
    let ip: std::net::IpAddr = "10.0.0.9".parse().unwrap();
    let trusted = peer_is_trusted.iter().any(|one| *one == ip.to_string());
    let mut out = Vec::new();
    let head = request(text.as_bytes(), Peer { ip, trusted }, None, &mut out)?;
    Ok((head.unwrap(), String::from_utf8(out).unwrap()))
}

#[test]
fn ambiguous_framing_is_refused() {
    for lines in [
        "Content-Length: 5\r\nTransfer-Encoding: chunked",
        "Content-Length: 5\r\nContent-Length: 5",
        "Content-Length: 5, 5",
        "Content-Length: +5",
        "Content-Length: ",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: xchunked",
        "Transfer-Encoding: gzip, chunked",
        "Transfer-Encoding : chunked",
        "Host: b",
        " folded: x",
    ] {
        let text = format!("POST / HTTP/1.1\r\nHost: a\r\n{lines}\r\n\r\n");
        assert!(check(&text, &[]).is_err(), "{lines}");
    }
    assert!(check("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", &[]).is_err());
    assert!(check("GET / HTTP/1.1\r\n\r\n", &[]).is_err());
}

#[test]
fn a_connection_line_cannot_strip_what_frames_or_addresses() {
    let text = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nX-Hop: 1\r\nX-End: 2\r\n\
                Connection: Content-Length, Host, X-Hop\r\n\r\n";
    let (head, out) = check(text, &[]).unwrap();
    assert_eq!(head.framing, Framing::Length(5));
    assert!(out.contains("Host: a\r\n") && out.contains("Content-Length: 5\r\n"));
    assert!(out.contains("X-End: 2") && !out.contains("X-Hop") && !out.contains("Connection"));
}

#[test]
fn forwarded_lines_of_strangers_are_dropped_and_of_trusted_peers_extended() {
    let text = "GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 1.1.1.1\r\nX-Forwarded-Proto: https\r\n\
                X-Forwarded-Host: shop\r\nForwarded: for=1.1.1.1\r\n\r\n";
    let (_, out) = check(text, &[]).unwrap();
    assert!(out.contains(
        "X-Forwarded-For: 10.0.0.9\r\nX-Forwarded-Proto: http\r\nX-Forwarded-Host: a\r\n"
    ));
    assert!(!out.contains("1.1.1.1"));
    let (_, out) = check(text, &["10.0.0.9"]).unwrap();
    assert!(out.contains("X-Forwarded-For: 1.1.1.1, 10.0.0.9\r\n"));
    assert!(out.contains(
        "X-Forwarded-Proto: https\r\nX-Forwarded-Host: shop\r\nForwarded: for=1.1.1.1\r\n"
    ));
}

#[test]
fn a_bodiless_answer_keeps_its_length_line() {
    let (head, _) = check("HEAD / HTTP/1.1\r\nHost: a\r\n\r\n", &[]).unwrap();
    let mut out = Vec::new();
    let bytes = b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\nConnection: keep-alive\r\n\r\n";
    let answer = answer(bytes, &head, Then::Keep, "", &mut out).unwrap().unwrap();
    assert_eq!(answer.framing, Framing::Done);
    assert_eq!(out, b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n");
}

#[test]
fn an_answer_that_frames_twice_is_refused() {
    let (head, _) = check("GET / HTTP/1.1\r\nHost: a\r\n\r\n", &[]).unwrap();
    let bytes = b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\nTransfer-Encoding: chunked\r\n\r\n";
    assert!(answer(bytes, &head, Then::Keep, "", &mut Vec::new()).is_err());
    let bytes = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n";
    assert!(answer(bytes, &head, Then::Keep, "", &mut Vec::new()).is_err());
}
