//! Backups: all that a coordinator needs to come back, in one file that each root key of the fleet opens alone. Owns when one
//! is made, where it is kept and which are removed; `archive` says what is in it, `sealing` how it is hidden, `restore` how it
//! comes back.
//!
//! ```text
//! state.db --VACUUM INTO--> archive <-- trust roots, director's key, CA, registries, the end of the audit log
//!                              '--> sealed to the root keys --> FILE, or DIR/backups/{nightly,backup}-FLEET-TIME.pith
//! ```
//! Root, release and agent-release keys are never in it: whoever opens a backup of a coordinator signs no release with it.

pub mod archive;
pub mod nightly;
pub mod restore;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use protocol::id::{FleetId, KeyId};
use protocol::keys::RoleName;
use serde::{Deserialize, Serialize};

use crate::data_dir::{DataDir, DataDirError, write_whole};
use crate::event_loop::{Fleet, Stopped};
use crate::render::clock;
use crate::sealing::{self, About, SealError};
use crate::store::{Store, StoreError};

/// As many nightly ones are kept.
pub const KEPT: usize = 7;
const ENDING: &str = ".pith";

/// Why there is no backup.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// The fleet's folder.
    #[error(transparent)]
    Data(#[from] DataDirError),
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The coordinator ends.
    #[error(transparent)]
    Stopped(#[from] Stopped),
    /// It cannot be sealed.
    #[error("the backup cannot be sealed: {0}")]
    Seal(#[from] SealError),
    /// It cannot be written.
    #[error(
        "{path}: {source}; set [backup] folder in coordinator.toml to a folder that pith may write"
    )]
    Folder {
        /// Which file or folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The thread that makes it died.
    #[error("the backup was not finished")]
    Unfinished,
}

/// Who can copy the database: it is one process's alone.
#[derive(Debug, Clone, Copy)]
pub enum Database<'a> {
    /// The coordinator that runs.
    Running(&'a Fleet),
    /// Whoever holds the database while none does.
    Stopped(&'a Store),
}

/// Who asked; also how the file's name begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asked {
    /// Nobody: only these are removed when there are newer ones.
    Nightly,
    /// A person.
    ByHand,
}

impl Asked {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Nightly => "nightly",
            Self::ByHand => "backup",
        }
    }
}

/// A backup, not written anywhere yet.
#[derive(Debug)]
pub struct Backup {
    /// The sealed file.
    pub bytes: Vec<u8>,
    /// What it says of itself.
    pub about: About,
    /// The keys that open it.
    pub opens_with: Vec<KeyId>,
}

/// A backup as it is shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackupShown {
    /// Where it is.
    pub file: PathBuf,
    /// Its size.
    pub bytes: u64,
    /// What it says of itself.
    #[serde(flatten)]
    pub about: About,
    /// The root keys that open it, each alone.
    pub opens_with: Vec<KeyId>,
}

impl Backup {
    /// As it is shown once it is in `file`.
    #[must_use]
    pub fn shown(&self, file: PathBuf) -> BackupShown {
        let Self { bytes, about, opens_with } = self;
        let (about, opens_with) = (about.clone(), opens_with.clone());
        BackupShown { file, bytes: bytes.len() as u64, about, opens_with }
    }
}

/// Makes one of the fleet in `data`. The database is copied first: roots and keys are then as new as what it names, or newer.
///
/// # Errors
/// Where something that belongs in it cannot be read.
pub async fn make(
    data: &DataDir,
    database: Database<'_>,
    now_ms: u64,
) -> Result<Backup, BackupError> {
    let copy = match database {
        Database::Running(fleet) => fleet.copy_database().await??,
        Database::Stopped(store) => store.copy().await?,
    };
    let data = data.clone();
    let made = tokio::task::spawn_blocking(move || seal(&data, copy, now_ms)).await;
    made.map_err(|_| BackupError::Unfinished)?
}

fn seal(data: &DataDir, database: Vec<u8>, now_ms: u64) -> Result<Backup, BackupError> {
    let fleet = data.open()?;
    let entries = archive::gather(data, &fleet.root, database)?;
    let (id, root_version, epoch) = (fleet.id, fleet.root.version, fleet.root.epoch);
    let about = About { fleet: id, made_ms: now_ms, root_version, epoch };
    let keys = fleet.root.roles.get(&RoleName::Root).map(protocol::keys::Role::distinct);
    let keys = keys.unwrap_or_default();
    let bytes = sealing::seal(about.clone(), &keys, archive::pack(&entries))?;
    Ok(Backup { bytes, about, opens_with: keys.iter().map(|key| key.id()).collect() })
}

/// Puts a backup into the folder of backups; of the nightly ones of its fleet, the newest [`KEPT`] stay.
///
/// # Errors
/// Where the folder cannot be written.
pub async fn keep(
    data: &DataDir,
    backup: Backup,
    asked: Asked,
) -> Result<BackupShown, BackupError> {
    let folder = data.backups();
    let kept = tokio::task::spawn_blocking(move || {
        let failed = |source| BackupError::Folder { path: folder.clone(), source };
        create(&folder).map_err(failed)?;
        let About { fleet, made_ms, .. } = &backup.about;
        let file = folder.join(name(asked, fleet, *made_ms));
        write_whole(&file, &backup.bytes)
            .map_err(|source| BackupError::Folder { path: file.clone(), source })?;
        if asked == Asked::Nightly {
            for old in nightlies(&folder, fleet).iter().rev().skip(KEPT) {
                // What cannot be removed now is tried again tomorrow; the new one is there.
                let _ = fs::remove_file(old);
            }
        }
        Ok(backup.shown(std::path::absolute(&file).unwrap_or(file)))
    });
    kept.await.map_err(|_| BackupError::Unfinished)?
}

fn create(folder: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)
}

/// `nightly-73ef141b-20261125T020000Z.pith`: by name is by time.
fn name(asked: Asked, fleet: &FleetId, made_ms: u64) -> String {
    let time = clock(made_ms).replace(['-', ':'], "");
    format!("{}-{}-{time}{ENDING}", asked.as_str(), fleet.short())
}

/// The nightly ones of a fleet, oldest first. What is called otherwise is somebody else's.
fn nightlies(folder: &Path, fleet: &FleetId) -> Vec<PathBuf> {
    let begins = format!("{}-{}-", Asked::Nightly.as_str(), fleet.short());
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let is_one = |entry: &fs::DirEntry| {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        name.starts_with(&begins) && name.ends_with(ENDING)
    };
    let mut found: Vec<PathBuf> =
        entries.flatten().filter(is_one).map(|entry| entry.path()).collect();
    found.sort();
    found
}

#[cfg(test)]
mod tests;
