//! Agents to exchange an agent for: the program that was built, with another version and another fate written into it.

use std::fs;
use std::path::{Path, PathBuf};

/// The places in the program, each ended by `;` (agent/src/version.rs, agent/src/failpoint.rs).
const VERSION: &str = "pith-agent-version:";
const FATE: &str = "pith-agent-fate:";

/// A copy of a program, in `dir`, that says another version of itself: another program, for all that matters.
///
/// # Panics
/// When it cannot be read or written, or has no place for a version.
#[must_use]
pub fn with_version(program: &Path, dir: &Path, version: &str) -> PathBuf {
    let mut bytes = fs::read(program).unwrap_or_else(|e| panic!("{}: {e}", program.display()));
    write_over(&mut bytes, VERSION, &format!("{version:<48};"));
    let file = dir.join(format!("pith-agent-{version}"));
    fs::write(&file, bytes).expect("a file can be written");
    file
}

/// Such a copy that ends (`exit`), panics (`fall`), hangs (`hang`) or runs (`none`) where an agent begins.
///
/// # Panics
/// As [`with_version`], and for a program without failpoints.
#[must_use]
pub fn with_fate(program: &Path, dir: &Path, version: &str, fate: &str) -> PathBuf {
    let file = with_version(program, dir, version);
    let mut bytes = fs::read(&file).expect("it was just written");
    write_over(&mut bytes, FATE, &format!("{fate};"));
    fs::write(&file, bytes).expect("a file can be written");
    file
}

/// At the place that ends where `text` would: the mark itself may stand elsewhere too.
fn write_over(bytes: &mut [u8], mark: &str, text: &str) {
    let whole = mark.len() + text.len();
    let is_place = |window: &[u8]| window.starts_with(mark.as_bytes()) && window.ends_with(b";");
    let at = bytes.windows(whole).position(is_place);
    let at = at.unwrap_or_else(|| panic!("{mark} stands in an agent with failpoints")) + mark.len();
    bytes[at..at + text.len()].copy_from_slice(text.as_bytes());
}
