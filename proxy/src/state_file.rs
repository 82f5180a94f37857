//! The copy of the last table on tmpfs, from which a proxy that restarts alone serves at once.

use crate::table::Table;
use std::io;
use std::path::Path;

/// Replaces the copy. No fsync: after a reboot the agent sets the table anew.
///
/// # Errors
/// The file system's own.
pub(crate) fn write(path: &Path, table: &Table) -> io::Result<()> {
    let temporary = path.with_extension("new");
    std::fs::write(&temporary, serde_json::to_vec(table)?)?;
    std::fs::rename(&temporary, path)
}

/// The copy, if there is a readable one.
pub(crate) fn read(path: &Path) -> Option<Table> {
    let bytes = std::fs::read(path).ok()?;
    match serde_json::from_slice(&bytes) {
        Ok(table) => Some(table),
        Err(error) => {
            tracing::warn!(%error, "the copy of the table is not readable, starting empty");
            None
        }
    }
}
