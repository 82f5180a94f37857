//! The programs of agents, by their hash, in the fleet's folder: kept from operators, read by nodes.
//!
//! What they are worth, the signed release says; here it is only seen that their name is their hash. Backups do not hold them.

use std::fs::File;
use std::io;
use std::path::PathBuf;

use protocol::id::Digest;

use crate::data_dir::{DataDir, DataDirError, write_whole};

const FOLDER: &str = "agents";

/// The folder of programs.
#[derive(Debug, Clone)]
pub struct Programs(DataDir);

impl Programs {
    /// Of a fleet.
    #[must_use]
    pub fn of(data: &DataDir) -> Self {
        Self(data.clone())
    }

    /// Where a program is, or would be.
    #[must_use]
    pub fn path(&self, digest: &Digest) -> PathBuf {
        self.0.path().join(FOLDER).join(digest.hex())
    }

    /// Its size in bytes; none where it is not here.
    #[must_use]
    pub fn size(&self, digest: &Digest) -> Option<u64> {
        std::fs::metadata(self.path(digest)).ok().map(|metadata| metadata.len())
    }

    /// Its bytes, and how many; none where it is not here.
    #[must_use]
    pub fn open(&self, digest: &Digest) -> Option<(File, u64)> {
        let file = File::open(self.path(digest)).ok()?;
        let bytes = file.metadata().ok()?.len();
        Some((file, bytes))
    }

    /// Keeps a program under its hash, which is given.
    ///
    /// # Errors
    /// Where it cannot be written.
    pub fn keep(&self, bytes: &[u8]) -> Result<Digest, DataDirError> {
        let digest = Digest::of(bytes);
        self.0.create_folder(FOLDER)?;
        let path = self.path(&digest);
        write_whole(&path, bytes).map_err(|source| DataDirError::Io { path, source })?;
        Ok(digest)
    }

    /// Removes every program but these.
    ///
    /// # Errors
    /// The system's.
    pub fn keep_only(&self, needed: &[Digest]) -> io::Result<()> {
        let needed: Vec<PathBuf> = needed.iter().map(|digest| self.path(digest)).collect();
        for entry in std::fs::read_dir(self.0.path().join(FOLDER))? {
            let path = entry?.path();
            if !needed.contains(&path) {
                std::fs::remove_file(path)?;
            }
        }
        Ok(())
    }
}
