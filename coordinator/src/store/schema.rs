//! The tables, by version; a step is never changed once released.

use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, ErrorCode};

use super::StoreError;

/// Version n is what the first n steps make (`PRAGMA user_version`).
const STEPS: [&str; 7] = ["
    CREATE TABLE nodes (
        id TEXT PRIMARY KEY, name TEXT NOT NULL UNIQUE, environment TEXT NOT NULL, record TEXT NOT NULL
    ) STRICT;
    CREATE TABLE intents (
        node TEXT PRIMARY KEY, generation INTEGER NOT NULL, intent TEXT NOT NULL, manifest BLOB NOT NULL
    ) STRICT;
    CREATE TABLE services (
        environment TEXT NOT NULL, name TEXT NOT NULL, record TEXT NOT NULL, PRIMARY KEY (environment, name)
    ) STRICT;
    CREATE TABLE releases (id TEXT PRIMARY KEY, envelope BLOB NOT NULL, release TEXT NOT NULL) STRICT;
    CREATE TABLE revisions (
        environment TEXT NOT NULL, service TEXT NOT NULL, number INTEGER NOT NULL, record TEXT NOT NULL,
        PRIMARY KEY (environment, service, number)
    ) STRICT;
    CREATE TABLE events (id INTEGER PRIMARY KEY, record TEXT NOT NULL) STRICT;
", "
    CREATE TABLE lines (service TEXT PRIMARY KEY, record TEXT NOT NULL) STRICT;
", "
    CREATE TABLE members (id TEXT PRIMARY KEY, record TEXT NOT NULL) STRICT;
    CREATE TABLE tokens (id TEXT PRIMARY KEY, record TEXT NOT NULL) STRICT;
    -- Nodes that were taken in before anybody had to be admitted.
    INSERT INTO members SELECT id, json_object('id', id, 'standing', 'admitted') FROM nodes;
", "
    CREATE TABLE operators (name TEXT PRIMARY KEY, record TEXT NOT NULL) STRICT;
    CREATE TABLE answers (
        identity TEXT NOT NULL, key TEXT NOT NULL, record TEXT NOT NULL, PRIMARY KEY (identity, key)
    ) STRICT;
", "
    CREATE TABLE secrets (
        environment TEXT NOT NULL, name TEXT NOT NULL, record TEXT NOT NULL, PRIMARY KEY (environment, name)
    ) STRICT;
", "
    -- One row.
    CREATE TABLE whereabouts (what TEXT PRIMARY KEY, record TEXT NOT NULL) STRICT;
", "
    -- One row.
    CREATE TABLE agents (what TEXT PRIMARY KEY, record TEXT NOT NULL) STRICT;
"];

/// Another process may be closing.
const BUSY_TIMEOUT: Duration = Duration::from_secs(2);

/// Opens the database for this process alone, at this version.
pub(super) fn open(path: &Path) -> Result<Connection, StoreError> {
    let mut connection = Connection::open(path)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    // One coordinator per folder: the lock is held from the first transaction to the end.
    connection.pragma_update(None, "locking_mode", "EXCLUSIVE")?;
    connection.pragma_update(None, "journal_mode", "WAL").map_err(in_use)?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    migrate(&mut connection)?;
    Ok(connection)
}

fn migrate(connection: &mut Connection) -> Result<(), StoreError> {
    let transaction = connection
        .transaction_with_behavior(rusqlite::TransactionBehavior::Exclusive)
        .map_err(in_use)?;
    let found: u32 = transaction.pragma_query_value(None, "user_version", |row| row.get(0))?;
    let known = u32::try_from(STEPS.len()).unwrap_or(u32::MAX);
    if found > known {
        return Err(StoreError::TooNew { found, known });
    }
    for step in STEPS.iter().skip(found as usize) {
        transaction.execute_batch(step)?;
    }
    transaction.pragma_update(None, "user_version", known)?;
    transaction.commit()?;
    Ok(())
}

fn in_use(error: rusqlite::Error) -> StoreError {
    match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => StoreError::InUse,
        Some(_) | None => StoreError::Sqlite(error),
    }
}
