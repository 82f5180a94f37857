//! Open-loop HTTP load: requests start when the schedule says, whether or not earlier ones were answered, and latency counts
//! from that moment. Strict where a user would notice: a request that was written and not answered is a failure.
//!
//! A kept-alive connection that the server closes between requests, or announces with `Connection: close`, is made anew
//! and is no failure; one that ends after a request was written is.

mod exchange;
mod run;
mod summary;
mod websocket;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

pub use summary::{Record, Summary};

/// What is asked of whom, how often.
#[derive(Debug, Clone)]
pub struct Config {
    /// Asked in turn.
    pub targets: Vec<SocketAddr>,
    /// Path of every request.
    pub path: String,
    /// Kept-alive connections, spread over the targets.
    pub kept_connections: usize,
    /// Requests per second on them, together.
    pub kept_rate: u32,
    /// Requests per second on a new connection each, together.
    pub new_rate: u32,
    /// WebSockets held open, on `/ws`, each echoing once a second.
    pub websockets: usize,
}

#[derive(Debug, Default)]
struct Shared {
    records: Mutex<Vec<Record>>,
    sockets_open: std::sync::atomic::AtomicUsize,
    sockets_cut: std::sync::atomic::AtomicUsize,
}

impl Shared {
    fn records(&self) -> MutexGuard<'_, Vec<Record>> {
        self.records.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A load under way, on a thread of its own.
#[derive(Debug)]
pub struct Load {
    shared: Arc<Shared>,
    stop: Option<tokio::sync::oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Load {
    /// Starts it.
    ///
    /// # Panics
    /// When the machine gives no thread.
    #[must_use]
    pub fn start(config: Config) -> Self {
        let shared = Arc::new(Shared::default());
        let (stop, stopped) = tokio::sync::oneshot::channel();
        let of_thread = Arc::clone(&shared);
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime").block_on(run::run(config, of_thread, stopped));
        });
        Self { shared, stop: Some(stop), thread: Some(thread) }
    }

    /// What happened to the requests that were due between two moments.
    #[must_use]
    pub fn summary(&self, from: Instant, to: Instant) -> Summary {
        let records = self.shared.records();
        Summary::of(records.iter().filter(|r| r.due >= from && r.due < to))
    }

    /// Every failure of the requests that were due between two moments, verbatim, by its moment.
    #[must_use]
    pub fn failures(&self, from: Instant, to: Instant) -> Vec<(Instant, String)> {
        let records = self.shared.records();
        let due = records.iter().filter(|r| r.due >= from && r.due < to);
        due.filter_map(|r| Some((r.done, r.outcome.as_ref().err()?.clone()))).collect()
    }

    /// When the last answer of this version came.
    #[must_use]
    pub fn last_answer_of(&self, version: &str) -> Option<Instant> {
        let records = self.shared.records();
        records.iter().filter(|r| r.version() == Some(version)).map(|r| r.done).max()
    }

    /// WebSockets that are open now.
    #[must_use]
    pub fn sockets_open(&self) -> usize {
        self.shared.sockets_open.load(std::sync::atomic::Ordering::Relaxed)
    }

    /// WebSockets that were cut so far; each is opened again.
    #[must_use]
    pub fn sockets_cut(&self) -> usize {
        self.shared.sockets_cut.load(std::sync::atomic::Ordering::Relaxed)
    }

    /// Ends it: nothing new starts, what is in flight is waited for.
    pub fn stop(&mut self) {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.stop();
    }
}
