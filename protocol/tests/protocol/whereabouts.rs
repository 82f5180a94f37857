//! The tampering table of the coordinator's addresses: they count for one fleet, one epoch and one director.

use protocol::envelope::{Envelope, Rejected};
use protocol::hello::Hello;
use protocol::id::FleetId;
use protocol::join::Coordinators;
use protocol::keys::SecretKey;
use protocol::whereabouts::{Edition, Learned, MAX_ADDRESSES, Whereabouts, accept};

use crate::fixture;
use crate::golden::{check_plain, check_signed};

const EDITION: Edition = Edition { epoch: 7, number: 1_790_000_000 };

fn whereabouts() -> Whereabouts {
    Whereabouts {
        format: 1,
        fleet: fixture::fleet(),
        edition: EDITION,
        addresses: vec!["10.0.0.9:8883".to_owned(), "hub.lan:8883".to_owned()],
        forgotten: vec!["10.0.0.1:8883".to_owned()],
    }
}

fn check(bytes: &[u8]) -> Result<Whereabouts, Rejected> {
    accept(bytes, &fixture::root()).map(|said| said.into_inner())
}

fn changed(
    change: impl FnOnce(&mut Whereabouts),
    key: &SecretKey,
) -> Result<Whereabouts, Rejected> {
    let mut said = whereabouts();
    change(&mut said);
    check(&Envelope::sign(&said, &[key]).to_bytes())
}

#[test]
fn addresses_are_written_and_accepted_as_ever() {
    let bytes = check_signed("whereabouts", &whereabouts(), &fixture::director_key());
    assert_eq!(check(&bytes), Ok(whereabouts()));
    let first = Whereabouts { forgotten: Vec::new(), ..whereabouts() };
    let bytes = check_signed("whereabouts-first", &first, &fixture::director_key());
    assert_eq!(check(&bytes), Ok(first));
}

#[test]
fn what_a_node_knows_and_says_of_them_is_written_and_read_as_ever() {
    let addresses = vec!["10.0.0.9:8883".to_owned(), "10.0.0.1:8883".to_owned()];
    let known = Coordinators { addresses: addresses.clone(), edition: None };
    check_plain("coordinators.v1.json", &known);
    let later = Coordinators { edition: Some(EDITION), ..known };
    check_plain("coordinators-learned.v1.json", &later);
    let learned = Some(Learned { edition: EDITION, addresses, broker: None });
    let hello = Hello { learned, ..fixture::hello() };
    let bytes = check_signed("hello-learned", &hello, &fixture::node_key());
    let (read, _) =
        protocol::acceptance::verify_hello(&bytes, &fixture::fleet()).expect("it reads");
    assert_eq!(*read, hello);
}

#[test]
fn addresses_of_somebody_else_or_of_another_form_are_refused() {
    let (director, release) = (fixture::director_key(), fixture::release_key());
    let many = |count: usize| (0..count).map(|n| format!("10.0.0.{n}:1")).collect::<Vec<_>>();
    let found = [
        ("bad_signature", changed(|_| {}, &release)),
        ("bad_signature", changed(|_| {}, &fixture::root_key())),
        ("bad_signature", changed(|_| {}, &fixture::stranger())),
        ("wrong_fleet", changed(|said| said.fleet = FleetId::from_random([1; 16]), &director)),
        ("wrong_epoch", changed(|said| said.edition.epoch += 1, &director)),
        ("wrong_epoch", changed(|said| said.edition.epoch -= 1, &director)),
        ("unknown_format", changed(|said| said.format = 2, &director)),
        ("bad_payload", changed(|said| said.addresses.clear(), &director)),
        ("bad_payload", changed(|said| said.addresses = many(MAX_ADDRESSES + 1), &director)),
        ("bad_payload", changed(|said| said.forgotten = many(MAX_ADDRESSES + 1), &director)),
        ("bad_payload", changed(|said| said.addresses[0] = "hub".to_owned(), &director)),
        ("bad_payload", changed(|said| said.forgotten[0] = "hub:0".to_owned(), &director)),
        ("wrong_payload_type", check(&fixture::signed(&fixture::manifest()))),
        ("bad_envelope", check(b"hub:8883")),
    ];
    for (code, outcome) in found {
        assert_eq!(outcome.expect_err(code).code(), code);
    }
}
