//! A coordinator comes back from a backup, into an empty folder. Everything is checked before anything is written, and what was
//! written is removed again where the folder does not make a fleet after all.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use protocol::envelope::Envelope;
use protocol::id::{FleetId, KeyId};
use protocol::keys::{RoleName, Root, SecretKey};
use protocol::succession;
use serde::Serialize;

use super::archive::{self, ArchiveError, DATABASE, Entry, FLEET, ROOT};
use crate::ca::{Ca, CaError};
use crate::data_dir::{DataDir, DataDirError, check_socket_path};
use crate::sealing::{About, OpenError, Sealed};
use crate::store::{Store, StoreError};

/// Why nothing was restored.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// Something would be lost or mixed.
    #[error(
        "{0} is not empty; restore into another folder (--data DIR), or move what is there away"
    )]
    NotEmpty(PathBuf),
    /// The system refused.
    #[error("{path}: {source}")]
    Io {
        /// Which file or folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It does not open.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// Not the fleet that was asked for.
    #[error("it is a backup of fleet {found}, not of {expected}; take a backup of that fleet")]
    ForeignFleet {
        /// Whose it is.
        found: FleetId,
        /// Whose was asked for.
        expected: FleetId,
    },
    /// Its files are not those of the fleet that it names.
    #[error(
        "it says that it is of fleet {said}, and {file} in it is of fleet {found}: somebody put it together; take another backup"
    )]
    Mixed {
        /// What is written outside.
        said: FleetId,
        /// Which file.
        file: &'static str,
        /// Whose it is.
        found: FleetId,
    },
    /// Its trust root knows nothing of the key that opens it.
    #[error(
        "its trust root does not name key {0} as a root key: somebody else made it; take another backup"
    )]
    NotItsRoot(KeyId),
    /// Not the files of a fleet.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    /// A file that has to be in it.
    #[error("it lacks {0}; take another backup")]
    Lacks(&'static str),
    /// A trust root that does not verify.
    #[error("the trust root in it is not good: {0}; take another backup")]
    Root(protocol::envelope::Rejected),
    /// The folder that it makes.
    #[error(transparent)]
    Data(#[from] DataDirError),
    /// The CA in it.
    #[error(transparent)]
    Ca(#[from] CaError),
    /// The database in it.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What came back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Restored {
    /// Where.
    pub data: PathBuf,
    /// What the backup said of itself.
    #[serde(flatten)]
    pub about: About,
    /// Nodes it knows.
    pub nodes: usize,
    /// Services, over all environments.
    pub services: usize,
}

/// Refuses a folder that holds anything, before a person is asked for a passphrase.
///
/// # Errors
/// [`RestoreError::NotEmpty`], and where it cannot be looked at or could not serve.
pub fn check_target(target: &DataDir) -> Result<(), RestoreError> {
    check_socket_path(&target.socket())?;
    let path = target.path();
    match fs::read_dir(path) {
        Ok(mut entries) => match entries.next() {
            Some(_) => Err(RestoreError::NotEmpty(path.to_owned())),
            None => Ok(()),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(source) => Err(RestoreError::Io { path: path.to_owned(), source }),
    }
}

/// Restores `sealed` with one root key; `expected` is the fleet, where the caller knows it.
///
/// # Errors
/// Whatever is wrong with the backup, the key or the folder; the folder is then as empty as before.
pub fn restore(
    sealed: &Sealed<'_>,
    key: &SecretKey,
    expected: Option<&FleetId>,
    target: &DataDir,
) -> Result<Restored, RestoreError> {
    check_target(target)?;
    let about = sealed.about();
    if let Some(expected) = expected.filter(|expected| **expected != about.fleet) {
        let (found, expected) = (about.fleet.clone(), expected.clone());
        return Err(RestoreError::ForeignFleet { found, expected });
    }
    let entries = archive::unpack(&sealed.open(key)?)?;
    check_fleet(&entries, about, key)?;
    let written = Written::new(target, &entries)?;
    let fleet = target.open()?;
    if target.keys_of(RoleName::Director, &fleet.root)?.is_empty() {
        // Says which keys would serve.
        target.director_key(&fleet.root)?;
    }
    let _ = Ca::open(target, &fleet.id)?;
    // Closed again when this returns: `pith serve` waits for that moment by itself.
    let (_store, kept) = Store::open(&target.database())?;
    written.stay();
    let data = std::path::absolute(target.path()).unwrap_or_else(|_| target.path().to_owned());
    let (nodes, services) = (kept.nodes.len(), kept.services.len());
    Ok(Restored { data, about: about.clone(), nodes, services })
}

/// That all of it is of one fleet, and of the fleet whose root key this is.
fn check_fleet(entries: &[Entry], about: &About, key: &SecretKey) -> Result<(), RestoreError> {
    let get = |name: &'static str| {
        let entry = entries.iter().find(|entry| entry.name == name);
        entry.map(|entry| entry.bytes.as_slice()).ok_or(RestoreError::Lacks(name))
    };
    let _ = get(DATABASE)?;
    let envelope = Envelope::from_bytes(get(ROOT)?).map_err(RestoreError::Root)?;
    let root: Root = succession::first(&envelope).map_err(RestoreError::Root)?.into_inner();
    let of_file = DataDir::fleet_in(get(FLEET)?)?;
    for (file, found) in [(FLEET, of_file), (ROOT, root.fleet.clone())] {
        if found != about.fleet {
            return Err(RestoreError::Mixed { said: about.fleet.clone(), file, found });
        }
    }
    let public = key.public();
    let is_root_key = root.roles.get(&RoleName::Root).is_some_and(|r| r.keys.contains(&public));
    if is_root_key { Ok(()) } else { Err(RestoreError::NotItsRoot(public.id())) }
}

/// What was written, removed again unless it is to stay.
struct Written<'a> {
    target: &'a DataDir,
    stays: bool,
}

impl<'a> Written<'a> {
    fn new(target: &'a DataDir, entries: &[Entry]) -> Result<Self, DataDirError> {
        let written = Self { target, stays: false };
        for folder in ["", "keys", "tls"] {
            target.create_folder(folder)?;
        }
        // `fleet.json` last: with it the folder counts as a fleet.
        let is_last = |entry: &&Entry| entry.name == FLEET;
        let (last, first): (Vec<&Entry>, Vec<&Entry>) = entries.iter().partition(is_last);
        for entry in first.into_iter().chain(last) {
            target.write(&entry.name, &entry.bytes)?;
        }
        Ok(written)
    }

    fn stay(mut self) {
        self.stays = true;
    }
}

impl Drop for Written<'_> {
    fn drop(&mut self) {
        if self.stays {
            return;
        }
        // It was empty: all that is there is ours.
        for entry in fs::read_dir(self.target.path()).into_iter().flatten().flatten() {
            remove(&entry.path());
        }
    }
}

fn remove(path: &Path) {
    let _ = if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
}
