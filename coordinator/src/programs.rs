//! The programs of agents, by their hash, in the fleet's folder: kept from operators, read by nodes.
//!
//! What they are worth, the signed release says; here it is only seen that their name is their hash. Backups do not hold them.

use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use protocol::id::Digest;

use crate::data_dir::{DataDir, DataDirError, write_whole};

const FOLDER: &str = "agents";
/// Between an upload and its release.
const SPARED: Duration = Duration::from_secs(60 * 60);

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

    /// Removes every program but these, and those that came within the last hour: somebody else may be about to release them.
    ///
    /// # Errors
    /// The system's.
    pub fn keep_only(&self, needed: &[Digest]) -> io::Result<()> {
        let needed: Vec<PathBuf> = needed.iter().map(|digest| self.path(digest)).collect();
        for entry in std::fs::read_dir(self.0.path().join(FOLDER))? {
            let entry = entry?;
            let path = entry.path();
            let age = entry.metadata()?.modified()?.elapsed().unwrap_or_default();
            if !needed.contains(&path) && age >= SPARED {
                std::fs::remove_file(path)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_that_no_release_names_go_once_they_are_old() {
        let dir = tempfile::tempdir().unwrap();
        let programs = Programs::of(&DataDir::at(dir.path()));
        let [named, fresh, old] = [b"named", b"fresh", b"older"].map(|b| programs.keep(b).unwrap());
        for program in [&named, &old] {
            let file = File::options().write(true).open(programs.path(program)).unwrap();
            file.set_modified(std::time::SystemTime::now() - 2 * SPARED).unwrap();
        }
        programs.keep_only(std::slice::from_ref(&named)).unwrap();
        let left = [&named, &fresh, &old].map(|program| programs.size(program));
        assert_eq!(left, [Some(5), Some(5), None]);
    }
}
