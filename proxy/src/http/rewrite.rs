//! Heads from one side to the other: checked, hop-by-hop lines out, ours in, everything else as it came.

use super::cohort;
use super::head::{
    AnswerHead, ConnectionLines, FramingLines, Method, Origin, Peer, Rejection, RequestHead,
    Version,
};
use crate::fleet::ELSEWHERE;
use crate::framing::Framing;
use crate::limits::{HEAD_MAX_BYTES, HEADERS_MAX};
use crate::table::Split;
use std::io::Write;
use std::mem::MaybeUninit;
use std::time::Duration;

/// Whether our answer to the client ends its connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Then {
    Keep,
    Close,
}

/// Why a backend's answer cannot be passed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BadAnswer;

/// Parses a request and writes the head for the backend to `out`. `None` until the head is complete.
pub(crate) fn request(
    bytes: &[u8],
    peer: Peer,
    split: Option<&Split>,
    out: &mut Vec<u8>,
) -> Result<Option<RequestHead>, Rejection> {
    if bytes.starts_with(b"PRI * HTTP/2") {
        return Err(Rejection::Http2);
    }
    let mut space = [const { MaybeUninit::uninit() }; HEADERS_MAX];
    let mut parsed = httparse::Request::new(&mut []);
    let length = match parsed.parse_with_uninit_headers(bytes, &mut space) {
        Ok(httparse::Status::Complete(length)) if length <= HEAD_MAX_BYTES => length,
        Ok(httparse::Status::Partial) => return Ok(None),
        Ok(httparse::Status::Complete(_)) | Err(httparse::Error::TooManyHeaders) => {
            return Err(Rejection::HeadTooLarge);
        }
        Err(_) => return Err(Rejection::Bad("this is not an HTTP/1.1 request")),
    };
    let version = if parsed.version == Some(0) { Version::Http10 } else { Version::Http11 };
    let name = parsed.method.unwrap_or_default();
    if name == "CONNECT" {
        return Err(Rejection::NotImplemented("CONNECT is not served"));
    }
    let lines = Lines::read(parsed.headers)?;
    if lines.hosts > 1 || (lines.hosts == 0 && version == Version::Http11) {
        return Err(Rejection::Bad("a request names one Host"));
    }
    let framing = lines.framing.stated(version)?.unwrap_or(Framing::Done);
    let upgrades =
        version == Version::Http11 && lines.upgrades && lines.connection.names("upgrade");
    let request = RequestHead {
        bytes: length,
        framing,
        version,
        method: Method::of(name),
        keeps: lines.connection.keeps(version),
        upgrades,
        claim: split.and_then(|split| cohort::claim(parsed.headers, split)),
    };
    out.clear();
    let minor = u8::from(version == Version::Http11);
    // Writing to a Vec does not fail.
    let _ = write!(out, "{name} {} HTTP/1.{minor}\r\n", parsed.path.unwrap_or("/"));
    let mut forwarded = Forwarded::default();
    for header in parsed.headers.iter() {
        if forwarded.takes(header) || !lines.passes(header.name) {
            continue;
        }
        if is(header, "upgrade") && !upgrades {
            continue;
        }
        line(out, header.name, header.value);
    }
    forwarded.write(peer, lines.host, out);
    if matches!(framing, Framing::Chunked(_)) {
        line(out, "Transfer-Encoding", b"chunked");
    }
    if upgrades {
        line(out, "Connection", b"Upgrade");
    }
    out.extend_from_slice(b"\r\n");
    Ok(Some(request))
}

/// Parses an answer and appends the head for the client to `out`. `None` until the head is complete. `own_lines`
/// are added to every answer that is not informational.
pub(crate) fn answer(
    bytes: &[u8],
    request: &RequestHead,
    then: Then,
    own_lines: &str,
    out: &mut Vec<u8>,
) -> Result<Option<AnswerHead>, BadAnswer> {
    let mut space = [const { MaybeUninit::uninit() }; HEADERS_MAX];
    let mut parsed = httparse::Response::new(&mut []);
    let config = httparse::ParserConfig::default();
    let length = match config.parse_response_with_uninit_headers(&mut parsed, bytes, &mut space) {
        Ok(httparse::Status::Complete(length)) if length <= HEAD_MAX_BYTES => length,
        Ok(httparse::Status::Partial) if bytes.len() < HEAD_MAX_BYTES => return Ok(None),
        Ok(_) | Err(_) => return Err(BadAnswer),
    };
    let version = if parsed.version == Some(0) { Version::Http10 } else { Version::Http11 };
    let status = parsed.code.unwrap_or_default();
    // Three digits, of which the first is none of these (RFC 9110 §15): written as a number they would be fewer.
    if status < 100 {
        return Err(BadAnswer);
    }
    let lines = Lines::read(parsed.headers).map_err(|_| BadAnswer)?;
    let bodiless = request.method == Method::Head || status < 200 || matches!(status, 204 | 304);
    let stated = lines.framing.stated(version).map_err(|_| BadAnswer)?;
    let framing = if bodiless { Framing::Done } else { stated.unwrap_or(Framing::UntilClose) };
    let chunked = matches!(stated, Some(Framing::Chunked(_)));
    let upgraded = status == 101;
    if (upgraded && !request.upgrades)
        || (chunked && request.version == Version::Http10 && !bodiless)
    {
        return Err(BadAnswer);
    }
    let head = AnswerHead {
        bytes: length,
        status,
        framing,
        keeps: lines.connection.keeps(version) && framing != Framing::UntilClose,
        keep_for: lines.keep_for,
        elsewhere: status == 503 && lines.elsewhere,
    };
    let _ = write!(out, "HTTP/1.1 {status} {}\r\n", parsed.reason.unwrap_or_default());
    for header in parsed.headers.iter() {
        if is(header, ELSEWHERE) {
            continue;
        }
        if lines.passes(header.name) && (upgraded || !is(header, "upgrade") || status == 426) {
            line(out, header.name, header.value);
        }
    }
    if chunked {
        line(out, "Transfer-Encoding", b"chunked");
    }
    if !head.is_interim() {
        out.extend_from_slice(own_lines.as_bytes());
    }
    if upgraded {
        line(out, "Connection", b"Upgrade");
    } else if !head.is_interim() {
        match (then, request.version) {
            (Then::Close, _) => line(out, "Connection", b"close"),
            (Then::Keep, _) if framing == Framing::UntilClose => line(out, "Connection", b"close"),
            (Then::Keep, Version::Http10) => line(out, "Connection", b"keep-alive"),
            (Then::Keep, Version::Http11) => (),
        }
    }
    out.extend_from_slice(b"\r\n");
    Ok(Some(head))
}

/// What must be known of all lines before one is passed on.
#[derive(Debug, Default)]
struct Lines<'a> {
    framing: FramingLines,
    connection: ConnectionLines<'a>,
    upgrades: bool,
    hosts: usize,
    host: &'a [u8],
    keep_for: Option<Duration>,
    elsewhere: bool,
}

impl<'a> Lines<'a> {
    fn read(headers: &[httparse::Header<'a>]) -> Result<Self, Rejection> {
        let mut lines = Self::default();
        for header in headers {
            match header.name.len() {
                4 if is(header, "host") => {
                    lines.hosts += 1;
                    lines.host = header.value;
                }
                7 if is(header, "upgrade") => lines.upgrades = true,
                10 if is(header, "connection") => lines.connection.add(header.value),
                10 if is(header, "keep-alive") => lines.keep_for = timeout_of(header.value),
                14 if is(header, ELSEWHERE) => lines.elsewhere = true,
                14 if is(header, "content-length") => lines.framing.content_length(header.value)?,
                17 if is(header, "transfer-encoding") => {
                    lines.framing.transfer_encoding(header.value)?;
                }
                _ => (),
            }
        }
        Ok(lines)
    }

    /// Hop-by-hop lines end here (RFC 9110 §7.6.1). What frames or addresses a message is never dropped
    /// because a `Connection` line names it.
    fn passes(&self, name: &str) -> bool {
        let one_of = |names: &[&str]| names.iter().any(|one| name.eq_ignore_ascii_case(one));
        if one_of(&["connection", "keep-alive", "proxy-connection", "transfer-encoding", "te"]) {
            return false;
        }
        if one_of(&["host", "content-length", "upgrade"]) {
            return true;
        }
        !self.connection.names(name)
    }
}

/// The `X-Forwarded-*` lines of a request.
#[derive(Debug, Default)]
struct Forwarded<'a> {
    chain: Vec<&'a [u8]>,
    protocol: Option<&'a [u8]>,
    host: Option<&'a [u8]>,
    standard: Vec<&'a [u8]>,
}

impl<'a> Forwarded<'a> {
    /// Takes the line if it is one of them.
    fn takes(&mut self, header: &httparse::Header<'a>) -> bool {
        if is(header, "x-forwarded-for") {
            self.chain.push(header.value);
        } else if is(header, "x-forwarded-proto") {
            self.protocol = Some(header.value);
        } else if is(header, "x-forwarded-host") {
            self.host = Some(header.value);
        } else if is(header, "forwarded") {
            self.standard.push(header.value);
        } else {
            return false;
        }
        true
    }

    fn write(mut self, peer: Peer, host: &[u8], out: &mut Vec<u8>) {
        if peer.origin == Origin::Stranger {
            self = Self::default();
        }
        out.extend_from_slice(b"X-Forwarded-For: ");
        for (place, value) in self.chain.iter().enumerate() {
            let comma: &[u8] = if place == 0 { b"" } else { b", " };
            out.extend_from_slice(comma);
            out.extend_from_slice(value);
        }
        let _ = match (peer.origin, self.chain.is_empty()) {
            (Origin::Fleet, false) => write!(out, "\r\n"),
            (Origin::Fleet | Origin::Stranger | Origin::Trusted, true) => {
                write!(out, "{}\r\n", peer.ip)
            }
            (Origin::Stranger | Origin::Trusted, false) => write!(out, ", {}\r\n", peer.ip),
        };
        line(out, "X-Forwarded-Proto", self.protocol.unwrap_or(b"http"));
        let host = self.host.unwrap_or(host);
        if !host.is_empty() {
            line(out, "X-Forwarded-Host", host);
        }
        self.standard.iter().for_each(|value| line(out, "Forwarded", value));
    }
}

fn is(header: &httparse::Header<'_>, name: &str) -> bool {
    header.name.eq_ignore_ascii_case(name)
}

fn line(out: &mut Vec<u8>, name: &str, value: &[u8]) {
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

/// A server that announces `Keep-Alive: timeout=5` closes then; a second earlier is safe.
fn timeout_of(value: &[u8]) -> Option<Duration> {
    let text = std::str::from_utf8(value).ok()?;
    let seconds = text.split(',').find_map(|part| part.trim().strip_prefix("timeout="))?;
    Some(Duration::from_secs(seconds.parse::<u64>().ok()?.saturating_sub(1)))
}

#[cfg(test)]
mod tests;
