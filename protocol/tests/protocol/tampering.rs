//! The tampering table: each field of what is signed, and each reason of refusal.

use std::collections::BTreeSet;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use protocol::acceptance::{
    Acceptance, Accepted, Known, Seen, accept, verify_hello, verify_node_message,
};
use protocol::envelope::{Envelope, MAX_ENVELOPE_BYTES, Rejected};
use protocol::keys::{PublicKey, Role, RoleName, Root, SecretKey};
use protocol::manifest::{MAX_GENERATION_JUMP, Manifest, Version};
use protocol::payload::{Payload, PayloadType};
use protocol::report::Report;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::fixture;
use crate::retiring::floor_rows;

pub(crate) fn check(bytes: &[u8]) -> Result<Acceptance, Rejected> {
    check_knowing(bytes, Known::NOTHING)
}

pub(crate) fn check_knowing(bytes: &[u8], known: Known<'_>) -> Result<Acceptance, Rejected> {
    accept(bytes, &fixture::root().into(), &fixture::identity(), known)
}

fn check_after(bytes: &[u8], seen: &Seen) -> Result<Acceptance, Rejected> {
    check_knowing(bytes, Known { seen: Some(seen), ..Known::NOTHING })
}

pub(crate) fn accepted(bytes: &[u8]) -> Accepted {
    match check(bytes) {
        Ok(Acceptance::New(accepted)) => *accepted,
        other => panic!("{other:?}"),
    }
}

/// The good manifest after a change, signed by the director.
pub(crate) fn changed(change: impl FnOnce(&mut Manifest)) -> Vec<u8> {
    let mut manifest = fixture::manifest();
    change(&mut manifest);
    fixture::signed(&manifest)
}

/// The good envelope after a change of its outer JSON.
fn outer(change: impl FnOnce(&mut Value)) -> Vec<u8> {
    let mut envelope =
        serde_json::from_slice(&fixture::signed(&fixture::manifest())).expect("JSON");
    change(&mut envelope);
    serde_json::to_vec(&envelope).expect("JSON")
}

/// Any JSON, signed as if it were a `P`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(transparent)]
struct AsManifest(Value);
impl Payload for AsManifest {
    const TYPE: PayloadType = PayloadType::Manifest;
}
#[derive(Debug, Serialize, Deserialize)]
#[serde(transparent)]
struct AsRelease(Value);
impl Payload for AsRelease {
    const TYPE: PayloadType = PayloadType::Release;
}

pub(crate) fn to_value(value: &impl Serialize) -> Value {
    serde_json::to_value(value).expect("JSON")
}

/// JSON pointers of all values below `value`, containers included.
fn pointers(value: &Value, at: &str, found: &mut Vec<String>) {
    let escape = |key: &str| key.replace('~', "~0").replace('/', "~1");
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                let at = format!("{at}/{}", escape(key));
                found.push(at.clone());
                pointers(value, &at, found);
            }
        }
        Value::Array(list) => {
            for (index, value) in list.iter().enumerate() {
                let at = format!("{at}/{index}");
                found.push(at.clone());
                pointers(value, &at, found);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// Another value of the same kind.
fn other(value: &Value) -> Value {
    match value {
        Value::Null => Value::from(1),
        Value::Bool(switch) => Value::from(!switch),
        Value::Number(number) => Value::from(number.as_i64().expect("whole") + 1),
        Value::String(text) => Value::from(format!("{text}x")),
        Value::Array(list) => Value::from(list.iter().skip(1).cloned().collect::<Vec<_>>()),
        Value::Object(map) => Value::Object(map.clone().into_iter().skip(1).collect()),
    }
}

/// The envelope of `payload` with other bytes under the same signatures.
pub(crate) fn with_payload(envelope: &Envelope, payload: &Value) -> Envelope {
    let bytes = serde_json::to_vec(payload).expect("JSON");
    Envelope { payload: BASE64.encode(bytes), ..envelope.clone() }
}

pub(crate) fn changes_of(document: &Value) -> Vec<(String, Value)> {
    let mut found = Vec::new();
    pointers(document, "", &mut found);
    let change = |pointer: String| {
        let mut changed = document.clone();
        let place = changed.pointer_mut(&pointer).expect("the pointer was found");
        *place = other(place);
        (pointer, changed)
    };
    found.into_iter().map(change).filter(|(_, changed)| changed != document).collect()
}

#[test]
fn a_change_of_any_field_of_a_manifest_breaks_its_signature() {
    let envelope = Envelope::sign(&fixture::manifest(), &[&fixture::director_key()]);
    let changes = changes_of(&to_value(&fixture::manifest()));
    assert!(changes.len() > 20, "{}", changes.len());
    for (pointer, changed) in changes {
        let refused = check(&with_payload(&envelope, &changed).to_bytes());
        let expected = Rejected::BadSignature { valid: 0, threshold: 1 };
        assert_eq!(refused, Err(expected), "{pointer}");
    }
}

#[test]
fn a_change_of_any_field_of_a_release_refuses_the_manifest_that_carries_it() {
    let envelope = Envelope::sign(&fixture::release(), &[&fixture::release_key()]);
    let changes = changes_of(&to_value(&fixture::release()));
    assert!(changes.len() > 100, "{}", changes.len());
    for (pointer, changed) in changes {
        let bytes = changed_release(with_payload(&envelope, &changed));
        let refused = check(&bytes).expect_err(&pointer);
        assert_eq!(refused.code(), "bad_signature", "{pointer}");
    }
}

/// The good manifest, signed by the director, around another envelope of its release.
fn changed_release(envelope: Envelope) -> Vec<u8> {
    changed(|manifest| manifest.releases = vec![envelope])
}

/// Tables of free keys: an unknown one is an entry there.
const FREE: [&str; 5] = ["env", "labels", "tmpfs", "ulimits", "roles"];

#[test]
fn an_unknown_key_is_refused_in_every_object_even_when_signed() {
    let release = to_value(&fixture::release());
    let mut found = vec![String::new()];
    pointers(&release, "", &mut found);
    let mut objects = 0;
    for pointer in found {
        let free = pointer.rsplit('/').next().is_some_and(|last| FREE.contains(&last));
        let mut changed = release.clone();
        let Some(Value::Object(map)) = changed.pointer_mut(&pointer) else { continue };
        if free {
            continue;
        }
        map.insert("surprise".to_owned(), Value::from(1));
        objects += 1;
        let bytes =
            changed_release(Envelope::sign(&AsRelease(changed), &[&fixture::release_key()]));
        assert_eq!(check(&bytes).expect_err(&pointer).code(), "bad_payload", "{pointer:?}");
    }
    assert!(objects > 20, "{objects}");
    for pointer in ["", "/version", "/services/0"] {
        let mut changed = to_value(&fixture::manifest());
        changed.pointer_mut(pointer).expect("an object")["surprise"] = Value::from(1);
        let bytes = Envelope::sign(&AsManifest(changed), &[&fixture::director_key()]).to_bytes();
        assert_eq!(check(&bytes).expect_err(pointer).code(), "bad_payload", "{pointer:?}");
    }
}

#[test]
fn unknown_fields_and_hints_of_the_outer_envelope_prove_nothing_and_are_ignored() {
    let bytes = outer(|envelope| {
        envelope["note"] = Value::from("hi");
        envelope["signatures"][0]["keyid"] = Value::from("0000000000000000");
    });
    assert_eq!(*accepted(&bytes).manifest, fixture::manifest());
}

#[test]
fn a_threshold_counts_distinct_keys() {
    let two = Role {
        keys: vec![fixture::director_key().public(), fixture::stranger().public()],
        threshold: 2,
    };
    let mut root = fixture::root();
    root.roles.insert(RoleName::Director, two);
    let check = |keys: &[&SecretKey]| {
        let bytes = Envelope::sign(&fixture::manifest(), keys).to_bytes();
        accept(&bytes, &root.clone().into(), &fixture::identity(), Known::NOTHING)
    };
    let (one, other) = (fixture::director_key(), fixture::stranger());
    let twice = check(&[&one, &one]).expect_err("one key twice is one");
    assert_eq!(twice, Rejected::BadSignature { valid: 1, threshold: 2 });
    check(&[&one, &other]).expect("two keys are two");
}

#[test]
fn the_order_of_manifests_is_kept() {
    let generation = |generation| changed(|m| m.version.generation = generation);
    let seen = accepted(&generation(42)).seen();
    assert_eq!(check_after(&generation(42), &seen), Ok(Acceptance::Same));
    assert!(matches!(check_after(&generation(43), &seen), Ok(Acceptance::New(_))));
    let stale = check_after(&generation(41), &seen);
    assert_eq!(stale, Err(Rejected::StaleGeneration { found: 41, seen: 42 }));
    assert!(check_after(&generation(42 + MAX_GENERATION_JUMP), &seen).is_ok());
    let newer_epoch = Seen { version: Version { epoch: 6, generation: 900 }, ..seen.clone() };
    assert!(check_after(&generation(1), &newer_epoch).is_ok(), "a new epoch counts anew");
    let older_root = Seen { version: Version { epoch: 8, generation: 1 }, ..seen };
    let refused = check_after(&generation(42), &older_root);
    assert_eq!(refused, Err(Rejected::WrongEpoch { found: 7, expected: 8 }));
}

pub(crate) type Row = (&'static str, Result<Acceptance, Rejected>);

/// Refused for its envelope, signature or form.
fn envelope_rows() -> Vec<Row> {
    let good = fixture::signed(&fixture::manifest());
    let payload = |change: &dyn Fn(&mut Value)| {
        let mut value = to_value(&fixture::manifest());
        change(&mut value);
        check(&Envelope::sign(&AsManifest(value), &[&fixture::director_key()]).to_bytes())
    };
    let deep = (0..40).fold(Value::from(1), |inner, _| Value::from(vec![inner]));
    let mut ten_mebibytes = good.clone();
    ten_mebibytes.resize(10 << 20, b' ');
    let mut no_director = fixture::root();
    no_director.roles.remove(&RoleName::Director);
    vec![
        ("too_large", check(&ten_mebibytes)),
        ("too_large", check(&vec![b' '; MAX_ENVELOPE_BYTES + 1])),
        ("bad_envelope", check(b"not JSON")),
        ("bad_envelope", check(&good[..good.len() - 1])),
        ("bad_envelope", check(b"\xef\xbb\xbf{}")),
        (
            "wrong_payload_type",
            check(&Envelope::sign(&fixture::release(), &[&fixture::release_key()]).to_bytes()),
        ),
        ("bad_base64", check(&outer(|e| e["payload"] = Value::from("?")))),
        ("bad_base64", check(&outer(|e| e["signatures"][0]["sig"] = Value::from("AAAA")))),
        ("signature_count", check(&outer(|e| e["signatures"] = Value::Array(vec![])))),
        (
            "signature_count",
            check(&outer(|e| {
                e["signatures"] = Value::from(vec![e["signatures"][0].clone(); 17]);
            })),
        ),
        (
            "bad_signature",
            check(&Envelope::sign(&fixture::manifest(), &[&fixture::stranger()]).to_bytes()),
        ),
        (
            "bad_signature",
            check(&Envelope::sign(&fixture::manifest(), &[&fixture::release_key()]).to_bytes()),
        ),
        (
            "bad_signature",
            check(&outer(|e| {
                let release = Envelope::sign(&fixture::release(), &[&fixture::director_key()]);
                e["payload"] = Value::from(release.payload);
            })),
        ),
        ("no_role", accept(&good, &no_director.into(), &fixture::identity(), Known::NOTHING)),
        ("too_deep", payload(&|m| m["services"] = deep.clone())),
        ("bad_payload", payload(&|m| m["issued_at"] = Value::from("today"))),
        ("bad_payload", payload(&|m| m["issued_at"] = Value::from(1.5))),
        ("unknown_format", payload(&|m| m["format"] = Value::from(2))),
        ("unknown_format", payload(&|m| m["format"] = Value::from(0))),
    ]
}

/// Refused for what it says.
fn content_rows() -> Vec<Row> {
    let good = fixture::signed(&fixture::manifest());
    let seen = accepted(&good).seen();
    let mut foreign = fixture::release();
    foreign.fleet = protocol::id::FleetId::from_random([0xee; 16]);
    let by_stranger = Envelope::sign(&fixture::release(), &[&fixture::stranger()]);
    let running = BTreeSet::from([fixture::service("database")]);
    vec![
        ("wrong_fleet", check(&changed(|m| m.fleet = foreign.fleet.clone()))),
        ("wrong_node", check(&changed(|m| m.node = fixture::stranger().public().node_id()))),
        (
            "wrong_environment",
            check(&changed(|m| m.environment = "staging".parse().expect("a name"))),
        ),
        ("wrong_epoch", check(&changed(|m| m.version.epoch = 8))),
        ("wrong_epoch", check(&changed(|m| m.version.epoch = 6))),
        ("stale_generation", check_after(&changed(|m| m.version.generation = 41), &seen)),
        ("equivocation", check_after(&changed(|m| m.issued_at += 1), &seen)),
        (
            "generation_jump",
            check_after(&changed(|m| m.version.generation += MAX_GENERATION_JUMP + 1), &seen),
        ),
        ("generation_jump", check(&changed(|m| m.version.generation = u64::MAX))),
        ("unnamed_removal", check_knowing(&good, Known { running: &running, ..Known::NOTHING })),
        ("duplicate_service", check(&changed(|m| m.services.push(m.services[0].clone())))),
        ("duplicate_service", check(&changed(|m| _ = m.removed.insert(fixture::service("web"))))),
        ("missing_release", check(&changed(|m| m.releases.clear()))),
        ("foreign_release", check(&changed(|m| m.services[0].service = fixture::service("other")))),
        ("foreign_release", check(&fixture::signed(&fixture::manifest_of(&[foreign])))),
        ("bad_signature", check(&changed_release(by_stranger))),
        ("bad_signature", {
            let forged = Envelope::sign(&fixture::release(), &[&fixture::director_key()]);
            check(&changed_release(forged))
        }),
    ]
}

#[test]
fn each_reason_of_refusal_has_its_row() {
    let mut covered = BTreeSet::new();
    let rows = [envelope_rows(), content_rows(), floor_rows()].into_iter().flatten();
    for (expected, outcome) in rows {
        let refused = outcome.expect_err(expected);
        assert_eq!(refused.code(), expected, "{refused}");
        assert!(!refused.to_string().is_empty());
        covered.insert(refused.code());
    }
    covered.extend(crate::succession::rows().into_iter().map(|refused| refused.code()));
    covered.extend(crate::time::rows().into_iter().map(|refused| refused.code()));
    covered.extend(node_rows().into_iter().map(|refused| refused.code()));
    assert_eq!(covered, BTreeSet::from(Rejected::CODES), "a reason without a row");
}

/// What nodes sign, refused.
fn node_rows() -> Vec<Rejected> {
    let hello = |change: &dyn Fn(&mut protocol::hello::Hello), key: &SecretKey| {
        let mut hello = fixture::hello();
        change(&mut hello);
        verify_hello(&Envelope::sign(&hello, &[key]).to_bytes(), &fixture::fleet())
            .expect_err("it was changed")
    };
    let node = fixture::node_key();
    let stranger = fixture::stranger();
    let claims = |key: &SecretKey| {
        let key: PublicKey = key.public();
        move |hello: &mut protocol::hello::Hello| hello.public_key = key.to_base64()
    };
    let report = Envelope::sign(&fixture::report(), &[&stranger]).to_bytes();
    let report = |key: PublicKey| {
        verify_node_message::<Report>(&report, &fixture::fleet(), &key).expect_err("a stranger's")
    };
    let found = vec![
        hello(&|_| {}, &stranger),
        hello(&claims(&stranger), &stranger),
        hello(&|hello| hello.fleet = protocol::id::FleetId::from_random([1; 16]), &node),
        hello(&|hello| hello.public_key = "?".to_owned(), &node),
        report(node.public()),
        report(stranger.public()),
    ];
    let codes: Vec<_> = found.iter().map(Rejected::code).collect();
    let expected = [
        "bad_signature",
        "foreign_key",
        "wrong_fleet",
        "bad_payload",
        "bad_signature",
        "foreign_key",
    ];
    assert_eq!(codes, expected);
    found
}

#[test]
fn a_root_verifies_under_itself_and_names_no_role_for_nodes() {
    let root: Root = fixture::root();
    assert!(root.role_for(PayloadType::Hello).is_none());
    assert!(root.role_for(PayloadType::Report).is_none());
    assert!(root.role_for(PayloadType::AgentRelease).is_none(), "nobody may sign agents here");
    let directors = [
        PayloadType::Manifest,
        PayloadType::Time,
        PayloadType::Whereabouts,
        PayloadType::Recovery,
        PayloadType::Command,
    ];
    for purpose in directors {
        assert_eq!(root.role_for(purpose), root.roles.get(&RoleName::Director), "{purpose}");
    }
    let signed = Envelope::sign(&root, &[&fixture::director_key()]);
    assert_eq!(signed.verify::<Root>(&root).expect_err("not a root key").code(), "bad_signature");
}
