//! The ledger: what the node must not forget. Written only when it changes, durably, before anything acts on it.
//!
//! Owns the files and the lock; what stands in them, and by which rules it changes, is [`Contents`]. Must not decide
//! anything: changes come from the planner.

mod contents;
mod slots;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nix::fcntl::{Flock, FlockArg};
use planner::Now;

use crate::durable;

pub use contents::{Contents, Hold, KeptAs, KeptHere, Pulled};
use slots::{Slots, Whole};

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

impl LedgerError {
    /// Whether it could be written once something is removed from the disk.
    #[must_use]
    pub fn is_no_room(&self) -> bool {
        match self {
            Self::Taken(_) => false,
            Self::Io { source, .. } => durable::is_no_room(source),
        }
    }
}

/// What the bytes of two slots come to.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Found {
    /// Those of the newest slot that can be read; nothing where none can.
    pub contents: Contents,
    /// What is wrong with the slots that cannot.
    pub damage: Vec<String>,
}

impl Found {
    /// Reads the bytes of two slot files, whatever they are; none: there is no such file. Pure.
    #[must_use]
    pub fn in_slots(files: [Option<&[u8]>; 2]) -> Self {
        find(files).1
    }
}

/// With the slot that counts. One that is whole and cannot be understood is damaged too: to remember nothing would be to
/// forget what was seen, the floors and the trust root, and the other slot still knows them.
fn find(files: [Option<&[u8]>; 2]) -> (Option<Whole>, Found) {
    let (mut whole, mut damage) = slots::whole(files);
    for index in 0..whole.len() {
        match serde_json::from_slice(&whole[index].payload) {
            Ok(contents) => return (Some(whole.remove(index)), Found { contents, damage }),
            Err(error) => damage.push(format!("written by another version: {error}")),
        }
    }
    // The next write counts on from the newest, understood or not.
    (whole.into_iter().next(), Found { contents: Contents::default(), damage })
}

/// What is durable in `dir`, read beside whoever has it: the newest slot is never the one that is being written.
///
/// # Errors
/// The system's. A folder without a ledger is none.
pub fn look(dir: &Path) -> std::io::Result<Contents> {
    let files = slots::read(dir)?;
    Ok(Found::in_slots([files[0].as_deref(), files[1].as_deref()]).contents)
}

/// The node's durable state, with the lock on its folder.
#[derive(Debug)]
pub struct Ledger {
    dir: PathBuf,
    slots: Slots,
    state: Arc<Contents>,
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
        let files = slots::read(dir).map_err(io)?;
        let (newest, Found { contents, damage }) = find([files[0].as_deref(), files[1].as_deref()]);
        let slots = Slots::of(dir, newest.as_ref());
        let damage = damage.into_iter().map(|what| format!("{}: {what}", dir.display())).collect();
        let (boot_id, opened_at) = (boot_id.to_owned(), now);
        let state = Arc::new(contents);
        Ok(Self { dir: dir.to_owned(), slots, state, damage, boot_id, opened_at, _lock: lock })
    }

    /// What was found damaged when it was opened.
    #[must_use]
    pub fn damage(&self) -> &[String] {
        &self.damage
    }

    /// What is durable.
    #[must_use]
    pub fn contents(&self) -> Arc<Contents> {
        Arc::clone(&self.state)
    }

    /// The boot that it was opened under.
    #[must_use]
    pub fn boot_id(&self) -> &str {
        &self.boot_id
    }

    /// When it was opened.
    #[must_use]
    pub const fn opened_at(&self) -> Now {
        self.opened_at
    }

    /// Makes these contents durable, off the event loop's thread: an fsync on a slow card may take seconds.
    ///
    /// # Errors
    /// When the disk refuses; then nothing has changed.
    pub async fn write(&mut self, next: &Arc<Contents>) -> Result<(), LedgerError> {
        if *next == self.state {
            return Ok(());
        }
        let io = |source| LedgerError::Io { path: self.dir.clone(), source };
        let payload = serde_json::to_vec(&**next).map_err(|e| io(e.into()))?;
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
        self.state = Arc::clone(next);
        Ok(())
    }
}

#[cfg(test)]
mod tests;
