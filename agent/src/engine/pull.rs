//! A pull under way: updates, and cancelling by dropping.

use std::future::Future;

use tokio::sync::mpsc;

use super::error::PullError;

/// Updates not read yet; the pull goes on when they are read.
const MAX_QUEUED_UPDATES: usize = 16;

/// How a pull goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PullUpdate {
    /// Something moved; when none of these comes for a while, nothing moves.
    Progress {
        /// Bytes downloaded so far.
        bytes: u64,
        /// Bytes to download as far as known; grows as layers are met.
        total: u64,
    },
    /// The image is there under its pin, for this processor, and safe on disk.
    Done,
    /// It is not.
    Failed {
        /// The kind.
        error: PullError,
        /// One sentence for a person, with the mend where there is one.
        message: String,
    },
}

/// A pull under way; dropping it cancels.
#[derive(Debug)]
pub struct Pull {
    updates: mpsc::Receiver<PullUpdate>,
    _task: AbortOnDrop,
}

impl Pull {
    /// Runs `pull` as a local task; what it returns is the last update.
    pub(crate) fn spawn<F, P>(pull: P) -> Self
    where
        P: FnOnce(mpsc::Sender<PullUpdate>) -> F,
        F: Future<Output = PullUpdate> + 'static,
    {
        let (sender, updates) = mpsc::channel(MAX_QUEUED_UPDATES);
        let running = pull(sender.clone());
        let task = tokio::task::spawn_local(async move {
            let last = running.await;
            // Nobody listens any more: nothing to tell.
            let _ = sender.send(last).await;
        });
        Self { updates, _task: AbortOnDrop(task.abort_handle()) }
    }

    /// The next update; `None` after the last. Cancel-safe.
    pub async fn next(&mut self) -> Option<PullUpdate> {
        self.updates.recv().await
    }

    /// Reads to the end and returns the last update.
    pub async fn finish(mut self) -> PullUpdate {
        let mut last = None;
        while let Some(update) = self.next().await {
            last = Some(update);
        }
        last.unwrap_or_else(|| PullUpdate::Failed {
            error: PullError::Other,
            message: "the pull ended without saying how".to_owned(),
        })
    }
}

/// Ends a task when it is dropped.
#[derive(Debug)]
pub(crate) struct AbortOnDrop(pub(crate) tokio::task::AbortHandle);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}
