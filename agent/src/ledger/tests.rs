//! The ledger across restarts.

use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::testing::{self, ManifestBuilder};
use planner::node::{AfterGivingUp, History, Kept, LedgerChange, Room};
use protocol::acceptance::{self, Accepted, Seen};
use protocol::envelope::Envelope;
use protocol::id::{ReleaseId, ServiceName, Template};
use protocol::keys::{Role, RoleName, Root, SecretKey};
use protocol::reason::Reason;
use protocol::report::Evidence;

/// As the loop does it: the next contents by the rules, then the disk.
impl Ledger {
    async fn record(
        &mut self,
        service: &ServiceName,
        change: LedgerChange,
        evidence: Option<Evidence>,
    ) -> Result<(), LedgerError> {
        let next = self.state.record(service, change, evidence, &self.boot_id);
        self.write(&Arc::new(next)).await
    }

    fn histories(&self) -> BTreeMap<ServiceName, History> {
        self.state.histories(&self.boot_id, self.opened_at)
    }

    fn seen(&self) -> Option<Seen> {
        self.state.seen()
    }
}

fn kept(version: u8) -> Kept {
    let release = ReleaseId::of_payload(&[version]);
    let template = Template::of(&release, &"default".parse().unwrap(), 0);
    Kept {
        release,
        template,
        attempt: 1,
        revision: version.into(),
        secrets: std::collections::BTreeMap::new(),
    }
}

fn begin(version: u8, last_good: Option<u8>) -> LedgerChange {
    let room = Room { stop_first: false, warm: true };
    LedgerChange::Begin { kept: kept(version), room, last_good: last_good.map(kept) }
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
    record(&mut ledger, vec![begin(1, None), LedgerChange::Complete(Now(7))]).await;
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
    let changes = vec![begin(1, None), LedgerChange::Complete(Now(7)), begin(2, Some(1))];
    record(&mut ledger, changes).await;
    drop(ledger);
    let history =
        Ledger::open(dir.path(), "boot", Now(1)).unwrap().histories().remove(&web()).unwrap();
    assert_eq!((history.running, history.last_good), (Some(kept(2)), Some(kept(1))));
    assert!(!history.completed);
}

#[tokio::test]
async fn giving_up_goes_back_to_what_was_named_when_it_was_begun() {
    let dir = tempfile::tempdir().unwrap();
    let mut ledger = Ledger::open(dir.path(), "boot", Now(1)).unwrap();
    let begin_and_complete = vec![begin(1, None), LedgerChange::Complete(Now(7))];
    record(&mut ledger, begin_and_complete).await;
    record(&mut ledger, vec![begin(2, Some(1)), begin(3, Some(1))]).await;
    record(&mut ledger, vec![give_up(3, AfterGivingUp::GoBack)]).await;
    let history = ledger.histories().remove(&web()).unwrap();
    assert_eq!(history.running, Some(kept(1)));
    assert_eq!(history.failures[0].template, kept(3).template);
}

#[tokio::test]
async fn what_could_not_be_prepared_changes_nothing_that_runs() {
    let dir = tempfile::tempdir().unwrap();
    let mut ledger = Ledger::open(dir.path(), "boot", Now(1)).unwrap();
    record(&mut ledger, vec![begin(1, None), LedgerChange::Complete(Now(7))]).await;
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
    record(&mut ledger, vec![begin(1, None), LedgerChange::Complete(Now(7))]).await;
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
    record(&mut ledger, vec![begin(1, None)]).await;
    fill(dir.path(), "ledger.b");
    for _ in 0..2 {
        let error = ledger.record(&web(), LedgerChange::Complete(Now(7)), None).await.unwrap_err();
        assert!(error.to_string().contains("No space left"), "{error}");
        assert!(!ledger.histories()[&web()].completed);
    }
    let files = slots::read(dir.path()).unwrap();
    let found = Found::in_slots([files[0].as_deref(), None]);
    assert_ne!(found.contents, Contents::default(), "the other slot is untouched");
    std::fs::remove_file(dir.path().join("ledger.b")).unwrap();
    record(&mut ledger, vec![LedgerChange::Complete(Now(7))]).await;
    drop(ledger);
    assert!(Ledger::open(dir.path(), "boot", Now(1)).unwrap().histories()[&web()].completed);
}

#[tokio::test]
async fn a_ledger_of_another_version_is_damage_and_the_slot_before_it_counts() {
    const FUTURE: &[u8] = b"{\"from\": \"the future\"}";
    let dir = tempfile::tempdir().unwrap();
    Slots::none(dir.path()).write(FUTURE).unwrap();
    let mut ledger = Ledger::open(dir.path(), "boot", Now(1)).unwrap();
    assert_eq!((ledger.damage().len(), ledger.seen()), (1, None));
    record(&mut ledger, vec![begin(1, None)]).await;
    drop(ledger);

    // Written beside it, and newer; then the future comes again.
    let mut ledger = Ledger::open(dir.path(), "boot", Now(1)).unwrap();
    let known = ledger.contents();
    assert_eq!((ledger.damage().len(), ledger.histories().len()), (0, 1));
    ledger.slots.write(FUTURE).unwrap();
    drop(ledger);
    let mut ledger = Ledger::open(dir.path(), "boot", Now(1)).unwrap();
    assert_eq!((ledger.damage().len(), ledger.contents()), (1, known));
    record(&mut ledger, vec![LedgerChange::Complete(Now(7))]).await;
    drop(ledger);
    let ledger = Ledger::open(dir.path(), "boot", Now(1)).unwrap();
    assert!(ledger.damage().is_empty() && ledger.histories()[&web()].completed);
}

fn accepted(generation: u64, tag: &str) -> (Accepted, Envelope, ReleaseId) {
    read(ManifestBuilder::new(generation).service("web", tag))
}

fn read(manifest: ManifestBuilder) -> (Accepted, Envelope, ReleaseId) {
    let bytes = manifest.bytes();
    let envelope = Envelope::from_bytes(&bytes).unwrap();
    let accepted =
        acceptance::reread(&bytes, &testing::root().into(), &testing::identity()).unwrap();
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

fn kept_of(release: ReleaseId, revision: u64) -> Kept {
    let template = Template::of(&release, &"default".parse().unwrap(), 0);
    Kept { release, template, attempt: 1, revision, secrets: std::collections::BTreeMap::new() }
}

fn recorded(contents: &Contents, change: LedgerChange) -> Contents {
    contents.record(&web(), change, None, "boot")
}

/// Revision 1 ran, then revision 2, which is complete.
fn two_releases() -> (Contents, Kept, Kept) {
    let (mut contents, mut last_good) = (Contents::default(), None);
    let [one, two] = [(1, "v1"), (2, "v2")].map(|(generation, tag)| {
        let (accepted, envelope, release) = accepted(generation, tag);
        let kept = kept_of(release, generation);
        contents = contents.accept(&accepted, envelope, None);
        let room = Room::default();
        let before = last_good.replace(kept.clone());
        let begin = LedgerChange::Begin { kept: kept.clone(), room, last_good: before };
        contents = recorded(&contents, begin);
        contents = recorded(&contents, LedgerChange::Complete(Now(7)));
        kept
    });
    (contents, one, two)
}

fn history(contents: &Contents) -> History {
    contents.histories("boot", Now(1)).remove(&web()).unwrap()
}

#[test]
fn a_floor_never_falls_whatever_is_accepted_removed_or_forgotten() {
    let floor = |contents: &Contents| contents.floors().get(&web()).copied();
    let mut contents = Contents::default();
    assert_eq!(floor(&contents), None);
    for (generation, below, expected) in [(1, Some(1), 1), (2, None, 1), (3, Some(0), 1)] {
        let manifest = ManifestBuilder::new(generation).service("web", "v1");
        let manifest = match below {
            Some(below) => manifest.retired("web", below),
            None => manifest,
        };
        let (accepted, envelope, _) = read(manifest);
        contents = contents.accept(&accepted, envelope, Some(&BTreeSet::new()));
        assert_eq!(floor(&contents), Some(expected), "generation {generation}");
    }
    let (without, envelope, _) = read(ManifestBuilder::new(4).service("db", "v1").removed("web"));
    let contents = contents.accept(&without, envelope, Some(&BTreeSet::new()));
    let contents = recorded(&contents, LedgerChange::Forget);
    let written = serde_json::to_vec(&contents).unwrap();
    let again: Contents = serde_json::from_slice(&written).unwrap();
    assert_eq!(floor(&again), Some(1));
}

#[test]
fn what_is_below_the_floor_is_not_gone_back_to_and_what_runs_stays() {
    let (contents, one, two) = two_releases();
    assert_eq!(history(&contents).last_good, Some(one.clone()));
    // A manifest of another service may bring the floor as well; every release of the tests has the counter 1.
    let manifest = ManifestBuilder::new(3).service("db", "v1").removed("web").retired("web", 2);
    let (accepted, envelope, _) = read(manifest);
    let retired = contents.accept(&accepted, envelope, None);
    let now = history(&retired);
    assert_eq!((now.running, now.last_good, now.completed), (Some(two.clone()), None, true));
    let third = kept_of(ReleaseId::of_payload(b"v3"), 3);
    let (kept, last_good) = (third.clone(), Some(two));
    let change = LedgerChange::Begin { kept, room: Room::default(), last_good };
    let begun = recorded(&retired, change);
    assert_eq!(history(&begun).last_good, None, "what ran is retired as well");
    let (reason, message) = (Reason::NotReadyInTime, String::new());
    let then = AfterGivingUp::GoBack;
    let change = LedgerChange::GiveUp { failed: third, reason, message, evidence_of: None, then };
    assert_eq!(history(&recorded(&begun, change)).running, None);
}

#[test]
fn a_ledger_written_before_there_were_floors_is_read() {
    let (contents, ..) = two_releases();
    let mut text: serde_json::Value = serde_json::to_value(&contents).unwrap();
    text.as_object_mut().unwrap().remove("floors");
    assert_eq!(serde_json::from_value::<Contents>(text).unwrap(), contents);
}

/// The root in which neither director nor release key is the first one any more.
fn replaced(version: u64) -> Root {
    let mut root = testing::root_with(version, 30);
    let release = SecretKey::from_seed([31; 32]).public();
    root.roles.insert(RoleName::Release, Role::single(release));
    root
}

#[test]
fn a_root_never_goes_back_and_its_forerunner_stays_as_long_as_something_needs_it() {
    let (first, file) = (testing::root(), testing::root());
    let (accepted_first, envelope, _) = accepted(1, "v1");
    let contents = Contents::default().accept(&accepted_first, envelope, Some(&BTreeSet::new()));
    assert_eq!(contents.trust(&file).former, []);
    let contents = contents.succeed(&replaced(2), &first);
    assert_eq!(contents.trust(&file).root, replaced(2));
    assert_eq!(contents.trust(&file).former, std::slice::from_ref(&first));
    let later = contents.succeed(&replaced(3), &replaced(2));
    assert_eq!(
        later.trust(&file).former,
        std::slice::from_ref(&first),
        "the one between vouches for nothing"
    );
    assert_eq!(later.succeed(&first, &replaced(3)), later, "nothing goes back");
    let nothing_held = Contents::default().succeed(&replaced(2), &first);
    assert_eq!(nothing_held.trust(&file).former, []);
}

#[test]
fn what_proves_a_root_that_was_followed_is_kept_and_a_ledger_without_proofs_is_read() {
    let first = testing::root();
    let proof = |version| Envelope::sign(&replaced(version), &[&testing::root_key()]);
    let before = Contents::default().succeed(&replaced(2), &first);
    let older = serde_json::to_value(&before).unwrap();
    assert!(!older.as_object().unwrap().contains_key("proofs"));
    let read: Contents = serde_json::from_value(older).unwrap();
    assert_eq!((read.proofs(), &read), (&[][..], &before));
    let both = [proof(2), proof(3)];
    let led = Contents::default().succeed(&replaced(3), &first).prove(&both);
    let led = led.succeed(&replaced(4), &replaced(3)).prove(&[proof(4)]);
    let written = serde_json::to_vec(&led).unwrap();
    let read: Contents = serde_json::from_slice(&written).unwrap();
    assert_eq!(read.proofs(), [proof(2), proof(3), proof(4)]);
    let many: Vec<Envelope> = (5..=400).map(proof).collect();
    let led = led.prove(&many);
    let size: usize = led.proofs().iter().map(|one| one.to_bytes().len()).sum();
    assert!(size <= protocol::succession::MAX_CHAIN_BYTES, "{size}");
    assert_eq!(led.proofs().last(), Some(&proof(400)));
}

#[tokio::test]
async fn a_ledger_is_read_beside_the_agent_that_has_it() {
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(look(dir.path()).unwrap(), Contents::default());
    let mut ledger = Ledger::open(dir.path(), "boot", Now(1)).unwrap();
    record(&mut ledger, vec![begin(1, None), LedgerChange::Complete(Now(7))]).await;
    assert_eq!(look(dir.path()).unwrap(), *ledger.contents());
}

#[test]
fn the_file_is_the_first_trust_and_counts_again_only_where_it_is_newer() {
    let first = testing::root();
    let contents = Contents::default().succeed(&replaced(2), &first);
    assert_eq!(contents.trust(&first).root, replaced(2));
    assert_eq!(contents.trust(&replaced(3)).root, replaced(3), "placed by hand");
    let foreign = Root { fleet: protocol::id::FleetId::from_random([8; 16]), ..first };
    assert_eq!(contents.trust(&foreign).root, foreign, "the board has moved to another fleet");
}

#[test]
fn a_hold_keeps_what_it_names_and_its_end_leaves_nothing() {
    let (contents, first, _) = two_releases();
    let held = planner::node::Held::new(web(), first.clone(), 2);
    let hold = Hold { held, by: "root".into(), since_s: 7, reason: Some("disk".into()) };
    let held = contents.hold(&web(), Some(&hold));
    let read: Contents =
        serde_json::from_slice(&serde_json::to_vec(&held).unwrap()).expect("it is read again");
    assert_eq!(read.holds(), BTreeMap::from([(web(), hold)]));
    // Nothing else names its release any more.
    let forgotten = recorded(&read, LedgerChange::Forget);
    let (ninth, envelope, _) = accepted(9, "v9");
    let next = forgotten.accept(&ninth, envelope.clone(), Some(&BTreeSet::new()));
    assert!(next.releases().contains_key(&first.release));
    let released = next.hold(&web(), None);
    let next = released.accept(&ninth, envelope, Some(&BTreeSet::new()));
    assert!(!next.releases().contains_key(&first.release));
    assert!(!String::from_utf8(serde_json::to_vec(&next).unwrap()).unwrap().contains("holds"));
}
