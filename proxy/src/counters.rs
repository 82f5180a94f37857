//! Requests, errors and latency of one release behind one route.
//!
//! Owns the numbers. Must not decide what counts as an error; sessions do.

use crate::control::{Counter, LATENCY_UNBOUNDED_MS};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// Upper bounds of the latency buckets, in milliseconds: from 2 ms on each is at most one and a half times the
/// one before it, so that a quantile is known that well.
const BOUNDS_MS: [u64; 30] = [
    1,
    2,
    3,
    4,
    6,
    9,
    13,
    19,
    28,
    42,
    60,
    90,
    130,
    190,
    280,
    420,
    600,
    900,
    1300,
    1900,
    2800,
    4200,
    6000,
    9000,
    13_000,
    19_000,
    28_000,
    42_000,
    60_000,
    LATENCY_UNBOUNDED_MS,
];

/// Live counters; read and written without a lock.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    requests: AtomicU64,
    errors_5xx: AtomicU64,
    errors_connect: AtomicU64,
    buckets: [AtomicU64; BOUNDS_MS.len()],
    latency_sum_us: AtomicU64,
}

impl Counters {
    /// An answer's head came after `latency`.
    pub(crate) fn answered(&self, status: u16, latency: Duration) {
        self.requests.fetch_add(1, Relaxed);
        if status >= 500 {
            self.errors_5xx.fetch_add(1, Relaxed);
        }
        let started_ms = latency.as_micros().div_ceil(1000);
        let bucket = bucket_of(u64::try_from(started_ms).unwrap_or(LATENCY_UNBOUNDED_MS));
        self.buckets[bucket].fetch_add(1, Relaxed);
        self.latency_sum_us.fetch_add(latency.as_micros() as u64, Relaxed);
    }

    /// A request broke at the backend: it got no answer from there.
    pub(crate) fn broke(&self) {
        self.requests.fetch_add(1, Relaxed);
        self.errors_5xx.fetch_add(1, Relaxed);
    }

    /// An answer that began did not end.
    pub(crate) fn truncated(&self) {
        self.errors_5xx.fetch_add(1, Relaxed);
    }

    /// A connect failed.
    pub(crate) fn connect_failed(&self) {
        self.errors_connect.fetch_add(1, Relaxed);
    }

    /// Adds what another proxy counted, whose bounds may be others.
    pub(crate) fn add(&self, other: &Counter) {
        self.requests.fetch_add(other.requests, Relaxed);
        self.errors_5xx.fetch_add(other.errors_5xx, Relaxed);
        self.errors_connect.fetch_add(other.errors_connect, Relaxed);
        self.latency_sum_us.fetch_add(other.latency_sum_us, Relaxed);
        for (bound, count) in &other.latency {
            self.buckets[bucket_of(*bound)].fetch_add(*count, Relaxed);
        }
    }

    /// The numbers for an agent.
    pub(crate) fn read(&self, route: &str, release: &str) -> Counter {
        self.report(route, release, |number| number.load(Relaxed))
    }

    /// The numbers, which start again from zero.
    pub(crate) fn take(&self, route: &str, release: &str) -> Counter {
        self.report(route, release, |number| number.swap(0, Relaxed))
    }

    fn report(&self, route: &str, release: &str, value: impl Fn(&AtomicU64) -> u64) -> Counter {
        Counter {
            route: route.to_owned(),
            release: release.to_owned(),
            requests: value(&self.requests),
            errors_5xx: value(&self.errors_5xx),
            errors_connect: value(&self.errors_connect),
            latency: BOUNDS_MS.iter().copied().zip(self.buckets.iter().map(&value)).collect(),
            latency_sum_us: value(&self.latency_sum_us),
        }
    }
}

/// The first bucket whose bound is not below `ms`.
fn bucket_of(ms: u64) -> usize {
    BOUNDS_MS.partition_point(|bound| *bound < ms)
}

/// Adds `from`, which another proxy counted, into ours, matching route and release.
pub(crate) fn merge(into: &mut Vec<Counter>, from: Vec<Counter>) {
    for counter in from {
        let same =
            |known: &&mut Counter| known.route == counter.route && known.release == counter.release;
        let Some(known) = into.iter_mut().find(same) else {
            let ours = Counters::default();
            ours.add(&counter);
            into.push(ours.read(&counter.route, &counter.release));
            continue;
        };
        known.requests += counter.requests;
        known.errors_5xx += counter.errors_5xx;
        known.errors_connect += counter.errors_connect;
        known.latency_sum_us += counter.latency_sum_us;
        for (bound, count) in &counter.latency {
            known.latency[bucket_of(*bound)].1 += count;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(counter: &Counter) -> Vec<(u64, u64)> {
        counter.latency.iter().copied().filter(|(_, count)| *count > 0).collect()
    }

    #[test]
    fn a_latency_is_known_within_a_factor_of_one_and_a_half() {
        for micros in (2_001..60_000_000).step_by(997) {
            let counters = Counters::default();
            counters.answered(200, Duration::from_micros(micros));
            let (bound, _) = counts(&counters.read("r", "a"))[0];
            assert!(bound * 1000 >= micros && bound * 1000 <= micros * 3 / 2 + 1000, "{micros} us");
        }
    }

    #[test]
    fn what_exceeds_every_bound_stands_under_the_last() {
        let counters = Counters::default();
        counters.answered(200, Duration::from_micros(60_000_001));
        counters.answered(200, Duration::MAX);
        assert_eq!(counts(&counters.read("r", "a")), [(LATENCY_UNBOUNDED_MS, 2)]);
    }

    #[test]
    fn counts_under_other_bounds_are_kept_and_never_look_faster() {
        let mut older = Counters::default().read("r", "a");
        older.latency = vec![(1, 4), (5, 3), (5000, 2), (LATENCY_UNBOUNDED_MS, 1)];
        let expected = [(1, 4), (6, 3), (6000, 2), (LATENCY_UNBOUNDED_MS, 1)];
        let ours = Counters::default();
        ours.add(&older);
        assert_eq!(counts(&ours.read("r", "a")), expected);
        let mut merged = Vec::new();
        merge(&mut merged, vec![older.clone(), older]);
        assert_eq!(counts(&merged[0]), expected.map(|(bound, count)| (bound, 2 * count)));
        assert_eq!(merged[0].latency.len(), BOUNDS_MS.len());
    }
}
