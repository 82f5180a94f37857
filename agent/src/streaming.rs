//! The answer to a command as it is told: reads what is written, cuts it into parts, and waits where too many of them were not
//! taken yet. Decides nothing.

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::{self, SelectAll};
use protocol::command::{Channel, End, MAX_PART_BYTES, Output};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::engine::{Engine, Source, Written, Wrote};
use crate::event_loop::Streamed;

/// What is written within this is one part, if it fits.
const GATHERED_WITHIN: Duration = Duration::from_millis(50);

/// No two parts of a stream follow faster: 1.6 MB a second, and the board's other work in between.
const PART_EVERY: Duration = Duration::from_millis(10);

/// Reads all sources to their ends and tells what they wrote; the last is how it ended.
pub async fn run<E: Engine>(
    engine: &E,
    sources: Vec<(String, String, Source)>,
    allowed: watch::Receiver<u64>,
    mut tell: impl AsyncFnMut(Streamed),
) -> End {
    let mut written = written(engine, sources);
    let mut parts = Parts { allowed, told: 0, next_at: Instant::now(), waiting: BTreeMap::new() };
    let mut end = End::Finished;
    loop {
        let next = if parts.waiting.is_empty() {
            Ok(written.next().await)
        } else {
            tokio::time::timeout(GATHERED_WITHIN, written.next()).await
        };
        match next {
            Ok(Some((instance, Wrote::Bytes(channel, bytes)))) => {
                parts.add((instance, channel), bytes, &mut tell).await;
            }
            Ok(Some((_, Wrote::Ended(Some(code))))) => end = End::Exited { code },
            Ok(Some((_, Wrote::Ended(None)))) => {}
            Ok(Some((instance, Wrote::Failed(message)))) => {
                end = End::Failed { message: format!("{instance}: {message}") };
            }
            Ok(None) => break,
            Err(_) => parts.flush(&mut tell).await,
        }
    }
    parts.flush(&mut tell).await;
    end
}

/// What all of them write, as it comes, each piece with its instance.
pub fn written<E: Engine>(
    engine: &E,
    sources: Vec<(String, String, Source)>,
) -> impl futures_util::Stream<Item = (String, Wrote)> + Unpin {
    let reading = |(instance, container, source): (String, String, Source)| {
        Box::pin(pieces(instance, engine.read(&container, source)))
    };
    sources.into_iter().map(reading).collect::<SelectAll<_>>()
}

fn pieces(instance: String, reading: Written) -> impl futures_util::Stream<Item = (String, Wrote)> {
    stream::unfold((instance, reading), |(instance, mut reading)| async move {
        let wrote = reading.next().await?;
        Some(((instance.clone(), wrote), (instance, reading)))
    })
}

/// Output that is not told yet, each instance's and channel's by itself.
struct Parts {
    allowed: watch::Receiver<u64>,
    told: u64,
    next_at: Instant,
    waiting: BTreeMap<(String, Channel), Vec<u8>>,
}

impl Parts {
    async fn add(
        &mut self,
        of: (String, Channel),
        bytes: Vec<u8>,
        tell: &mut impl AsyncFnMut(Streamed),
    ) {
        let waiting = self.waiting.entry(of.clone()).or_default();
        waiting.extend(bytes);
        if waiting.len() >= MAX_PART_BYTES {
            let whole = self.waiting.remove(&of).unwrap_or_default();
            self.tell(&of, &whole, tell).await;
        } else if self.waiting.values().map(Vec::len).sum::<usize>() >= MAX_PART_BYTES {
            self.flush(tell).await;
        }
    }

    async fn flush(&mut self, tell: &mut impl AsyncFnMut(Streamed)) {
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
