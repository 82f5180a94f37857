//! A file that is there whole or as it was before: written beside its place, synced, renamed, the folder synced.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;

/// Who may read a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Readers {
    /// Its owner alone.
    Owner,
    /// Everyone.
    All,
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
    file.write_all(bytes)?;
    file.sync_all()?;
    std::fs::rename(&beside, path)?;
    sync_folder(path.parent().unwrap_or(Path::new(".")))
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
    sync_folder(path.parent().unwrap_or(Path::new(".")))
}

/// Makes a folder that is the owner's alone, with those above it.
///
/// # Errors
/// The system's.
pub fn folder(path: &Path) -> std::io::Result<()> {
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path)?;
    sync_folder(path.parent().unwrap_or(Path::new(".")))
}

fn sync_folder(path: &Path) -> std::io::Result<()> {
    // The folder of a name without one.
    let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
    File::open(path)?.sync_all()
}
