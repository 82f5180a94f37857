//! The tampering table of security floors: who may raise one, and what lies below it.

use protocol::acceptance::{Acceptance, Known};
use protocol::envelope::{Envelope, Rejected};
use protocol::keys::SecretKey;
use protocol::manifest::Manifest;
use protocol::payload::{Payload, PayloadType};
use protocol::retirement::Retirement;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::fixture;
use crate::tampering::{
    Row, accepted, changed, changes_of, check, check_knowing, to_value, with_payload,
};

/// Any JSON, signed as if it were a retirement.
#[derive(Debug, Serialize, Deserialize)]
#[serde(transparent)]
struct AsRetirement(Value);
impl Payload for AsRetirement {
    const TYPE: PayloadType = PayloadType::Retirement;
}

/// A manifest around this retirement.
fn retiring(retirement: Envelope) -> Result<Acceptance, Rejected> {
    check(&changed(|manifest| manifest.retirements = vec![retirement]))
}

/// Refused for a security floor.
pub(crate) fn floor_rows() -> Vec<Row> {
    let sign = |change: &dyn Fn(&mut Retirement), key: &SecretKey| {
        let mut retirement = fixture::retirement();
        change(&mut retirement);
        retiring(Envelope::sign(&retirement, &[key]))
    };
    let release = fixture::release_key();
    let foreign = protocol::id::FleetId::from_random([0xee; 16]);
    let floors = [(fixture::service("web"), fixture::release().counter + 1)].into();
    let known = Known { floors: &floors, ..Known::NOTHING };
    let only = |change: &dyn Fn(&mut Manifest)| check_knowing(&changed(change), known);
    vec![
        ("bad_signature", sign(&|_| {}, &fixture::director_key())),
        ("bad_signature", sign(&|_| {}, &fixture::root_key())),
        ("bad_signature", sign(&|_| {}, &fixture::stranger())),
        ("wrong_fleet", sign(&|r| r.fleet = foreign.clone(), &release)),
        ("unknown_format", sign(&|r| r.format = 2, &release)),
        ("wrong_payload_type", retiring(Envelope::sign(&fixture::release(), &[&release]))),
        ("retired_release", sign(&|r| r.below = 4, &release)),
        ("retired_release", sign(&|r| r.below = u64::MAX, &release)),
        ("retired_release", check_knowing(&fixture::signed(&fixture::manifest()), known)),
        ("retired_release", check_knowing(&fixture::signed(&fixture::retiring_manifest()), known)),
        (
            "retired_release",
            only(&|m| {
                m.services[0].candidate = None;
                m.hooks.clear();
            }),
        ),
        (
            "retired_release",
            only(&|m| {
                m.services.clear();
                m.removed.insert(fixture::service("web"));
            }),
        ),
    ]
}

#[test]
fn a_change_of_any_field_of_a_retirement_breaks_its_signature() {
    let envelope = Envelope::sign(&fixture::retirement(), &[&fixture::release_key()]);
    let changes = changes_of(&to_value(&fixture::retirement()));
    assert_eq!(changes.len(), 4);
    for (pointer, changed) in changes {
        let refused = retiring(with_payload(&envelope, &changed)).expect_err(&pointer);
        assert_eq!(refused.code(), "bad_signature", "{pointer}");
    }
    let mut more = to_value(&fixture::retirement());
    more["surprise"] = Value::from(1);
    let refused = retiring(Envelope::sign(&AsRetirement(more), &[&fixture::release_key()]));
    assert_eq!(refused.expect_err("an unknown key").code(), "bad_payload");
}

#[test]
fn a_floor_that_everything_reaches_lets_the_manifest_pass() {
    let accepted = accepted(&fixture::signed(&fixture::retiring_manifest()));
    assert_eq!(accepted.floors, [(fixture::service("web"), 3)].into());
    let floors = [(fixture::service("other"), u64::MAX), (fixture::service("web"), 3)].into();
    let known = Known { floors: &floors, ..Known::NOTHING };
    check_knowing(&fixture::signed(&fixture::manifest()), known).expect("it is of no floor");
}
