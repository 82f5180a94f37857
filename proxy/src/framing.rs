//! Where an HTTP/1.1 message body ends (RFC 9112 §6, §7). Bytes are passed on as they are; only their
//! structure is followed, strictly, so that no two parsers can disagree about it.

use crate::limits::CHUNK_OVERHEAD_MAX_BYTES;

/// The rest of a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Framing {
    /// Nothing follows.
    Done,
    /// This many bytes follow.
    Length(u64),
    /// Chunks follow.
    Chunked(Chunked),
    /// Everything until the connection ends.
    UntilClose,
}

/// A position within a chunked body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Chunked {
    at: At,
    remaining: u64,
    overhead_bytes: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    SizeStart,
    Size,
    Extension,
    SizeLf,
    Content,
    ContentCr,
    ContentLf,
    TrailerStart,
    Trailer,
    TrailerLf,
    LastLf,
    End,
}

/// The body is not what RFC 9112 §7.1 allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the chunked body is malformed")]
pub(crate) struct Malformed;

impl Framing {
    pub(crate) fn chunked() -> Self {
        Self::Chunked(Chunked { at: At::SizeStart, remaining: 0, overhead_bytes: 0 })
    }

    pub(crate) fn is_done(&self) -> bool {
        matches!(self, Self::Done | Self::Length(0))
    }

    /// Follows the body through `bytes`; returns how many of them belong to it.
    pub(crate) fn advance(&mut self, bytes: &[u8]) -> Result<usize, Malformed> {
        match self {
            Self::Done => Ok(0),
            Self::UntilClose => Ok(bytes.len()),
            Self::Length(left) => {
                let used = usize::try_from(*left).unwrap_or(usize::MAX).min(bytes.len());
                *left -= used as u64;
                Ok(used)
            }
            Self::Chunked(chunked) => {
                let used = chunked.advance(bytes)?;
                if chunked.at == At::End {
                    *self = Self::Done;
                }
                Ok(used)
            }
        }
    }
}

impl Chunked {
    fn advance(&mut self, bytes: &[u8]) -> Result<usize, Malformed> {
        let mut used = 0;
        while used < bytes.len() && self.at != At::End {
            if self.at == At::Content {
                let rest = bytes.len() - used;
                let step = usize::try_from(self.remaining).unwrap_or(usize::MAX).min(rest);
                used += step;
                self.remaining -= step as u64;
                if self.remaining == 0 {
                    self.at = At::ContentCr;
                }
                continue;
            }
            self.at = self.step(bytes[used])?;
            used += 1;
        }
        Ok(used)
    }

    fn step(&mut self, byte: u8) -> Result<At, Malformed> {
        match (self.at, byte) {
            (At::SizeStart | At::Size, b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F') => {
                let digit = (byte as char).to_digit(16).ok_or(Malformed)?;
                if self.at == At::SizeStart {
                    self.remaining = 0;
                }
                self.remaining = self.remaining.checked_mul(16).ok_or(Malformed)?;
                self.remaining += u64::from(digit);
                Ok(At::Size)
            }
            (At::Size, b';') => self.overhead(At::Extension),
            (At::Size | At::Extension, b'\r') => Ok(At::SizeLf),
            (At::Extension, b'\t' | b' '..=b'~' | 0x80..) => self.overhead(At::Extension),
            (At::SizeLf, b'\n') if self.remaining == 0 => Ok(At::TrailerStart),
            (At::SizeLf, b'\n') => Ok(At::Content),
            (At::ContentCr, b'\r') => Ok(At::ContentLf),
            (At::ContentLf, b'\n') => Ok(At::SizeStart),
            (At::TrailerStart, b'\r') => Ok(At::LastLf),
            (At::LastLf, b'\n') => Ok(At::End),
            (At::Trailer, b'\r') => Ok(At::TrailerLf),
            (At::TrailerLf, b'\n') => Ok(At::TrailerStart),
            (At::TrailerStart | At::Trailer, b'\t' | b' '..=b'~' | 0x80..) => {
                self.overhead(At::Trailer)
            }
            _ => Err(Malformed),
        }
    }

    fn overhead(&mut self, next: At) -> Result<At, Malformed> {
        self.overhead_bytes += 1;
        if self.overhead_bytes > CHUNK_OVERHEAD_MAX_BYTES {
            return Err(Malformed);
        }
        Ok(next)
    }
}

#[cfg(test)]
mod tests {
    use super::Framing;

    #[test]
    fn chunks_end_after_their_trailers_wherever_they_are_cut() {
        let body = b"5;a=b\r\nhello\r\nA\r\n0123456789\r\n0\r\nX-Sum: 1\r\n\r\n";
        let mut all = body.to_vec();
        all.extend_from_slice(b"GET / HTTP/1.1\r\n");
        for cut in 0..all.len() {
            let mut framing = Framing::chunked();
            let mut used = framing.advance(&all[..cut]).unwrap();
            used += framing.advance(&all[cut.min(used.max(cut))..]).unwrap();
            assert_eq!(used, body.len(), "cut at {cut}");
            assert!(framing.is_done());
        }
    }

    #[test]
    fn sloppy_chunks_are_malformed() {
        for body in [
            "\r\n",
            "5\nhello",
            "g\r\n",
            "5\r\nhelloo",
            "-1\r\n",
            "10000000000000000\r\n",
            "0\r\n\n",
            " 5\r\n",
        ] {
            assert!(Framing::chunked().advance(body.as_bytes()).is_err(), "{body:?}");
        }
    }
}
