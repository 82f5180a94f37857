//! From a route to a connection with a backend: choose, connect, pass over the failing, hold.
//!
//! Nothing was sent to a backend while this works, so every step may be repeated for every method.

use crate::fleet;
use crate::limits::{CONNECT_DEADLINE, CONNECT_THROUGH_DEADLINE, PASS_PAUSE_MAX, PASS_PAUSE_MIN};
use crate::live::backend::{Backend, Lease, Reuse, Work};
use crate::live::route::Route;
use crate::live::split::Claim;
use crate::stream::Stream;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

/// A connection with a backend, and the right to use it.
#[derive(Debug)]
pub(crate) struct Connected {
    pub(crate) lease: Lease,
    pub(crate) stream: Stream,
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

/// Whose instances may serve.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reach {
    /// Every node's.
    Fleet,
    /// This node's, at once or not at all: another node's proxy asks, and it holds (see `fleet`).
    Local,
}

/// The search of one request or connection for a backend, over all calls of [`connect`] for it.
#[derive(Debug)]
pub(crate) struct Search {
    reach: Reach,
    claim: Claim,
    /// Sent it back since the last pause.
    refused: Vec<Arc<Backend>>,
    /// The end of the holding time, once it began.
    deadline: Option<Instant>,
    pause: Duration,
}

impl Search {
    pub(crate) fn new(reach: Reach, claim: Claim) -> Self {
        Self { reach, claim, refused: Vec::new(), deadline: None, pause: PASS_PAUSE_MIN }
    }

    /// The proxy of another node was connected to, and then had no instance: like a connect that failed.
    pub(crate) fn refused_by(&mut self, route: &Route, backend: Arc<Backend>) {
        fail(route, &backend);
        self.refused.push(backend);
    }

    /// Those that a pass leaves out.
    fn left_out(&self, route: &Route) -> Vec<Arc<Backend>> {
        match self.reach {
            Reach::Fleet => self.refused.clone(),
            Reach::Local => {
                let mut backends = route.backends();
                backends.retain(|backend| backend.through.is_some());
                backends
            }
        }
    }

    fn reaches(&self, backend: &Backend) -> bool {
        match self.reach {
            Reach::Fleet => true,
            Reach::Local => backend.through.is_none(),
        }
    }
}

/// Connects to a backend of `route`, waiting its holding time for one. Cancel-safe: a dropped call holds
/// no lease.
pub(crate) async fn connect(
    route: &Route,
    work: Work,
    reuse: Reuse,
    search: &mut Search,
) -> Result<Connected, Unavailable> {
    if let Some(connected) = pass(route, work, reuse, search).await {
        return Ok(connected);
    }
    if route.is_retired() {
        return Err(Unavailable::Retired);
    }
    if search.reach == Reach::Local || route.hold_time().is_zero() {
        return Err(Unavailable::NoBackend);
    }
    let Some(_held) = route.hold() else {
        return Err(Unavailable::NoBackend);
    };
    let deadline = *search.deadline.get_or_insert_with(|| Instant::now() + route.hold_time());
    loop {
        if route.is_retired() {
            return Err(Unavailable::Retired);
        }
        // Registered before the pass, so that a table set during it is not missed.
        let changed = route.changed.notified();
        tokio::pin!(changed);
        changed.as_mut().enable();
        if let Some(connected) = pass(route, work, reuse, search).await {
            return Ok(connected);
        }
        if Instant::now() >= deadline {
            return Err(Unavailable::NoBackend);
        }
        // Without an active backend only a table helps; with refusing ones, time may.
        let wake = if route.has_active(search.claim) {
            deadline.min(Instant::now() + search.pause)
        } else {
            deadline
        };
        tokio::select! {
            // Both are cancel-safe: a notification and a timer.
            () = &mut changed => search.pause = PASS_PAUSE_MIN,
            () = tokio::time::sleep_until(wake) => {
                search.pause = (search.pause * 2).min(PASS_PAUSE_MAX);
            }
        }
        search.refused.clear();
    }
}

/// Tries each active backend once.
async fn pass(route: &Route, work: Work, reuse: Reuse, search: &Search) -> Option<Connected> {
    let mut tried = search.left_out(route);
    loop {
        let now = Instant::now();
        let lease = route.choose(work, search.claim, &tried, now)?;
        let backend = Arc::clone(lease.backend());
        // A table set since the pass began may have brought it.
        if !search.reaches(&backend) {
            tried.push(backend);
            continue;
        }
        if work == Work::Request
            && let Some(stream) = backend.take_idle(reuse, now)
        {
            return Some(Connected { lease, stream, age: Age::Reused });
        }
        let opened = match &backend.through {
            None => open(&backend).await,
            // On the heap, so that its size is not every connection's.
            Some(route) => Box::pin(ask(&backend, route, work, reuse)).await,
        };
        match opened {
            Ok((stream, age)) => return Some(Connected { lease, stream, age }),
            Err(_) => {
                drop(lease);
                fail(route, &backend);
                tried.push(backend);
            }
        }
    }
}

/// Another node's proxy, in turn: a handshake costs both nodes some milliseconds of a core, and a burst of them would make
/// all come late. Who was before us may have left a warm connection, or learned that nobody takes anything there.
async fn ask(
    backend: &Backend,
    route: &str,
    work: Work,
    reuse: Reuse,
) -> io::Result<(Stream, Age)> {
    let failed_before = backend.connect_errors();
    // Never closed.
    let _turn = backend.asking.acquire().await.map_err(io::Error::other)?;
    if work == Work::Request
        && let Some(stream) = backend.take_idle(reuse, Instant::now())
    {
        return Ok((stream, Age::Reused));
    }
    if backend.connect_errors() != failed_before {
        return Err(io::ErrorKind::ConnectionRefused.into());
    }
    let asked = timeout(CONNECT_THROUGH_DEADLINE, fleet::ask(backend, route)).await?;
    Ok((asked?, Age::Fresh))
}

async fn open(backend: &Backend) -> io::Result<(Stream, Age)> {
    let stream = timeout(CONNECT_DEADLINE, TcpStream::connect(backend.address)).await??;
    let _ = stream.set_nodelay(true);
    Ok((Stream::Clear(stream), Age::Fresh))
}

fn fail(route: &Route, backend: &Arc<Backend>) {
    route.eject(backend, Instant::now());
    if backend.through.is_some() {
        backend.drop_idle();
    }
    backend.connect_failed();
}
