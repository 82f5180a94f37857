//! What survives: SQLite on a thread of its own. Owns tables, migrations and transactions; knows nothing of policy.
//!
//! A batch of changes is one transaction, on disk when [`Store::write`] returns (WAL, synchronous FULL).

mod rows;
mod schema;

use std::fs;
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread;

use rusqlite::Connection;
use tokio::sync::oneshot;

use crate::state::records::{Change, Kept};

/// Why the database cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// SQLite says so: full disk, damaged file, another process.
    #[error("the database cannot be used: {0}")]
    Sqlite(#[from] rusqlite::Error),
    /// A row that this version cannot read.
    #[error("a row of table {table} is damaged: {reason}; restore the database from a backup")]
    Damaged {
        /// Which table.
        table: &'static str,
        /// What is wrong.
        reason: String,
    },
    /// Written by a newer version.
    #[error("the database has version {found}, this pith knows up to {known}; use the newer pith")]
    TooNew {
        /// What it says.
        found: u32,
        /// The highest known.
        known: u32,
    },
    /// Another coordinator holds it.
    #[error("another coordinator uses this data folder")]
    InUse,
    /// The thread could not be started.
    #[error("the database's thread could not be started")]
    Thread(#[source] io::Error),
    /// A copy for a backup.
    #[error("the database cannot be copied to {path}: {source}")]
    Copy {
        /// Where.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A backup is made in memory.
    #[error(
        "the database has {0} bytes, a backup holds up to {MAX_COPY_BYTES}; copy the folder by hand while nothing serves"
    )]
    TooLarge(u64),
    /// What is kept beside the database.
    #[error("the trust root cannot be kept: {0}")]
    Folder(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The thread is gone.
    #[error("the database's thread has ended")]
    Gone,
}

/// A copy is held in memory, sealed, and sent: boards that serve have a gigabyte.
const MAX_COPY_BYTES: u64 = 256 * 1024 * 1024;

/// All of the database in one file, as of one moment.
pub type Copied = Result<Vec<u8>, StoreError>;

enum Work {
    Write { changes: Vec<Change>, done: oneshot::Sender<Result<(), StoreError>> },
    Copy { done: oneshot::Sender<Copied> },
}

/// The way to the database's thread, which ends when this is dropped.
#[derive(Debug)]
pub struct Store {
    work: mpsc::Sender<Work>,
}

impl Store {
    /// Opens the database, brings it to this version's tables and reads all of it.
    ///
    /// # Errors
    /// Where it is damaged, newer, or in use.
    pub fn open(path: &Path) -> Result<(Self, Kept), StoreError> {
        let mut connection = schema::open(path)?;
        let kept = rows::read_all(&connection)?;
        let (work, incoming) = mpsc::channel::<Work>();
        let beside = path.with_extension("copy");
        let working = move || {
            while let Ok(work) = incoming.recv() {
                // Nobody waiting is no reason not to write.
                match work {
                    Work::Write { changes, done } => {
                        let _ = done.send(write(&mut connection, &changes));
                    }
                    Work::Copy { done } => drop(done.send(copy(&connection, &beside))),
                }
            }
        };
        let thread = thread::Builder::new().name("pith-store".into());
        thread.spawn(working).map_err(StoreError::Thread)?;
        Ok((Self { work }, kept))
    }

    /// Writes the changes in one transaction.
    ///
    /// # Errors
    /// Where they could not be made durable; none of them is then.
    pub async fn write(&self, changes: Vec<Change>) -> Result<(), StoreError> {
        let (done, written) = oneshot::channel();
        self.work.send(Work::Write { changes, done }).map_err(|_| StoreError::Gone)?;
        written.await.map_err(|_| StoreError::Gone)?
    }

    /// A copy with all that was written before.
    ///
    /// # Errors
    /// Where it cannot be made, or is too large for a backup.
    pub async fn copy(&self) -> Copied {
        let (done, copied) = oneshot::channel();
        self.copy_to(done);
        copied.await.map_err(|_| StoreError::Gone)?
    }

    /// The same for a caller that must not wait. `done` is dropped where the thread has ended.
    pub fn copy_to(&self, done: oneshot::Sender<Copied>) {
        let _ = self.work.send(Work::Copy { done });
    }
}

/// By way of a file beside the database, of its owner alone, which does not stay.
fn copy(connection: &Connection, path: &Path) -> Copied {
    let failed = |source| StoreError::Copy { path: path.to_owned(), source };
    // SQLite fills a file that is empty; one of a copy that was cut off is not.
    let mut options = fs::File::options();
    let made = options.write(true).create(true).truncate(true).mode(0o600).open(path);
    drop(made.map_err(failed)?);
    let vacuumed = connection.execute("VACUUM INTO ?1", [path.to_string_lossy()]);
    let read = vacuumed.map_err(StoreError::from).and_then(|_| {
        let length = fs::metadata(path).map_err(failed)?.len();
        if length > MAX_COPY_BYTES {
            return Err(StoreError::TooLarge(length));
        }
        fs::read(path).map_err(failed)
    });
    let _ = fs::remove_file(path);
    read
}

fn write(connection: &mut Connection, changes: &[Change]) -> Result<(), StoreError> {
    let transaction = connection.transaction()?;
    for change in changes {
        rows::apply(&transaction, change)?;
    }
    transaction.commit()?;
    Ok(())
}

/// Writes and reads again without a thread, for the tests of what survives a restart.
#[cfg(test)]
pub(crate) fn write_and_read(path: &Path, changes: &[Change]) -> Result<Kept, StoreError> {
    let mut connection = schema::open(path)?;
    write(&mut connection, changes)?;
    rows::read_all(&connection)
}

#[cfg(test)]
mod tests;
