//! Which version this program is: written into it where anybody finds it without running it (`pith agent release` does, for boards of
//! another architecture), and read from there by the program itself, so that both always say the same.

use protocol::agent_release::AgentVersion;

/// The version stands behind it, filled up with spaces.
const MARK: &str = "pith-agent-version:";
/// Of the version's place.
const ROOM: usize = 48;
const LENGTH: usize = MARK.len() + ROOM + 1;

/// One place in the program; `;` ends it.
#[used]
static WRITTEN: [u8; LENGTH] = written(env!("CARGO_PKG_VERSION"));

const fn written(version: &str) -> [u8; LENGTH] {
    assert!(version.len() <= ROOM, "the version does not fit");
    let (mark, version, mut bytes, mut at) =
        (MARK.as_bytes(), version.as_bytes(), [b' '; LENGTH], 0);
    while at < mark.len() {
        bytes[at] = mark[at];
        at += 1;
    }
    at = 0;
    while at < version.len() {
        bytes[mark.len() + at] = version[at];
        at += 1;
    }
    bytes[LENGTH - 1] = b';';
    bytes
}

/// As text.
#[must_use]
pub fn text() -> &'static str {
    // Read from the program's bytes, not from what the compiler knew of them.
    let written: &'static [u8; LENGTH] = std::hint::black_box(&WRITTEN);
    let room = &written[MARK.len()..LENGTH - 1];
    std::str::from_utf8(room).map_or(env!("CARGO_PKG_VERSION"), str::trim_end)
}

/// To compare.
///
/// # Panics
/// Never: a workspace's version is a semantic one.
#[must_use]
pub fn own() -> AgentVersion {
    let packaged = || env!("CARGO_PKG_VERSION").parse().expect("cargo takes no other");
    text().parse().unwrap_or_else(|_| packaged())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_program_says_what_stands_in_it() {
        assert_eq!(text(), env!("CARGO_PKG_VERSION"));
        assert_eq!(own().to_string(), text());
    }
}
