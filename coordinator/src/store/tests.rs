//! The store across reopening, and its migrations.

use protocol::id::ServiceId;

use super::*;
use crate::state::records::{Happened, Intent, ServiceRecord, WhereaboutsRecord};

fn event(id: u64) -> Happened {
    Happened {
        id,
        at_ms: 5,
        environment: None,
        service: None,
        node: None,
        reason: None,
        message: format!("event {id}"),
    }
}

fn service(name: &str) -> ServiceRecord {
    ServiceRecord {
        id: ServiceId { environment: "default".parse().unwrap(), name: name.parse().unwrap() },
        count_override: Some(3),
        next_revision: 2,
        counter: 9,
        stable: Some(1),
    }
}

fn whereabouts(number: u64) -> WhereaboutsRecord {
    let addresses = vec!["hub:8883".to_owned()];
    WhereaboutsRecord { number, addresses, forgotten: Vec::new() }
}

#[tokio::test]
async fn what_was_written_is_there_after_reopening() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state.db");
    let intent = Intent { generation: 7, manifest: vec![1, 2, 3], ..Intent::default() };
    let node: protocol::id::NodeId = "00000000000000000000000000000001".parse().unwrap();
    {
        let (store, kept) = Store::open(&path).unwrap();
        assert!(kept.services.is_empty());
        let changes = vec![
            Change::Service(service("web")),
            Change::Service(service("db")),
            Change::Intent(node.clone(), Box::new(intent.clone())),
            Change::Event(event(1)),
            Change::ForgetService(service("db").id),
            Change::Whereabouts(whereabouts(1)),
            Change::Whereabouts(whereabouts(2)),
        ];
        store.write(changes).await.unwrap();
    }
    let (_store, kept) = reopen(&path);
    assert_eq!(kept.services, [service("web")]);
    assert_eq!(kept.intents, [(node, intent)]);
    assert_eq!(kept.events, [event(1)]);
    assert_eq!(kept.whereabouts, Some(whereabouts(2)));
}

#[tokio::test]
async fn events_are_bounded() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state.db");
    let newest = MAX as u64 + 2;
    {
        let (store, _) = Store::open(&path).unwrap();
        let changes = vec![Change::Event(event(1)), Change::Event(event(newest))];
        store.write(changes).await.unwrap();
    }
    assert_eq!(reopen(&path).1.events, [event(newest)]);
}

#[test]
fn a_database_of_a_newer_version_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state.db");
    drop(Store::open(&path).unwrap());
    let raw = wait_for(|| {
        Connection::open(&path).and_then(|c| {
            c.pragma_update(None, "user_version", 99)?;
            Ok(c)
        })
    });
    drop(raw);
    assert!(matches!(Store::open(&path), Err(StoreError::TooNew { found: 99, .. })));
}

#[test]
fn a_second_coordinator_on_the_same_folder_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state.db");
    let (_store, _) = Store::open(&path).unwrap();
    assert!(matches!(Store::open(&path), Err(StoreError::InUse)));
}

const MAX: usize = crate::state::MAX_EVENTS;

/// The thread of the first store closes its connection a moment after it is dropped; SQLite waits for that itself.
fn reopen(path: &Path) -> (Store, Kept) {
    wait_for(|| Store::open(path))
}

fn wait_for<T, E: std::fmt::Debug>(mut attempt: impl FnMut() -> Result<T, E>) -> T {
    for _ in 0..100 {
        if let Ok(value) = attempt() {
            return value;
        }
        thread::yield_now();
    }
    attempt().unwrap()
}
