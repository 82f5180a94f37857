//! The answer to a command as it is told: reads what is written, cuts it into parts, and waits where too many of them were not
//! taken yet. Decides nothing.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::{self, LocalBoxStream, SelectAll};
use protocol::command::{Channel, End, MAX_PART_BYTES, Output};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio::time::error::Elapsed;

use crate::commands::Reading;
use crate::engine::{Engine, Typing, Written, Wrote};
use crate::event_loop::Streamed;
use crate::typing;

/// What is written within this is one part, if it fits.
const GATHERED_WITHIN: Duration = Duration::from_millis(50);
/// The same where somebody types, and waits to see it.
const ECHOED_WITHIN: Duration = Duration::from_millis(4);

/// No two parts of a stream follow faster: 1.6 MB a second, and the board's other work in between.
const PART_EVERY: Duration = Duration::from_millis(10);

/// What comes of one source: pieces, each with the name of its instance and its container.
type Pieces = LocalBoxStream<'static, ((String, String), Wrote)>;
/// What is read at once.
pub type Readings = SelectAll<Pieces>;

/// Reads all sources to their ends and tells what they wrote; the last is how it ended. Where `more` may come, each source's end is
/// told, and all of it ends only where nothing of it can be read from the beginning on.
pub async fn run<E: Engine>(
    engine: &E,
    (mut written, within): (Readings, Duration),
    (allowed, mut more): (watch::Receiver<u64>, Option<mpsc::Receiver<Reading>>),
    mut tell: impl AsyncFnMut(Streamed),
) -> End {
    let mut parts = Parts::new(allowed, within);
    let (mut end, mut unread, mut has_read) = (End::Finished, written.len(), false);
    loop {
        // Both arms are cancel-safe: nothing is taken before it is there.
        let next = tokio::select! {
            next = next_of(&mut written, parts.flush_at, more.is_some()) => next,
            Some(reading) = coming(&mut more) => {
                written.push(begin(engine, reading, None));
                unread += 1;
                continue;
            }
        };
        match next {
            Ok(Some(((instance, _), Wrote::Bytes(channel, bytes)))) => {
                has_read = true;
                parts.add((instance, channel), bytes, &mut tell).await;
            }
            Ok(Some((_, Wrote::Took))) => tell(Streamed::Took).await,
            Ok(Some(((instance, container), Wrote::Failed(message)))) => {
                unread = unread.saturating_sub(1);
                end = End::Failed { message: format!("{instance}: {message}") };
                match more {
                    Some(_) if unread == 0 && !has_read => break,
                    Some(_) => tell(Streamed::ReadOut { container }).await,
                    None => {}
                }
            }
            Ok(Some(((_, container), Wrote::Ended(_)))) if more.is_some() => {
                parts.flush(&mut tell).await;
                tell(Streamed::ReadOut { container }).await;
            }
            Ok(Some((_, Wrote::Ended(Some(code))))) => end = End::Exited { code },
            Ok(Some((_, Wrote::Ended(None)))) => {}
            Ok(None) => break,
            Err(_) => parts.flush(&mut tell).await,
        }
    }
    parts.flush(&mut tell).await;
    end
}

/// Tells a document that is known whole, as something that the agent itself writes.
pub async fn tell_whole(
    by: &str,
    bytes: &[u8],
    allowed: watch::Receiver<u64>,
    mut tell: impl AsyncFnMut(Streamed),
) {
    let mut parts = Parts::new(allowed, GATHERED_WITHIN);
    parts.tell(&(by.to_owned(), Channel::Stdout), bytes, &mut tell).await;
}

/// None: all is read, and nothing may come. An error: what waits is to be told.
async fn next_of(
    written: &mut Readings,
    flush_at: Option<Instant>,
    may_come: bool,
) -> Result<Option<((String, String), Wrote)>, Elapsed> {
    let next = async {
        match written.next().await {
            None if may_come => std::future::pending().await,
            next => next,
        }
    };
    match flush_at {
        Some(at) => tokio::time::timeout_at(at, next).await,
        None => Ok(next.await),
    }
}

async fn coming(more: &mut Option<mpsc::Receiver<Reading>>) -> Option<Reading> {
    match more {
        Some(more) => more.recv().await,
        None => None,
    }
}

/// What all of them write, as it comes; what is typed is the first one's.
pub fn written<E: Engine>(
    engine: &E,
    sources: Vec<Reading>,
    mut typing: Option<Typing>,
) -> Readings {
    sources.into_iter().map(|reading| begin(engine, reading, typing.take())).collect()
}

/// What comes on a connection to a port of an instance.
pub fn connected(instance: &str, address: SocketAddr, typing: Typing) -> Readings {
    let of = (instance.to_owned(), instance.to_owned());
    std::iter::once(pieces(of, typing::connect(address, typing))).collect()
}

/// For how long pieces are gathered into one part.
pub const fn gathered_within(is_typed: bool) -> Duration {
    if is_typed { ECHOED_WITHIN } else { GATHERED_WITHIN }
}

fn begin<E: Engine>(
    engine: &E,
    (instance, container, source): Reading,
    typing: Option<Typing>,
) -> Pieces {
    let reading = engine.read(&container, source, typing);
    pieces((instance, container), reading)
}

fn pieces(of: (String, String), reading: Written) -> Pieces {
    let pieces = stream::unfold((of, reading), |(of, mut reading): (_, Written)| async move {
        let wrote = reading.next().await?;
        Some(((of.clone(), wrote), (of, reading)))
    });
    pieces.boxed_local()
}

/// Output that is not told yet, each instance's and channel's by itself.
struct Parts {
    allowed: watch::Receiver<u64>,
    told: u64,
    next_at: Instant,
    within: Duration,
    /// So long after the first of what waits came; none: nothing does.
    flush_at: Option<Instant>,
    waiting: BTreeMap<(String, Channel), Vec<u8>>,
}

impl Parts {
    fn new(allowed: watch::Receiver<u64>, within: Duration) -> Self {
        let (next_at, flush_at) = (Instant::now(), None);
        Self { allowed, told: 0, next_at, within, flush_at, waiting: BTreeMap::new() }
    }

    async fn add(
        &mut self,
        of: (String, Channel),
        bytes: Vec<u8>,
        tell: &mut impl AsyncFnMut(Streamed),
    ) {
        let within = self.within;
        self.flush_at.get_or_insert_with(|| Instant::now() + within);
        let waiting = self.waiting.entry(of.clone()).or_default();
        waiting.extend(bytes);
        if waiting.len() >= MAX_PART_BYTES {
            let whole = self.waiting.remove(&of).unwrap_or_default();
            self.tell(&of, &whole, tell).await;
            if self.waiting.is_empty() {
                self.flush_at = None;
            }
        } else if self.waiting.values().map(Vec::len).sum::<usize>() >= MAX_PART_BYTES {
            self.flush(tell).await;
        }
    }

    async fn flush(&mut self, tell: &mut impl AsyncFnMut(Streamed)) {
        self.flush_at = None;
        for (of, bytes) in std::mem::take(&mut self.waiting) {
            self.tell(&of, &bytes, tell).await;
        }
    }

    async fn tell(
        &mut self,
        (instance, channel): &(String, Channel),
        bytes: &[u8],
        tell: &mut impl AsyncFnMut(Streamed),
    ) {
        for piece in bytes.chunks(MAX_PART_BYTES) {
            let told = self.told;
            // Whoever allows it ends this task when nothing is allowed any more.
            let _ = self.allowed.wait_for(|allowed| told < *allowed).await;
            tokio::time::sleep_until(self.next_at).await;
            self.next_at = Instant::now() + PART_EVERY;
            self.told += 1;
            tell(Streamed::Output(Output::new(instance.clone(), *channel, piece))).await;
        }
    }
}

#[cfg(test)]
mod tests;
