//! Which files the log is: the one that is written, and those that are full, each named by the number of its first entry.
//!
//! ```text
//! audit-000000000001.jsonl  audit-000000031207.jsonl  audit.jsonl     one chain; the oldest goes when there are too many
//! ```

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

/// Files that are kept, the one that is written included.
pub(super) const MAX_FILES: usize = 8;
const BEGINS: &str = "audit-";
const ENDS: &str = ".jsonl";
/// Of the number in a name: by name is by age.
const DIGITS: usize = 12;

/// A file that is full.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Full {
    /// The number of its first entry.
    pub(super) first: u64,
    pub(super) path: PathBuf,
}

impl Full {
    /// Beside the file that is written.
    pub(super) fn beside(path: &Path, first: u64) -> Self {
        Self { first, path: path.with_file_name(format!("{BEGINS}{first:0DIGITS$}{ENDS}")) }
    }
}

/// Whether a file of this name is a full one.
#[must_use]
pub fn is_full(name: &str) -> bool {
    number(name).is_some()
}

fn number(name: &str) -> Option<u64> {
    let number = name.strip_prefix(BEGINS)?.strip_suffix(ENDS)?;
    let is_plain = number.len() == DIGITS && number.bytes().all(|byte| byte.is_ascii_digit());
    number.parse().ok().filter(|_| is_plain)
}

/// The full ones beside the file that is written, oldest first.
///
/// # Errors
/// Where the folder cannot be read; one that is not there holds none.
pub(super) fn full(path: &Path) -> io::Result<Vec<Full>> {
    let entries = match fs::read_dir(folder(path)) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry?;
        if let Some(first) = entry.file_name().to_str().and_then(number) {
            found.push(Full { first, path: entry.path() });
        }
    }
    found.sort_by_key(|full| full.first);
    Ok(found)
}

/// Makes the names in the folder of `path` durable.
///
/// # Errors
/// Where that fails.
pub(super) fn sync(path: &Path) -> io::Result<()> {
    File::open(folder(path))?.sync_all()
}

/// Removes the oldest where there are too many. What cannot be removed now is tried with the next.
pub(super) fn forget_oldest(path: &Path) -> io::Result<()> {
    for old in full(path)?.iter().rev().skip(MAX_FILES - 1) {
        if let Err(error) = fs::remove_file(&old.path) {
            tracing::warn!(path = %old.path.display(), %error, "an old audit log stays");
        }
    }
    Ok(())
}

/// One that is not there is none.
pub(super) fn open(path: &Path) -> io::Result<Option<File>> {
    match File::open(path) {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn folder(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}
