//! Joining: golden bytes of requests and answers, and what is refused of them.

use std::collections::BTreeMap;

use protocol::envelope::{Envelope, Rejected};
use protocol::id::{FleetId, NodeId};
use protocol::join::{
    Answer, Approved, Join, JoinBody, Offer, RefusalCode, Refused, Renew, RenewBody, SealKey,
    Times, TlsKey, Token, node_dns_name, server_name, verify_join, verify_renew,
};
use protocol::keys::SecretKey;
use serde_json::Value;

use crate::fixture;
use crate::golden::{check_plain, check_signed};
use crate::tampering::{changes_of, with_payload};

/// The DER of a P-256 key, its point made of one byte.
pub(crate) fn tls_key() -> TlsKey {
    let mut der = vec![
        0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08,
        0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00, 0x04,
    ];
    der.extend([9; 64]);
    TlsKey::from_der(&der).expect("a P-256 key")
}

fn token() -> Token {
    let Offer { id, secret } = Offer::from_random([5; 32]);
    Token {
        fleet: fixture::fleet(),
        addresses: vec!["10.0.0.2:8883".to_owned()],
        ca_sha256: protocol::id::sha256_hex(b"a CA"),
        id,
        secret,
    }
}

fn join() -> Join {
    Join {
        format: 1,
        fleet: fixture::fleet(),
        node: fixture::node(),
        public_key: fixture::node_key().public().to_base64(),
        tls_key: tls_key(),
        seal_key: SealKey::from_bytes([8; 32]),
        name: "opi-1".parse().expect("a node name"),
        environment: Some(fixture::identity().environment),
        labels: BTreeMap::from([("zone".to_owned(), "edge".to_owned())]),
        token: token().id,
    }
}

fn renew() -> Renew {
    Renew {
        format: 1,
        fleet: fixture::fleet(),
        node: fixture::node(),
        public_key: fixture::node_key().public().to_base64(),
        tls_key: tls_key(),
        root_version: 1,
        again: None,
    }
}

fn approved() -> Answer {
    Answer::Approved(Box::new(Approved {
        certificate: "-----BEGIN CERTIFICATE-----\n".to_owned(),
        ca: "-----BEGIN CERTIFICATE-----\n".to_owned(),
        roots: vec![Envelope::sign(&fixture::root(), &[&fixture::root_key()])],
        environment: fixture::identity().environment,
        labels: join().labels,
        broker: None,
        times: Times { renew_at: 5_184_000, expires_at: 7_776_000 },
    }))
}

#[test]
fn what_joining_says_is_written_and_read_as_ever() {
    let node = fixture::node_key();
    let bytes = check_signed("join", &join(), &node);
    let (read, key) = verify_join(&bytes, &fixture::fleet()).expect("it verifies");
    assert_eq!((&*read, &key), (&join(), &node.public()));
    let bytes = check_signed("renew", &renew(), &node);
    let (read, _) = verify_renew(&bytes, &fixture::fleet()).expect("it verifies");
    assert_eq!(*read, renew());
    let request = Envelope::sign(&join(), &[&node]);
    check_plain("join-body.v1.json", &JoinBody { secret: token().secret, request });
    check_plain(
        "renew-body.v1.json",
        &RenewBody { request: Envelope::sign(&renew(), &[&node]), manifest: None },
    );
    check_plain("join-approved.v1.json", &approved());
    check_plain("join-pending.v1.json", &Answer::Pending);
    let refused =
        Refused { code: RefusalCode::TokenExpired, message: "the token is too old".to_owned() };
    check_plain("join-refused.v1.json", &Answer::Refused(refused));
    check_plain("token.v1.json", &token());
    let line =
        String::from_utf8(crate::golden::golden("token.v1.txt", token().encode().as_bytes()));
    assert_eq!(line.expect("text").parse(), Ok(token()));
}

#[test]
fn a_refusal_of_a_later_version_is_still_a_refusal() {
    let text = r#"{"answer":"refused","code":"moon_phase","message":"not today"}"#;
    let Ok(Answer::Refused(refused)) = serde_json::from_str(text) else { panic!("a refusal") };
    assert_eq!(refused.code, RefusalCode::Other("moon_phase".into()));
    assert!(!refused.code.may_pass() && RefusalCode::Busy.may_pass());
    let again = serde_json::to_string(&Answer::Refused(refused)).expect("JSON");
    assert_eq!(again, text);
}

#[test]
fn a_change_of_any_field_of_a_request_breaks_its_signature() {
    fn check<T: serde::Serialize>(
        value: &T,
        envelope: &Envelope,
        verify: &dyn Fn(&[u8]) -> Option<Rejected>,
    ) {
        let changes = changes_of(&serde_json::to_value(value).expect("JSON"));
        assert!(changes.len() >= 6, "{}", changes.len());
        for (pointer, changed) in changes {
            let refused = verify(&with_payload(envelope, &changed).to_bytes());
            // Another key in the payload is no key at all here; a whole one would miss its own signature.
            let expected = if pointer == "/public_key" { "bad_payload" } else { "bad_signature" };
            assert_eq!(refused.as_ref().map(Rejected::code), Some(expected), "{pointer}");
        }
    }
    let key = fixture::node_key();
    let fleet = fixture::fleet();
    check(&join(), &Envelope::sign(&join(), &[&key]), &|b| verify_join(b, &fleet).err());
    check(&renew(), &Envelope::sign(&renew(), &[&key]), &|b| verify_renew(b, &fleet).err());
}

#[test]
fn a_request_of_another_key_fleet_or_purpose_is_refused() {
    let check = |join: &Join, key: &SecretKey| {
        verify_join(&Envelope::sign(join, &[key]).to_bytes(), &fixture::fleet())
            .expect_err("it was changed")
            .code()
    };
    let (node, stranger) = (fixture::node_key(), fixture::stranger());
    assert_eq!(check(&join(), &stranger), "bad_signature");
    let others = Join { public_key: stranger.public().to_base64(), ..join() };
    assert_eq!(check(&others, &stranger), "foreign_key", "an id is the hash of its key");
    let elsewhere = Join { fleet: FleetId::from_random([1; 16]), ..join() };
    assert_eq!(check(&elsewhere, &node), "wrong_fleet");
    let renewal = Envelope::sign(&renew(), &[&node]).to_bytes();
    let refused = verify_join(&renewal, &fixture::fleet()).expect_err("another purpose");
    assert_eq!(refused.code(), "wrong_payload_type");
}

#[test]
fn a_tls_key_that_is_not_p256_is_refused() {
    let mut value = serde_json::to_value(join()).expect("JSON");
    for key in ["", "?", "AAAA", "MCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE="] {
        value["tls_key"] = Value::from(key);
        let refused = serde_json::from_value::<Join>(value.clone()).expect_err(key).to_string();
        assert!(refused.contains("not a P-256 public key"), "{refused}");
    }
    assert_eq!(tls_key().point().len(), 65);
}

#[test]
fn the_names_that_tls_asks_for_are_dns_names() {
    let fleet: FleetId = "f1".repeat(16).parse().expect("a fleet");
    let node: NodeId = "0a".repeat(16).parse().expect("a node");
    assert_eq!(server_name(&fleet), format!("{fleet}.pith"));
    assert_eq!(node_dns_name(&fleet, &node), format!("{node}.node.{fleet}.pith"));
}
