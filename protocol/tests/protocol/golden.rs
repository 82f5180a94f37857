//! Golden bytes: what this version writes is what released versions wrote, byte for byte, and it reads what they wrote.
//!
//! A file that is missing is written when `PITH_GOLDEN=new` is set; one that exists is never overwritten. A new format
//! gets new files beside the old ones.

use std::fmt::Debug;
use std::path::PathBuf;

use protocol::acceptance::{self, Acceptance, Accepted, Known};
use protocol::envelope::Envelope;
use protocol::keys::{Root, SecretKey};
use protocol::payload::Payload;
use protocol::report::Report;
use protocol::succession::{self, Chain};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::fixture;

/// The checked-in bytes of `name`; written from `now` where they are new and that was asked for.
#[expect(
    clippy::disallowed_methods,
    reason = "tests keep golden bytes in files; the protocol itself does no IO"
)]
pub(crate) fn golden(name: &str, now: &[u8]) -> Vec<u8> {
    let path: PathBuf = [env!("CARGO_MANIFEST_DIR"), "tests", "golden", name].iter().collect();
    if !path.exists() && std::env::var_os("PITH_GOLDEN").is_some_and(|value| value == "new") {
        std::fs::write(&path, now).expect("the golden file can be written");
    }
    std::fs::read(&path).unwrap_or_else(|error| {
        panic!("{}: {error}; set PITH_GOLDEN=new to write it", path.display())
    })
}

/// Written exactly so, and read back as the same value.
pub(crate) fn check_plain<T: Serialize + DeserializeOwned + PartialEq + Debug>(
    name: &str,
    value: &T,
) {
    let now = serde_json::to_vec(value).expect("a message serialises");
    let then = golden(name, &now);
    assert_eq!(String::from_utf8_lossy(&now), String::from_utf8_lossy(&then), "{name}");
    assert_eq!(serde_json::from_slice::<T>(&then).expect("it reads"), *value, "{name}");
}

/// The payload and its envelope, both exactly so; gives the envelope's bytes.
pub(crate) fn check_signed<T>(name: &str, value: &T, key: &SecretKey) -> Vec<u8>
where
    T: Payload + PartialEq + Debug,
{
    check_plain(&format!("{name}.v1.payload.json"), value);
    let now = Envelope::sign(value, &[key]).to_bytes();
    let then = golden(&format!("{name}.v1.envelope.json"), &now);
    assert_eq!(String::from_utf8_lossy(&now), String::from_utf8_lossy(&then), "{name}");
    then
}

#[test]
fn the_root_is_written_and_read_as_ever() {
    let bytes = check_signed("root", &fixture::root(), &fixture::root_key());
    let read = Envelope::from_bytes(&bytes).and_then(|e| e.verify::<Root>(&fixture::root()));
    assert_eq!(*read.expect("it verifies"), fixture::root());
}

#[test]
fn the_release_is_written_and_read_as_ever() {
    let bytes = check_signed("release", &fixture::release(), &fixture::release_key());
    let envelope = Envelope::from_bytes(&bytes).expect("an envelope");
    let read = acceptance::verify_release(&envelope, &fixture::root(), &fixture::fleet());
    assert_eq!(*read.expect("it verifies"), fixture::release());
}

#[test]
fn a_release_that_asks_for_the_node_is_written_and_read_as_ever() {
    let (release, key) = (fixture::release_of_host(), fixture::release_key());
    let bytes = check_signed("release-host", &release, &key);
    let envelope = Envelope::from_bytes(&bytes).expect("an envelope");
    let read = acceptance::verify_release(&envelope, &fixture::root(), &fixture::fleet());
    assert_eq!(*read.expect("it verifies"), release);
    assert!(release.base.is_exclusive());
}

#[test]
fn a_release_of_an_archive_is_written_and_read_as_ever() {
    let (release, key) = (fixture::archived_release(), fixture::release_key());
    let bytes = check_signed("release-archive", &release, &key);
    let envelope = Envelope::from_bytes(&bytes).expect("an envelope");
    let read = acceptance::verify_release(&envelope, &fixture::root(), &fixture::fleet());
    assert_eq!(*read.expect("it verifies"), release);
    // One without what containerd calls it, as most archives of old are.
    let text = r#"{"archive":{"sha256":"sha256:SHA","bytes":7,"image_id":"sha256:SHA"}}"#;
    let text = text.replace("SHA", &"0a".repeat(32));
    let pin: protocol::release::Pin = serde_json::from_str(&text).expect("it reads");
    assert_eq!(serde_json::to_string(&pin).expect("it serialises"), text);
}

#[test]
fn the_manifest_is_written_and_accepted_as_ever() {
    let bytes = check_signed("manifest", &fixture::manifest(), &fixture::director_key());
    let accepted = accepted(&bytes);
    assert_eq!(*accepted.manifest, fixture::manifest());
    assert_eq!(accepted.releases.len(), 1);
}

#[test]
fn the_retirement_is_written_and_read_as_ever_alone_and_in_a_manifest() {
    let bytes = check_signed("retirement", &fixture::retirement(), &fixture::release_key());
    let envelope = Envelope::from_bytes(&bytes).expect("an envelope");
    let read = acceptance::verify_retirement(&envelope, &fixture::root(), &fixture::fleet());
    assert_eq!(*read.expect("it verifies"), fixture::retirement());
    let manifest = fixture::retiring_manifest();
    let bytes = check_signed("retiring-manifest", &manifest, &fixture::director_key());
    let accepted = accepted(&bytes);
    assert_eq!(*accepted.manifest, manifest);
    assert_eq!(accepted.floors, [(fixture::service("web"), 3)].into());
}

#[track_caller]
fn accepted(bytes: &[u8]) -> Box<Accepted> {
    let accepted =
        acceptance::accept(bytes, &fixture::root().into(), &fixture::identity(), Known::NOTHING);
    let Ok(Acceptance::New(accepted)) = accepted else { panic!("{accepted:?}") };
    accepted
}

#[test]
fn hello_and_report_are_written_and_read_as_ever() {
    let hello = check_signed("hello", &fixture::hello(), &fixture::node_key());
    let (read, key) = acceptance::verify_hello(&hello, &fixture::fleet()).expect("it verifies");
    assert_eq!((&*read, &key), (&fixture::hello(), &fixture::node_key().public()));
    check_signed("hello-policy", &fixture::hello_with_policy(), &fixture::node_key());
    let report = check_signed("report", &fixture::report(), &fixture::node_key());
    let read = acceptance::verify_node_message::<Report>(&report, &fixture::fleet(), &key);
    assert_eq!(read.expect("it verifies").into_inner(), fixture::report());
}

#[test]
fn a_report_of_a_held_service_is_written_and_read_as_ever() {
    let key = fixture::node_key();
    let report = check_signed("report-held", &fixture::report_of_a_hold(), &key);
    let read = acceptance::verify_node_message::<Report>(&report, &fixture::fleet(), &key.public());
    assert_eq!(read.expect("it verifies").into_inner(), fixture::report_of_a_hold());
}

#[test]
fn a_report_of_the_images_on_a_node_is_written_and_read_as_ever() {
    let (key, pin) = (fixture::node_key(), &fixture::release().image.pin);
    let report = Report { images: Some(vec![pin.short().to_owned()]), ..fixture::report() };
    let bytes = check_signed("report-images", &report, &key);
    let read = acceptance::verify_node_message::<Report>(&bytes, &fixture::fleet(), &key.public());
    assert_eq!(read.expect("it verifies").into_inner(), report);
}

#[test]
fn a_hello_that_names_the_trust_root_is_written_and_read_as_ever() {
    let hello = protocol::hello::Hello { root_version: Some(2), ..fixture::hello() };
    let bytes = check_signed("hello-with-root", &hello, &fixture::node_key());
    let (read, _) = acceptance::verify_hello(&bytes, &fixture::fleet()).expect("it verifies");
    assert_eq!(*read, hello);
}

#[test]
fn a_manifest_with_a_secret_and_a_hello_with_its_key_are_written_and_read_as_ever() {
    let manifest = fixture::manifest_with_secret();
    let bytes = check_signed("manifest-secret", &manifest, &fixture::director_key());
    assert_eq!(*accepted(&bytes).manifest, manifest);
    let hello = fixture::hello_with_seal_key();
    let bytes = check_signed("hello-seal-key", &hello, &fixture::node_key());
    let (read, _) = acceptance::verify_hello(&bytes, &fixture::fleet()).expect("it verifies");
    assert_eq!(*read, hello);
}

#[test]
fn a_hello_that_names_the_bytes_seen_is_written_and_read_as_ever() {
    let seen_sha256 = Some(protocol::id::sha256_hex(b"a manifest"));
    let hello = protocol::hello::Hello { seen_sha256, root_version: Some(2), ..fixture::hello() };
    let bytes = check_signed("hello-seen", &hello, &fixture::node_key());
    let (read, _) = acceptance::verify_hello(&bytes, &fixture::fleet()).expect("it verifies");
    assert_eq!(*read, hello);
}

#[test]
fn the_chain_of_roots_is_written_and_walked_as_ever() {
    let now = fixture::chain().to_bytes();
    let then = golden("root-chain.v1.json", &now);
    assert_eq!(String::from_utf8_lossy(&now), String::from_utf8_lossy(&then));
    let chain = Chain::from_bytes(&then).expect("it reads");
    let walked = succession::walk(&fixture::root(), &chain);
    assert_eq!(walked.refused, None);
    assert_eq!(walked.roots.last().expect("one follows").root, fixture::second_root());
}

#[test]
fn unsigned_messages_are_written_and_read_as_ever() {
    check_plain("load.v1.json", &fixture::load());
    check_plain("load-in-detail.v1.json", &fixture::load_in_detail());
    check_plain("presence.v1.json", &fixture::presence());
    check_plain("event.v1.json", &fixture::event());
}
