//! Records to rows and back.

use protocol::envelope::Envelope;
use protocol::id::{NodeId, ReleaseId, ServiceId};
use rusqlite::{Connection, Row, Transaction, params};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::StoreError;
use crate::state::MAX_EVENTS;
use crate::state::records::{Change, Happened, Intent, Kept, Revision, StoredRelease};

/// Writes one change.
pub(super) fn apply(transaction: &Transaction<'_>, change: &Change) -> Result<(), StoreError> {
    let run = |sql: &str, values: &[&dyn rusqlite::ToSql]| {
        transaction.prepare_cached(sql).and_then(|mut statement| statement.execute(values))
    };
    let put = |table: &str, keys: &[&str], record: String| put(transaction, table, keys, record);
    match change {
        Change::Node(node) => {
            let keys = [node.id.as_str(), node.name.as_str(), node.environment.as_str()];
            put("nodes", &keys, text(node))
        }
        Change::Intent(node, intent) => run(
            "INSERT OR REPLACE INTO intents VALUES (?1, ?2, ?3, ?4)",
            params![node.as_str(), number(intent.generation), text(intent), intent.manifest],
        ),
        Change::Service(service) => {
            let keys = [service.id.environment.as_str(), service.id.name.as_str()];
            put("services", &keys, text(service))
        }
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
            let sql = "DELETE FROM releases WHERE id = ?1";
            ids.iter().try_fold(0, |sum, id| Ok(sum + run(sql, params![id.as_str()])?))
        }
        Change::Member(member) => put("members", &[member.id.as_str()], text(member)),
        Change::Token(token) => put("tokens", &[token.id.as_str()], text(token)),
        Change::ForgetToken(id) => run("DELETE FROM tokens WHERE id = ?1", params![id.as_str()]),
        Change::Operator(operator) => put("operators", &[operator.name.as_str()], text(operator)),
        Change::Answer(answer) => {
            put("answers", &[&answer.of.identity, &answer.of.key], text(answer))
        }
        Change::ForgetAnswer(of) => run(
            "DELETE FROM answers WHERE identity = ?1 AND key = ?2",
            params![of.identity, of.key],
        ),
        Change::ForgetNode(id) => run("DELETE FROM intents WHERE node = ?1", params![id.as_str()])
            .and_then(|_| run("DELETE FROM nodes WHERE id = ?1", params![id.as_str()])),
        Change::Line(line) => put("lines", &[line.service.as_str()], text(line)),
        Change::Secret(secret) => {
            let keys = [secret.environment.as_str(), secret.name.as_str()];
            put("secrets", &keys, text(secret))
        }
        Change::Whereabouts(record) => put("whereabouts", &["coordinator"], text(record)),
        Change::Agents(record) => put("agents", &["agents"], text(record)),
        Change::Event(event) => put_event(transaction, event),
    }?;
    Ok(())
}

/// The newest ones stay.
fn put_event(transaction: &Transaction<'_>, event: &Happened) -> rusqlite::Result<usize> {
    let oldest = event.id.saturating_sub(MAX_EVENTS as u64);
    transaction
        .prepare_cached("DELETE FROM events WHERE id <= ?1")?
        .execute(params![number(oldest)])?;
    transaction
        .prepare_cached("INSERT OR REPLACE INTO events VALUES (?1, ?2)")?
        .execute(params![number(event.id), text(event)])
}

/// A record under its keys, which are text.
fn put(
    transaction: &Transaction<'_>,
    table: &str,
    keys: &[&str],
    record: String,
) -> rusqlite::Result<usize> {
    let mut values: Vec<&dyn rusqlite::ToSql> = keys.iter().map(|key| key as _).collect();
    values.push(&record);
    let places: Vec<String> = (1..=values.len()).map(|n| format!("?{n}")).collect();
    let sql = format!("INSERT OR REPLACE INTO {table} VALUES ({})", places.join(", "));
    transaction.prepare_cached(&sql)?.execute(&*values)
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
        lines: read(connection, "lines", "SELECT record FROM lines", |row| json(row, 0))?,
        releases: read(
            connection,
            "releases",
            "SELECT id, envelope, release FROM releases",
            release,
        )?,
        members: read(connection, "members", "SELECT record FROM members", |row| json(row, 0))?,
        tokens: read(connection, "tokens", "SELECT record FROM tokens", |row| json(row, 0))?,
        operators: read(connection, "operators", "SELECT record FROM operators", |row| {
            json(row, 0)
        })?,
        answers: read(connection, "answers", "SELECT record FROM answers", |row| json(row, 0))?,
        secrets: read(connection, "secrets", "SELECT record FROM secrets", |row| json(row, 0))?,
        whereabouts: read(connection, "whereabouts", "SELECT record FROM whereabouts", |row| {
            json(row, 0)
        })?
        .pop(),
        agents: read(connection, "agents", "SELECT record FROM agents", |row| json(row, 0))?.pop(),
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
