//! Golden bytes: what this version writes is what released versions wrote, byte for byte, and it reads what they wrote.
//!
//! A file that is missing is written when `PITH_GOLDEN=new` is set; one that exists is never overwritten. A new format
//! gets new files beside the old ones.

use std::fmt::Debug;
use std::path::PathBuf;

use protocol::acceptance::{self, Acceptance};
use protocol::envelope::Envelope;
use protocol::keys::{Root, SecretKey};
use protocol::payload::Payload;
use protocol::report::Report;
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
fn check_plain<T: Serialize + DeserializeOwned + PartialEq + Debug>(name: &str, value: &T) {
    let now = serde_json::to_vec(value).expect("a message serialises");
    let then = golden(name, &now);
    assert_eq!(String::from_utf8_lossy(&now), String::from_utf8_lossy(&then), "{name}");
    assert_eq!(serde_json::from_slice::<T>(&then).expect("it reads"), *value, "{name}");
}

/// The payload and its envelope, both exactly so; gives the envelope's bytes.
fn check_signed<T>(name: &str, value: &T, key: &SecretKey) -> Vec<u8>
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
fn the_manifest_is_written_and_accepted_as_ever() {
    let bytes = check_signed("manifest", &fixture::manifest(), &fixture::director_key());
    let accepted = acceptance::accept(
        &bytes,
        &fixture::root(),
        &fixture::identity(),
        None,
        &Default::default(),
    );
    let Ok(Acceptance::New(accepted)) = accepted else { panic!("{accepted:?}") };
    assert_eq!(*accepted.manifest, fixture::manifest());
    assert_eq!(accepted.releases.len(), 1);
}

#[test]
fn hello_and_report_are_written_and_read_as_ever() {
    let hello = check_signed("hello", &fixture::hello(), &fixture::node_key());
    let (read, key) = acceptance::verify_hello(&hello, &fixture::fleet()).expect("it verifies");
    assert_eq!((&*read, &key), (&fixture::hello(), &fixture::node_key().public()));
    let report = check_signed("report", &fixture::report(), &fixture::node_key());
    let read = acceptance::verify_node_message::<Report>(&report, &fixture::fleet(), &key);
    assert_eq!(read.expect("it verifies").into_inner(), fixture::report());
}

#[test]
fn unsigned_messages_are_written_and_read_as_ever() {
    check_plain("load.v1.json", &fixture::load());
    check_plain("presence.v1.json", &fixture::presence());
    check_plain("event.v1.json", &fixture::event());
}
