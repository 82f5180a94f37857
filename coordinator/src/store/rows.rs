//! Records to rows and back.

use protocol::envelope::Envelope;
use protocol::id::{NodeId, ReleaseId, ServiceId};
use rusqlite::{Connection, Row, Transaction, params};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::StoreError;
use crate::state::MAX_EVENTS;
use crate::state::records::{Change, Intent, Kept, Revision, StoredRelease};

/// Writes one change.
pub(super) fn apply(transaction: &Transaction<'_>, change: &Change) -> Result<(), StoreError> {
    let run = |sql: &str, values: &[&dyn rusqlite::ToSql]| {
        transaction.prepare_cached(sql).and_then(|mut statement| statement.execute(values))
    };
    match change {
        Change::Node(node) => run(
            "INSERT OR REPLACE INTO nodes VALUES (?1, ?2, ?3, ?4)",
            params![node.id.as_str(), node.name.as_str(), node.environment.as_str(), text(node)],
        ),
        Change::Intent(node, intent) => run(
            "INSERT OR REPLACE INTO intents VALUES (?1, ?2, ?3, ?4)",
            params![node.as_str(), number(intent.generation), text(intent), intent.manifest],
        ),
        Change::Service(service) => run(
            "INSERT OR REPLACE INTO services VALUES (?1, ?2, ?3)",
            params![service.id.environment.as_str(), service.id.name.as_str(), text(service)],
        ),
        Change::Revision(id, revision) => run(
            "INSERT OR REPLACE INTO revisions VALUES (?1, ?2, ?3, ?4)",
            params![
                id.environment.as_str(),
                id.name.as_str(),
                number(revision.number),
                text(revision)
            ],
        ),
        Change::ForgetRevision(id, revision) => run(
            "DELETE FROM revisions WHERE environment = ?1 AND service = ?2 AND number = ?3",
            params![id.environment.as_str(), id.name.as_str(), number(*revision)],
        ),
        Change::ForgetService(id) => {
            let key = params![id.environment.as_str(), id.name.as_str()];
            run("DELETE FROM revisions WHERE environment = ?1 AND service = ?2", key)?;
            run("DELETE FROM services WHERE environment = ?1 AND name = ?2", key)
        }
        Change::Release(id, release) => run(
            "INSERT OR REPLACE INTO releases VALUES (?1, ?2, ?3)",
            params![id.as_str(), release.envelope.to_bytes(), text(&release.release)],
        ),
        Change::ForgetReleases(ids) => {
            for id in ids {
                run("DELETE FROM releases WHERE id = ?1", params![id.as_str()])?;
            }
            Ok(0)
        }
        Change::Event(event) => {
            let oldest = event.id.saturating_sub(MAX_EVENTS as u64);
            run("DELETE FROM events WHERE id <= ?1", params![number(oldest)])?;
            run(
                "INSERT OR REPLACE INTO events VALUES (?1, ?2)",
                params![number(event.id), text(event)],
            )
        }
    }?;
    Ok(())
}

/// Reads everything.
pub(super) fn read_all(connection: &Connection) -> Result<Kept, StoreError> {
    Ok(Kept {
        nodes: read(connection, "nodes", "SELECT record FROM nodes", |row| json(row, 0))?,
        intents: read(
            connection,
            "intents",
            "SELECT intent, manifest, node FROM intents",
            |row| {
                let intent: Intent = json(row, 0)?;
                let node: NodeId = parsed(row, 2)?;
                Ok((node, Intent { manifest: row.get(1).map_err(reason)?, ..intent }))
            },
        )?,
        services: read(connection, "services", "SELECT record FROM services", |row| json(row, 0))?,
        revisions: read(
            connection,
            "revisions",
            "SELECT record, environment, service FROM revisions ORDER BY number",
            |row| {
                let id = ServiceId { environment: parsed(row, 1)?, name: parsed(row, 2)? };
                let revision: Revision = json(row, 0)?;
                Ok((id, revision))
            },
        )?,
        releases: read(
            connection,
            "releases",
            "SELECT id, envelope, release FROM releases",
            release,
        )?,
        events: read(connection, "events", "SELECT record FROM events ORDER BY id", |row| {
            json(row, 0)
        })?,
    })
}

/// The envelope was verified when it was accepted; the boards verify it again.
fn release(row: &Row<'_>) -> Result<(ReleaseId, StoredRelease), String> {
    let bytes: Vec<u8> = row.get(1).map_err(reason)?;
    let envelope = Envelope::from_bytes(&bytes).map_err(reason)?;
    Ok((parsed(row, 0)?, StoredRelease { envelope, release: json(row, 2)? }))
}

fn read<T>(
    connection: &Connection,
    table: &'static str,
    sql: &str,
    make: impl Fn(&Row<'_>) -> Result<T, String>,
) -> Result<Vec<T>, StoreError> {
    let mut statement = connection.prepare(sql)?;
    let mut rows = statement.query([])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        found.push(make(row).map_err(|reason| StoreError::Damaged { table, reason })?);
    }
    Ok(found)
}

fn json<T: DeserializeOwned>(row: &Row<'_>, column: usize) -> Result<T, String> {
    let text: String = row.get(column).map_err(reason)?;
    serde_json::from_str(&text).map_err(reason)
}

fn parsed<T: std::str::FromStr<Err: std::fmt::Display>>(
    row: &Row<'_>,
    column: usize,
) -> Result<T, String> {
    let text: String = row.get(column).map_err(reason)?;
    text.parse().map_err(reason)
}

fn reason(error: impl std::fmt::Display) -> String {
    error.to_string()
}

fn text(record: &impl Serialize) -> String {
    serde_json::to_string(record).expect("records are plain data with string keys")
}

/// SQLite's integers are signed.
fn number(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}
