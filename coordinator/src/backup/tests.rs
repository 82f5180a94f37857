//! Backups on real folders: what comes back, what never leaves, and every way that one does not open.

use protocol::envelope::Envelope;
use protocol::id::ServiceId;
use protocol::keys::SecretKey;

use super::archive::{ArchiveError, Entry, pack, unpack};
use super::nightly::due;
use super::restore::{RestoreError, Restored, restore};
use super::*;
use crate::audit::{self, Audit};
use crate::ca::Ca;
use crate::data_dir::{Init, Made};
use crate::key_file::secret_text;
use crate::sealing::OpenError;
use crate::state::records::{Change, ServiceRecord};

const NOW_MS: u64 = 1_790_000_000_000;

fn key(seed: u8) -> SecretKey {
    SecretKey::from_seed([seed; 32])
}

/// A fleet under two of the three root keys 1, 2 and 3, with a service; none of its root keys lies in the folder.
struct Folder {
    dir: tempfile::TempDir,
    data: DataDir,
    store: Store,
}

impl Folder {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let data = DataDir::at(dir.path().join("fleet"));
        let root_keys = [1, 2, 3].map(|seed| key(seed).public()).to_vec();
        let signers = vec![key(1), key(2)];
        let made = data.init_with(Init { threshold: 2, root_keys, signers, passphrase: None });
        let Made::Fleet(fleet) = made.unwrap() else { panic!("it has its signatures") };
        Ca::open(&data, &fleet.id).unwrap();
        data.write("registries.toml", b"[\"r.example\"]\n").unwrap();
        let (store, _) = Store::open(&data.database()).unwrap();
        Self { dir, data, store }
    }

    async fn with_service() -> Self {
        let folder = Self::new();
        let id =
            ServiceId { environment: "default".parse().unwrap(), name: "web".parse().unwrap() };
        let (count_override, stable) = (None, Some(1));
        let service = ServiceRecord { id, count_override, next_revision: 2, counter: 1, stable };
        folder.store.write(vec![Change::Service(service)]).await.unwrap();
        folder
    }

    async fn backup(&self) -> Vec<u8> {
        make(&self.data, Database::Stopped(&self.store), NOW_MS).await.unwrap().bytes
    }

    fn id(&self) -> FleetId {
        self.data.open().unwrap().id
    }

    /// A folder that is not there yet.
    fn elsewhere(&self) -> DataDir {
        DataDir::at(self.dir.path().join("elsewhere"))
    }

    fn restore(&self, bytes: &[u8], seed: u8) -> Result<Restored, RestoreError> {
        restore(&sealing::read(bytes)?, &key(seed), None, &self.elsewhere())
    }

    /// The same files, changed, sealed again as a backup of `fleet`.
    async fn forged(&self, fleet: FleetId, change: impl FnOnce(&mut Vec<Entry>)) -> Vec<u8> {
        let bytes = self.backup().await;
        let sealed = sealing::read(&bytes).unwrap();
        let mut entries = unpack(&sealed.open(&key(1)).unwrap()).unwrap();
        change(&mut entries);
        let about = About { fleet, ..sealed.about().clone() };
        let keys = [key(1).public(), key(9).public()];
        sealing::seal(about, &keys.iter().collect::<Vec<_>>(), pack(&entries)).unwrap()
    }
}

fn is_empty(data: &DataDir) -> bool {
    fs::read_dir(data.path()).map_or(true, |mut entries| entries.next().is_none())
}

#[tokio::test]
async fn each_root_key_alone_brings_the_whole_fleet_back() {
    for seed in [1, 2, 3] {
        let folder = Folder::with_service().await;
        let restored = folder.restore(&folder.backup().await, seed).unwrap();
        assert_eq!((restored.services, restored.nodes), (1, 0));
        assert_eq!((restored.about.fleet, restored.about.made_ms), (folder.id(), NOW_MS));
        let (data, old) = (folder.elsewhere(), &folder.data);
        let (fleet, before) = (data.open().unwrap(), old.open().unwrap());
        assert_eq!((&fleet.id, &fleet.root), (&before.id, &before.root));
        let director = |data: &DataDir| data.director_key(&before.root).unwrap().public();
        assert_eq!(director(&data), director(old));
        let ca = |data: &DataDir| Ca::open(data, &before.id).unwrap().sha256();
        assert_eq!(ca(&data), ca(old));
        assert_eq!(data.read("registries.toml").unwrap(), b"[\"r.example\"]\n");
    }
}

#[tokio::test]
async fn the_end_of_the_audit_log_comes_back_and_its_chain_goes_on() {
    let folder = Folder::with_service().await;
    let path = |data: &DataDir| data.path().join(audit::FILE);
    let draft = |verb: &str| audit::Draft {
        at_ms: NOW_MS,
        event: audit::Event::Asked,
        of: None,
        who: "operator:anna".to_owned(),
        role: None,
        verb: verb.to_owned(),
        target: String::new(),
        request: None,
        key: None,
        status: None,
        code: None,
    };
    let log = Audit::open(&path(&folder.data), &folder.id()).unwrap();
    let asked = log.write(draft("deploy")).await.unwrap();
    folder.restore(&folder.backup().await, 1).unwrap();
    let restored = path(&folder.elsewhere());
    let seen = audit::verify(&restored, &folder.id(), None).unwrap();
    assert_eq!((seen.entries, seen.head, seen.broken), (1, asked.sha256, None));
    let log = Audit::open(&restored, &folder.id()).unwrap();
    assert_eq!(log.write(draft("undo")).await.unwrap().n, 2);
    assert_eq!(audit::verify(&restored, &folder.id(), None).unwrap().broken, None);
}

#[tokio::test]
async fn no_key_that_signs_releases_or_roots_is_in_it() {
    let folder = Folder::new();
    folder.data.keep_key(RoleName::Root, &key(1), None).unwrap();
    let keys = folder.data.keys().unwrap();
    assert_eq!(keys.len(), 4, "root, release, agent-release, director");
    let bytes = folder.backup().await;
    let entries = unpack(&sealing::read(&bytes).unwrap().open(&key(1)).unwrap()).unwrap();
    let names: Vec<&str> = entries.iter().map(|entry| entry.name.as_str()).collect();
    assert_eq!(names.iter().filter(|name| name.starts_with("keys/")).count(), 1, "{names:?}");
    let director = folder.data.director_key(&folder.data.open().unwrap().root).unwrap().public();
    for file in keys {
        let secret = file.open(&mut crate::passphrase::Passphrases::default()).unwrap();
        let text = secret.to_base64();
        let holds = |entry: &Entry| entry.bytes.windows(text.len()).any(|w| w == text.as_bytes());
        assert_eq!(entries.iter().any(holds), secret.public() == director, "{}", file.name);
    }
}

#[tokio::test]
async fn a_director_that_waits_for_its_root_is_in_it() {
    let folder = Folder::new();
    let root = folder.data.open().unwrap().root;
    let change = crate::roots::RootChange::Rotate(RoleName::Director, None, key(20).public());
    let next = crate::roots::next(&root, &change).unwrap();
    folder.data.keep_key(RoleName::Director, &key(20), None).unwrap();
    folder.data.write("root-2.json", &Envelope::sign(&next, &[&key(1)]).to_bytes()).unwrap();
    folder.restore(&folder.backup().await, 3).unwrap();
    let data = folder.elsewhere();
    assert!(data.director_key(&next).unwrap().public() == key(20).public());
    assert!(data.unsigned_root(2).exists());
}

#[tokio::test]
async fn a_folder_that_holds_anything_is_left_as_it_is() {
    let folder = Folder::new();
    let bytes = folder.backup().await;
    let data = folder.elsewhere();
    fs::create_dir(data.path()).unwrap();
    fs::write(data.path().join("notes"), "mine").unwrap();
    let error = folder.restore(&bytes, 1).unwrap_err();
    assert!(matches!(error, RestoreError::NotEmpty(_)), "{error}");
    assert!(error.to_string().contains("--data"), "{error}");
    assert_eq!(fs::read_dir(data.path()).unwrap().count(), 1);
    fs::remove_file(data.path().join("notes")).unwrap();
    folder.restore(&bytes, 1).unwrap();
}

#[tokio::test]
async fn a_wrong_key_a_changed_byte_and_a_cut_end_each_say_so_and_leave_nothing() {
    let folder = Folder::new();
    let bytes = folder.backup().await;
    let error = folder.restore(&bytes, 4).unwrap_err();
    assert!(matches!(error, RestoreError::Open(OpenError::WrongKey { .. })), "{error}");
    let mut changed = bytes.clone();
    let middle = changed.len() / 2;
    changed[middle] ^= 1;
    let error = folder.restore(&changed, 1).unwrap_err();
    assert!(matches!(error, RestoreError::Open(OpenError::Damaged(_))), "{error}");
    let error = folder.restore(&bytes[..bytes.len() - 1], 1).unwrap_err();
    assert!(matches!(error, RestoreError::Open(OpenError::Truncated { .. })), "{error}");
    assert!(is_empty(&folder.elsewhere()));
}

#[tokio::test]
async fn a_backup_of_another_fleet_is_refused() {
    let folder = Folder::new();
    let (own, other) = (folder.id(), FleetId::from_random([9; 16]));
    let bytes = folder.backup().await;
    let sealed = sealing::read(&bytes).unwrap();
    let error = restore(&sealed, &key(1), Some(&other), &folder.elsewhere()).unwrap_err();
    assert!(matches!(error, RestoreError::ForeignFleet { .. }), "{error}");
    assert!(error.to_string().contains(own.as_str()) && error.to_string().contains(other.as_str()));
    // Its files under another name, and a root that the key has no part in.
    let error = folder.restore(&folder.forged(other, |_| ()).await, 1).unwrap_err();
    assert!(matches!(error, RestoreError::Mixed { .. }), "{error}");
    let error = folder.restore(&folder.forged(own, |_| ()).await, 9).unwrap_err();
    assert!(matches!(error, RestoreError::NotItsRoot(_)), "{error}");
    assert!(is_empty(&folder.elsewhere()));
}

#[tokio::test]
async fn what_makes_no_fleet_is_taken_away_again() {
    let folder = Folder::new();
    let own = folder.id();
    let without = |what: &'static str| {
        folder.forged(own.clone(), move |entries| entries.retain(|e| !e.name.starts_with(what)))
    };
    let error = folder.restore(&without("keys/").await, 1).unwrap_err();
    assert!(matches!(error, RestoreError::Data(DataDirError::NoDirectorKey { .. })), "{error}");
    let error = folder.restore(&without("tls/ca.key").await, 1).unwrap_err();
    assert!(matches!(error, RestoreError::Ca(_)), "{error}");
    let error = folder.restore(&without("state.db").await, 1).unwrap_err();
    assert!(matches!(error, RestoreError::Lacks("state.db")), "{error}");
    let nonsense = folder.forged(own.clone(), |entries| {
        let database = entries.iter_mut().find(|entry| entry.name == "state.db").unwrap();
        database.bytes = secret_text(&key(1), None).unwrap().repeat(100).into_bytes();
    });
    let error = folder.restore(&nonsense.await, 1).unwrap_err();
    assert!(matches!(error, RestoreError::Store(_)), "{error}");
    assert!(is_empty(&folder.elsewhere()));
}

#[test]
fn a_file_has_a_place_or_is_refused() {
    let entry = |name: &str| Entry { name: name.to_owned(), bytes: b"x".to_vec() };
    for name in ["fleet.json", "keys/a-1.key", "tls/ca.crt", "root-12.json", "roots.json"] {
        assert_eq!(unpack(&pack(&[entry(name)])).unwrap(), [entry(name)]);
    }
    for name in [
        "../x",
        "/etc/passwd",
        "keys/../a.key",
        "keys/.key",
        "keys/a",
        "tls/x",
        "root-../.json",
        "",
    ] {
        let error = unpack(&pack(&[entry(name)])).unwrap_err();
        assert!(matches!(error, ArchiveError::Name(_)), "{name}: {error}");
    }
    let twice = unpack(&pack(&[entry("fleet.json"), entry("fleet.json")]));
    assert!(matches!(twice, Err(ArchiveError::Form(_))));
    let whole = pack(&[entry("fleet.json")]);
    assert!(matches!(unpack(&whole[..whole.len() - 1]), Err(ArchiveError::Form(_))));
    assert!(matches!(unpack(&[&whole[..], b"y"].concat()), Err(ArchiveError::Form(_))));
}

#[tokio::test]
async fn seven_nights_are_kept_and_what_people_made_stays() {
    const DAY_MS: u64 = 24 * 60 * 60 * 1000;
    let folder = Folder::new();
    let data = folder.data.clone().with_backups(Some(folder.dir.path().join("disk/pith")));
    let made = |at| {
        let (data, store) = (data.clone(), &folder.store);
        async move { make(&data, Database::Stopped(store), at).await.unwrap() }
    };
    let by_hand = keep(&data, made(NOW_MS).await, Asked::ByHand).await.unwrap();
    let foreign = data.backups().join("nightly-00000000-20200101T020000Z.pith");
    fs::write(&foreign, "of another fleet").unwrap();
    let mut nights = Vec::new();
    for day in 0..KEPT as u64 + 2 {
        let shown = keep(&data, made(NOW_MS + day * DAY_MS).await, Asked::Nightly).await.unwrap();
        nights.push(shown.file);
    }
    let there: Vec<bool> = nights.iter().map(|night| night.exists()).collect();
    assert_eq!(there, [[false; 2].as_slice(), &[true; KEPT]].concat());
    assert!(by_hand.file.exists() && foreign.exists());
    assert_eq!(by_hand.bytes, by_hand.file.metadata().unwrap().len());
    use std::os::unix::fs::PermissionsExt as _;
    assert_eq!(nights[8].metadata().unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn a_night_that_was_missed_is_made_up_for() {
    #[track_caller]
    fn check(newest: Option<&str>, expected: &str) {
        let hour = |text: &str| {
            let (day, hour) = text.split_once(' ').unwrap();
            (day.parse::<u64>().unwrap() * 24 + hour.parse::<u64>().unwrap()) * 60 * 60 * 1000
        };
        let now = "20000 12";
        assert_eq!(due(newest.map(hour), hour(now)), hour(expected), "{newest:?}");
    }
    check(None, "20000 12");
    check(Some("20000 2"), "20001 2");
    check(Some("20000 11"), "20001 2");
    check(Some("20000 1"), "20000 2");
    check(Some("19999 2"), "20000 2");
    check(Some("19990 5"), "19991 2");
}
