//! The ledger across restarts.

use super::*;
use crate::testing::{self, ManifestBuilder};
use planner::node::{AfterGivingUp, Kept, Room};
use protocol::acceptance;
use protocol::id::Template;
use protocol::reason::Reason;

fn kept(version: u8) -> Kept {
    let release = ReleaseId::of_payload(&[version]);
    let template = Template::of(&release, &"default".parse().unwrap(), 0);
    Kept { release, template, attempt: 1, revision: version.into() }
}

fn begin(version: u8) -> LedgerChange {
    LedgerChange::Begin { kept: kept(version), room: Room { stop_first: false, warm: true } }
}

fn web() -> ServiceName {
    "web".parse().unwrap()
}

fn give_up(version: u8, then: AfterGivingUp) -> LedgerChange {
    let message = "HTTP 503".to_owned();
    let reason = Reason::NotReadyInTime;
    LedgerChange::GiveUp { failed: kept(version), reason, message, evidence_of: None, then }
}

async fn record(ledger: &mut Ledger, changes: Vec<LedgerChange>) {
    for change in changes {
        ledger.record(&web(), change, None).await.unwrap();
    }
}

#[tokio::test]
async fn a_moment_of_another_boot_begins_anew() {
    let dir = tempfile::tempdir().unwrap();
    let mut ledger = Ledger::open(dir.path(), "boot", Now(1)).unwrap();
    record(&mut ledger, vec![begin(1), LedgerChange::Complete(Now(7))]).await;
    drop(ledger);
    let completed_at = |boot: &str| {
        let ledger = Ledger::open(dir.path(), boot, Now(90)).unwrap();
        ledger.histories()[&web()].completed_at
    };
    assert_eq!(completed_at("boot"), Some(Now(7)));
    assert_eq!(completed_at("another"), Some(Now(90)));
}

#[tokio::test]
async fn what_was_recorded_is_there_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let mut ledger = Ledger::open(dir.path(), "boot", Now(1)).unwrap();
    let changes = vec![begin(1), LedgerChange::Complete(Now(7)), begin(2)];
    record(&mut ledger, changes).await;
    drop(ledger);
    let history =
        Ledger::open(dir.path(), "boot", Now(1)).unwrap().histories().remove(&web()).unwrap();
    assert_eq!((history.running, history.last_good), (Some(kept(2)), Some(kept(1))));
    assert!(!history.completed);
}

#[tokio::test]
async fn giving_up_goes_back_to_the_last_that_was_complete() {
    let dir = tempfile::tempdir().unwrap();
    let mut ledger = Ledger::open(dir.path(), "boot", Now(1)).unwrap();
    let begin_and_complete = vec![begin(1), LedgerChange::Complete(Now(7))];
    record(&mut ledger, begin_and_complete).await;
    record(&mut ledger, vec![begin(2), begin(3)]).await;
    record(&mut ledger, vec![give_up(3, AfterGivingUp::GoBack)]).await;
    let history = ledger.histories().remove(&web()).unwrap();
    assert_eq!(history.running, Some(kept(1)));
    assert_eq!(history.given_up.unwrap().template, kept(3).template);
}

#[tokio::test]
async fn what_could_not_be_prepared_changes_nothing_that_runs() {
    let dir = tempfile::tempdir().unwrap();
    let mut ledger = Ledger::open(dir.path(), "boot", Now(1)).unwrap();
    record(&mut ledger, vec![begin(1), LedgerChange::Complete(Now(7))]).await;
    record(&mut ledger, vec![give_up(2, AfterGivingUp::Unchanged)]).await;
    let history = ledger.histories().remove(&web()).unwrap();
    assert_eq!((history.running, history.completed), (Some(kept(1)), true));
}

#[tokio::test]
async fn a_second_agent_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let _first = Ledger::open(dir.path(), "boot", Now(1)).unwrap();
    assert!(matches!(Ledger::open(dir.path(), "boot", Now(1)), Err(LedgerError::Taken(_))));
}

#[tokio::test]
async fn a_change_that_changes_nothing_writes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let mut ledger = Ledger::open(dir.path(), "boot", Now(1)).unwrap();
    record(&mut ledger, vec![begin(1), LedgerChange::Complete(Now(7))]).await;
    let before: Vec<_> =
        ["ledger.a", "ledger.b"].map(|f| std::fs::read(dir.path().join(f)).unwrap()).into();
    record(&mut ledger, vec![LedgerChange::Complete(Now(7))]).await;
    let after: Vec<_> =
        ["ledger.a", "ledger.b"].map(|f| std::fs::read(dir.path().join(f)).unwrap()).into();
    assert_eq!(before, after);
}

/// A slot that leads to a full device: opening and truncating it works, writing does not.
fn fill(dir: &Path, slot: &str) {
    let _ = std::fs::remove_file(dir.join(slot));
    std::os::unix::fs::symlink("/dev/full", dir.join(slot)).unwrap();
}

#[tokio::test]
async fn a_full_disk_changes_nothing_and_the_next_try_is_whole() {
    let dir = tempfile::tempdir().unwrap();
    let mut ledger = Ledger::open(dir.path(), "boot", Now(1)).unwrap();
    record(&mut ledger, vec![begin(1)]).await;
    fill(dir.path(), "ledger.b");
    for _ in 0..2 {
        let error = ledger.record(&web(), LedgerChange::Complete(Now(7)), None).await.unwrap_err();
        assert!(error.to_string().contains("No space left"), "{error}");
        assert!(!ledger.histories()[&web()].completed);
    }
    assert!(Slots::open(dir.path()).unwrap().1.is_some(), "the other slot is untouched");
    std::fs::remove_file(dir.path().join("ledger.b")).unwrap();
    record(&mut ledger, vec![LedgerChange::Complete(Now(7))]).await;
    drop(ledger);
    assert!(Ledger::open(dir.path(), "boot", Now(1)).unwrap().histories()[&web()].completed);
}

#[tokio::test]
async fn a_ledger_of_another_version_is_damage_and_not_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let (mut slots, ..) = Slots::open(dir.path()).unwrap();
    slots.write(b"{\"from\": \"the future\"}").unwrap();
    let ledger = Ledger::open(dir.path(), "boot", Now(1)).unwrap();
    assert_eq!((ledger.damage().len(), ledger.seen()), (1, None));
}

fn accepted(generation: u64, tag: &str) -> (Accepted, Envelope, ReleaseId) {
    let bytes = ManifestBuilder::new(generation).service("web", tag).bytes();
    let envelope = Envelope::from_bytes(&bytes).unwrap();
    let accepted = acceptance::reread(&bytes, &testing::root(), &testing::identity()).unwrap();
    let release = accepted.manifest.services[0].release.clone();
    (accepted, envelope, release)
}

#[test]
fn the_release_of_an_instance_that_still_stands_is_not_forgotten_with_its_manifest() {
    let contents = Contents::default();
    let (first, envelope, old) = accepted(1, "v1");
    let contents = contents.accept(&first, envelope, Some(&BTreeSet::new()));
    let (second, envelope, new) = accepted(2, "v2");
    let with = |in_use: Option<&BTreeSet<ReleaseId>>| {
        let next = contents.accept(&second, envelope.clone(), in_use);
        next.releases().keys().cloned().collect::<BTreeSet<_>>()
    };
    let both = BTreeSet::from([old.clone(), new.clone()]);
    assert_eq!(with(Some(&BTreeSet::from([old]))), both, "it serves until it is drained");
    assert_eq!(with(None), both, "nobody has looked yet");
    assert_eq!(with(Some(&BTreeSet::new())), BTreeSet::from([new]));
}
