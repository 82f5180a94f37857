//! How many may stand at the door: counts connections, by address while they have not logged in.
//!
//! A fleet behind one address comes back at once after a mains cut, so that a node that has logged in counts towards the total only.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// The limits of the port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// From accept to the end of CONNECT.
    pub login_within: Duration,
    /// An HTTP connection without a client certificate, from its handshake to its end.
    pub http_within: Duration,
    /// Connections in all.
    pub max_connections: usize,
    /// Those that have not logged in.
    pub max_waiting: usize,
    /// Those of one address that have not logged in.
    pub max_waiting_per_address: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            login_within: Duration::from_secs(10),
            http_within: Duration::from_secs(30),
            max_connections: 16_384,
            max_waiting: 2_048,
            max_waiting_per_address: 512,
        }
    }
}

#[derive(Debug, Default)]
struct Counts {
    connections: usize,
    waiting: usize,
    by_address: HashMap<IpAddr, usize>,
    refused: u64,
}

/// The places of one port; clones count together.
#[derive(Debug, Clone)]
pub(super) struct Places {
    limits: Limits,
    counts: Arc<Mutex<Counts>>,
}

/// A place that is taken; dropping it gives it back.
#[derive(Debug)]
pub(super) struct Seat {
    places: Places,
    /// None once logged in.
    waits_from: Option<IpAddr>,
}

impl Places {
    pub(super) fn new(limits: Limits) -> Self {
        Self { limits, counts: Arc::default() }
    }

    /// None: too many, and the connection is dropped unanswered.
    pub(super) fn take(&self, from: IpAddr) -> Option<Seat> {
        let from = from.to_canonical();
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let of_it = counts.by_address.get(&from).copied().unwrap_or(0);
        let is_full = counts.connections >= self.limits.max_connections
            || counts.waiting >= self.limits.max_waiting
            || of_it >= self.limits.max_waiting_per_address;
        if is_full {
            counts.refused += 1;
            let refused = counts.refused;
            if refused.is_power_of_two() {
                tracing::warn!(refused, %from, waiting = counts.waiting, "connections refused: too many at once");
            }
            return None;
        }
        counts.connections += 1;
        counts.waiting += 1;
        *counts.by_address.entry(from).or_default() += 1;
        Some(Seat { places: self.clone(), waits_from: Some(from) })
    }
}

impl Counts {
    fn no_longer_waits(&mut self, from: IpAddr) {
        self.waiting = self.waiting.saturating_sub(1);
        if let Some(count) = self.by_address.get_mut(&from) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.by_address.remove(&from);
            }
        }
    }
}

impl Seat {
    /// Its holder is known now: it counts towards the total alone.
    pub(super) fn logged_in(&mut self) {
        let Some(from) = self.waits_from.take() else { return };
        let mut counts = self.places.counts.lock().unwrap_or_else(PoisonError::into_inner);
        counts.no_longer_waits(from);
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut counts = self.places.counts.lock().unwrap_or_else(PoisonError::into_inner);
        counts.connections = counts.connections.saturating_sub(1);
        if let Some(from) = self.waits_from.take() {
            counts.no_longer_waits(from);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_given_back_and_a_login_frees_the_address() {
        let limits = Limits {
            max_connections: 4,
            max_waiting: 3,
            max_waiting_per_address: 2,
            ..Limits::default()
        };
        let places = Places::new(limits);
        let (a, b): (IpAddr, IpAddr) = ("10.0.0.1".parse().unwrap(), "10.0.0.2".parse().unwrap());
        let mut first = places.take(a).unwrap();
        let second = places.take("::ffff:10.0.0.1".parse().unwrap()).unwrap();
        assert!(places.take(a).is_none(), "two of one address wait");
        let third = places.take(b).unwrap();
        assert!(places.take(b).is_none(), "three wait in all");
        first.logged_in();
        let fourth = places.take(a).unwrap();
        assert!(places.take(b).is_none(), "four connections in all");
        drop((first, second, third, fourth));
        assert!(places.counts.lock().unwrap().by_address.is_empty());
        assert!(places.take(b).is_some());
    }
}
