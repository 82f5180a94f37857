//! What a node tells of itself in detail ([`protocol::load`]), and the least that it always tells: read from `/proc` and `/sys` as the
//! kernel has them, by no process and with no call to the engine.
//!
//! ```text
//! sampler -> board (processor, memory, sensors, disks, cards) -> proc: texts -> numbers
//!         -> instances: cgroup (processor, memory), link (network)
//! ```
//! Where something lies is looked for once and remembered. What cannot be read is left out.

pub mod board;
pub mod cgroup;
pub mod instances;
pub mod link;
pub mod proc;
#[cfg(test)]
mod testing;

use std::fs::DirEntry;
use std::path::PathBuf;
use std::str::FromStr;

use planner::node::Instance;
use protocol::id::ServiceName;

/// Cores that are told of; a board with more tells none of its cores.
pub const MAX_CORES: usize = 64;
/// Zones that are told of.
pub const MAX_ZONES: usize = 16;
/// Instances that are told of.
pub const MAX_INSTANCES: usize = 64;
/// Characters of a name that somebody else chose.
const MAX_NAME_CHARS: usize = 48;

/// What is to be told beside the least.
#[derive(Debug, Clone)]
pub struct Detail<'a> {
    /// The engine's version.
    pub engine: &'a str,
    /// The instances, in the order in which they are told.
    pub instances: Vec<(&'a ServiceName, &'a Instance)>,
}

/// The folder below which `/proc` and `/sys` are: `/`, but in tests.
#[derive(Debug, Clone)]
pub struct Root(PathBuf);

impl Root {
    /// Files below `folder`.
    #[must_use]
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self(folder.into())
    }

    fn path(&self, path: &str) -> PathBuf {
        self.0.join(path.trim_start_matches('/'))
    }

    /// The bytes of a file; none where it cannot be read.
    fn bytes(&self, path: &str) -> Option<Vec<u8>> {
        std::fs::read(self.path(path)).ok()
    }

    /// The text of a file; none where it cannot be read.
    #[must_use]
    pub fn text(&self, path: &str) -> Option<String> {
        String::from_utf8(self.bytes(path)?).ok()
    }

    /// The number that is all of a file.
    fn number<N: FromStr>(&self, path: &str) -> Option<N> {
        self.text(path)?.trim().parse().ok()
    }

    fn has(&self, path: &str) -> bool {
        self.path(path).exists()
    }

    /// What is in a folder, by name; nothing where it cannot be read.
    fn names(&self, folder: &str) -> Vec<String> {
        self.entries(folder, |_| true)
    }

    /// The folders in a folder, by name.
    fn folders(&self, folder: &str) -> Vec<String> {
        self.entries(folder, |entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
    }

    fn entries(&self, folder: &str, counts: fn(&DirEntry) -> bool) -> Vec<String> {
        let Ok(entries) = std::fs::read_dir(self.path(folder)) else { return Vec::new() };
        let entries = entries.flatten().filter(counts);
        let mut names: Vec<String> =
            entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
        names.sort_unstable();
        names
    }
}

/// To so many parts of one: short on the wire.
pub(crate) fn round(value: f32, parts: f32) -> f32 {
    (value * parts).round() / parts
}

/// Short enough to be told.
fn shortened(text: &str) -> String {
    text.chars().take(MAX_NAME_CHARS).collect()
}
