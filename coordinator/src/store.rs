//! What survives: SQLite on a thread of its own. Owns tables, migrations and transactions; knows nothing of policy.
//!
//! A batch of changes is one transaction, on disk when [`Store::write`] returns (WAL, synchronous FULL).

mod rows;
mod schema;

use std::path::Path;
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
    Thread(#[source] std::io::Error),
    /// The thread is gone.
    #[error("the database's thread has ended")]
    Gone,
}

struct Batch {
    changes: Vec<Change>,
    done: oneshot::Sender<Result<(), StoreError>>,
}

/// The way to the database's thread, which ends when this is dropped.
#[derive(Debug)]
pub struct Store {
    batches: mpsc::Sender<Batch>,
}

impl Store {
    /// Opens the database, brings it to this version's tables and reads all of it.
    ///
    /// # Errors
    /// Where it is damaged, newer, or in use.
    pub fn open(path: &Path) -> Result<(Self, Kept), StoreError> {
        let mut connection = schema::open(path)?;
        let kept = rows::read_all(&connection)?;
        let (batches, incoming) = mpsc::channel::<Batch>();
        let work = move || {
            while let Ok(Batch { changes, done }) = incoming.recv() {
                // Nobody waiting is no reason not to write.
                let _ = done.send(write(&mut connection, &changes));
            }
        };
        thread::Builder::new().name("pith-store".into()).spawn(work).map_err(StoreError::Thread)?;
        Ok((Self { batches }, kept))
    }

    /// Writes the changes in one transaction.
    ///
    /// # Errors
    /// Where they could not be made durable; none of them is then.
    pub async fn write(&self, changes: Vec<Change>) -> Result<(), StoreError> {
        let (done, written) = oneshot::channel();
        self.batches.send(Batch { changes, done }).map_err(|_| StoreError::Gone)?;
        written.await.map_err(|_| StoreError::Gone)?
    }
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
