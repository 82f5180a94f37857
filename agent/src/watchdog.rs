//! What systemd is told of the agent and of the proxy: that it is ready, and that it goes on. Where systemd did not start
//! the process (`pith dev`, tests) nothing is said.
//!
//! ```text
//! agent: the loop has turned  -> due? -> READY=1 once, then WATCHDOG=1        a task that blocks stops the loop too: one thread
//! proxy: its control socket has told the whole table -> the same
//! ```
//! A fed watchdog is therefore a loop that works, never a timer beside it.

use std::time::Duration;

use planner::Now;
use proxy::Client;
use sd_notify::NotifyState;

/// One that is late once is not killed.
const FEEDS_PER_LIMIT: u32 = 3;
/// Between two questions to a proxy that does not serve yet.
const NOT_YET: Duration = Duration::from_millis(100);
/// For the proxy to tell.
const PATIENCE: Duration = Duration::from_secs(5);

/// When systemd is told next that the loop goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Watchdog {
    /// None: it is not watched.
    every_ms: Option<u64>,
    said_at: Option<Now>,
}

/// What is said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Word {
    /// What needs it may start.
    Ready,
    /// It goes on.
    Alive,
}

impl Watchdog {
    /// As the unit asks for it (`WatchdogSec=`).
    #[must_use]
    pub fn of_unit() -> Self {
        Self { every_ms: every().map(millis), said_at: None }
    }

    /// The loop has turned: everything it was told is dealt with.
    pub fn turned(&mut self, now: Now) {
        if let Some(word) = self.due(now) {
            say(word);
        }
    }

    /// When the loop must turn again though nothing happens, at the latest `wake_at`.
    #[must_use]
    pub fn bound(&self, wake_at: Now) -> Now {
        match (self.every_ms, self.said_at) {
            (Some(every), Some(said)) => wake_at.min(Now(said.0.saturating_add(every))),
            (None, _) | (_, None) => wake_at,
        }
    }

    fn due(&mut self, now: Now) -> Option<Word> {
        let Some(said) = self.said_at else {
            self.said_at = Some(now);
            return Some(Word::Ready);
        };
        if now.since(said) < self.every_ms? {
            return None;
        }
        self.said_at = Some(now);
        Some(Word::Alive)
    }
}

/// Says of a proxy what it shows of itself, by asking as the agent does. Ends where it is not watched, else with its process.
pub async fn of_proxy(client: Client) {
    if std::env::var_os("NOTIFY_SOCKET").is_none() {
        return;
    }
    while !tells(&client).await {
        tokio::time::sleep(NOT_YET).await;
    }
    say(Word::Ready);
    let Some(every) = every() else { return };
    loop {
        tokio::time::sleep(every).await;
        if tells(&client).await {
            say(Word::Alive);
        }
    }
}

async fn tells(client: &Client) -> bool {
    matches!(tokio::time::timeout(PATIENCE, client.get()).await, Ok(Ok(_)))
}

fn every() -> Option<Duration> {
    sd_notify::watchdog_enabled().map(|limit| limit / FEEDS_PER_LIMIT)
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn say(word: Word) {
    let state = match word {
        Word::Ready => NotifyState::Ready,
        Word::Alive => NotifyState::Watchdog,
    };
    // Without systemd nobody listens; with it, a word that is lost is said again.
    if let Err(error) = sd_notify::notify(&[state]) {
        tracing::warn!(%error, ?word, "systemd was not told");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_ready_with_its_first_turn_and_fed_by_later_ones_alone() {
        let mut watchdog = Watchdog { every_ms: Some(20_000), said_at: None };
        assert_eq!(watchdog.bound(Now(90_000)), Now(90_000));
        assert_eq!(watchdog.due(Now(1_000)), Some(Word::Ready));
        assert_eq!(watchdog.due(Now(20_999)), None);
        assert_eq!(watchdog.bound(Now(90_000)), Now(21_000));
        assert_eq!(watchdog.bound(Now(5_000)), Now(5_000));
        assert_eq!(watchdog.due(Now(21_000)), Some(Word::Alive));
        assert_eq!(watchdog.bound(Now(90_000)), Now(41_000));
    }

    #[test]
    fn without_a_watchdog_nothing_wakes_the_loop() {
        let mut watchdog = Watchdog::default();
        assert_eq!(watchdog.due(Now(1)), Some(Word::Ready));
        assert_eq!(watchdog.due(Now(1_000_000)), None);
        assert_eq!(watchdog.bound(Now(5_000_000)), Now(5_000_000));
    }
}
