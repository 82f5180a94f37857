//! What must hold of heads and bodies, whatever the bytes: for tests that feed them. No IO.

use super::head::{Origin, Peer, RequestHead};
use super::rewrite::{self, Then};
use crate::framing::Framing;
use crate::limits::HEAD_MAX_BYTES;
use crate::table::Split;
use std::net::{IpAddr, Ipv4Addr};

/// The client of every request.
const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 9));

/// Feeds bytes of a client and of a backend that answers it.
///
/// # Panics
/// Where a head that is passed on says something else than the one that came, or is no head.
pub fn feed(bytes: &[u8]) {
    let split = Split {
        release: "new".into(),
        share: 5000,
        cookie: Some("side".into()),
        header: Some("X-Cohort".into()),
    };
    for origin in [Origin::Stranger, Origin::Trusted, Origin::Fleet] {
        let peer = Peer { ip: CLIENT, origin };
        let mut passed_on = Vec::new();
        let request = rewrite::request(bytes, peer, Some(&split), &mut passed_on);
        if let Ok(Some(head)) = request {
            check_request(bytes, &head, peer, &passed_on);
            answer(&bytes[head.bytes..], &head);
        }
    }
    let asked = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n";
    let peer = Peer { ip: CLIENT, origin: Origin::Stranger };
    if let Ok(Some(head)) = rewrite::request(asked, peer, None, &mut Vec::new()) {
        answer(bytes, &head);
    }
    check_chunks(bytes);
}

/// The backend reads one head, of the same length of body, and ours are the lines that name the client.
fn check_request(bytes: &[u8], head: &RequestHead, peer: Peer, passed_on: &[u8]) {
    assert!(head.bytes <= bytes.len() && head.bytes <= HEAD_MAX_BYTES);
    let fleet = Peer { origin: Origin::Fleet, ..peer };
    let again = match rewrite::request(passed_on, fleet, None, &mut Vec::new()) {
        Ok(Some(again)) => again,
        // Our lines come on top of as many as may come.
        Err(super::head::Rejection::HeadTooLarge) => return,
        other => panic!("what is passed on is no request: {other:?}"),
    };
    assert_eq!(again.bytes, passed_on.len(), "it is one head and nothing more");
    assert_eq!(
        (again.framing, again.version, again.method, again.upgrades),
        (head.framing, head.version, head.method, head.upgrades)
    );
    if peer.origin == Origin::Stranger {
        let ours = b"\r\nX-Forwarded-For: 10.0.0.9\r\n";
        assert!(passed_on.windows(ours.len()).any(|window| window == ours));
    }
}

/// The client reads one head, and ends the body where we end it.
fn answer(bytes: &[u8], request: &RequestHead) {
    for then in [Then::Keep, Then::Close] {
        let mut passed_on = Vec::new();
        let Ok(Some(head)) = rewrite::answer(bytes, request, then, "X-Ours: 1\r\n", &mut passed_on)
        else {
            continue;
        };
        assert!(head.bytes <= bytes.len());
        match rewrite::answer(&passed_on, request, then, "", &mut Vec::new()) {
            Ok(Some(again)) => {
                assert_eq!(again.bytes, passed_on.len(), "it is one head and nothing more");
                assert_eq!((again.status, again.framing), (head.status, head.framing));
            }
            Err(_) if passed_on.len() > HEAD_MAX_BYTES || lines(&passed_on) > 120 => {}
            other => panic!("what is passed on is no answer: {other:?}"),
        }
    }
}

fn lines(head: &[u8]) -> usize {
    head.iter().filter(|byte| **byte == b'\n').count()
}

/// A chunked body ends at the same byte, or is malformed, however it is cut.
fn check_chunks(bytes: &[u8]) {
    let mut whole = Framing::chunked();
    let used = whole.advance(bytes);
    let (mut cut, mut sum) = (Framing::chunked(), Ok(0));
    for byte in bytes.chunks(1) {
        sum = sum.and_then(|sum| Ok(sum + cut.advance(byte)?));
    }
    assert_eq!(sum, used);
    if used.is_ok() {
        assert_eq!(cut, whole);
    }
}
