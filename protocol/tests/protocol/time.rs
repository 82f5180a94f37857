//! The tampering table of signed times: an answer counts for one node, one nonce and one director.

use protocol::envelope::{Envelope, Rejected};
use protocol::id::{FleetId, sha256_hex};
use protocol::keys::SecretKey;
use protocol::manifest::Version;
use protocol::time::{Newest, Time, accept, is_nonce};

use crate::fixture;
use crate::golden::check_signed;

const NONCE: &str = "00112233445566778899aabbccddeeff";

fn time() -> Time {
    Time {
        format: 1,
        fleet: fixture::fleet(),
        node: fixture::node(),
        nonce: NONCE.to_owned(),
        unix_s: 1_790_000_000,
        newest: Some(Newest {
            version: Version { epoch: 7, generation: 42 },
            payload_sha256: sha256_hex(b"a manifest"),
        }),
    }
}

fn check(bytes: &[u8], nonce: Option<&str>) -> Result<Time, Rejected> {
    let accepted = accept(bytes, &fixture::root(), &fixture::identity(), nonce);
    accepted.map(|time| time.into_inner())
}

fn changed(change: impl FnOnce(&mut Time), key: &SecretKey) -> Result<Time, Rejected> {
    let mut time = time();
    change(&mut time);
    check(&Envelope::sign(&time, &[key]).to_bytes(), Some(NONCE))
}

#[test]
fn the_time_is_written_and_accepted_as_ever() {
    let bytes = check_signed("time", &time(), &fixture::director_key());
    assert_eq!(check(&bytes, Some(NONCE)), Ok(time()));
    let first = Time { newest: None, ..time() };
    let bytes = check_signed("time-first", &first, &fixture::director_key());
    assert_eq!(check(&bytes, Some(NONCE)), Ok(first));
}

/// Refused for what is a time's alone.
pub(crate) fn rows() -> Vec<Rejected> {
    let director = fixture::director_key();
    let good = Envelope::sign(&time(), &[&director]).to_bytes();
    let release = fixture::release_key();
    let found = [
        ("wrong_nonce", check(&good, None)),
        ("wrong_nonce", check(&good, Some("ffffffffffffffffffffffffffffffff"))),
        ("wrong_nonce", changed(|time| time.nonce.push('0'), &director)),
        ("wrong_node", changed(|time| time.node = release.public().node_id(), &director)),
        ("wrong_fleet", changed(|time| time.fleet = FleetId::from_random([1; 16]), &director)),
        ("unknown_format", changed(|time| time.format = 2, &director)),
        ("bad_signature", changed(|_| {}, &release)),
        ("bad_signature", changed(|_| {}, &fixture::node_key())),
        ("wrong_payload_type", check(&fixture::signed(&fixture::manifest()), Some(NONCE))),
        ("bad_envelope", check(b"12:00", Some(NONCE))),
    ];
    let row = |(code, outcome): (&str, Result<Time, Rejected>)| {
        let refused = outcome.expect_err(code);
        assert_eq!(refused.code(), code, "{refused}");
        refused
    };
    found.into_iter().map(row).collect()
}

#[test]
fn only_what_looks_like_a_nonce_is_answered() {
    assert!(is_nonce(NONCE) && is_nonce(&"f".repeat(64)));
    for not in [
        "",
        "0123",
        &"f".repeat(65),
        "00112233445566778899aabbccddeefg",
        "\u{e9}".repeat(16).as_str(),
    ] {
        assert!(!is_nonce(not), "{not}");
    }
}
