//! One file of known length and sha256 over HTTP/1.1, kept on disk while it comes and resumed where it ended: after a cut link,
//! another life of the agent, or a restart of the server.
//!
//! ```text
//! nothing kept --GET--> 200: from the start
//! N bytes kept --GET, Range: N-, If-Range: what the server called it--> 206: from N | 200, 416, another name: from the start
//! all bytes there -> sha256 -> whole | thrown away
//! ```
//! Must not decide how often it is tried, nor what becomes of the file. Whoever answers is believed in nothing: no byte more than the
//! known length is written, and what came is what was wanted only when its sha256 is.

mod dialling;
mod kept;
mod resume;

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT_ENCODING, HOST, IF_RANGE, LOCATION, RANGE, USER_AGENT};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use protocol::archive::Location;
use tokio::time::{Instant, sleep_until, timeout};

use crate::durable;
use crate::engine::pull::AbortOnDrop;
use crate::wire::{self, Wire};
pub use dialling::Dialling;
pub use kept::{Kept, sha256_of};
pub use resume::{Head, Next, next};

/// Connecting, and the head of an answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);
/// Without a byte for this long a connection is given up; there is no limit to the whole.
const SILENCE: Duration = Duration::from_secs(60);
const MAX_REDIRECTIONS: u32 = 5;
/// Bytes between two writes: a card takes few large ones better than many small.
const WRITE_BYTES: usize = 256 * 1024;

/// Why the file is not there.
#[derive(Debug, thiserror::Error)]
pub enum DownloadError {
    /// No connection, no bytes, or an answer that may be another one soon.
    #[error("{0}")]
    Unreachable(String),
    /// The server has no such file.
    #[error("{0}")]
    NotFound(String),
    /// The server does not give it.
    #[error("{0}")]
    Denied(String),
    /// Another file is there.
    #[error("{0}")]
    Another(String),
    /// It came whole, and is another file: it would be that again.
    #[error("{0}")]
    Wrong(String),
    /// The disk is full.
    #[error("{0}")]
    NoSpace(String),
    /// The disk fails otherwise.
    #[error("{0}")]
    Disk(String),
}

impl DownloadError {
    /// Whether asking again, unchanged, may help.
    #[must_use]
    pub fn may_pass(&self) -> bool {
        match self {
            Self::Unreachable(_) => true,
            Self::NotFound(_)
            | Self::Denied(_)
            | Self::Another(_)
            | Self::Wrong(_)
            | Self::NoSpace(_)
            | Self::Disk(_) => false,
        }
    }
}

/// A connection to where the file is, and what to ask there.
pub struct Dialled {
    /// Bytes both ways.
    pub stream: Box<dyn Wire>,
    /// The header `host`.
    pub host: String,
    /// Of the request.
    pub path: String,
    /// Further headers.
    pub headers: Vec<(&'static str, String)>,
}

impl std::fmt::Debug for Dialled {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Dialled")
            .field("host", &self.host)
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

/// Connects.
#[expect(async_fn_in_trait, reason = "the agent runs on one thread; no future needs to be Send")]
pub trait Dial {
    /// Opens a connection.
    ///
    /// # Errors
    /// Why there is none.
    async fn dial(&self, to: &Location) -> Result<Dialled, DownloadError>;
}

/// One try to get what is missing of a file: over one connection, its redirections aside. `told` hears how many bytes are
/// there, after each write.
///
/// # Errors
/// What keeps it from being whole; what has come is kept.
pub async fn fetch<D: Dial>(
    dial: &D,
    from: &Location,
    kept: &mut Kept,
    rate: Option<u64>,
    mut told: impl FnMut(u64),
) -> Result<(), DownloadError> {
    if kept.is_whole() {
        return Ok(());
    }
    let (answer, _connection) = ask(dial, from, kept).await?;
    let head = Head::of(answer.status(), answer.headers());
    let place = format!("{from}");
    match next(kept.len(), kept.bytes(), kept.validator(), &head) {
        Next::Append => {}
        Next::Begin => kept.begin(head.validator).map_err(|e| disk(&e, kept))?,
        Next::AskAnew => {
            kept.begin(None).map_err(|e| disk(&e, kept))?;
            return Err(DownloadError::Unreachable(format!(
                "{place}: the file changed or its rest is refused; it is begun anew"
            )));
        }
        Next::Another { there } => {
            return Err(DownloadError::Another(format!(
                "{place} has {there} bytes and the release names {}: it is another file",
                kept.bytes()
            )));
        }
        Next::NotFound => {
            return Err(DownloadError::NotFound(format!("{place}: {}", answer.status())));
        }
        Next::Denied => return Err(DownloadError::Denied(format!("{place}: {}", answer.status()))),
        Next::Later => {
            return Err(DownloadError::Unreachable(format!("{place}: {}", answer.status())));
        }
    }
    receive(answer.into_body(), &place, kept, rate, &mut told).await
}

/// The answer of whoever has the file, and the connection it comes over.
async fn ask<D: Dial>(
    dial: &D,
    from: &Location,
    kept: &Kept,
) -> Result<(http::Response<Incoming>, AbortOnDrop), DownloadError> {
    let mut at = from.clone();
    for _ in 0..=MAX_REDIRECTIONS {
        let asking = ask_once(dial, &at, kept);
        let late = || {
            let seconds = ANSWER_WITHIN.as_secs();
            DownloadError::Unreachable(format!("{at}: no answer within {seconds} s"))
        };
        let (answer, connection) = timeout(ANSWER_WITHIN, asking).await.map_err(|_| late())??;
        if !answer.status().is_redirection() {
            return Ok((answer, connection));
        }
        let to = answer.headers().get(LOCATION).and_then(|to| to.to_str().ok());
        at = to
            .and_then(|to| at.followed(to))
            .ok_or_else(|| DownloadError::NotFound(format!("{at}: it leads to no web address")))?;
    }
    Err(DownloadError::NotFound(format!("{from}: it leads on more than {MAX_REDIRECTIONS} times")))
}

async fn ask_once<D: Dial>(
    dial: &D,
    at: &Location,
    kept: &Kept,
) -> Result<(http::Response<Incoming>, AbortOnDrop), DownloadError> {
    let failed =
        |error: &dyn std::fmt::Display| DownloadError::Unreachable(format!("{at}: {error}"));
    let Dialled { stream, host, path, headers } = dial.dial(at).await?;
    let (mut sender, connection) = wire::open(stream).await.map_err(|error| failed(&error))?;
    let connection = AbortOnDrop(connection);
    let mut request = http::Request::get(path)
        .header(HOST, host)
        .header(USER_AGENT, "pith-agent")
        // Bytes are counted and resumed: as they lie there.
        .header(ACCEPT_ENCODING, "identity");
    for (name, value) in headers {
        request = request.header(name, value);
    }
    if !kept.is_empty() {
        request = request.header(RANGE, format!("bytes={}-", kept.len()));
        if let Some(validator) = kept.validator() {
            request = request.header(IF_RANGE, validator);
        }
    }
    let request = request.body(wire::whole(Bytes::new())).map_err(|error| failed(&error))?;
    let answer = sender.send_request(request).await.map_err(|error| failed(&error))?;
    Ok((answer, connection))
}

/// The body, to its end or to the file's.
async fn receive(
    mut body: Incoming,
    place: &str,
    kept: &mut Kept,
    rate: Option<u64>,
    told: &mut impl FnMut(u64),
) -> Result<(), DownloadError> {
    let (began, mut received, mut waiting) = (Instant::now(), 0_u64, Vec::new());
    let is_from_start = kept.is_empty();
    let end = loop {
        let frame = match timeout(SILENCE, body.frame()).await {
            Ok(Some(Ok(frame))) => frame,
            Ok(Some(Err(error))) => break Some(format!("broke off: {error}")),
            Ok(None) => break None,
            Err(_) => break Some(format!("no byte for {} s", SILENCE.as_secs())),
        };
        let Ok(data) = frame.into_data() else { continue };
        received += data.len() as u64;
        waiting.extend_from_slice(&data);
        if kept.len() + waiting.len() as u64 > kept.bytes() {
            kept.begin(None).map_err(|e| disk(&e, kept))?;
            let bytes = kept.bytes();
            let text = format!(
                "{place} gives more than the {bytes} bytes that the release names: it is another file"
            );
            // What was kept may have been the other file's.
            return Err(match is_from_start {
                true => DownloadError::Wrong(text),
                false => DownloadError::Unreachable(text),
            });
        }
        let is_last = kept.len() + waiting.len() as u64 == kept.bytes();
        if waiting.len() >= WRITE_BYTES || is_last {
            kept.append(std::mem::take(&mut waiting)).await.map_err(|e| disk(&e, kept))?;
            told(kept.len());
        }
        if is_last {
            return Ok(());
        }
        if let Some(rate) = rate {
            sleep_until(began + Duration::from_millis(received.saturating_mul(1000) / rate.max(1)))
                .await;
        }
    };
    kept.append(waiting).await.map_err(|e| disk(&e, kept))?;
    told(kept.len());
    let (len, bytes) = (kept.len(), kept.bytes());
    let end = end.unwrap_or_else(|| "it ended early".to_owned());
    Err(DownloadError::Unreachable(format!("{place}: {end}; {len} of {bytes} bytes are here")))
}

fn disk(error: &io::Error, kept: &Kept) -> DownloadError {
    let text = format!("{}: {error}", kept.path().display());
    if durable::is_no_room(error) {
        DownloadError::NoSpace(text)
    } else {
        DownloadError::Disk(text)
    }
}

/// The file below `folder` in which what is wanted is gathered.
#[must_use]
pub fn file_of(folder: &std::path::Path, sha256: &protocol::id::Digest) -> PathBuf {
    folder.join(format!("{}.part", sha256.hex()))
}

/// From 0 to `most`; all of it where the system gives no randomness.
#[must_use]
pub fn at_random(most: u64) -> u64 {
    let mut bytes = [0xff; 8];
    match getrandom::fill(&mut bytes) {
        Ok(()) => u64::from_le_bytes(bytes) % (most + 1),
        Err(_) => most,
    }
}

#[cfg(test)]
mod tests;
