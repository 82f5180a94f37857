//! A board whose coordinator was lost, against one that was made anew and is a script behind real TLS.

use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::join::tests::{Coordinator, Line, Place, renewing};
use crate::join::{Existing, JoinError};
use crate::ledger::{Contents, Ledger};
use crate::renew::{Asked, Renewed, Renewing};
use crate::testing::{self, ManifestBuilder};
use crate::tls::Joined;
use authority::{Asks, Authority, der};
use mqtt::{Refusal, VerifyAt};
use planner::Now;
use protocol::acceptance;
use protocol::envelope::Envelope;
use protocol::hello::Event;
use protocol::join::{
    ADDRESSES_FILE, Approved, Coordinators, RENEW_PATH, ROOT_FILE, RenewBody, server_name,
    verify_renew,
};
use protocol::keys::SecretKey;
use protocol::recovery::{RECOVERY_PATH, Recovery, held_manifest};
use protocol::succession::Chain;
use tokio::net::TcpListener;

const NOW_S: u64 = 1_893_456_000;

/// The director of the fleet that was made anew.
fn director() -> SecretKey {
    SecretKey::from_seed([21; 32])
}

fn new_root() -> Root {
    Root { epoch: 2, ..testing::root_with(2, 21) }
}

/// What it answers whoever asks.
fn recovery(ca: &str) -> RecoveryBody {
    let (fleet, ca_sha256) = (testing::fleet(), sha256_hex(&der(ca)[0]));
    let recovery = Recovery { format: 1, fleet, root_version: 2, ca_sha256 };
    RecoveryBody {
        chain: Chain { roots: vec![Envelope::sign(&new_root(), &[&testing::root_key()])] },
        recovery: Envelope::sign(&recovery, &[&director()]),
        ca: ca.to_owned(),
    }
}

fn says(body: &RecoveryBody) -> Line {
    Line::Text(serde_json::to_string(body).unwrap())
}

/// A node of the fleet whose coordinator is gone: it has joined under `lost`, holds a manifest, and finds `made_anew` at the address.
async fn left(lost: &Arc<Authority>, made_anew: &Coordinator) -> Place {
    let place = Place::new();
    durable::folder(&place.state()).unwrap();
    let key = format!("{}\n", testing::node_key().to_base64());
    durable::write(&place.state().join("node.key"), key.as_bytes(), Readers::Owner).unwrap();
    let coordinator = Coordinator::of(Arc::clone(lost), vec![Line::Approved(|_| ())]).await;
    place.join(&coordinator.token(), Existing::Keep).await.0.unwrap();
    let mut ledger = Ledger::open(&place.state(), "boot", Now(0)).unwrap();
    ledger.write(&Arc::new(remembered())).await.unwrap();
    let addresses = Coordinators { addresses: vec![made_anew.address.clone()], edition: None };
    let addresses = serde_json::to_vec(&addresses).unwrap();
    std::fs::write(place.state().join(ADDRESSES_FILE), addresses).unwrap();
    place
}

fn remembered() -> Contents {
    let bytes = ManifestBuilder::new(1).service("web", "v1").bytes();
    let trust = testing::root().into();
    let accepted = acceptance::reread(&bytes, &trust, &testing::identity()).unwrap();
    Contents::default().accept(&accepted, Envelope::from_bytes(&bytes).unwrap(), None)
}

fn file(place: &Place, name: &str) -> Option<Vec<u8>> {
    std::fs::read(place.state().join(name)).ok()
}

fn believed(place: &Place) -> Bundle {
    Bundle::read(&file(place, CA_FILE).unwrap()).unwrap()
}

fn bundle(all: &[&Authority]) -> Bundle {
    let text: String = all.iter().map(|one| one.ca.as_str()).collect();
    Bundle::read(text.as_bytes()).unwrap()
}

/// Renewed a life later, without roots; the coordinator sends its own CA alone.
fn later(approved: &mut Approved) {
    approved.roots.clear();
}

/// With the root that the node has not heard of yet.
fn first(approved: &mut Approved) {
    approved.roots = vec![Envelope::sign(&new_root(), &[&testing::root_key()])];
}

async fn renewed(renewing: &Renewing) {
    let renewed = renewing.once().await.unwrap();
    assert!(matches!(renewed, Renewed::Yes(_)), "{renewed:?}");
}

/// Two thirds of the life of a certificate that ends with 7 December 2119, as those of a test's authority do.
const DUE_S: u64 = 4_731_436_800 - 30 * 86_400;

#[tokio::test]
async fn a_node_follows_the_coordinator_that_root_vouches_for_and_comes_back_as_who_it_was() {
    let (lost, new) = (Arc::new(Authority::new()), Arc::new(Authority::new()));
    let body = || says(&recovery(&new.ca));
    let script = vec![body(), Line::Pending, Line::Approved(first), body()];
    let renewals = (0..3).map(|_| Line::Approved(later));
    let script = script.into_iter().chain(renewals);
    let coordinator = Coordinator::of(Arc::clone(&new), script.collect()).await;
    let place = left(&lost, &coordinator).await;
    let (renewing, _said) = renewing(&place);
    let (own, key) = (file(&place, CERTIFICATE_FILE), file(&place, TLS_KEY_FILE));

    let error = renewing.once().await.unwrap_err();
    assert!(matches!(&error, JoinError::Https(error) if error.is_of_another_ca()), "{error}");
    assert_eq!(renewing.recover().await.unwrap(), Asked::Followed(2));
    assert_eq!(believed(&place), bundle(&[&new, &lost]));
    let shown = || (file(&place, FLEET_CERTIFICATE_FILE), file(&place, FLEET_KEY_FILE));
    assert_eq!(shown(), (own.clone(), key.clone()), "other boards see what they saw");

    assert_eq!(renewing.once().await.unwrap(), Renewed::Lobby);
    let (path, asked) = coordinator.asked.lock().unwrap().last().cloned().unwrap();
    let asked: RenewBody = serde_json::from_slice(&asked).unwrap();
    let (renew, _) = verify_renew(&asked.request.to_bytes(), &testing::fleet()).unwrap();
    let again = renew.again.clone().unwrap();
    assert_eq!((path.as_str(), again.name.as_str(), renew.root_version), (RENEW_PATH, "opi-1", 1));
    assert_eq!((again.environment.as_str(), again.labels["zone"].as_str()), ("staging", "edge"));
    assert_eq!(again.seal_key, crate::join::keys::seal(&place.state()).unwrap());
    let node = testing::identity().node;
    held_manifest(&asked.manifest.unwrap(), &node, &[testing::root()]).unwrap();

    let first_root = file(&place, ROOT_FILE);
    renewed(&renewing).await;
    assert_ne!(file(&place, CERTIFICATE_FILE), own);
    assert!(!Joined::load(&place.state()).unwrap().unwrap().is_awaiting());
    assert_eq!(believed(&place), bundle(&[&new, &lost]), "boards that have not followed may call");
    let shown_first = shown();
    assert_eq!(shown_first, (own, key));
    // The root came before the ledger has it: what the ledger holds is trusted after a restart as before.
    assert_eq!(file(&place, ROOT_FILE), first_root);
    let (root, contents) =
        (crate::trust::load(&renewing.root_file).unwrap(), crate::ledger::look(&place.state()));
    let (trust, manifest) = (contents.as_ref().unwrap().trust(&root), contents.as_ref().unwrap());
    let manifest = manifest.manifest().unwrap().to_bytes();
    acceptance::reread(&manifest, &trust, &testing::identity()).unwrap();

    assert_eq!(renewing.recover().await.unwrap(), Asked::Known);
    renewed(&renewing).await;
    assert_eq!((shown(), believed(&place)), (shown_first, bundle(&[&new, &lost])), "none was due");
    renewing.floor.raise(DUE_S);
    renewed(&renewing).await;
    assert_eq!((shown(), believed(&place)), ((None, None), bundle(&[&new, &lost])));
    renewed(&renewing).await;
    assert_eq!(believed(&place), bundle(&[&new]));
    let (_, asked) = coordinator.asked.lock().unwrap().last().cloned().unwrap();
    assert!(!String::from_utf8(asked).unwrap().contains("manifest"), "said once");
}

#[tokio::test]
async fn a_node_finds_its_way_back_by_itself_and_says_once_what_it_waits_for() {
    let (lost, new) = (Arc::new(Authority::new()), Arc::new(Authority::new()));
    let script = vec![says(&recovery(&new.ca)), Line::Pending];
    let coordinator = Coordinator::of(Arc::clone(&new), script).await;
    let place = left(&lost, &coordinator).await;
    let (renewing, mut said) = renewing(&place);
    let keeping = tokio::spawn(renewing.keep());
    let mut all = Vec::new();
    while !all.iter().any(|text: &String| text.contains("pith node approve opi-1")) {
        let heard = tokio::time::timeout(Duration::from_secs(20), said.recv()).await;
        let event: Event = serde_json::from_slice(&heard.unwrap().unwrap().payload).unwrap();
        all.push(event.message);
    }
    keeping.abort();
    assert_eq!(coordinator.paths(), [RECOVERY_PATH, RENEW_PATH], "{all:?}");
    assert_eq!(all.len(), 2, "that what answers is a stranger, and that it waits: {all:?}");
}

/// What is said about an answer that is not followed; nothing is written.
async fn check(line: Line, says: &str) {
    let lost = Arc::new(Authority::new());
    let coordinator = Coordinator::of(Arc::new(Authority::new()), vec![line]).await;
    let place = left(&lost, &coordinator).await;
    let (renewing, _said) = renewing(&place);
    let Asked::No(why) = renewing.recover().await.unwrap() else { panic!("followed") };
    assert!(why.contains(says) && why.contains(&coordinator.address), "`{says}` is not in: {why}");
    assert_eq!(believed(&place), bundle(&[&lost]));
    assert_eq!(file(&place, FLEET_CERTIFICATE_FILE), None);
}

#[tokio::test]
async fn a_stranger_that_root_does_not_vouch_for_is_named_with_the_mend_and_changes_nothing() {
    let ca = Authority::new().ca;
    check(Line::Text("<html>".into()), "knows of no recovery").await;
    let gap = Root { version: 3, ..new_root() };
    let mut body = recovery(&ca);
    body.chain.roots = vec![Envelope::sign(&gap, &[&testing::root_key()])];
    check(says(&body), "`pith-agent root` here prints").await;
    body.chain.roots.clear();
    check(says(&body), "`pith-agent root` here prints").await;
    let thief = testing::root_with(2, 21);
    body.chain.roots = vec![Envelope::sign(&thief, &[&testing::root_key()])];
    check(says(&body), "the epoch is still 1").await;
    let mut other = recovery(&ca);
    other.ca = Authority::new().ca;
    check(says(&other), "not the one that the director signed").await;
    other.ca = format!("{ca}{ca}");
    check(says(&other), "not one certificate").await;
}

#[tokio::test]
async fn the_newest_root_of_the_ledger_counts_and_the_owners_word_says_where_to_ask() {
    let lost = Arc::new(Authority::new());
    let new = Arc::new(Authority::new());
    let mut body = recovery(&new.ca);
    let signed = Recovery {
        format: 1,
        fleet: testing::fleet(),
        root_version: 3,
        ca_sha256: sha256_hex(&der(&new.ca)[0]),
    };
    // Root 2 is on no chain any more; root 3 follows it.
    let third = Root { version: 3, ..new_root() };
    body.chain.roots = vec![Envelope::sign(&third, &[&testing::root_key()])];
    body.recovery = Envelope::sign(&signed, &[&director()]);
    let coordinator = Coordinator::of(new, vec![says(&body)]).await;
    let place = left(&lost, &coordinator).await;
    let mut ledger = Ledger::open(&place.state(), "boot", Now(0)).unwrap();
    let second = remembered().succeed(&testing::root_with(2, 20), &testing::root());
    ledger.write(&Arc::new(second)).await.unwrap();
    let nowhere = Coordinators { addresses: vec!["127.0.0.1:1".into()], edition: None };
    let nowhere = serde_json::to_vec(&nowhere).unwrap();
    std::fs::write(place.state().join(ADDRESSES_FILE), nowhere).unwrap();
    let (mut renewing, _said) = renewing(&place);
    let Asked::No(why) = renewing.recover().await.unwrap() else { panic!("nobody is there") };
    assert!(why.contains("cannot be reached"), "{why}");
    renewing.own_address = Some(coordinator.address.clone());
    assert_eq!(renewing.recover().await.unwrap(), Asked::Followed(3));
}

/// How a session with a server of this CA begins, for a node with these files.
async fn session(place: &Place, authority: &Authority) -> mqtt::Event {
    let own = authority.issue("coordinator", &[&server_name(&testing::fleet())]);
    let acceptor = tokio_rustls::TlsAcceptor::from(authority.server(&own, Asks::Never));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        let (socket, _) = listener.accept().await.unwrap();
        // Whoever is believed finds nobody who speaks MQTT.
        drop(acceptor.accept(socket).await);
    });
    let address = mqtt::BrokerAddress { host: "127.0.0.1".into(), port };
    let mut config = mqtt::Config::new(address, "node".into(), Vec::new());
    let joined = Joined::load(&place.state()).unwrap().unwrap();
    config.tls = Some(joined.session(&testing::fleet(), &VerifyAt::new(NOW_S)).unwrap());
    mqtt::Session::start(config, 1).1.recv().await.unwrap()
}

#[tokio::test]
async fn the_coordinator_is_believed_under_the_new_ca_alone() {
    let (lost, new) = (Arc::new(Authority::new()), Arc::new(Authority::new()));
    let coordinator = Coordinator::of(Arc::clone(&new), vec![says(&recovery(&new.ca))]).await;
    let place = left(&lost, &coordinator).await;
    let is_foreign = |event: &mqtt::Event| {
        matches!(event, mqtt::Event::Refused { reason: Refusal::ForeignBroker, .. })
    };
    assert!(is_foreign(&session(&place, &new).await) && !is_foreign(&session(&place, &lost).await));
    let (renewing, _said) = renewing(&place);
    assert_eq!(renewing.recover().await.unwrap(), Asked::Followed(2));
    assert!(!is_foreign(&session(&place, &new).await) && is_foreign(&session(&place, &lost).await));
    // Nor is it asked for a certificate.
    let impostor = Coordinator::of(lost, Vec::new()).await;
    let joined = Joined::load(&place.state()).unwrap().unwrap();
    let client =
        crate::join::https::Client::with_ca(&joined.ca, &testing::fleet(), &VerifyAt::new(NOW_S));
    let asked = client.unwrap().post(&[impostor.address], RENEW_PATH, b"{}").await;
    assert!(asked.unwrap_err().is_of_another_ca());
}

/// A board's files, with a certificate of this CA.
fn files(authority: &Authority) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    durable::folder(&dir.path().join("tls")).unwrap();
    let own = authority.issue("node", &["node.pith"]);
    std::fs::write(dir.path().join(CERTIFICATE_FILE), own.chain).unwrap();
    std::fs::write(dir.path().join(TLS_KEY_FILE), own.key).unwrap();
    std::fs::write(dir.path().join(CA_FILE), &authority.ca).unwrap();
    dir
}

#[test]
fn a_power_cut_after_any_file_leaves_a_node_that_asks_again_or_renews() {
    let (lost, new) = (Authority::new(), Authority::new());
    let ca = der(&new.ca).remove(0);
    let all = writes(files(&lost).path(), &ca).unwrap().len();
    assert_eq!(all, 3);
    for cut in 0..=all {
        let dir = files(&lost);
        let read = |name: &str| std::fs::read(dir.path().join(name)).ok();
        for write in writes(dir.path(), &ca).unwrap().into_iter().take(cut) {
            durable::write(&dir.path().join(write.name), &write.bytes, write.readers).unwrap();
        }
        let known = || Bundle::read(&read(CA_FILE).unwrap()).unwrap();
        let own = bundle::leaf(&read(CERTIFICATE_FILE).unwrap());
        let is_awaiting = || bundle::is_awaiting(&known(), own.as_ref());
        // Either the new coordinator is still a stranger, or it is asked for a certificate.
        assert_eq!(is_awaiting(), cut == all, "cut after {cut}");
        assert_eq!(known().first() == &ca, cut == all);
        assert_eq!(follow(dir.path(), &ca).unwrap(), cut < all);
        assert!(is_awaiting());
        assert_eq!(known(), bundle(&[&new, &lost]));
        assert_eq!(read(FLEET_CERTIFICATE_FILE), read(CERTIFICATE_FILE));
        assert_eq!(read(FLEET_KEY_FILE), read(TLS_KEY_FILE));
    }
}

#[test]
fn a_node_that_follows_once_more_before_it_is_approved_is_still_known_by_its_first_certificate() {
    let all = [Authority::new(), Authority::new(), Authority::new()];
    let [first, second, third] = &all;
    let dir = files(first);
    assert!(follow(dir.path(), &der(&second.ca)[0]).unwrap());
    let shown = std::fs::read(dir.path().join(FLEET_CERTIFICATE_FILE)).unwrap();
    assert!(follow(dir.path(), &der(&third.ca)[0]).unwrap());
    let known = Bundle::read(&std::fs::read(dir.path().join(CA_FILE)).unwrap()).unwrap();
    assert_eq!(known, bundle(&[third, first]));
    assert_eq!(std::fs::read(dir.path().join(FLEET_CERTIFICATE_FILE)).unwrap(), shown);
}

#[test]
fn a_copy_that_ends_before_the_first_renewal_gives_way_to_the_certificate_of_the_new_ca() {
    let (lost, new) = (Authority::new(), Authority::new());
    let dir = files(&lost);
    let ending = lost.issue_until("node", &["node.pith"], NOW_S + 3_600);
    std::fs::write(dir.path().join(CERTIFICATE_FILE), ending.chain).unwrap();
    follow(dir.path(), &der(&new.ca)[0]).unwrap();
    assert!(!replace_worn(dir.path(), NOW_S).unwrap(), "there is no better one yet");
    let own = new.issue("node", &["node.pith"]).chain;
    std::fs::write(dir.path().join(CERTIFICATE_FILE), &own).unwrap();
    assert!(!replace_worn(dir.path(), NOW_S - 30 * 86_400).unwrap(), "it is good for a month");
    assert!(replace_worn(dir.path(), NOW_S).unwrap());
    assert_eq!(std::fs::read_to_string(dir.path().join(FLEET_CERTIFICATE_FILE)).unwrap(), own);
    assert!(!replace_worn(dir.path(), NOW_S).unwrap());
}
