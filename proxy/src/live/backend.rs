//! One backend while it is in the table: its work, its warm connections and its end.
//!
//! States: active -> draining (no new lease) -> gone (`cut` fires, everything on it ends).
//! A lease is taken under the route's lock, so that a backend that was set to draining is never chosen later.

use crate::counters::Counters;
use crate::limits::{HANDSHAKES_MAX, POOL_IDLE_MAX, POOL_IDLE_UNREPEATABLE_MAX, POOL_MAX};
use crate::stream::{Look, Stream};
use crate::table::BackendState;
use crate::trust::Between;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, Semaphore};
use tokio::time::Instant;

/// Tells watchers that something they wait for happened.
pub(crate) type Changes = tokio::sync::watch::Sender<u64>;

/// What all backends of a proxy share.
#[derive(Debug, Clone, Default)]
pub(crate) struct Shared {
    pub(crate) changes: Changes,
    pub(crate) between: Arc<Between>,
}

/// See the file's head.
#[derive(Debug)]
pub(crate) struct Backend {
    pub(crate) id: String,
    pub(crate) address: SocketAddr,
    pub(crate) release: String,
    /// The route to ask for, when it is another node's proxy.
    pub(crate) through: Option<String>,
    /// The name that its certificate must be for, when it is another node's proxy.
    pub(crate) name: Option<String>,
    /// How other nodes are talked to.
    pub(crate) between: Arc<Between>,
    /// Turns to ask it, when it is another node's proxy.
    pub(crate) asking: Semaphore,
    /// Where connections to it come from; without it the system chooses.
    pub(crate) source: Option<IpAddr>,
    pub(crate) counters: Arc<Counters>,
    draining: AtomicBool,
    gone: AtomicBool,
    cut: Notify,
    in_flight: AtomicU64,
    connections: AtomicU64,
    started: AtomicU64,
    connect_errors: AtomicU64,
    idle: Mutex<Vec<Idle>>,
    changes: Changes,
}

#[derive(Debug)]
struct Idle {
    stream: Stream,
    until: Instant,
    since: Instant,
}

/// Which idle connections a request may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reuse {
    /// The request can be sent again.
    Any,
    /// The request cannot be sent again.
    Recent,
    /// Nor can it be kept until another node's proxy said whether it still takes it: that one is asked anew.
    RecentLocal,
    /// A new connection.
    Never,
}

/// What a lease counts as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Work {
    /// An HTTP request.
    Request,
    /// A TCP or upgraded connection.
    Connection,
}

impl Backend {
    pub(crate) fn new(
        spec: &crate::table::Backend,
        counters: Arc<Counters>,
        shared: &Shared,
    ) -> Self {
        Self {
            id: spec.id.clone(),
            address: spec.address,
            release: spec.release.clone(),
            through: spec.through.clone(),
            name: spec.name.clone(),
            between: Arc::clone(&shared.between),
            asking: Semaphore::new(HANDSHAKES_MAX),
            source: spec.source,
            counters,
            draining: AtomicBool::new(spec.state == BackendState::Draining),
            gone: AtomicBool::new(false),
            cut: Notify::new(),
            in_flight: AtomicU64::new(0),
            connections: AtomicU64::new(0),
            started: AtomicU64::new(0),
            connect_errors: AtomicU64::new(0),
            idle: Mutex::new(Vec::new()),
            changes: shared.changes.clone(),
        }
    }

    /// Follows the table. The caller holds the route's lock.
    pub(crate) fn set_state(&self, state: BackendState) {
        self.draining.store(state == BackendState::Draining, SeqCst);
        if state == BackendState::Draining {
            self.lock_idle().clear();
        }
    }

    /// It left the table: everything on it ends.
    pub(crate) fn leave(&self) {
        self.gone.store(true, SeqCst);
        self.lock_idle().clear();
        self.cut.notify_waiters();
    }

    /// Resolves when the backend has left the table.
    pub(crate) async fn gone(&self) {
        let notified = self.cut.notified();
        tokio::pin!(notified);
        notified.as_mut().enable();
        if self.gone.load(SeqCst) {
            return;
        }
        notified.await;
    }

    pub(crate) fn state(&self) -> BackendState {
        if self.draining.load(SeqCst) { BackendState::Draining } else { BackendState::Active }
    }

    pub(crate) fn status(&self, route: &str) -> crate::control::BackendStatus {
        crate::control::BackendStatus {
            route: route.to_owned(),
            backend: self.id.clone(),
            state: self.state(),
            in_flight: self.in_flight.load(SeqCst),
            connections: self.connections.load(SeqCst),
            requests_started: self.started.load(SeqCst),
            connect_errors: self.connect_errors.load(SeqCst),
        }
    }

    pub(crate) fn in_flight(&self) -> u64 {
        self.in_flight.load(SeqCst)
    }

    /// How often connecting failed so far.
    pub(crate) fn connect_errors(&self) -> u64 {
        self.connect_errors.load(SeqCst)
    }

    pub(crate) fn connect_failed(&self) {
        self.connect_errors.fetch_add(1, SeqCst);
        self.counters.connect_failed();
        self.changes.send_modify(|number| *number += 1);
    }

    /// A warm connection that was alive a moment ago. Newest first, so that surplus ones age out.
    pub(crate) fn take_idle(&self, reuse: Reuse, now: Instant) -> Option<Stream> {
        if reuse == Reuse::Never || (reuse == Reuse::RecentLocal && self.through.is_some()) {
            return None;
        }
        let mut idle = self.lock_idle();
        while let Some(mut candidate) = idle.pop() {
            let recent = now.duration_since(candidate.since) < POOL_IDLE_UNREPEATABLE_MAX;
            if reuse != Reuse::Any && !recent {
                idle.push(candidate);
                return None;
            }
            let quiet = match reuse {
                Reuse::Any => candidate.stream.is_quiet(Look::Known),
                // What is known may lag behind, and this request cannot be repeated.
                Reuse::Recent | Reuse::RecentLocal => candidate.stream.is_quiet(Look::Asked),
                Reuse::Never => false,
            };
            if quiet && candidate.until > now {
                return Some(candidate.stream);
            }
        }
        None
    }

    /// Keeps a connection whose last answer ended cleanly. Returns when it must be swept, if kept.
    pub(crate) fn put_idle(&self, stream: Stream, keep: Option<Duration>, now: Instant) {
        if self.draining.load(SeqCst) || self.gone.load(SeqCst) {
            return;
        }
        let mut idle = self.lock_idle();
        if idle.len() < POOL_MAX {
            let until = now + keep.unwrap_or(POOL_IDLE_MAX).min(POOL_IDLE_MAX);
            idle.push(Idle { stream, until, since: now });
        }
    }

    /// Its warm connections lead to a proxy that takes nothing more.
    pub(crate) fn drop_idle(&self) {
        self.lock_idle().clear();
    }

    /// Closes what is idle for too long. Returns how many are left.
    pub(crate) fn sweep_idle(&self, now: Instant) -> usize {
        let mut idle = self.lock_idle();
        idle.retain(|kept| kept.until > now);
        if idle.is_empty() {
            idle.shrink_to_fit();
        }
        idle.len()
    }

    fn lock_idle(&self) -> std::sync::MutexGuard<'_, Vec<Idle>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn number(&self, work: Work) -> &AtomicU64 {
        match work {
            Work::Request => &self.in_flight,
            Work::Connection => &self.connections,
        }
    }
}

/// The right to use a backend; while it lives the backend is not idle.
#[derive(Debug)]
pub(crate) struct Lease {
    backend: Arc<Backend>,
    work: Work,
    pub(crate) since: Instant,
}

impl Lease {
    /// The caller holds the route's lock.
    pub(crate) fn take(backend: &Arc<Backend>, work: Work, now: Instant) -> Self {
        backend.number(work).fetch_add(1, SeqCst);
        backend.started.fetch_add(1, SeqCst);
        Self { backend: Arc::clone(backend), work, since: now }
    }

    pub(crate) fn backend(&self) -> &Arc<Backend> {
        &self.backend
    }

    /// A request that was upgraded counts as a connection from here on.
    pub(crate) fn upgrade(&mut self) {
        self.backend.connections.fetch_add(1, SeqCst);
        self.backend.number(self.work).fetch_sub(1, SeqCst);
        self.work = Work::Connection;
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let backend = &self.backend;
        backend.number(self.work).fetch_sub(1, SeqCst);
        let idle = backend.in_flight.load(SeqCst) == 0 && backend.connections.load(SeqCst) == 0;
        if idle && backend.draining.load(SeqCst) {
            backend.changes.send_modify(|number| *number += 1);
        }
    }
}
