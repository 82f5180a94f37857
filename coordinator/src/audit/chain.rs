//! Entries and what chains them: pure.
//!
//! ```text
//! {"n":7,…,"prev":"<sha256 of entry 6>","sha256":"<sha256 of this line up to here>"}
//! ```
//! The first entry's `prev` is the hash of the fleet's id, so that a log of another fleet does not pass for this one.

use protocol::id::{FleetId, sha256_hex};
use serde::{Deserialize, Serialize};

use crate::role::Role;

/// Stands between what is hashed and its hash.
const MARK: &str = ",\"sha256\":\"";
const HASH_DIGITS: usize = 64;
/// Of texts that come from outside.
const MAX_TEXT_CHARS: usize = 200;

/// What an entry says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Event {
    /// It is about to be done.
    Asked,
    /// It was done.
    Done,
    /// It was tried, and refused for its content or its time.
    Failed,
    /// It was not tried: no right to ask.
    Refused,
    /// The end of the file was cut off by a stop in the middle of a write; nothing was done for what stood there.
    Mended,
}

/// An entry before it has its place in the chain. No bodies and no secrets: what was asked is there as its hash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Draft {
    /// Unix milliseconds.
    pub at_ms: u64,
    /// What it says.
    pub event: Event,
    /// The number of the entry that asked, of what became of it.
    pub of: Option<u64>,
    /// Who: `uid:0 (root)`, `operator:anna`, `from:10.0.0.9`.
    pub who: String,
    /// As what.
    pub role: Option<Role>,
    /// What is done.
    pub verb: String,
    /// To what.
    pub target: String,
    /// sha256 of method, path and body.
    pub request: Option<String>,
    /// The idempotency key.
    pub key: Option<String>,
    /// Of HTTP.
    pub status: Option<u16>,
    /// Why it was refused or failed.
    pub code: Option<String>,
}

/// A line of the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// 1, 2, 3 …
    pub n: u64,
    /// Unix milliseconds.
    pub at_ms: u64,
    /// What it says.
    pub event: Event,
    /// As in [`Draft`], so are the next.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub of: Option<u64>,
    /// Who.
    pub who: String,
    /// As what.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<Role>,
    /// What.
    pub verb: String,
    /// To what.
    pub target: String,
    /// sha256 of method, path and body.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<String>,
    /// The idempotency key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// Of HTTP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// Why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// The hash of the entry before.
    pub prev: String,
}

/// The newest entry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// Its number; 0 before the first.
    pub n: u64,
    /// Its hash.
    pub sha256: String,
}

/// The first entry that is not what was written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Broken {
    /// Its number, counted from the first entry ever.
    pub line: u64,
    /// What is wrong with it.
    pub reason: String,
}

/// What looking at the whole log has shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verified {
    /// The number of the oldest entry that is kept.
    #[serde(default = "one")]
    pub first: u64,
    /// Entries that are what was written, from that one on.
    pub entries: u64,
    /// The hash of the last of them: who keeps it elsewhere sees later whether the end was cut off.
    pub head: String,
    /// None: all of it is.
    pub broken: Option<Broken>,
}

/// Of coordinators that kept everything.
const fn one() -> u64 {
    1
}

impl Head {
    /// Before the first entry.
    #[must_use]
    pub fn of_nothing(fleet: &FleetId) -> Self {
        Self { n: 0, sha256: sha256_hex(format!("pith audit log of {fleet}\n").as_bytes()) }
    }

    /// The line that follows it, without its end, and the head that it makes.
    #[must_use]
    pub fn next(&self, draft: Draft) -> (String, Self) {
        let Draft { at_ms, event, of, who, role, verb, target, request, key, status, code } = draft;
        let short = |text: String| text.chars().take(MAX_TEXT_CHARS).collect();
        let (who, target, key, code) = (short(who), short(target), key.map(short), code.map(short));
        let (n, prev) = (self.n + 1, self.sha256.clone());
        let entry = Entry {
            n,
            at_ms,
            event,
            of,
            who,
            role,
            verb,
            target,
            request,
            key,
            status,
            code,
            prev,
        };
        let mut line = serde_json::to_string(&entry).expect("an entry is plain data");
        line.pop();
        let sha256 = sha256_hex(line.as_bytes());
        line.push_str(&format!("{MARK}{sha256}\"}}"));
        (line, Self { n, sha256 })
    }

    /// Reads the line that follows this head, and moves on to it.
    ///
    /// # Errors
    /// In words, where it is not what was written there.
    pub fn follow(&mut self, line: &[u8]) -> Result<Entry, String> {
        let (entry, sha256) = read(line)?;
        if entry.n != self.n + 1 {
            return Err(format!("it says that it is entry {}", entry.n));
        }
        if entry.prev != self.sha256 {
            let before = self.n;
            return Err(match before {
                0 => "it does not begin the log of this fleet".to_owned(),
                _ => format!(
                    "it was written after another entry {before} than the one that is there"
                ),
            });
        }
        *self = Self { n: entry.n, sha256 };
        Ok(entry)
    }
}

/// A line by itself: the entry and its hash, where the one belongs to the other.
///
/// # Errors
/// In words, where it does not.
pub(super) fn read(line: &[u8]) -> Result<(Entry, String), String> {
    let tail = MARK.len() + HASH_DIGITS + 2;
    let Some(cut) = line.len().checked_sub(tail) else { return Err("it is cut off".to_owned()) };
    let (hashed, tail) = line.split_at(cut);
    let tail = tail.strip_prefix(MARK.as_bytes()).and_then(|tail| tail.strip_suffix(b"\"}"));
    let sha256 = sha256_hex(hashed);
    if tail != Some(sha256.as_bytes()) {
        return Err("its content is not what its hash says".to_owned());
    }
    let mut json = hashed.to_vec();
    json.push(b'}');
    let entry =
        serde_json::from_slice(&json).map_err(|error| format!("it is no entry: {error}"))?;
    Ok((entry, sha256))
}
