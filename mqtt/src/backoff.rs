//! When to try again: full jitter, so that a thousand boards after a power cut do not come at once.

use std::time::Duration;

/// A connection counts as good only after it has stood this long; until then failures go on counting.
pub const STABLE_AFTER: Duration = Duration::from_secs(60);
/// Longest pause after the network failed.
pub const NETWORK_CAP: Duration = Duration::from_secs(60);
/// Longest pause after the broker refused the credentials.
pub const REFUSED_CAP: Duration = Duration::from_secs(300);

/// Why the last connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// It could not be made, or it broke.
    Network,
    /// The broker does not take our credentials: pauses start long.
    Refused,
}

/// Counts failures and turns them into pauses.
#[derive(Debug, Clone)]
pub struct Backoff {
    base: Duration,
    failures: u32,
}

impl Backoff {
    /// Pauses grow from `base`: 1 s on a board, less where everything is on one machine.
    #[must_use]
    pub fn new(base: Duration) -> Self {
        Self { base, failures: 0 }
    }

    /// The pause before the next try: uniform between 0 and the cap of this failure. `stood` is how long the connection
    /// that ended had been up, `random` is uniform over its type.
    pub fn next(&mut self, cause: Cause, stood: Duration, random: u64) -> Duration {
        if stood >= STABLE_AFTER {
            self.failures = 0;
        }
        self.failures = self.failures.saturating_add(1);
        let cap = match cause {
            Cause::Network => NETWORK_CAP,
            Cause::Refused => REFUSED_CAP,
        };
        let floor = match cause {
            Cause::Network => self.base,
            Cause::Refused => self.base * 16,
        };
        let most = floor.saturating_mul(1 << (self.failures - 1).min(16)).min(cap);
        let most_ms = u64::try_from(most.as_millis()).unwrap_or(u64::MAX).max(1);
        Duration::from_millis(random % (most_ms + 1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// The longest pause of the `n`-th failure, by asking with many random values.
    fn longest(backoff: &Backoff, cause: Cause, stood: Duration) -> (Duration, Backoff) {
        let ask = |random| {
            let mut backoff = backoff.clone();
            (backoff.next(cause, stood, random), backoff)
        };
        (0..400_000).step_by(7).map(ask).max_by_key(|(pause, _)| *pause).unwrap()
    }

    #[test]
    fn pauses_double_up_to_the_cap() {
        let mut backoff = Backoff::new(SECOND);
        let mut longest_pauses = Vec::new();
        for _ in 0..8 {
            let (pause, next) = longest(&backoff, Cause::Network, Duration::ZERO);
            longest_pauses.push(pause.as_millis().div_ceil(1000));
            backoff = next;
        }
        assert_eq!(longest_pauses, [1, 2, 4, 8, 16, 32, 60, 60]);
    }

    #[test]
    fn a_connection_that_stood_a_minute_starts_anew_and_a_shorter_one_does_not() {
        let mut backoff = Backoff::new(SECOND);
        for _ in 0..5 {
            backoff.next(Cause::Network, Duration::ZERO, 0);
        }
        let (kicked, _) = longest(&backoff, Cause::Network, STABLE_AFTER - SECOND);
        let (stable, _) = longest(&backoff, Cause::Network, STABLE_AFTER);
        assert!(kicked > 30 * SECOND && stable <= SECOND, "{kicked:?} {stable:?}");
    }

    #[test]
    fn refused_credentials_are_tried_seldom() {
        let (pause, _) = longest(&Backoff::new(SECOND), Cause::Refused, Duration::ZERO);
        assert!(pause > 15 * SECOND, "{pause:?}");
    }

    #[test]
    fn pauses_are_spread_over_the_whole_span() {
        let pauses: Vec<u128> = (0..1000u64)
            .map(|n| {
                Backoff::new(SECOND).next(Cause::Network, Duration::ZERO, n * 7919).as_millis()
            })
            .collect();
        assert!(pauses.iter().any(|p| *p < 50) && pauses.iter().any(|p| *p > 950));
    }
}
