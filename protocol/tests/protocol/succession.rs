//! One trust root after another: what follows, what is refused, and how a node that was away catches up.

use std::collections::BTreeSet;

use protocol::acceptance::{Acceptance, Known, Trust, accept, reread, verify_held_release};
use protocol::envelope::{Envelope, Rejected};
use protocol::id::FleetId;
use protocol::keys::{MAX_ROLE_KEYS, Role, RoleName, Root, SecretKey};
use protocol::succession::{Chain, MAX_CHAIN, MAX_CHAIN_BYTES, first, succeed, walk};

use crate::fixture;

/// The second root after a change, signed by these keys.
fn second(change: impl FnOnce(&mut Root), keys: &[&SecretKey]) -> Result<Root, Rejected> {
    let mut root = fixture::second_root();
    change(&mut root);
    succeed(&fixture::root(), &Envelope::sign(&root, keys)).map(|root| root.into_inner())
}

/// Signed as it has to be.
fn changed(change: impl FnOnce(&mut Root)) -> Result<Root, Rejected> {
    second(change, &[&fixture::root_key(), &fixture::second_root_key()])
}

fn role(seeds: &[u8], threshold: u32) -> Role {
    let key = |seed: &u8| SecretKey::from_seed([*seed; 32]).public();
    Role { keys: seeds.iter().map(key).collect(), threshold }
}

/// Version `n` of a fleet whose director changes each time, signed by the one root key.
fn version(n: u64) -> Root {
    let mut root = Root { version: n, ..fixture::root() };
    let seed = 100 + u8::try_from(n).expect("a small number");
    root.roles.insert(RoleName::Director, role(&[seed], 1));
    root
}

fn versions(numbers: std::ops::RangeInclusive<u64>) -> Chain {
    let sign = |n| Envelope::sign(&version(n), &[&fixture::root_key()]);
    Chain { roots: numbers.map(sign).collect() }
}

/// Every reason to refuse a root, by the code it has.
pub(crate) fn rows() -> Vec<Rejected> {
    let (one, two) = (fixture::root_key(), fixture::second_root_key());
    let stranger = fixture::stranger();
    let with_root = |role: Role| move |root: &mut Root| _ = root.roles.insert(RoleName::Root, role);
    let fork = Root { epoch: 8, ..fixture::root() };
    let fork = Chain { roots: vec![Envelope::sign(&fork, &[&one])] };
    let too_many = Chain { roots: vec![fixture::chain().roots[0].clone(); MAX_CHAIN + 1] };
    let too_many = serde_json::to_vec(&too_many).expect("JSON");
    let rows = vec![
        ("root_signature", second(|_| {}, &[&one]).expect_err("not under its own")),
        ("root_signature", second(|_| {}, &[&two]).expect_err("not under the one before")),
        ("root_signature", second(|_| {}, &[&one, &one]).expect_err("the same key twice")),
        ("root_signature", second(|_| {}, &[&one, &stranger]).expect_err("a wrong key")),
        ("root_signature", second(|_| {}, &[&stranger, &two]).expect_err("a wrong key")),
        ("wrong_fleet", changed(|r| r.fleet = FleetId::from_random([1; 16])).expect_err("fleet")),
        ("root_version", changed(|r| r.version = 1).expect_err("an older one")),
        ("root_version", changed(|r| r.version = 3).expect_err("one is missing")),
        ("lower_epoch", changed(|r| r.epoch = 6).expect_err("an old epoch")),
        ("bad_role", changed(|r| _ = r.roles.remove(&RoleName::Director)).expect_err("nobody")),
        ("bad_role", changed(with_root(role(&[1, 11], 0))).expect_err("threshold 0")),
        ("bad_role", changed(with_root(role(&[1, 11], 3))).expect_err("too high a threshold")),
        ("bad_role", changed(with_root(role(&[1, 1], 2))).expect_err("one key named twice")),
        ("bad_role", {
            let keys: Vec<u8> = (1..=u8::try_from(MAX_ROLE_KEYS).expect("few") + 1).collect();
            changed(with_root(role(&keys, 1))).expect_err("too many keys")
        }),
        ("unknown_format", changed(|r| r.format = 2).expect_err("a later format")),
        ("root_fork", walk(&fixture::root(), &fork).refused.expect("another version 1")),
        ("chain_too_long", Chain::from_bytes(&vec![b' '; MAX_CHAIN_BYTES + 1]).expect_err("size")),
        ("chain_too_long", Chain::from_bytes(&too_many).expect_err("count")),
        ("bad_envelope", Chain::from_bytes(b"[]").expect_err("no chain")),
    ];
    let check = |(expected, refused): (&str, Rejected)| {
        assert_eq!(refused.code(), expected, "{refused}");
        refused
    };
    rows.into_iter().map(check).collect()
}

#[test]
fn a_root_that_is_signed_under_both_follows() {
    assert_eq!(changed(|_| {}), Ok(fixture::second_root()));
    assert!(changed(|root| root.epoch = 8).is_ok(), "the epoch may rise");
    assert!(!rows().is_empty());
}

#[test]
fn a_changed_byte_of_a_root_breaks_both_its_signatures() {
    let envelope = &fixture::chain().roots[0];
    let mut other = fixture::second_root();
    other.epoch += 1;
    let payload = Envelope::sign(&other, &[&fixture::root_key()]).payload;
    let refused = succeed(&fixture::root(), &Envelope { payload, ..envelope.clone() });
    assert!(matches!(refused, Err(Rejected::RootSignature { version: 1, valid: 0, .. })));
}

#[test]
fn a_second_person_adds_a_signature_over_the_same_bytes() {
    let (one, two) = (fixture::root_key(), fixture::second_root_key());
    let mut envelope = Envelope::sign(&fixture::second_root(), &[&one]);
    for _ in 0..2 {
        envelope.sign_too::<Root>(&two).expect("there is room");
    }
    assert_eq!(envelope, fixture::chain().roots[0], "and signing twice adds nothing");
    let wrong = envelope.sign_too::<protocol::release::Release>(&two);
    assert_eq!(wrong.expect_err("a root is no release").code(), "wrong_payload_type");
}

#[test]
fn a_first_root_vouches_for_itself() {
    let root = fixture::root();
    let signed = |key: &SecretKey| first(&Envelope::sign(&root, &[key]));
    assert_eq!(*signed(&fixture::root_key()).expect("its own key"), root);
    assert_eq!(signed(&fixture::stranger()).expect_err("not its key").code(), "bad_signature");
}

#[test]
fn who_was_away_walks_over_every_root_to_the_newest() {
    let walked = walk(&fixture::root(), &versions(2..=9));
    let numbers: Vec<u64> = walked.roots.iter().map(|signed| signed.root.version).collect();
    assert_eq!((numbers, walked.refused), ((2..=9).collect(), None));
    let late = walk(&version(7), &versions(2..=9));
    assert_eq!(late.roots.len(), 2, "what is known is passed over");
    assert!(walk(&version(9), &versions(2..=9)).roots.is_empty());
    assert!(walk(&version(9), &versions(2..=5)).roots.is_empty(), "replayed: nothing goes back");
}

#[test]
fn a_gap_or_a_forgery_ends_the_walk_where_it_stands() {
    let mut gap = versions(2..=5);
    gap.roots.remove(1);
    let walked = walk(&fixture::root(), &gap);
    assert_eq!(walked.roots.len(), 1);
    assert_eq!(walked.refused, Some(Rejected::RootVersion { found: 4, expected: 3 }));
    let mut forged = versions(2..=5);
    forged.roots[3] = Envelope::sign(&version(5), &[&fixture::stranger()]);
    let walked = walk(&fixture::root(), &forged);
    assert_eq!(walked.roots.last().map(|signed| signed.root.version), Some(4));
    assert_eq!(walked.refused.map(|refused| refused.code()), Some("root_signature"));
}

#[test]
fn a_chain_that_grew_too_long_travels_with_its_newest_roots() {
    let one = fixture::chain().roots[0].clone();
    let long = Chain { roots: vec![one; MAX_CHAIN + 40] };
    let bytes = long.to_bytes();
    assert!(bytes.len() <= MAX_CHAIN_BYTES);
    let read = Chain::from_bytes(&bytes).expect("it is within its bounds");
    assert!(read.roots.len() > 50 && read.roots.len() <= MAX_CHAIN, "{}", read.roots.len());
    let mut newest = versions(2..=3);
    newest.roots.splice(0..0, std::iter::repeat_n(fixture::chain().roots[0].clone(), 600));
    let read = Chain::from_bytes(&newest.to_bytes()).expect("within its bounds");
    assert_eq!(read.roots.last(), newest.roots.last());
}

/// The fleet after its release and director keys were replaced.
fn after_rotation(held: bool) -> Trust {
    let mut root = Root { version: 2, ..fixture::root() };
    root.roles.insert(RoleName::Release, role(&[21], 1));
    root.roles.insert(RoleName::Director, role(&[22], 1));
    let release = fixture::id_of(&fixture::release());
    let held = if held { BTreeSet::from([release]) } else { BTreeSet::new() };
    Trust { root, former: vec![fixture::root()], held }
}

#[test]
fn a_manifest_of_the_old_director_is_read_again_from_the_disk_and_never_accepted_anew() {
    let bytes = fixture::signed(&fixture::manifest());
    let trust = after_rotation(true);
    let refused = accept(&bytes, &trust, &fixture::identity(), Known::NOTHING);
    assert_eq!(refused.expect_err("the old director").code(), "bad_signature");
    let again = reread(&bytes, &trust, &fixture::identity()).expect("it was accepted before");
    assert_eq!(*again.manifest, fixture::manifest());
    let forgotten = Trust { former: Vec::new(), ..trust };
    assert!(reread(&bytes, &forgotten, &fixture::identity()).is_err());
}

#[test]
fn a_release_of_a_revoked_key_goes_on_where_it_is_and_comes_nowhere_else() {
    let new_director = SecretKey::from_seed([22; 32]);
    let bytes = Envelope::sign(&fixture::manifest(), &[&new_director]).to_bytes();
    let accept = |held| accept(&bytes, &after_rotation(held), &fixture::identity(), Known::NOTHING);
    assert!(matches!(accept(true), Ok(Acceptance::New(_))));
    assert_eq!(accept(false).expect_err("it does not run here").code(), "bad_signature");
    let release = &fixture::manifest().releases[0];
    let held = verify_held_release(release, &after_rotation(true), &fixture::fleet());
    assert_eq!(*held.expect("it is held"), fixture::release());
}
