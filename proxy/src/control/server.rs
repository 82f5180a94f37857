//! The proxy's side of the control socket.
//!
//! A connection is the agent's, or after [`Request::Accepting`] the newer proxy's. Once a take-over began,
//! only the latter changes or reads anything; the others are told to ask again and then reach the newer one.

use super::lines::Lines;
use super::{Changed, Event, Reply, Request, Snapshot};
use crate::limits::EVENT_PAUSE;
use crate::live::Live;
use crate::run::Renewal;
use crate::state_file;
use crate::takeover::{self, Predecessor};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Mutex, Notify, oneshot, watch};

/// What all control connections share.
#[derive(Debug)]
pub(crate) struct Control {
    pub(crate) live: Arc<Live>,
    pub(crate) state_file: PathBuf,
    /// Held across a call to the older proxy on purpose: tables must reach both in one order.
    pub(crate) predecessor: Mutex<Option<Predecessor>>,
    frozen: AtomicBool,
    retired: watch::Sender<bool>,
    orphaned: Notify,
    renewal: Option<Renewal>,
}

/// Tells that the newer proxy is gone.
struct Successor<'a>(&'a Control);

impl Drop for Successor<'_> {
    fn drop(&mut self) {
        self.0.orphaned.notify_one();
    }
}

/// Lifts the freeze of a take-over that broke off.
struct Frozen<'a>(&'a Control);

impl Drop for Frozen<'_> {
    fn drop(&mut self) {
        self.0.frozen.store(false, SeqCst);
    }
}

impl Control {
    pub(crate) fn new(
        live: Arc<Live>,
        state_file: PathBuf,
        predecessor: Option<Predecessor>,
        renewal: Option<Renewal>,
    ) -> Arc<Self> {
        let (predecessor, frozen) = (Mutex::new(predecessor), AtomicBool::new(false));
        let retired = watch::Sender::new(false);
        let orphaned = Notify::new();
        Arc::new(Self { live, state_file, predecessor, frozen, retired, orphaned, renewal })
    }

    /// Resolves when a newer proxy has taken over.
    pub(crate) async fn retired(&self) {
        // The sender lives as long as we do.
        let _ = self.retired.subscribe().wait_for(|retired| *retired).await;
    }

    /// Whether a newer proxy has taken over.
    pub(crate) fn is_retired(&self) -> bool {
        *self.retired.borrow()
    }

    /// Resolves when the newer proxy that took over has ended.
    pub(crate) async fn orphaned(&self) {
        self.orphaned.notified().await;
    }

    /// Runs until it is dropped.
    pub(crate) async fn serve(self: Arc<Self>, listener: UnixListener) {
        loop {
            match listener.accept().await {
                Ok((stream, _)) => {
                    let control = Arc::clone(&self);
                    tokio::spawn(async move {
                        if let Err(error) = control.converse(stream).await {
                            tracing::debug!(%error, "a control connection broke off");
                        }
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "accept failed on the control socket");
                    tokio::time::sleep(crate::limits::ACCEPT_PAUSE).await;
                }
            }
        }
    }

    async fn converse(&self, stream: UnixStream) -> io::Result<()> {
        let mut lines = Lines::new(stream);
        let mut frozen = None;
        let mut successor = None;
        loop {
            let request = match lines.next().await {
                Ok(Some(request)) => request,
                Ok(None) => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                    lines.send(&Reply::Failed { error: error.to_string() }).await?;
                    continue;
                }
                Err(error) => return Err(error),
            };
            let busy = (self.frozen.load(SeqCst) && frozen.is_none()) || self.is_retired();
            if busy && successor.is_none() {
                lines.send(&Reply::Busy).await?;
                continue;
            }
            let reply = match request {
                Request::Set { table } => self.set(table).await,
                Request::Get => Reply::Snapshot(self.snapshot().await),
                Request::Watch => return self.stream_events(lines).await,
                Request::Renew => self.renew().await,
                Request::TakeOver => {
                    self.frozen.store(true, SeqCst);
                    frozen = Some(Frozen(self));
                    Reply::HandingOver(self.live.hand_over().0)
                }
                Request::SendListeners => {
                    takeover::send(lines.stream(), &self.live.hand_over().1).await?;
                    continue;
                }
                Request::Accepting => {
                    successor = Some(Successor(self));
                    let counters = self.live.retire();
                    self.retired.send_replace(true);
                    frozen = None;
                    Reply::Retired { counters }
                }
            };
            lines.send(&reply).await?;
        }
    }

    /// Whoever runs us starts the other one; while it takes over nothing here is held.
    async fn renew(&self) -> Reply {
        let failed = |error: &str| Reply::Failed { error: error.to_owned() };
        let Some(renewal) = &self.renewal else {
            return failed("this proxy was not started by what could start another");
        };
        let (done, answer) = oneshot::channel();
        if renewal.send(done).await.is_err() {
            return failed("this proxy is ending");
        }
        match answer.await {
            Ok(Ok(())) => Reply::Renewed,
            Ok(Err(error)) => failed(&error),
            Err(_) => failed("this proxy is ending"),
        }
    }

    async fn set(&self, table: crate::table::Table) -> Reply {
        let mut predecessor = self.predecessor.lock().await;
        let applied = match self.live.set(table.clone()) {
            Ok(applied) => applied,
            Err(error) => return Reply::Failed { error: error.to_string() },
        };
        // A retired proxy leaves the copy to its successor.
        if !self.is_retired()
            && let Err(error) = state_file::write(&self.state_file, &table)
        {
            tracing::warn!(%error, "the copy of the table cannot be written");
        }
        self.ask(&mut predecessor, &Request::Set { table }).await;
        for refused in &applied.refused {
            let (route, address) = (&refused.route, &refused.address);
            tracing::warn!(%route, %address, reason = ?refused.reason, "address refused");
        }
        Reply::Applied(applied)
    }

    /// Our numbers and an older proxy's.
    pub(crate) async fn snapshot(&self) -> Snapshot {
        let mut predecessor = self.predecessor.lock().await;
        self.ask(&mut predecessor, &Request::Get).await;
        let mut snapshot = self.live.snapshot();
        if let Some(older) = predecessor.as_ref() {
            older.add_to(&mut snapshot.backends);
            crate::counters::merge(&mut snapshot.counters, older.counters());
        }
        snapshot
    }

    async fn changed(&self) -> Changed {
        let mut predecessor = self.predecessor.lock().await;
        self.ask(&mut predecessor, &Request::Get).await;
        let mut changed = self.live.changed();
        if let Some(older) = predecessor.as_ref() {
            older.add_to(&mut changed.backends);
        }
        changed
    }

    /// An older proxy that does not answer has ended: what it last counted becomes ours.
    async fn ask(&self, predecessor: &mut Option<Predecessor>, request: &Request) {
        let Some(older) = predecessor else {
            return;
        };
        if let Err(error) = older.ask(request).await {
            tracing::info!(%error, "the older proxy has ended");
            self.live.inherit(&older.counters());
            *predecessor = None;
            self.live.shared.changes.send_modify(|number| *number += 1);
        }
    }

    /// Looks after an older proxy until it ended, so that its idle backends are noticed.
    pub(crate) async fn follow_predecessor(&self) {
        loop {
            let mut predecessor = self.predecessor.lock().await;
            self.ask(&mut predecessor, &Request::Get).await;
            let Some(older) = predecessor.as_mut() else {
                return;
            };
            let pause = older.pause();
            if older.has_news() {
                self.live.shared.changes.send_modify(|number| *number += 1);
            }
            drop(predecessor);
            tokio::time::sleep(pause).await;
        }
    }

    async fn stream_events(&self, mut lines: Lines) -> io::Result<()> {
        let mut changes = self.live.shared.changes.subscribe();
        loop {
            changes.mark_unchanged();
            lines.send(&Event::Changed(self.changed().await)).await?;
            tokio::time::sleep(EVENT_PAUSE).await;
            tokio::select! {
                // All are cancel-safe; the first two only wait, the third reads into its buffer.
                changed = changes.changed() => if changed.is_err() { return Ok(()) },
                () = self.retired() => return Ok(()),
                said = lines.next::<Request>() => if !matches!(said, Ok(Some(_))) { return Ok(()) },
            }
        }
    }
}
