//! Heads as they are passed on.

use super::{Origin, Peer, Rejection, RequestHead, Then, answer, request};
use crate::framing::Framing;

fn check(text: &str, origin: Origin) -> Result<(RequestHead, String), Rejection> {
    let ip: std::net::IpAddr = "10.0.0.9".parse().unwrap();
    let mut out = Vec::new();
    let head = request(text.as_bytes(), Peer { ip, origin }, None, &mut out)?;
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
        assert!(check(&text, Origin::Stranger).is_err(), "{lines}");
    }
    assert!(
        check("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", Origin::Stranger).is_err()
    );
    assert!(check("GET / HTTP/1.1\r\n\r\n", Origin::Stranger).is_err());
}

#[test]
fn a_connection_line_cannot_strip_what_frames_or_addresses() {
    let text = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nX-Hop: 1\r\nX-End: 2\r\n\
                Connection: Content-Length, Host, X-Hop\r\n\r\n";
    let (head, out) = check(text, Origin::Stranger).unwrap();
    assert_eq!(head.framing, Framing::Length(5));
    assert!(out.contains("Host: a\r\n") && out.contains("Content-Length: 5\r\n"));
    assert!(out.contains("X-End: 2") && !out.contains("X-Hop") && !out.contains("Connection"));
}

#[test]
fn forwarded_lines_of_strangers_are_dropped_of_trusted_peers_extended_and_of_the_fleet_kept() {
    let text = "GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 1.1.1.1\r\nX-Forwarded-Proto: https\r\n\
                X-Forwarded-Host: shop\r\nForwarded: for=1.1.1.1\r\n\r\n";
    let (_, out) = check(text, Origin::Stranger).unwrap();
    assert!(out.contains(
        "X-Forwarded-For: 10.0.0.9\r\nX-Forwarded-Proto: http\r\nX-Forwarded-Host: a\r\n"
    ));
    assert!(!out.contains("1.1.1.1"));
    let (_, out) = check(text, Origin::Trusted).unwrap();
    assert!(out.contains("X-Forwarded-For: 1.1.1.1, 10.0.0.9\r\n"));
    assert!(out.contains(
        "X-Forwarded-Proto: https\r\nX-Forwarded-Host: shop\r\nForwarded: for=1.1.1.1\r\n"
    ));
    let (_, out) = check(text, Origin::Fleet).unwrap();
    assert!(out.contains("X-Forwarded-For: 1.1.1.1\r\nX-Forwarded-Proto: https\r\n"));
}

#[test]
fn a_bodiless_answer_keeps_its_length_line() {
    let (head, _) = check("HEAD / HTTP/1.1\r\nHost: a\r\n\r\n", Origin::Stranger).unwrap();
    let mut out = Vec::new();
    let bytes = b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\nConnection: keep-alive\r\n\r\n";
    let answer = answer(bytes, &head, Then::Keep, "", &mut out).unwrap().unwrap();
    assert_eq!(answer.framing, Framing::Done);
    assert_eq!(out, b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n");
}

#[test]
fn an_answer_that_frames_twice_is_refused() {
    let (head, _) = check("GET / HTTP/1.1\r\nHost: a\r\n\r\n", Origin::Stranger).unwrap();
    let bytes = b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\nTransfer-Encoding: chunked\r\n\r\n";
    assert!(answer(bytes, &head, Then::Keep, "", &mut Vec::new()).is_err());
    let bytes = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n";
    assert!(answer(bytes, &head, Then::Keep, "", &mut Vec::new()).is_err());
}

#[test]
fn a_status_that_would_be_passed_on_with_fewer_digits_is_refused() {
    let (head, _) = check("GET / HTTP/1.1\r\nHost: a\r\n\r\n", Origin::Stranger).unwrap();
    for status in ["000", "005", "099"] {
        let text = format!("HTTP/1.1 {status} Odd\r\nContent-Length: 0\r\n\r\n");
        let refused = answer(text.as_bytes(), &head, Then::Keep, "", &mut Vec::new());
        assert!(refused.is_err(), "{status}");
    }
}

#[test]
fn only_a_503_says_that_another_backend_may_take_it_and_the_client_never_hears_of_it() {
    let (head, _) = check("GET / HTTP/1.1\r\nHost: a\r\n\r\n", Origin::Stranger).unwrap();
    for (status, elsewhere) in [("503 Service Unavailable", true), ("200 OK", false)] {
        let text = format!("HTTP/1.1 {status}\r\npith-elsewhere: 1\r\nContent-Length: 0\r\n\r\n");
        let mut out = Vec::new();
        let answer = answer(text.as_bytes(), &head, Then::Keep, "", &mut out).unwrap().unwrap();
        assert_eq!(answer.elsewhere, elsewhere);
        assert!(!String::from_utf8(out).unwrap().to_ascii_lowercase().contains("elsewhere"));
    }
}
