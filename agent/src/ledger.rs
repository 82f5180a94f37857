//! The ledger: what the node must not forget. Written only when it changes, durably, before anything acts on it.
//!
//! Owns the file format and the rules by which history changes. Must not decide anything: changes come from the planner.

mod slots;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg};
use planner::Now;
use planner::node::{AfterGivingUp, History, Kept, LedgerChange, Room};
use protocol::acceptance::{Accepted, Seen};
use protocol::envelope::Envelope;
use protocol::id::{ReleaseId, ServiceName, Template};
use protocol::manifest::Version;
use protocol::release::Image;
use protocol::report::{Evidence, GivenUp};
use serde::{Deserialize, Serialize};

use slots::Slots;

/// Why the ledger cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// Another agent has it.
    #[error("another agent uses {0}; two agents on one ledger would fight")]
    Taken(PathBuf),
    /// The disk refuses.
    #[error("{path}: {source}")]
    Io {
        /// The state folder.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
}

/// The node's durable state, with the lock on its folder.
#[derive(Debug)]
pub struct Ledger {
    dir: PathBuf,
    slots: Slots,
    state: State,
    damage: Vec<String>,
    boot_id: String,
    opened_at: Now,
    _lock: Flock<File>,
}

/// What stands in a slot, as JSON.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
struct State {
    seen: Option<SeenEntry>,
    manifest: Option<Envelope>,
    services: BTreeMap<ServiceName, Entry>,
    releases: BTreeMap<ReleaseId, Envelope>,
    images_pulled: Vec<Image>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct SeenEntry {
    version: Version,
    payload_sha256: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
struct Entry {
    running: Option<KeptEntry>,
    completed: bool,
    #[serde(default)]
    completed_at: Option<Moment>,
    #[serde(default)]
    stop_first: bool,
    #[serde(default)]
    warm: bool,
    last_good: Option<KeptEntry>,
    given_up: Option<GivenUp>,
}

/// A moment that means something under the boot it was of only.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Moment {
    boot_id: String,
    ms: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct KeptEntry {
    release: ReleaseId,
    template: Template,
    attempt: u32,
    revision: u64,
}

impl Ledger {
    /// Locks and reads the ledger in `dir`, which is made where it is missing.
    ///
    /// # Errors
    /// When another agent holds it or the disk refuses. Damage is no error: see [`Ledger::damage`].
    ///
    /// Moments of another boot than `boot_id` count as `now`: what was waited for begins anew.
    pub fn open(dir: &Path, boot_id: &str, now: Now) -> Result<Self, LedgerError> {
        let io = |source| LedgerError::Io { path: dir.to_owned(), source };
        std::fs::create_dir_all(dir).map_err(io)?;
        let lock = File::create(dir.join("lock")).map_err(io)?;
        let lock = Flock::lock(lock, FlockArg::LockExclusiveNonblock)
            .map_err(|_| LedgerError::Taken(dir.to_owned()))?;
        let (slots, payload, mut damage) = Slots::open(dir).map_err(io)?;
        let state = match payload.map(|bytes| serde_json::from_slice(&bytes)) {
            None => State::default(),
            Some(Ok(state)) => state,
            Some(Err(error)) => {
                damage.push(format!("written by another version: {error}"));
                State::default()
            }
        };
        let (boot_id, opened_at) = (boot_id.to_owned(), now);
        Ok(Self { dir: dir.to_owned(), slots, state, damage, boot_id, opened_at, _lock: lock })
    }

    /// What was found damaged when it was opened.
    #[must_use]
    pub fn damage(&self) -> &[String] {
        &self.damage
    }

    /// The newest manifest accepted.
    #[must_use]
    pub fn seen(&self) -> Option<Seen> {
        let entry = self.state.seen.as_ref()?;
        Some(Seen { version: entry.version, payload_sha256: entry.payload_sha256.clone() })
    }

    /// The envelope of that manifest.
    #[must_use]
    pub fn manifest(&self) -> Option<&Envelope> {
        self.state.manifest.as_ref()
    }

    /// Envelopes of the releases that history names.
    #[must_use]
    pub fn releases(&self) -> &BTreeMap<ReleaseId, Envelope> {
        &self.state.releases
    }

    /// What is remembered of every service.
    #[must_use]
    pub fn histories(&self) -> BTreeMap<ServiceName, History> {
        let moment = |moment: &Moment| {
            if moment.boot_id == self.boot_id { Now(moment.ms) } else { self.opened_at }
        };
        let history = |(name, entry): (&ServiceName, &Entry)| {
            let completed_at = entry.completed_at.as_ref().map(moment);
            (name.clone(), entry.to_history(completed_at))
        };
        self.state.services.iter().map(history).collect()
    }

    /// Images this node pulled.
    #[must_use]
    pub fn images_pulled(&self) -> &[Image] {
        &self.state.images_pulled
    }

    /// Remembers an accepted manifest, with its releases.
    ///
    /// # Errors
    /// When the disk refuses; then nothing has changed.
    pub async fn accept(
        &mut self,
        accepted: &Accepted,
        envelope: Envelope,
    ) -> Result<(), LedgerError> {
        let mut next = self.state.clone();
        let seen = accepted.seen();
        next.seen = Some(SeenEntry { version: seen.version, payload_sha256: seen.payload_sha256 });
        for release in &accepted.manifest.releases {
            if let Some(id) = release_id(release) {
                next.releases.insert(id, release.clone());
            }
        }
        let assigned = accepted.manifest.services.iter().flat_map(|a| a.releases().cloned());
        let hooks = accepted.manifest.hooks.iter().map(|hook| hook.release.clone());
        let assigned = assigned.chain(hooks).collect();
        next.manifest = Some(envelope);
        next.forget_releases(&assigned);
        self.write(next).await
    }

    /// Applies what the planner decided for one service.
    ///
    /// # Errors
    /// When the disk refuses; then nothing has changed.
    pub async fn record(
        &mut self,
        service: &ServiceName,
        change: LedgerChange,
        evidence: Option<Evidence>,
    ) -> Result<(), LedgerError> {
        let mut next = self.state.clone();
        if change == LedgerChange::Forget {
            next.services.remove(service);
        } else {
            let entry = next.services.entry(service.clone()).or_default();
            entry.apply(change, evidence, &self.boot_id);
        }
        self.write(next).await
    }

    /// Remembers that this node pulled an image, or removed it again.
    ///
    /// # Errors
    /// When the disk refuses; then nothing has changed.
    pub async fn set_pulled(&mut self, image: &Image, is_here: Pulled) -> Result<(), LedgerError> {
        let mut next = self.state.clone();
        next.images_pulled.retain(|other| other.pin != image.pin);
        if is_here == Pulled::Here {
            next.images_pulled.push(image.clone());
        }
        self.write(next).await
    }

    /// Off the event loop's thread: an fsync on a slow card may take seconds.
    async fn write(&mut self, next: State) -> Result<(), LedgerError> {
        if next == self.state {
            return Ok(());
        }
        let io = |source| LedgerError::Io { path: self.dir.clone(), source };
        let payload = serde_json::to_vec(&next).map_err(|e| io(e.into()))?;
        let slots = &mut self.slots;
        let mut taken = std::mem::replace(slots, Slots::none(&self.dir));
        let (taken, result) = tokio::task::spawn_blocking(move || {
            let result = taken.write(&payload);
            (taken, result)
        })
        .await
        .map_err(|e| LedgerError::Io {
            path: self.dir.clone(),
            source: std::io::Error::other(e),
        })?;
        self.slots = taken;
        result.map_err(|source| LedgerError::Io { path: self.dir.clone(), source })?;
        self.state = next;
        Ok(())
    }
}

/// Whether an image that this node pulled is still here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pulled {
    /// It is.
    Here,
    /// It was removed.
    Gone,
}

impl State {
    /// Keeps the releases that are assigned or that history may go back to.
    fn forget_releases(&mut self, assigned: &BTreeSet<ReleaseId>) {
        let kept: BTreeSet<ReleaseId> = self
            .services
            .values()
            .flat_map(|entry| [&entry.running, &entry.last_good])
            .flatten()
            .map(|kept| kept.release.clone())
            .collect();
        self.releases.retain(|id, _| assigned.contains(id) || kept.contains(id));
    }
}

impl Entry {
    fn apply(&mut self, change: LedgerChange, evidence: Option<Evidence>, boot_id: &str) {
        match change {
            LedgerChange::Begin { kept, room } => {
                if self.completed {
                    self.last_good = self.running.take();
                }
                self.running = Some(kept.into());
                self.is_incomplete(room);
            }
            LedgerChange::Complete(at) => {
                self.completed = true;
                self.completed_at = Some(Moment { boot_id: boot_id.to_owned(), ms: at.0 });
            }
            LedgerChange::GiveUp { failed, reason, message, then, .. } => {
                let Kept { release, template, attempt, .. } = failed;
                self.given_up =
                    Some(GivenUp { release, template, attempt, reason, message, evidence });
                if then == AfterGivingUp::GoBack {
                    self.running = self.last_good.clone();
                    self.is_incomplete(Room::default());
                }
            }
            LedgerChange::Forget => *self = Self::default(),
        }
    }

    fn is_incomplete(&mut self, room: Room) {
        (self.completed, self.completed_at) = (false, None);
        (self.stop_first, self.warm) = (room.stop_first, room.warm);
    }

    fn to_history(&self, completed_at: Option<Now>) -> History {
        History {
            running: self.running.clone().map(Into::into),
            completed: self.completed,
            completed_at,
            stop_first: self.stop_first,
            warm: self.warm,
            last_good: self.last_good.clone().map(Into::into),
            given_up: self.given_up.clone(),
        }
    }
}

impl From<Kept> for KeptEntry {
    fn from(Kept { release, template, attempt, revision }: Kept) -> Self {
        Self { release, template, attempt, revision }
    }
}

impl From<KeptEntry> for Kept {
    fn from(KeptEntry { release, template, attempt, revision }: KeptEntry) -> Self {
        Self { release, template, attempt, revision }
    }
}

/// The id of an embedded release: the hash of its payload bytes.
fn release_id(envelope: &Envelope) -> Option<ReleaseId> {
    use base64::Engine as _;
    let payload = base64::engine::general_purpose::STANDARD.decode(&envelope.payload).ok()?;
    Some(ReleaseId::of_payload(&payload))
}

#[cfg(test)]
mod tests;
