//! One live route: smooth weighted choice over its active backends, and those who wait for one.
//!
//! ```text
//! cohort by claim, then the other one -> not failed lately before failed -> backups last -> by weight
//! ```
//!
//! Owns the order of choice. Must not connect; `connect` does.

use super::backend::{Backend, Lease, Shared, Work};
use super::split::{Claim, Cohort, Points, cohorts};
use crate::counters::Counters;
use crate::limits::{EJECTED_FOR, HELD_MAX, PAST_RELEASES_MAX};
use crate::table::{self, BackendState, Protocol, Split};
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::Instant;

/// A route of the table while it is in force.
#[derive(Debug)]
pub(crate) struct Route {
    pub(crate) id: String,
    pub(crate) protocol: Protocol,
    /// Fires when the table changed, for those who are held.
    pub(crate) changed: Notify,
    retired: AtomicBool,
    held: AtomicU64,
    points: Points,
    inner: Mutex<Inner>,
    shared: Shared,
}

#[derive(Debug)]
struct Inner {
    hold: Duration,
    send_proxy_v2: bool,
    trusted: Vec<IpAddr>,
    split: Option<Arc<Split>>,
    shares: Vec<Share>,
    counters: Vec<(String, Arc<Counters>)>,
}

/// A backend's place in the smooth weighted round robin.
#[derive(Debug)]
struct Share {
    backend: Arc<Backend>,
    weight: i64,
    cohort: Cohort,
    backup: bool,
    current: i64,
    ejected_until: Option<Instant>,
}

/// Counts one who is held, while it lives.
#[derive(Debug)]
pub(crate) struct Held<'a>(&'a Route);

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.0.held.fetch_sub(1, SeqCst);
    }
}

impl Route {
    pub(crate) fn new(spec: &table::Route, shared: Shared) -> Self {
        let route = Self {
            id: spec.id.clone(),
            protocol: spec.protocol,
            changed: Notify::new(),
            retired: AtomicBool::new(false),
            held: AtomicU64::new(0),
            points: Points::new(),
            inner: Mutex::new(Inner {
                hold: Duration::ZERO,
                send_proxy_v2: false,
                trusted: Vec::new(),
                split: None,
                shares: Vec::new(),
                counters: Vec::new(),
            }),
            shared,
        };
        route.apply(spec);
        route
    }

    /// Follows the table. Backends keep their work and their turn; those that left are cut.
    pub(crate) fn apply(&self, spec: &table::Route) {
        let mut inner = self.lock();
        inner.hold = Duration::from_millis(spec.hold_ms);
        inner.send_proxy_v2 = spec.send_proxy_v2;
        inner.trusted.clone_from(&spec.trusted);
        inner.split = spec.split.clone().map(Arc::new);
        let mut before = std::mem::take(&mut inner.shares);
        for wanted in &spec.backends {
            let same = |share: &Share| {
                share.backend.id == wanted.id
                    && share.backend.address == wanted.address
                    && share.backend.release == wanted.release
                    && share.backend.through == wanted.through
                    && share.backend.name == wanted.name
                    && share.backend.source == wanted.source
            };
            let mut share = match before.iter().position(same) {
                Some(place) => before.swap_remove(place),
                None => {
                    let counters = inner.counters_of(&wanted.release);
                    Share::new(Backend::new(wanted, counters, &self.shared))
                }
            };
            let weight = i64::from(wanted.weight);
            if weight != share.weight || wanted.state != share.backend.state() {
                share.current = 0;
                share.ejected_until = None;
            }
            share.weight = weight;
            share.backup = wanted.backup;
            share.cohort = Cohort::of(&wanted.release, spec.split.as_ref());
            share.backend.set_state(wanted.state);
            inner.shares.push(share);
        }
        inner.forget_past_releases();
        drop(inner);
        before.iter().for_each(|share| share.backend.leave());
        self.changed.notify_waiters();
    }

    /// It left the table.
    pub(crate) fn retire(&self) {
        self.retired.store(true, SeqCst);
        let gone = std::mem::take(&mut self.lock().shares);
        gone.iter().for_each(|share| share.backend.leave());
        self.changed.notify_waiters();
    }

    pub(crate) fn is_retired(&self) -> bool {
        self.retired.load(SeqCst)
    }

    /// Chooses among the active backends not yet tried, in the order at the file's head, and counts the choice
    /// in the same act.
    pub(crate) fn choose(
        &self,
        work: Work,
        claim: Claim,
        tried: &[Arc<Backend>],
        now: Instant,
    ) -> Option<Lease> {
        let mut inner = self.lock();
        let cohorts = cohorts(inner.split.as_deref(), claim);
        let place = cohorts.iter().find_map(|cohort| inner.pick_of(*cohort, tried, now))?;
        Some(Lease::take(&inner.shares[place].backend, work, now))
    }

    /// Whether anything may be chosen at all for this claim.
    pub(crate) fn has_active(&self, claim: Claim) -> bool {
        let inner = self.lock();
        let cohorts = cohorts(inner.split.as_deref(), claim);
        inner.shares.iter().any(|share| share.is_active() && cohorts.contains(&share.cohort))
    }

    /// A claim for one that makes none itself.
    pub(crate) fn draw(&self) -> Claim {
        self.points.draw()
    }

    pub(crate) fn split(&self) -> Option<Arc<Split>> {
        self.lock().split.clone()
    }

    /// A connect to it failed: it is put last for a while.
    pub(crate) fn eject(&self, backend: &Arc<Backend>, now: Instant) {
        let mut inner = self.lock();
        let same = |share: &&mut Share| Arc::ptr_eq(&share.backend, backend);
        if let Some(share) = inner.shares.iter_mut().find(same) {
            share.ejected_until = Some(now + EJECTED_FOR);
        }
    }

    /// A place among the held, unless too many wait.
    pub(crate) fn hold(&self) -> Option<Held<'_>> {
        if self.held.fetch_add(1, SeqCst) >= HELD_MAX {
            self.held.fetch_sub(1, SeqCst);
            return None;
        }
        Some(Held(self))
    }

    pub(crate) fn held(&self) -> u64 {
        self.held.load(SeqCst)
    }

    pub(crate) fn hold_time(&self) -> Duration {
        self.lock().hold
    }

    pub(crate) fn send_proxy_v2(&self) -> bool {
        self.lock().send_proxy_v2
    }

    pub(crate) fn trusts(&self, peer: IpAddr) -> bool {
        self.lock().trusted.contains(&peer)
    }

    pub(crate) fn backends(&self) -> Vec<Arc<Backend>> {
        self.lock().shares.iter().map(|share| Arc::clone(&share.backend)).collect()
    }

    /// Whether an instance of this node takes new work.
    pub(crate) fn has_local(&self) -> bool {
        let inner = self.lock();
        inner.shares.iter().any(|share| share.is_active() && share.backend.through.is_none())
    }

    /// Calls `each` with every release counted here.
    pub(crate) fn counters(&self) -> Vec<(String, Arc<Counters>)> {
        self.lock().counters.clone()
    }

    /// The counters of a release, for numbers that another proxy counted.
    pub(crate) fn counters_of(&self, release: &str) -> Arc<Counters> {
        self.lock().counters_of(release)
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Share {
    fn new(backend: Backend) -> Self {
        Self {
            backend: Arc::new(backend),
            weight: 0,
            cohort: Cohort::Stable,
            backup: false,
            current: 0,
            ejected_until: None,
        }
    }

    fn is_active(&self) -> bool {
        self.weight > 0 && self.backend.state() == BackendState::Active
    }
}

impl Inner {
    fn pick_of(&mut self, cohort: Cohort, tried: &[Arc<Backend>], now: Instant) -> Option<usize> {
        let is_healthy = |share: &Share| share.ejected_until.is_none_or(|until| until <= now);
        let order = [(true, false), (true, true), (false, false), (false, true)];
        order.into_iter().find_map(|(healthy, backup)| {
            self.pick(tried, |share| {
                share.cohort == cohort && share.backup == backup && is_healthy(share) == healthy
            })
        })
    }

    /// One step of the smooth weighted round robin: over a full period each share gets exactly its
    /// weight, interleaved.
    fn pick(&mut self, tried: &[Arc<Backend>], fit: impl Fn(&Share) -> bool) -> Option<usize> {
        let mut total = 0;
        let mut best: Option<(usize, i64)> = None;
        for (place, share) in self.shares.iter_mut().enumerate() {
            if !share.is_active()
                || !fit(share)
                || tried.iter().any(|one| Arc::ptr_eq(one, &share.backend))
            {
                continue;
            }
            share.current += share.weight;
            total += share.weight;
            if best.is_none_or(|(_, current)| share.current > current) {
                best = Some((place, share.current));
            }
        }
        let (place, _) = best?;
        self.shares[place].current -= total;
        Some(place)
    }

    fn counters_of(&mut self, release: &str) -> Arc<Counters> {
        if let Some((_, counters)) = self.counters.iter().find(|(label, _)| label == release) {
            return Arc::clone(counters);
        }
        let counters = Arc::new(Counters::default());
        self.counters.push((release.to_owned(), Arc::clone(&counters)));
        counters
    }

    /// Oldest first, and never one that a backend still carries.
    fn forget_past_releases(&mut self) {
        let shares = &self.shares;
        let mut past = self
            .counters
            .iter()
            .filter(|(label, _)| !shares.iter().any(|share| &share.backend.release == label))
            .count();
        self.counters.retain(|(label, _)| {
            let present = shares.iter().any(|share| &share.backend.release == label);
            let keep = present || past <= PAST_RELEASES_MAX;
            past -= usize::from(!present);
            keep
        });
    }
}
