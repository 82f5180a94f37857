//! What stands in a slot of the ledger, and the rules by which it changes. Pure: each change gives the next contents.
//!
//! Owns the form on disk. Must not touch a file, and must not decide anything: changes come from the planner.

use std::collections::{BTreeMap, BTreeSet};

use planner::Now;
use planner::node::{AfterGivingUp, History, Kept, LedgerChange, Room};
use protocol::acceptance::{Accepted, Seen};
use protocol::envelope::Envelope;
use protocol::id::{ReleaseId, ServiceName, Template};
use protocol::manifest::Version;
use protocol::release::Image;
use protocol::report::{Evidence, GivenUp};
use serde::{Deserialize, Serialize};

/// Failed templates that are remembered beside the newest: more releases than anyone goes back and forth between.
const MAX_GIVEN_UP: usize = 16;

/// All that a node must not forget, as JSON on disk.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Contents {
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
    /// Templates that failed before that one, each under its highest attempt.
    #[serde(default)]
    given_up_before: Vec<(Template, u32)>,
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

/// Whether an image that this node pulled is still here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pulled {
    /// It is.
    Here,
    /// It was removed.
    Gone,
}

impl Contents {
    /// The newest manifest accepted.
    #[must_use]
    pub fn seen(&self) -> Option<Seen> {
        let entry = self.seen.as_ref()?;
        Some(Seen { version: entry.version, payload_sha256: entry.payload_sha256.clone() })
    }

    /// The envelope of that manifest.
    #[must_use]
    pub fn manifest(&self) -> Option<&Envelope> {
        self.manifest.as_ref()
    }

    /// Envelopes of the releases that history names.
    #[must_use]
    pub fn releases(&self) -> &BTreeMap<ReleaseId, Envelope> {
        &self.releases
    }

    /// What is remembered of every service. Moments of another boot than `boot_id` count as `opened_at`.
    #[must_use]
    pub fn histories(&self, boot_id: &str, opened_at: Now) -> BTreeMap<ServiceName, History> {
        let moment =
            |moment: &Moment| if moment.boot_id == boot_id { Now(moment.ms) } else { opened_at };
        let history = |(name, entry): (&ServiceName, &Entry)| {
            let completed_at = entry.completed_at.as_ref().map(moment);
            (name.clone(), entry.to_history(completed_at))
        };
        self.services.iter().map(history).collect()
    }

    /// Images this node pulled.
    #[must_use]
    pub fn images_pulled(&self) -> &[Image] {
        &self.images_pulled
    }

    /// With an accepted manifest and its releases. `in_use` are those that instances here are made of; none: not known
    /// yet, and none is forgotten.
    #[must_use]
    pub fn accept(
        &self,
        accepted: &Accepted,
        envelope: Envelope,
        in_use: Option<&BTreeSet<ReleaseId>>,
    ) -> Self {
        let mut next = self.clone();
        let seen = accepted.seen();
        next.seen = Some(SeenEntry { version: seen.version, payload_sha256: seen.payload_sha256 });
        for release in &accepted.manifest.releases {
            if let Some(id) = release_id(release) {
                next.releases.insert(id, release.clone());
            }
        }
        next.manifest = Some(envelope);
        if let Some(in_use) = in_use {
            let hooks = accepted.manifest.hooks.iter().map(|hook| &hook.release);
            let assigned = accepted.manifest.services.iter().flat_map(|a| a.releases());
            let assigned = assigned.chain(hooks);
            next.forget_releases(&assigned.chain(in_use).cloned().collect());
        }
        next
    }

    /// With what the planner decided for one service, under this boot.
    #[must_use]
    pub fn record(
        &self,
        service: &ServiceName,
        change: LedgerChange,
        evidence: Option<Evidence>,
        boot_id: &str,
    ) -> Self {
        let mut next = self.clone();
        if change == LedgerChange::Forget {
            next.services.remove(service);
        } else {
            let entry = next.services.entry(service.clone()).or_default();
            entry.apply(change, evidence, boot_id);
        }
        next
    }

    /// With an image that this node pulled, or removed again.
    #[must_use]
    pub fn set_pulled(&self, image: &Image, is_here: Pulled) -> Self {
        let mut next = self.clone();
        next.images_pulled.retain(|other| other.pin != image.pin);
        if is_here == Pulled::Here {
            next.images_pulled.push(image.clone());
        }
        next
    }

    /// Keeps the releases that are needed or that history may go back to.
    fn forget_releases(&mut self, needed: &BTreeSet<ReleaseId>) {
        let kept: BTreeSet<ReleaseId> = self
            .services
            .values()
            .flat_map(|entry| [&entry.running, &entry.last_good])
            .flatten()
            .map(|kept| kept.release.clone())
            .collect();
        self.releases.retain(|id, _| needed.contains(id) || kept.contains(id));
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
                self.remember_given_up(&template);
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

    /// What failed before is not tried again either, though only the newest is told of.
    fn remember_given_up(&mut self, newer: &Template) {
        let Some(before) = self.given_up.take() else { return };
        let highest = |(template, attempt): &(Template, u32)| {
            if *template == before.template { Some(*attempt) } else { None }
        };
        let known = self.given_up_before.iter().filter_map(highest).max();
        let attempt = known.map_or(before.attempt, |known| known.max(before.attempt));
        self.given_up_before.retain(|(template, _)| *template != before.template);
        if before.template != *newer {
            self.given_up_before.push((before.template, attempt));
        }
        let excess = self.given_up_before.len().saturating_sub(MAX_GIVEN_UP);
        self.given_up_before.drain(..excess);
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
            given_up_before: self.given_up_before.clone(),
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
