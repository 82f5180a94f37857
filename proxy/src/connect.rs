//! From a route to a connection with a backend: choose, connect, pass over the failing, hold.
//!
//! Nothing was sent to a backend while this works, so every step may be repeated for every method.

use crate::limits::{CONNECT_DEADLINE, PASS_PAUSE_MAX, PASS_PAUSE_MIN};
use crate::live::backend::{Backend, Lease, Reuse, Work};
use crate::live::route::Route;
use crate::live::split::Claim;
use std::sync::Arc;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

/// A connection with a backend, and the right to use it.
#[derive(Debug)]
pub(crate) struct Connected {
    pub(crate) lease: Lease,
    pub(crate) stream: TcpStream,
    pub(crate) age: Age,
}

/// Whether a connection has served before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Age {
    /// It has not.
    Fresh,
    /// It has, so that it may end at any moment.
    Reused,
}

/// Nobody takes the request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unavailable {
    /// The holding time passed, or too many are held already.
    NoBackend,
    /// The route left the table.
    Retired,
}

/// Connects to a backend of `route`, waiting its holding time for one. Cancel-safe: a dropped call holds
/// no lease.
pub(crate) async fn connect(
    route: &Route,
    work: Work,
    reuse: Reuse,
    claim: Claim,
) -> Result<Connected, Unavailable> {
    if let Some(connected) = pass(route, work, reuse, claim).await {
        return Ok(connected);
    }
    if route.is_retired() {
        return Err(Unavailable::Retired);
    }
    if route.hold_time().is_zero() {
        return Err(Unavailable::NoBackend);
    }
    let Some(_held) = route.hold() else {
        return Err(Unavailable::NoBackend);
    };
    let deadline = Instant::now() + route.hold_time();
    let mut pause = PASS_PAUSE_MIN;
    loop {
        if route.is_retired() {
            return Err(Unavailable::Retired);
        }
        // Registered before the pass, so that a table set during it is not missed.
        let changed = route.changed.notified();
        tokio::pin!(changed);
        changed.as_mut().enable();
        if let Some(connected) = pass(route, work, reuse, claim).await {
            return Ok(connected);
        }
        if Instant::now() >= deadline {
            return Err(Unavailable::NoBackend);
        }
        // Without an active backend only a table helps; with refusing ones, time may.
        let wake =
            if route.has_active(claim) { deadline.min(Instant::now() + pause) } else { deadline };
        tokio::select! {
            // Both are cancel-safe: a notification and a timer.
            () = &mut changed => pause = PASS_PAUSE_MIN,
            () = tokio::time::sleep_until(wake) => pause = (pause * 2).min(PASS_PAUSE_MAX),
        }
    }
}

/// Tries each active backend once.
async fn pass(route: &Route, work: Work, reuse: Reuse, claim: Claim) -> Option<Connected> {
    let mut tried: Vec<Arc<Backend>> = Vec::new();
    loop {
        let now = Instant::now();
        let lease = route.choose(work, claim, &tried, now)?;
        let backend = Arc::clone(lease.backend());
        if work == Work::Request
            && let Some(stream) = backend.take_idle(reuse, now)
        {
            return Some(Connected { lease, stream, age: Age::Reused });
        }
        match timeout(CONNECT_DEADLINE, TcpStream::connect(backend.address)).await {
            Ok(Ok(stream)) => {
                let _ = stream.set_nodelay(true);
                return Some(Connected { lease, stream, age: Age::Fresh });
            }
            Ok(Err(_)) | Err(_) => {
                route.eject(&backend, Instant::now());
                drop(lease);
                backend.connect_failed();
                tried.push(backend);
            }
        }
    }
}
