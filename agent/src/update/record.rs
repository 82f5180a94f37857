//! Which program is the agent: one small file, replaced whole, so that what is tried and what is gone back to can never contradict
//! each other. Its replacement is the flip between the two places.
//!
//! Written by `launch` before it starts a program, and by the agent once one runs; never by both at once.

use std::io;
use std::path::{Path, PathBuf};

use protocol::agent_release::{AgentUpdate, AgentVersion, MAX_WHY_CHARS, UpdatePhase};
use protocol::id::Digest;
use serde::{Deserialize, Serialize};

use crate::durable::{self, Readers};

/// Below the node's durable state.
const FOLDER: &str = "agent";
const FILE: &str = "state.json";
/// Programs that were taken back are remembered, the newest this many.
const MAX_BAD: usize = 8;
/// A larger file is none of ours.
const MAX_BYTES: u64 = 64 * 1024;

/// What is kept.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Record {
    /// The highest counter that was confirmed here; 0: none.
    #[serde(default)]
    pub floor: u64,
    /// What runs; none: the packaged program.
    #[serde(default)]
    pub held: Option<Held>,
    /// What is tried.
    #[serde(default)]
    pub trial: Option<Trial>,
    /// Programs that were taken back, oldest first.
    #[serde(default)]
    pub bad: Vec<Digest>,
    /// What became of the newest release.
    #[serde(default)]
    pub last: Option<AgentUpdate>,
    /// The proxy still runs the program before.
    #[serde(default)]
    pub is_proxy_due: bool,
}

/// A program in its place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    /// Where.
    pub slot: Slot,
    /// Of its bytes.
    pub digest: Digest,
    /// How many they are.
    pub size: u64,
    /// Of its release.
    pub version: AgentVersion,
    /// Of its release.
    pub counter: u64,
    /// Of the packaged program when it was brought.
    pub package: AgentVersion,
}

/// A program that is not confirmed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trial {
    /// Which.
    pub held: Held,
    /// Of it, since it was last begun to be tried.
    pub starts: u32,
    /// The boot of its last start.
    #[serde(default)]
    pub boot_id: String,
    /// Whose turn it is.
    pub turn: Turn,
    /// How often neither it nor the former one had what confirms it.
    pub excused: u32,
}

/// Whose turn it is while a program is tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Turn {
    /// The new one's. Ends confirmed, after 3 starts, or with the former one's turn.
    New,
    /// The former one's, to see whether it is better off. Ends with `Again` or `New`.
    Former,
    /// The new one's once more, while the former one has just been well. Ends confirmed or reverted.
    Again,
}

/// A place for a program.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Slot {
    /// The first.
    A,
    /// The second.
    B,
}

impl Slot {
    /// The name of its file.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::A => "a",
            Self::B => "b",
        }
    }
}

impl Trial {
    /// Starts that ended by themselves: one that ended with its boot did not.
    #[must_use]
    pub fn starts_in(&self, boot_id: &str) -> u32 {
        if self.boot_id == boot_id { self.starts } else { self.starts.saturating_sub(1) }
    }
}

impl Record {
    /// Where a new program goes: never where the one is that is gone back to.
    #[must_use]
    pub fn free_slot(&self) -> Slot {
        match self.held.as_ref().map(|held| held.slot) {
            Some(Slot::A) => Slot::B,
            Some(Slot::B) | None => Slot::A,
        }
    }

    /// Begins a trial.
    #[must_use]
    pub fn tried(&self, held: Held) -> Self {
        let last = update(&held, UpdatePhase::Trying, None);
        let trial =
            Some(Trial { held, starts: 0, boot_id: String::new(), turn: Turn::New, excused: 0 });
        Self { trial, last: Some(last), ..self.clone() }
    }

    /// What is tried runs from now on.
    #[must_use]
    pub fn confirmed(&self) -> Self {
        let Some(trial) = self.trial.clone() else { return self.clone() };
        let floor = self.floor.max(trial.held.counter);
        let last = Some(update(&trial.held, UpdatePhase::Confirmed, None));
        Self {
            floor,
            held: Some(trial.held),
            trial: None,
            last,
            is_proxy_due: true,
            ..self.clone()
        }
    }

    /// What is tried is taken back, and never tried again.
    #[must_use]
    pub fn reverted(&self, why: &str) -> Self {
        let Some(trial) = &self.trial else { return self.clone() };
        let mut bad = self.bad.clone();
        bad.retain(|digest| *digest != trial.held.digest);
        bad.push(trial.held.digest.clone());
        let bad = bad.split_off(bad.len().saturating_sub(MAX_BAD));
        let last = Some(update(&trial.held, UpdatePhase::Reverted, Some(why)));
        Self { trial: None, bad, last, ..self.clone() }
    }

    /// A process of the trial ends because it was asked to: that is no fault of its program.
    #[must_use]
    pub fn asked_to_end(&self) -> Self {
        let trial = self.trial.clone();
        let trial = trial.map(|trial| Trial { starts: trial.starts.saturating_sub(1), ..trial });
        Self { trial, ..self.clone() }
    }

    /// Another turn of the trial, with its starts counted anew.
    #[must_use]
    pub fn turned(&self, turn: Turn) -> Self {
        let excuse = u32::from(turn == Turn::New);
        let trial = self.trial.clone().map(|trial| Trial {
            turn,
            starts: 0,
            excused: trial.excused.saturating_add(excuse),
            ..trial
        });
        Self { trial, ..self.clone() }
    }
}

/// What a report says of a program.
#[must_use]
pub fn update(held: &Held, phase: UpdatePhase, why: Option<&str>) -> AgentUpdate {
    let why = why.map(|why| why.chars().take(MAX_WHY_CHARS).collect());
    AgentUpdate { counter: held.counter, version: held.version.clone(), phase, why }
}

/// Where programs and the record are.
#[must_use]
pub fn folder(state_dir: &Path) -> PathBuf {
    state_dir.join(FOLDER)
}

/// Where a program is.
#[must_use]
pub fn program(state_dir: &Path, slot: Slot) -> PathBuf {
    folder(state_dir).join(slot.as_str())
}

/// What is kept; a board that was never told of a release has nothing.
///
/// # Errors
/// A file that is there and cannot be read as one.
pub fn read(state_dir: &Path) -> io::Result<Record> {
    let path = folder(state_dir).join(FILE);
    match std::fs::metadata(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Record::default()),
        Err(error) => return Err(error),
        Ok(metadata) if metadata.len() > MAX_BYTES => {
            return Err(io::Error::other("larger than what was written"));
        }
        Ok(_) => (),
    }
    parse(&std::fs::read(&path)?)
}

/// What stands in the file.
///
/// # Errors
/// Bytes that are none.
pub fn parse(bytes: &[u8]) -> io::Result<Record> {
    serde_json::from_slice(bytes).map_err(io::Error::other)
}

/// Replaces what is kept.
///
/// # Errors
/// The system's. What was there before is then still there.
pub fn write(state_dir: &Path, record: &Record) -> io::Result<()> {
    let folder = folder(state_dir);
    durable::folder(&folder)?;
    let bytes = serde_json::to_vec(record).expect("plain data serialises");
    durable::write(&folder.join(FILE), &bytes, Readers::Owner)
}
