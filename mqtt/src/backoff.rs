//! When to try again: full jitter, doubling, and forgotten only after a stable minute.
//!
//! Pure: the seed and the time are arguments. It sleeps nowhere.

use std::time::Duration;

use crate::random::Seeded;

/// The limits of the waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// The longest first wait.
    pub base: Duration,
    /// The longest wait for a network that does not answer.
    pub network_cap: Duration,
    /// The longest wait after the broker said no: a wrong password does not mend itself.
    pub refused_cap: Duration,
    /// A session that stood this long forgets its failures.
    pub stable: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            base: Duration::from_secs(1),
            network_cap: Duration::from_secs(60),
            refused_cap: Duration::from_secs(300),
            stable: Duration::from_secs(60),
        }
    }
}

/// What ended the last try.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// No route, no answer, a broken connection.
    Network,
    /// The broker answered and said no.
    Refused,
}

/// A refusal starts this many times higher than a broken network.
const REFUSED_FACTOR: u32 = 8;
/// Doubling stops here; the caps are reached long before.
const DOUBLINGS_MAX: u32 = 16;

/// The waits of one session.
#[derive(Debug, Clone)]
pub struct Backoff {
    pace: Pace,
    rng: Seeded,
    failures: u32,
    up_since_ms: Option<u64>,
}

impl Backoff {
    /// No failures yet. Equal seeds draw equal waits; give every board its own.
    #[must_use]
    pub fn new(pace: Pace, seed: u64) -> Self {
        Self { pace, rng: Seeded::new(seed), failures: 0, up_since_ms: None }
    }

    /// The session stands since `now_ms` (milliseconds on any monotonic clock, the same in every call).
    pub fn connected(&mut self, now_ms: u64) {
        self.up_since_ms = Some(now_ms);
    }

    /// How long to wait after a try, or a session, that ended at `now_ms`. For the network anything from 0 to the
    /// ceiling, which doubles with each failure; after a refusal at least half of it.
    pub fn next(&mut self, now_ms: u64, cause: Cause) -> Duration {
        let stable_ms = millis(self.pace.stable);
        if self.up_since_ms.take().is_some_and(|up| now_ms.saturating_sub(up) >= stable_ms) {
            self.failures = 0;
        }
        let ceiling_ms = millis(self.ceiling(cause));
        self.failures = self.failures.saturating_add(1);
        let floor_ms = match cause {
            Cause::Network => 0,
            Cause::Refused => ceiling_ms / 2,
        };
        Duration::from_millis(self.rng.between(floor_ms, ceiling_ms))
    }

    /// A wait before the very first try, so that a thousand boards do not come back together after a mains cut.
    pub fn first(&mut self, longest: Duration) -> Duration {
        Duration::from_millis(self.rng.between(0, millis(longest)))
    }

    fn ceiling(&self, cause: Cause) -> Duration {
        let (base, cap) = match cause {
            Cause::Network => (self.pace.base, self.pace.network_cap),
            Cause::Refused => (self.pace.base * REFUSED_FACTOR, self.pace.refused_cap),
        };
        base.saturating_mul(1 << self.failures.min(DOUBLINGS_MAX)).min(cap)
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND_MS: u64 = 1000;

    fn longest_of_many(failures: u32, cause: Cause) -> Duration {
        let draw = |seed| {
            let mut backoff = Backoff::new(Pace::default(), seed);
            for _ in 0..failures {
                backoff.next(0, cause);
            }
            backoff.next(0, cause)
        };
        (0..200).map(draw).max().unwrap()
    }

    #[test]
    fn the_ceiling_doubles_and_stops_at_the_cap() {
        let near = |got: Duration, ceiling_s: u64| {
            let ceiling = Duration::from_secs(ceiling_s);
            assert!(got <= ceiling && got > ceiling * 9 / 10, "{got:?} against {ceiling:?}");
        };
        for (failures, ceiling_s) in [(0, 1), (1, 2), (3, 8), (6, 60), (40, 60)] {
            near(longest_of_many(failures, Cause::Network), ceiling_s);
        }
        for (failures, ceiling_s) in [(0, 8), (1, 16), (10, 300)] {
            near(longest_of_many(failures, Cause::Refused), ceiling_s);
        }
    }

    #[test]
    fn boards_with_different_seeds_do_not_come_back_together() {
        let waits = |seed| Backoff::new(Pace::default(), seed).next(0, Cause::Network);
        let distinct: std::collections::BTreeSet<_> = (0..100).map(waits).collect();
        assert!(distinct.len() > 80, "{} of 100", distinct.len());
        assert_eq!(waits(7), waits(7));
    }

    #[test]
    fn a_short_session_does_not_forget_the_failures() {
        let mut backoff = Backoff::new(Pace::default(), 1);
        for _ in 0..10 {
            backoff.next(0, Cause::Network);
        }
        backoff.connected(0);
        backoff.next(59 * SECOND_MS, Cause::Network);
        assert_eq!(backoff.ceiling(Cause::Network), Duration::from_secs(60));
    }

    #[test]
    fn a_stable_minute_forgets_the_failures() {
        let mut backoff = Backoff::new(Pace::default(), 1);
        for _ in 0..10 {
            backoff.next(0, Cause::Network);
        }
        backoff.connected(0);
        assert!(backoff.next(60 * SECOND_MS, Cause::Network) <= Duration::from_secs(1));
        assert_eq!(backoff.ceiling(Cause::Network), Duration::from_secs(2));
    }

    #[test]
    fn a_refusal_waits_at_least_half_its_ceiling() {
        for seed in 0..100 {
            let mut backoff = Backoff::new(Pace::default(), seed);
            assert!(backoff.next(0, Cause::Refused) >= Duration::from_secs(4));
        }
    }
}
