//! A file that is there whole or as it was before: written beside its place, synced, renamed, the folder synced. What root
//! writes belongs to whom the folder belongs to: root joins, and the agent's own user reads and renews what that wrote.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, fchown};
use std::path::Path;

/// Who may read a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Readers {
    /// Its owner alone.
    Owner,
    /// Everyone.
    All,
}

/// Whether a write failed for want of room, which somebody can make; everything else is the disk's own trouble.
#[must_use]
pub fn is_no_room(error: &std::io::Error) -> bool {
    matches!(error.kind(), std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded)
}

/// Replaces the file at `path`; its folder must be there.
///
/// # Errors
/// The system's. What was there before is then still there.
pub fn write(path: &Path, bytes: &[u8], readers: Readers) -> std::io::Result<()> {
    let beside = path.with_extension("new");
    let mode = match readers {
        Readers::Owner => 0o600,
        Readers::All => 0o644,
    };
    // One left by a power cut may have another mode.
    match std::fs::remove_file(&beside) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => (),
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&beside)?;
    give_to_owner_of(above(path), &file)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    std::fs::rename(&beside, path)?;
    File::open(above(path))?.sync_all()
}

/// Removes the file at `path`; none there is as well.
///
/// # Errors
/// The system's.
pub fn remove(path: &Path) -> std::io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
        Ok(()) => (),
    }
    File::open(above(path))?.sync_all()
}

/// Makes a folder that is the owner's alone, with those above it.
///
/// # Errors
/// The system's.
pub fn folder(path: &Path) -> std::io::Result<()> {
    let is_new = !path.exists();
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path)?;
    if is_new {
        give_to_owner_of(above(path), &File::open(path)?)?;
    }
    File::open(above(path))?.sync_all()
}

/// Only root gives away.
fn give_to_owner_of(folder: &Path, file: &File) -> std::io::Result<()> {
    if !nix::unistd::geteuid().is_root() {
        return Ok(());
    }
    let owner = std::fs::metadata(folder)?;
    if owner.uid() == file.metadata()?.uid() {
        return Ok(());
    }
    fchown(file, Some(owner.uid()), Some(owner.gid()))
}

/// The folder of a name without one is this one.
fn above(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        Some(_) | None => Path::new("."),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::chown;

    use super::*;

    #[test]
    fn what_root_writes_belongs_to_the_owner_of_the_folder() {
        let state_dir = tempfile::tempdir().unwrap();
        let other = if nix::unistd::geteuid().is_root() { 4711 } else { crate::testing::uid() };
        chown(state_dir.path(), Some(other), None).unwrap();
        let below = state_dir.path().join("tls");
        folder(&below).unwrap();
        write(&below.join("node.key"), b"x", Readers::Owner).unwrap();
        for path in [below.clone(), below.join("node.key")] {
            assert_eq!(std::fs::metadata(&path).unwrap().uid(), other, "{}", path.display());
        }
    }
}
