//! The audit log, `DIR/audit.jsonl` and the full files before it: what was asked of the fleet, by whom, before it is done. Writes; never decides.
//!
//! ```text
//! request -> asked, on disk -> effect -> done | failed, with the number of what was asked
//! no right, no role -> refused
//! ```
//! One JSON document per line, each with the hash of the one before (docs/decisions/0015). A thread of its own owns the file;
//! [`Audit::write`] returns when the entry is on disk. What cannot be written is not done.

mod chain;
mod file;
mod files;
mod walk;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread;

use protocol::id::FleetId;
use tokio::sync::oneshot;

pub use chain::{Broken, Draft, Entry, Event, Head, Verified};
pub use file::Written;
use file::{Log, MAX_AT_ONCE, MAX_FILE_BYTES};
pub use files::is_full;
pub use walk::{for_backup, read_newest, verify};

/// The file's name in the fleet's folder.
pub const FILE: &str = "audit.jsonl";

/// Why an entry is not in the log.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the audit log {path} cannot be written, so nothing is done: {reason}")]
pub struct AuditError {
    path: PathBuf,
    reason: String,
}

/// Entries that are written together.
type Waiting = (Draft, oneshot::Sender<Result<Head, AuditError>>);

/// The way to the log; clones write to the same one.
#[derive(Debug, Clone)]
pub struct Audit {
    drafts: mpsc::Sender<Waiting>,
    path: PathBuf,
    written: Arc<Mutex<Option<Written>>>,
}

impl Audit {
    /// Opens the log of a fleet. One that is damaged at its end is left as it is, and refuses every entry with the reason:
    /// what only looks goes on.
    ///
    /// # Errors
    /// Where the thread cannot be started.
    pub fn open(path: &Path, fleet: &FleetId) -> std::io::Result<Self> {
        let (drafts, waiting) = mpsc::channel();
        let (mut log, owned) = (Log::open(path, fleet, MAX_FILE_BYTES), path.to_owned());
        let written = Arc::new(Mutex::new(log.as_ref().ok().map(Log::written)));
        let shared = Arc::clone(&written);
        if let Err(reason) = &log {
            tracing::error!(path = %path.display(), %reason, "the audit log cannot be written: changes are refused");
        }
        thread::Builder::new()
            .name("pith-audit".into())
            .spawn(move || write_all(&waiting, &mut log, &owned, &shared))?;
        Ok(Self { drafts, path: path.to_owned(), written })
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What has been written so far, so that an end that is missing is seen; none for a damaged log.
    #[must_use]
    pub fn written(&self) -> Option<Written> {
        self.written.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Writes an entry; the head of the log, which is this entry, once it is on disk.
    ///
    /// # Errors
    /// Where it could not be made durable.
    pub async fn write(&self, draft: Draft) -> Result<Head, AuditError> {
        let (done, written) = oneshot::channel();
        let gone = || AuditError { path: self.path.clone(), reason: "its thread has ended".into() };
        self.drafts.send((draft, done)).map_err(|_| gone())?;
        written.await.map_err(|_| gone())?
    }
}

/// Takes what waits at once: one fsync serves all of it.
fn write_all(
    waiting: &mpsc::Receiver<Waiting>,
    log: &mut Result<Log, String>,
    path: &Path,
    written: &Mutex<Option<Written>>,
) {
    while let Ok(first) = waiting.recv() {
        let more = waiting.try_iter().take(MAX_AT_ONCE - 1);
        let (drafts, done): (Vec<_>, Vec<_>) = std::iter::once(first).chain(more).unzip();
        let heads = match log {
            Ok(log) => log.append(drafts).map_err(|error| error.to_string()),
            Err(reason) => Err(reason.clone()),
        };
        if let Ok(log) = log {
            *written.lock().unwrap_or_else(PoisonError::into_inner) = Some(log.written());
        }
        let mut heads = heads.map(Vec::into_iter);
        for done in done {
            let answer = match &mut heads {
                Ok(heads) => heads.next().ok_or_else(|| "it was not reached".to_owned()),
                Err(reason) => Err(reason.clone()),
            };
            // Nobody waiting is no reason not to have written.
            let _ =
                done.send(answer.map_err(|reason| AuditError { path: path.to_owned(), reason }));
        }
    }
}

#[cfg(test)]
mod tests;
