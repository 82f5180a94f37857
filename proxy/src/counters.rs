//! Requests, errors and latency of one release behind one route.
//!
//! Owns the numbers. Must not decide what counts as an error; sessions do.

use crate::control::{Counter, LATENCY_UNBOUNDED_MS};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// Upper bounds of the latency buckets, in milliseconds.
const BOUNDS_MS: [u64; 13] =
    [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, LATENCY_UNBOUNDED_MS];

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
        let bucket = BOUNDS_MS
            .iter()
            .position(|bound| latency.as_micros() <= u128::from(*bound) * 1000)
            .unwrap_or(BOUNDS_MS.len() - 1);
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

    /// Adds what another proxy counted.
    pub(crate) fn add(&self, other: &Counter) {
        self.requests.fetch_add(other.requests, Relaxed);
        self.errors_5xx.fetch_add(other.errors_5xx, Relaxed);
        self.errors_connect.fetch_add(other.errors_connect, Relaxed);
        self.latency_sum_us.fetch_add(other.latency_sum_us, Relaxed);
        for (bound, count) in &other.latency {
            if let Some(bucket) = BOUNDS_MS.iter().position(|known| known == bound) {
                self.buckets[bucket].fetch_add(*count, Relaxed);
            }
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

/// Adds `from` into `into`, matching route and release.
pub(crate) fn merge(into: &mut Vec<Counter>, from: Vec<Counter>) {
    for counter in from {
        let same =
            |known: &&mut Counter| known.route == counter.route && known.release == counter.release;
        let Some(known) = into.iter_mut().find(same) else {
            into.push(counter);
            continue;
        };
        known.requests += counter.requests;
        known.errors_5xx += counter.errors_5xx;
        known.errors_connect += counter.errors_connect;
        known.latency_sum_us += counter.latency_sum_us;
        for (bound, count) in &counter.latency {
            match known.latency.iter_mut().find(|(known_bound, _)| known_bound == bound) {
                Some((_, known_count)) => *known_count += count,
                None => known.latency.push((*bound, *count)),
            }
        }
    }
}
