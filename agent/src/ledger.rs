//! The ledger: what the node must not forget. Written only when it changes, durably, before anything acts on it.
//!
//! Owns the files and the lock; what stands in them, and by which rules it changes, is [`Contents`]. Must not decide
//! anything: changes come from the planner.

mod contents;
mod slots;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg};
use planner::Now;
use planner::node::{History, LedgerChange};
use protocol::acceptance::{Accepted, Seen};
use protocol::envelope::Envelope;
use protocol::id::{ReleaseId, ServiceName};
use protocol::release::Image;
use protocol::report::Evidence;

pub use contents::{Contents, Pulled};
use slots::Slots;

/// Why the ledger cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// Another agent has it.
    #[error("another agent uses {0}; two agents on one ledger would fight")]
    Taken(PathBuf),
    /// The disk refuses.
    #[error("{path}: {source}")]
    Io {
        /// The state folder.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
}

/// The node's durable state, with the lock on its folder.
#[derive(Debug)]
pub struct Ledger {
    dir: PathBuf,
    slots: Slots,
    state: Contents,
    damage: Vec<String>,
    boot_id: String,
    opened_at: Now,
    _lock: Flock<File>,
}

impl Ledger {
    /// Locks and reads the ledger in `dir`, which is made where it is missing.
    ///
    /// # Errors
    /// When another agent holds it or the disk refuses. Damage is no error: see [`Ledger::damage`].
    ///
    /// Moments of another boot than `boot_id` count as `now`: what was waited for begins anew.
    pub fn open(dir: &Path, boot_id: &str, now: Now) -> Result<Self, LedgerError> {
        let io = |source| LedgerError::Io { path: dir.to_owned(), source };
        std::fs::create_dir_all(dir).map_err(io)?;
        let lock = File::create(dir.join("lock")).map_err(io)?;
        let lock = Flock::lock(lock, FlockArg::LockExclusiveNonblock)
            .map_err(|_| LedgerError::Taken(dir.to_owned()))?;
        let (slots, payload, mut damage) = Slots::open(dir).map_err(io)?;
        let state = match payload.map(|bytes| serde_json::from_slice(&bytes)) {
            None => Contents::default(),
            Some(Ok(state)) => state,
            Some(Err(error)) => {
                damage.push(format!("written by another version: {error}"));
                Contents::default()
            }
        };
        let (boot_id, opened_at) = (boot_id.to_owned(), now);
        Ok(Self { dir: dir.to_owned(), slots, state, damage, boot_id, opened_at, _lock: lock })
    }

    /// What was found damaged when it was opened.
    #[must_use]
    pub fn damage(&self) -> &[String] {
        &self.damage
    }

    /// The newest manifest accepted.
    #[must_use]
    pub fn seen(&self) -> Option<Seen> {
        self.state.seen()
    }

    /// The envelope of that manifest.
    #[must_use]
    pub fn manifest(&self) -> Option<&Envelope> {
        self.state.manifest()
    }

    /// Envelopes of the releases that history names.
    #[must_use]
    pub fn releases(&self) -> &BTreeMap<ReleaseId, Envelope> {
        self.state.releases()
    }

    /// What is remembered of every service.
    #[must_use]
    pub fn histories(&self) -> BTreeMap<ServiceName, History> {
        self.state.histories(&self.boot_id, self.opened_at)
    }

    /// Images this node pulled.
    #[must_use]
    pub fn images_pulled(&self) -> &[Image] {
        self.state.images_pulled()
    }

    /// Remembers an accepted manifest, with its releases; see [`Contents::accept`].
    ///
    /// # Errors
    /// When the disk refuses; then nothing has changed.
    pub async fn accept(
        &mut self,
        accepted: &Accepted,
        envelope: Envelope,
        in_use: Option<&BTreeSet<ReleaseId>>,
    ) -> Result<(), LedgerError> {
        self.write(self.state.accept(accepted, envelope, in_use)).await
    }

    /// Applies what the planner decided for one service.
    ///
    /// # Errors
    /// When the disk refuses; then nothing has changed.
    pub async fn record(
        &mut self,
        service: &ServiceName,
        change: LedgerChange,
        evidence: Option<Evidence>,
    ) -> Result<(), LedgerError> {
        self.write(self.state.record(service, change, evidence, &self.boot_id)).await
    }

    /// Remembers that this node pulled an image, or removed it again.
    ///
    /// # Errors
    /// When the disk refuses; then nothing has changed.
    pub async fn set_pulled(&mut self, image: &Image, is_here: Pulled) -> Result<(), LedgerError> {
        self.write(self.state.set_pulled(image, is_here)).await
    }

    /// Off the event loop's thread: an fsync on a slow card may take seconds.
    async fn write(&mut self, next: Contents) -> Result<(), LedgerError> {
        if next == self.state {
            return Ok(());
        }
        let io = |source| LedgerError::Io { path: self.dir.clone(), source };
        let payload = serde_json::to_vec(&next).map_err(|e| io(e.into()))?;
        let slots = &mut self.slots;
        let mut taken = std::mem::replace(slots, Slots::none(&self.dir));
        let (taken, result) = tokio::task::spawn_blocking(move || {
            let result = taken.write(&payload);
            (taken, result)
        })
        .await
        .map_err(|e| LedgerError::Io {
            path: self.dir.clone(),
            source: std::io::Error::other(e),
        })?;
        self.slots = taken;
        result.map_err(|source| LedgerError::Io { path: self.dir.clone(), source })?;
        self.state = next;
        Ok(())
    }
}

#[cfg(test)]
mod tests;
