//! The tampering table of releases of the agent: signed by their own role, for one fleet, and never older than what ran.

use std::collections::BTreeMap;

use protocol::agent_release::{
    AgentRelease, AgentUpdate, AgentVersion, MAX_PROGRAM_BYTES, NotTaken, Program, UpdatePhase,
    accept,
};
use protocol::envelope::{Envelope, Rejected};
use protocol::id::{Digest, FleetId};
use protocol::keys::SecretKey;
use protocol::report::Report;

use crate::fixture;
use crate::golden::check_signed;

fn digest(digit: char) -> Digest {
    format!("sha256:{}", digit.to_string().repeat(64)).parse().expect("a digest")
}

fn release() -> AgentRelease {
    let program = |digit, size| Program { digest: digest(digit), size };
    AgentRelease {
        format: 1,
        fleet: fixture::fleet(),
        version: "0.3.0".parse().expect("a version"),
        counter: 5,
        platforms: BTreeMap::from([
            ("amd64".to_owned(), program('a', 4_100_000)),
            ("arm64".to_owned(), program('b', 3_790_000)),
        ]),
    }
}

fn check(bytes: &[u8]) -> Result<AgentRelease, Rejected> {
    accept(bytes, &fixture::second_root()).map(|release| release.into_inner())
}

fn changed(
    change: impl FnOnce(&mut AgentRelease),
    key: &SecretKey,
) -> Result<AgentRelease, Rejected> {
    let mut release = release();
    change(&mut release);
    check(&Envelope::sign(&release, &[key]).to_bytes())
}

#[test]
fn a_release_of_the_agent_is_written_and_accepted_as_ever() {
    let bytes = check_signed("agent-release", &release(), &fixture::agent_release_key());
    assert_eq!(check(&bytes), Ok(release()));
}

#[test]
fn what_became_of_it_is_written_and_read_as_ever() {
    let why = Some("it ended 3 times before it was confirmed".to_owned());
    let version = "0.3.0".parse().expect("a version");
    let update = AgentUpdate { counter: 5, version, phase: UpdatePhase::Reverted, why };
    let report = Report { agent_update: Some(update), ..fixture::report() };
    let bytes = check_signed("report-update", &report, &fixture::node_key());
    let key = fixture::node_key().public();
    let read = protocol::acceptance::verify_node_message::<Report>(&bytes, &fixture::fleet(), &key);
    assert_eq!(*read.expect("it reads"), report);
}

#[test]
fn releases_of_somebody_else_or_of_another_form_are_refused() {
    let key = fixture::agent_release_key();
    let platform = |name: &str| {
        let name = name.to_owned();
        move |release: &mut AgentRelease| {
            release.platforms.insert(name, Program { digest: digest('c'), size: 1 });
        }
    };
    let sized = |size| {
        move |release: &mut AgentRelease| {
            release.platforms.values_mut().for_each(|program| program.size = size);
        }
    };
    let many =
        |release: &mut AgentRelease| (0..9).for_each(|n| platform(&format!("p{n}"))(release));
    let found = [
        ("bad_signature", changed(|_| {}, &fixture::release_key())),
        ("bad_signature", changed(|_| {}, &fixture::director_key())),
        ("bad_signature", changed(|_| {}, &fixture::root_key())),
        ("bad_signature", changed(|_| {}, &fixture::stranger())),
        ("wrong_fleet", changed(|release| release.fleet = FleetId::from_random([1; 16]), &key)),
        ("unknown_format", changed(|release| release.format = 2, &key)),
        ("bad_payload", changed(|release| release.counter = 0, &key)),
        ("bad_payload", changed(|release| release.platforms.clear(), &key)),
        ("bad_payload", changed(many, &key)),
        ("bad_payload", changed(platform("../arm64"), &key)),
        ("bad_payload", changed(platform(""), &key)),
        ("bad_payload", changed(sized(0), &key)),
        ("bad_payload", changed(sized(MAX_PROGRAM_BYTES + 1), &key)),
        ("wrong_payload_type", check(&fixture::signed(&fixture::manifest()))),
        ("bad_envelope", check(b"0.3.0")),
    ];
    for (code, outcome) in found {
        assert_eq!(outcome.expect_err(code).code(), code);
    }
    let first = accept(&Envelope::sign(&release(), &[&key]).to_bytes(), &fixture::root());
    assert_eq!(first.expect_err("its root has no such role").code(), "no_role");
}

#[test]
fn a_node_takes_no_release_below_the_one_it_confirmed_and_none_for_other_boards() {
    let release = release();
    for floor in [0, 4, 5] {
        assert_eq!(release.program_for("arm64", floor).expect("its own").digest, digest('b'));
    }
    assert_eq!(release.program_for("arm64", 6), Err(NotTaken::Older { counter: 5, floor: 6 }));
    let other = release.program_for("riscv64", 0).expect_err("there is none");
    assert!(other.to_string().contains("it has: amd64, arm64"), "{other}");
}

#[test]
fn versions_are_ordered_as_semantic_versions_are() {
    // semver.org, 2.0.0 §11, and what is below it.
    let rising = [
        "0.9.0",
        "0.10.0",
        "1.0.0-alpha",
        "1.0.0-alpha.1",
        "1.0.0-alpha.beta",
        "1.0.0-beta",
        "1.0.0-beta.2",
        "1.0.0-beta.11",
        "1.0.0-rc.1",
        "1.0.0",
        "1.0.1",
        "2.0.0",
    ];
    let versions: Vec<AgentVersion> = rising.iter().map(|text| text.parse().expect(text)).collect();
    assert!(versions.windows(2).all(|pair| pair[0] < pair[1]), "{versions:?}");
    let long = format!("1.0.0-{}", "a".repeat(60));
    for bad in [
        "",
        "1",
        "1.2",
        "1.2.3.4",
        "01.2.3",
        "1.2.x",
        "1.2.3-",
        "1.2.3-a..b",
        "1.2.3+b",
        "v1.2.3",
        "1.2.3\u{1b}",
        &long,
    ] {
        assert!(bad.parse::<AgentVersion>().is_err(), "{bad}");
    }
}
