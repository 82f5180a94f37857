//! A release of the agent: one program per platform, signed by an agent-release key, and what a node says became of it.
//!
//! ```text
//! AgentRelease (envelope) --down/agent-release, retained--> node: signed? above its floor? for its platform?
//!   -> program by its hash over HTTPS -> self-test -> trial -> confirmed: the floor is its counter -> AgentUpdate in the report
//! ```
//! The counter orders releases; the version is for people. A node never goes below the counter that it confirmed last, so that whoever
//! has the coordinator alone cannot bring an old agent back: going back is the old program, signed again under a higher counter.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::envelope::{Envelope, Rejected, Verified};
use crate::id::{Digest, FleetId};
use crate::keys::Root;
use crate::payload::{Payload, PayloadType};

/// Bytes of a program at most: an agent of a board has four million.
pub const MAX_PROGRAM_BYTES: u64 = 32 * 1024 * 1024;
/// Platforms of one release at most.
pub const MAX_PLATFORMS: usize = 8;
/// Starts of a trial that end early before it is taken back.
pub const MAX_STARTS: u32 = 3;
/// Characters of a version at most.
const MAX_VERSION_CHARS: usize = 48;
/// Characters of a reason that a node gives.
pub const MAX_WHY_CHARS: usize = 300;

/// The document that an agent-release key signs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AgentRelease {
    /// [`crate::FORMAT`] at the time of writing.
    pub format: u32,
    /// The fleet it is for.
    pub fleet: FleetId,
    /// What people call it, as the programs say it themselves.
    pub version: AgentVersion,
    /// Higher for each release, whatever its version.
    pub counter: u64,
    /// The program for each architecture, in the words of images: `arm64`, `amd64`.
    pub platforms: BTreeMap<String, Program>,
}

/// A program.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Program {
    /// Of its bytes.
    pub digest: Digest,
    /// How many they are.
    pub size: u64,
}

/// `1.2.3` or `1.2.3-rc.1`, ordered as semantic versions are (semver.org, 2.0.0 §11). What a build adds behind `+` is not taken.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct AgentVersion {
    numbers: [u64; 3],
    /// Parts of a version before the release; empty: the release.
    before: Vec<Part>,
    text: String,
}

/// Numbers come before words.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Part {
    Number(u64),
    Word(String),
}

/// Text that is no version.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no version: 1.2.3 or 1.2.3-rc.1 is expected")]
pub struct InvalidVersion(String);

/// Why a node does not take a release that is signed for its fleet.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotTaken {
    /// It confirmed a newer one.
    #[error(
        "release {counter} of the agent is older than {floor}, which ran here: sign the program again to go back to it"
    )]
    Older {
        /// What it says.
        counter: u64,
        /// The newest that was confirmed here.
        floor: u64,
    },
    /// It has no program for it.
    #[error("the release of the agent has no program for {architecture}; it has: {offered}")]
    NoPlatform {
        /// The node's.
        architecture: String,
        /// Those there are.
        offered: String,
    },
}

/// What became of a release on a node, in its report.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AgentUpdate {
    /// The release's.
    pub counter: u64,
    /// The release's.
    pub version: AgentVersion,
    /// How far it came.
    pub phase: UpdatePhase,
    /// Why, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

/// How far a release of the agent came on a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UpdatePhase {
    /// The program is on its way, or waited for; ends in `trying`, `refused` or, where it is here already, `confirmed`.
    Downloading,
    /// It runs or is about to, unconfirmed; ends in `confirmed` or `reverted`.
    Trying,
    /// It runs, has heard the coordinator, seen Docker and been stable. Final.
    Confirmed,
    /// It ran and was taken back. Final for this program.
    Reverted,
    /// It was not begun. Final for this release.
    Refused,
}

impl Payload for AgentRelease {
    const TYPE: PayloadType = PayloadType::AgentRelease;
}

/// Accepts what an agent-release key of this root signed; whether it is for a node is [`AgentRelease::program_for`]'s to say.
///
/// # Errors
/// Reasons of size, signature and form, [`Rejected::WrongFleet`], and [`Rejected::BadPayload`] where a program is none.
pub fn accept(bytes: &[u8], root: &Root) -> Result<Verified<AgentRelease>, Rejected> {
    let release: Verified<AgentRelease> = Envelope::from_bytes(bytes)?.verify(root)?;
    if release.fleet != root.fleet {
        return Err(Rejected::WrongFleet);
    }
    let bad = |reason: &str| Err(Rejected::BadPayload(reason.to_owned()));
    if release.platforms.is_empty() || release.platforms.len() > MAX_PLATFORMS {
        return bad("1 to 8 platforms are expected");
    }
    let is_name = |name: &String| {
        (1..=16).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_alphanumeric())
    };
    if !release.platforms.keys().all(is_name) {
        return bad("a platform is a word such as arm64");
    }
    if !release.platforms.values().all(|one| (1..=MAX_PROGRAM_BYTES).contains(&one.size)) {
        return bad("a program of 1 to 33,554,432 bytes is expected");
    }
    if release.counter == 0 {
        return bad("counters begin at 1");
    }
    Ok(release)
}

impl AgentRelease {
    /// The program for a node of this architecture that has confirmed the counter `floor` (0: none).
    ///
    /// # Errors
    /// [`NotTaken`].
    pub fn program_for(&self, architecture: &str, floor: u64) -> Result<&Program, NotTaken> {
        if self.counter < floor {
            return Err(NotTaken::Older { counter: self.counter, floor });
        }
        self.platforms.get(architecture).ok_or_else(|| NotTaken::NoPlatform {
            architecture: architecture.to_owned(),
            offered: self.platforms.keys().cloned().collect::<Vec<_>>().join(", "),
        })
    }
}

impl UpdatePhase {
    /// Whether nothing follows without another release.
    #[must_use]
    pub const fn is_final(self) -> bool {
        match self {
            Self::Downloading | Self::Trying => false,
            Self::Confirmed | Self::Reverted | Self::Refused => true,
        }
    }

    /// As people read it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Downloading => "downloading",
            Self::Trying => "trying",
            Self::Confirmed => "confirmed",
            Self::Reverted => "reverted",
            Self::Refused => "refused",
        }
    }
}

impl FromStr for AgentVersion {
    type Err = InvalidVersion;

    fn from_str(text: &str) -> Result<Self, InvalidVersion> {
        let shown: String = text.chars().take(MAX_VERSION_CHARS).collect();
        let invalid = || InvalidVersion(shown.escape_debug().to_string());
        if text.len() > MAX_VERSION_CHARS {
            return Err(invalid());
        }
        let (release, before) = match text.split_once('-') {
            Some((release, before)) => (release, Some(before)),
            None => (text, None),
        };
        let numbers: Option<Vec<u64>> = release.split('.').map(number).collect();
        let numbers = numbers.and_then(|numbers| numbers.try_into().ok()).ok_or_else(invalid)?;
        let parts = before.map(|before| before.split('.').map(part).collect::<Option<Vec<_>>>());
        let before = match parts {
            None => Vec::new(),
            Some(parts) => parts.ok_or_else(invalid)?,
        };
        Ok(Self { numbers, before, text: text.to_owned() })
    }
}

/// Without a sign, a space or a leading zero.
fn number(text: &str) -> Option<u64> {
    let is_plain = text.bytes().all(|b| b.is_ascii_digit());
    let leads = text.len() > 1 && text.starts_with('0');
    if is_plain && !leads { text.parse().ok() } else { None }
}

fn part(text: &str) -> Option<Part> {
    if text.bytes().all(|b| b.is_ascii_digit()) {
        return number(text).map(Part::Number);
    }
    let is_word = text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    is_word.then(|| Part::Word(text.to_owned()))
}

impl PartialOrd for AgentVersion {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for AgentVersion {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        let release = |version: &Self| version.before.is_empty();
        self.numbers
            .cmp(&other.numbers)
            .then_with(|| release(self).cmp(&release(other)))
            .then_with(|| self.before.cmp(&other.before))
    }
}

impl fmt::Display for AgentVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.text)
    }
}

impl Serialize for AgentVersion {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&self.text)
    }
}

impl<'de> Deserialize<'de> for AgentVersion {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        String::deserialize(d)?.parse().map_err(serde::de::Error::custom)
    }
}
