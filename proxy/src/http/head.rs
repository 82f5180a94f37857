//! What a head says beyond its lines: framing, reuse, upgrade; and why one is refused (RFC 9110, RFC 9112).

use crate::framing::Framing;
use crate::live::split::Claim;
use std::net::IpAddr;
use std::time::Duration;

/// Who sent a request.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Peer {
    pub(crate) ip: IpAddr,
    pub(crate) origin: Origin,
}

/// What its `X-Forwarded-*` lines are worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Origin {
    /// Nothing: ours replace them.
    Stranger,
    /// Kept, and the sender appended.
    Trusted,
    /// Another node's proxy wrote them as we would: kept as they are, so that an instance sees the same
    /// whichever node the client reached.
    Fleet,
}

/// What an exchange needs to know of a request.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RequestHead {
    /// Its length on the wire.
    pub(crate) bytes: usize,
    pub(crate) framing: Framing,
    pub(crate) version: Version,
    pub(crate) method: Method,
    /// The client keeps the connection.
    pub(crate) keeps: bool,
    /// The client asks for another protocol.
    pub(crate) upgrades: bool,
    /// What its header or its cookie says about its cohort.
    pub(crate) claim: Option<Claim>,
}

/// The client's version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Version {
    Http10,
    Http11,
}

/// As far as it matters here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Method {
    Head,
    /// May be sent twice (RFC 9110 §9.2.2).
    Idempotent,
    Other,
}

impl Method {
    pub(crate) fn of(name: &str) -> Self {
        match name {
            "HEAD" => Self::Head,
            "GET" | "OPTIONS" | "PUT" | "DELETE" | "TRACE" => Self::Idempotent,
            _ => Self::Other,
        }
    }

    pub(crate) fn is_idempotent(self) -> bool {
        match self {
            Self::Head | Self::Idempotent => true,
            Self::Other => false,
        }
    }
}

/// What an exchange needs to know of an answer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct AnswerHead {
    /// Its length on the wire.
    pub(crate) bytes: usize,
    pub(crate) status: u16,
    pub(crate) framing: Framing,
    /// The backend keeps the connection.
    pub(crate) keeps: bool,
    /// For how long, if it said so.
    pub(crate) keep_for: Option<Duration>,
    /// Another node's proxy had nobody to give the request to (see `fleet`).
    pub(crate) elsewhere: bool,
}

impl AnswerHead {
    pub(crate) fn is_interim(&self) -> bool {
        (100..200).contains(&self.status) && self.status != 101
    }
}

/// A request that gets an answer of ours; the connection closes after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rejection {
    /// Not HTTP/1.x, or ambiguous.
    Bad(&'static str),
    /// More bytes or lines than allowed.
    HeadTooLarge,
    /// It did not come in time.
    HeadTooSlow,
    /// The preface of HTTP/2 with prior knowledge (RFC 9113 §3.4).
    Http2,
    /// CONNECT, or a transfer coding other than chunked.
    NotImplemented(&'static str),
}

/// Header lines that frame a message; everything that could be read in two ways is refused.
#[derive(Debug, Default)]
pub(crate) struct FramingLines {
    length: Option<u64>,
    chunked: bool,
}

impl FramingLines {
    pub(crate) fn content_length(&mut self, value: &[u8]) -> Result<(), Rejection> {
        let digits = !value.is_empty() && value.iter().all(u8::is_ascii_digit);
        let number = std::str::from_utf8(value).ok().and_then(|text| text.parse().ok());
        let (true, Some(number), None) = (digits, number, self.length) else {
            return Err(Rejection::Bad("the Content-Length is not one number"));
        };
        self.length = Some(number);
        Ok(())
    }

    pub(crate) fn transfer_encoding(&mut self, value: &[u8]) -> Result<(), Rejection> {
        if self.chunked || !value.eq_ignore_ascii_case(b"chunked") {
            return Err(Rejection::NotImplemented("the only Transfer-Encoding served is chunked"));
        }
        self.chunked = true;
        Ok(())
    }

    /// The framing that the lines state, if any.
    pub(crate) fn stated(&self, version: Version) -> Result<Option<Framing>, Rejection> {
        match (self.chunked, self.length) {
            (true, Some(_)) => {
                Err(Rejection::Bad("Transfer-Encoding and Content-Length exclude each other"))
            }
            (true, None) if version == Version::Http10 => {
                Err(Rejection::Bad("Transfer-Encoding needs HTTP/1.1"))
            }
            (true, None) => Ok(Some(Framing::chunked())),
            (false, Some(length)) => Ok(Some(Framing::Length(length))),
            (false, None) => Ok(None),
        }
    }
}

/// What the `Connection` lines say.
#[derive(Debug, Default)]
pub(crate) struct ConnectionLines<'a> {
    values: Vec<&'a [u8]>,
}

impl<'a> ConnectionLines<'a> {
    pub(crate) fn add(&mut self, value: &'a [u8]) {
        self.values.push(value);
    }

    pub(crate) fn names(&self, token: &str) -> bool {
        let mut tokens = self.values.iter().flat_map(|value| value.split(|byte| *byte == b','));
        tokens.any(|one| one.trim_ascii().eq_ignore_ascii_case(token.as_bytes()))
    }

    pub(crate) fn keeps(&self, version: Version) -> bool {
        match version {
            Version::Http11 => !self.names("close"),
            Version::Http10 => self.names("keep-alive") && !self.names("close"),
        }
    }
}
