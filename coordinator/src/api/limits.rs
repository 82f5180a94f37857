//! How much one identity may ask: a bucket of requests that fills at a steady rate, and requests in work at once.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use planner::Now;

/// Identities that are remembered; beyond that the full buckets are forgotten, which costs nobody anything.
const MAX_IDENTITIES: usize = 4_096;

/// The limits of the API.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Of one identity, for long.
    pub requests_per_second: u32,
    /// Of one identity, at once after a pause.
    pub burst: u32,
    /// Of one address that has shown no operator's certificate.
    pub strangers_per_second: u32,
    /// As `burst`.
    pub strangers_burst: u32,
    /// Requests of one identity in work, those that wait for news included.
    pub at_once: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            requests_per_second: 100,
            burst: 500,
            strangers_per_second: 1,
            strangers_burst: 20,
            at_once: 128,
        }
    }
}

/// Whose bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Known {
    /// Somebody with a role.
    Yes,
    /// An address.
    Stranger,
}

#[derive(Debug, Clone, Copy)]
struct Bucket {
    /// Thousandths of a request.
    left: u64,
    at: Now,
}

/// The buckets of all identities.
#[derive(Debug)]
pub(super) struct Rates {
    limits: Limits,
    buckets: Mutex<HashMap<String, Bucket>>,
}

impl Rates {
    pub(super) fn new(limits: Limits) -> Self {
        Self { limits, buckets: Mutex::default() }
    }

    /// Takes one request out of a bucket.
    ///
    /// # Errors
    /// With the time until there is one again.
    pub(super) fn take(&self, identity: &str, known: Known, now: Now) -> Result<(), Duration> {
        let Limits { requests_per_second, burst, strangers_per_second, strangers_burst, .. } =
            self.limits;
        let (rate, burst) = match known {
            Known::Yes => (requests_per_second, burst),
            Known::Stranger => (strangers_per_second, strangers_burst),
        };
        let (rate, full) = (u64::from(rate.max(1)), u64::from(burst.max(1)) * 1000);
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        if buckets.len() >= MAX_IDENTITIES && !buckets.contains_key(identity) {
            buckets.retain(|_, bucket| now.since(bucket.at) < FORGOTTEN_AFTER_MS);
        }
        let bucket = buckets.entry(identity.to_owned()).or_insert(Bucket { left: full, at: now });
        let filled = now.since(bucket.at).saturating_mul(rate);
        bucket.left = bucket.left.saturating_add(filled).min(full);
        bucket.at = now;
        match bucket.left.checked_sub(1000) {
            Some(left) => {
                bucket.left = left;
                Ok(())
            }
            None => Err(Duration::from_millis((1000 - bucket.left).div_ceil(rate))),
        }
    }
}

/// Every bucket is full again by then.
const FORGOTTEN_AFTER_MS: u64 = 60_000;

/// The requests in work of all identities.
#[derive(Debug)]
pub(super) struct Places {
    at_once: usize,
    taken: Mutex<HashMap<String, usize>>,
}

/// A place that is taken; dropping it gives it back.
#[derive(Debug)]
pub(super) struct Place<'a> {
    places: &'a Places,
    identity: String,
}

impl Places {
    pub(super) fn new(limits: Limits) -> Self {
        Self { at_once: limits.at_once, taken: Mutex::default() }
    }

    /// None: too many of this identity are in work.
    pub(super) fn take(&self, identity: &str) -> Option<Place<'_>> {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let count = taken.entry(identity.to_owned()).or_default();
        if *count >= self.at_once {
            return None;
        }
        *count += 1;
        Some(Place { places: self, identity: identity.to_owned() })
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut taken = self.places.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = taken.get_mut(&self.identity) {
            *count -= 1;
            if *count == 0 {
                taken.remove(&self.identity);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_passes_then_the_rate_and_nobody_pays_for_another() {
        let limits = Limits { requests_per_second: 2, burst: 3, ..Limits::default() };
        let (rates, start) = (Rates::new(limits), Now(0));
        let take = |who, ms| rates.take(who, Known::Yes, start.plus(ms));
        for _ in 0..3 {
            assert_eq!(take("anna", 0), Ok(()));
        }
        assert_eq!(take("anna", 0), Err(Duration::from_millis(500)));
        assert_eq!(take("bert", 0), Ok(()));
        assert_eq!(take("anna", 400), Err(Duration::from_millis(100)));
        assert_eq!(take("anna", 500), Ok(()));
        assert_eq!(take("anna", 500), Err(Duration::from_millis(500)));
        // A long pause fills it, and not more than that.
        for _ in 0..3 {
            assert_eq!(take("anna", 3_600_000), Ok(()));
        }
        assert!(take("anna", 3_600_000).is_err());
    }

    #[test]
    fn strangers_have_less_and_many_of_them_are_forgotten() {
        let limits = Limits { strangers_per_second: 1, strangers_burst: 2, ..Limits::default() };
        let (rates, start) = (Rates::new(limits), Now(0));
        for number in 0..MAX_IDENTITIES {
            assert_eq!(rates.take(&number.to_string(), Known::Stranger, start), Ok(()));
        }
        let later = start.plus(FORGOTTEN_AFTER_MS);
        assert_eq!(rates.take("one more", Known::Stranger, later), Ok(()));
        assert_eq!(rates.buckets.lock().unwrap().len(), 1);
    }

    #[test]
    fn a_place_is_given_back() {
        let places = Places::new(Limits { at_once: 1, ..Limits::default() });
        let first = places.take("anna").unwrap();
        assert!(places.take("anna").is_none());
        assert!(places.take("bert").is_some());
        drop(first);
        assert!(places.take("anna").is_some());
        assert_eq!(places.taken.lock().unwrap().len(), 0);
    }
}
