//! What a node follows that meets a coordinator of another CA: root's word, and nobody else's.

use protocol::envelope::{Envelope, Rejected};
use protocol::id::FleetId;
use protocol::join::{Renew, RenewBody, SealKey, verify_renew};
use protocol::keys::{Role, RoleName, Root, SecretKey};
use protocol::recovery::{Again, NotRecovered, Recovery, RecoveryBody, accept, held_manifest};
use protocol::succession::Chain;

use crate::fixture;
use crate::golden::{check_plain, check_signed};

fn new_director() -> SecretKey {
    SecretKey::from_seed([77; 32])
}

/// What `pith fleet recover` makes of the fixture's root.
fn second() -> Root {
    let mut root = fixture::root();
    (root.version, root.epoch) = (root.version + 1, root.epoch + 1);
    root.roles.insert(RoleName::Director, Role::single(new_director().public()));
    root
}

fn recovery() -> Recovery {
    let (fleet, root_version) = (fixture::fleet(), second().version);
    Recovery { format: 1, fleet, root_version, ca_sha256: "ab".repeat(32) }
}

fn body(roots: &[Root], recovery: &Recovery, key: &SecretKey) -> RecoveryBody {
    let sign = |root: &Root| Envelope::sign(root, &[&fixture::root_key()]);
    RecoveryBody {
        chain: Chain { roots: roots.iter().map(sign).collect() },
        recovery: Envelope::sign(recovery, &[key]),
        ca: "-----BEGIN CERTIFICATE-----\n".to_owned(),
    }
}

fn changed(change: impl FnOnce(&mut Root)) -> NotRecovered {
    let mut root = second();
    change(&mut root);
    accept(&body(&[root], &recovery(), &new_director()), &fixture::root()).expect_err("refused")
}

#[test]
fn what_is_said_of_a_recovery_is_written_and_read_as_ever() {
    let bytes = check_signed("recovery", &recovery(), &new_director());
    let read = Envelope::from_bytes(&bytes).expect("an envelope").verify::<Recovery>(&second());
    assert_eq!(read.map(|read| read.into_inner()), Ok(recovery()));
    check_plain("recovery-body.v1.json", &body(&[second()], &recovery(), &new_director()));
    let again = Again {
        name: "opi-1".parse().expect("a name"),
        environment: fixture::identity().environment,
        labels: [("zone".to_owned(), "edge".to_owned())].into(),
        seal_key: SealKey::from_bytes([8; 32]),
    };
    let node = fixture::node_key();
    let renew = Renew {
        format: 1,
        fleet: fixture::fleet(),
        node: fixture::node(),
        public_key: node.public().to_base64(),
        tls_key: crate::joining::tls_key(),
        root_version: 1,
        again: Some(again),
    };
    let bytes = check_signed("renew-again", &renew, &node);
    let (read, _) = verify_renew(&bytes, &fixture::fleet()).expect("it verifies");
    assert_eq!(*read, renew);
    let request = Envelope::sign(&renew, &[&node]);
    let manifest = Envelope::from_bytes(&fixture::signed(&fixture::manifest())).ok();
    check_plain("renew-body-again.v1.json", &RenewBody { request, manifest });
}

#[test]
fn a_node_follows_the_roots_that_follow_its_own_to_another_ca() {
    let third = Root { version: 3, ..second() };
    let later = Recovery { root_version: 3, ..recovery() };
    let whole = [fixture::root(), second(), third.clone()];
    for roots in [&whole[..], &whole[1..]] {
        let found =
            accept(&body(roots, &later, &new_director()), &fixture::root()).expect("followed");
        let newest = found.roots.last().map(|signed| signed.root.clone());
        assert_eq!((found.roots.len(), newest), (2, Some(third.clone())));
        assert_eq!(found.ca_sha256, later.ca_sha256);
    }
}

#[test]
fn nobody_but_root_brings_a_node_under_another_ca() {
    let (new, old) = (new_director(), fixture::director_key());
    let of =
        |roots: &[Root], key: &SecretKey| accept(&body(roots, &recovery(), key), &fixture::root());
    // What the thief of the director's key can sign: a recovery under the root that is.
    let thief = Recovery { root_version: 1, ..recovery() };
    let stale = accept(&body(&[fixture::root()], &thief, &old), &fixture::root());
    assert_eq!(stale, Err(NotRecovered::NoNewerRoot { newest: 1, held: 1 }));
    assert_eq!(of(&[], &new), Err(NotRecovered::NoNewerRoot { newest: 0, held: 1 }));
    assert_eq!(changed(|root| root.epoch -= 1), NotRecovered::SameEpoch(7));
    let same = Role::single(old.public());
    let same = changed(|root| _ = root.roles.insert(RoleName::Director, same));
    assert_eq!(same, NotRecovered::SameDirector);
    let refused = |found: Result<_, NotRecovered>| match found {
        Err(NotRecovered::Refused(reason)) => reason.code(),
        other => panic!("{other:?}"),
    };
    assert_eq!(refused(of(&[second()], &old)), "bad_signature", "of the director before");
    assert_eq!(refused(of(&[second()], &fixture::root_key())), "bad_signature");
    assert_eq!(refused(of(&[Root { version: 3, ..second() }], &new)), "root_version", "a gap");
    let forged = Envelope::sign(&second(), &[&fixture::stranger()]);
    let forged =
        RecoveryBody { chain: Chain { roots: vec![forged] }, ..body(&[], &recovery(), &new) };
    assert_eq!(refused(accept(&forged, &fixture::root())), "root_signature");
    let other = Recovery { fleet: FleetId::from_random([1; 16]), ..recovery() };
    assert_eq!(refused(accept(&body(&[second()], &other, &new), &fixture::root())), "wrong_fleet");
    let early = Recovery { root_version: 1, ..recovery() };
    assert_eq!(refused(accept(&body(&[second()], &early, &new), &fixture::root())), "root_version");
    // What `pith fleet reconcile` and then `pith keys rotate director` sign is no recovery either.
    let raised = Root { version: 2, epoch: 8, ..fixture::root() };
    let rotated = Root { version: 3, ..second() };
    let by_steps = body(&[raised, rotated], &Recovery { root_version: 3, ..recovery() }, &new);
    assert_eq!(accept(&by_steps, &fixture::root()), Err(NotRecovered::SameDirector));
    // Once followed, it is over.
    let again = accept(&body(&[second()], &recovery(), &new), &second());
    assert_eq!(again, Err(NotRecovered::NoNewerRoot { newest: 2, held: 2 }));
}

#[test]
fn a_manifest_proves_that_its_node_was_of_the_fleet() {
    let signed = Envelope::from_bytes(&fixture::signed(&fixture::manifest())).expect("an envelope");
    let (old, new) = (fixture::root(), second());
    let found = held_manifest(&signed, &fixture::node(), &[new.clone(), old.clone()]);
    let found = found.expect("under the older");
    assert_eq!(*found.manifest, fixture::manifest());
    assert_eq!(
        found.envelopes().keys().collect::<Vec<_>>(),
        found.releases.keys().collect::<Vec<_>>()
    );
    let foreign = fixture::stranger().public().node_id();
    assert_eq!(
        held_manifest(&signed, &foreign, std::slice::from_ref(&old)).err(),
        Some(Rejected::WrongNode)
    );
    let forged = Envelope::sign(&fixture::manifest(), &[&fixture::stranger()]);
    let refused =
        held_manifest(&forged, &fixture::node(), &[new, old.clone()]).expect_err("forged");
    assert_eq!(refused.code(), "bad_signature");
    // The thief of a director's key can name what no release key ever signed.
    let mut manifest = fixture::manifest();
    manifest.releases = vec![Envelope::sign(&fixture::release(), &[&fixture::stranger()])];
    let unsigned = Envelope::sign(&manifest, &[&fixture::director_key()]);
    assert!(held_manifest(&unsigned, &fixture::node(), &[old]).is_err());
}
