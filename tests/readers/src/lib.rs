//! Every reader of bytes from outside, as a function of bytes: what the fuzz targets call, and the tests with what was found.
//!
//! Owns what must hold whatever the bytes are; each function panics where it does not. Must not do IO.

mod archives;
mod envelopes;
mod files;
mod ledger;
mod local;
mod mqtt;
mod names;
mod proxies;
mod world;

/// A reader: it panics where something does not hold.
pub type Reader = fn(&[u8]);

/// Each with the name of its target in `fuzz/fuzz_targets` and of its folder in `fuzz/seeds`.
pub const READERS: [(&str, Reader); 11] = [
    ("archive", archives::archive),
    ("envelope", envelopes::envelope),
    ("payloads", envelopes::payloads),
    ("service_file", files::service_file),
    ("files", files::files),
    ("ledger", ledger::ledger),
    ("local", local::local),
    ("mqtt", mqtt::mqtt),
    ("names", names::names),
    ("proxy_control", proxies::proxy_control),
    ("proxy_http", proxies::proxy_http),
];

/// Feeds one input to the reader of this name.
///
/// # Panics
/// Where there is none, or something does not hold.
pub fn feed(name: &str, bytes: &[u8]) {
    let found = READERS.iter().find(|(known, _)| *known == name);
    let (_, read) = found.expect("each target has its reader");
    read(bytes);
}

/// The first line says what the rest is.
fn kind_and_rest(bytes: &[u8]) -> Option<(&str, &[u8])> {
    let end = bytes.iter().position(|byte| *byte == b'\n')?;
    Some((std::str::from_utf8(&bytes[..end]).ok()?, &bytes[end + 1..]))
}
