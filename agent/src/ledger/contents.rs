//! What stands in a slot of the ledger. Pure: each change gives the next contents.
//!
//! Owns the form on disk. Must not touch a file, and must not decide anything: changes come from the planner, and so does
//! what each of them does to a service's history.

mod here;

use std::collections::{BTreeMap, BTreeSet};

use planner::Now;
use planner::node::{Held, History, Kept, LedgerChange};
use protocol::acceptance::{Accepted, Seen, Trust};
use protocol::envelope::Envelope;
use protocol::id::{ReleaseId, SecretName, ServiceName, Template};
use protocol::keys::Root;
use protocol::manifest::{Manifest, Version};
use protocol::release::{Image, Release};
use protocol::report::{Evidence, GivenUp};
use protocol::retirement::{self, Floors};
use protocol::secret::{self, SecretVersions};
use protocol::succession::Chain;
use serde::{Deserialize, Serialize};

pub use here::{KeptAs, KeptHere};

/// All that a node must not forget, as JSON on disk.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Contents {
    seen: Option<SeenEntry>,
    manifest: Option<Envelope>,
    services: BTreeMap<ServiceName, Entry>,
    releases: BTreeMap<ReleaseId, Envelope>,
    images_pulled: Vec<Image>,
    /// Never fall, whatever is removed or forgotten.
    #[serde(default)]
    floors: Floors,
    /// The newest trust root that was accepted; none: the one in the file that `trust_root` names.
    #[serde(default)]
    root: Option<Root>,
    /// Older ones, under which something that stands here was accepted.
    #[serde(default)]
    former: Vec<Root>,
    /// What proves the trust roots that were followed, oldest first: for whoever must make the next one and has lost them.
    /// An agent that does not know of it forgets it, and nothing else.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    proofs: Vec<Envelope>,
    /// The newest time that somebody had vouched for at the last change, seconds since 1970. Never falls.
    #[serde(default)]
    floor_s: u64,
    /// Sealed copies of the secrets that the manifest and history name.
    #[serde(default)]
    secrets: Vec<secret::Copy>,
    /// Services that root of the node holds. An agent that does not know of it forgets it, and nothing else.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    holds: BTreeMap<ServiceName, HoldEntry>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct SeenEntry {
    version: Version,
    payload_sha256: String,
}

/// A [`History`] on disk.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
struct Entry {
    running: Option<KeptEntry>,
    completed: bool,
    completed_at: Option<Moment>,
    stop_first: bool,
    warm: bool,
    last_good: Option<KeptEntry>,
    proven: bool,
    failures: Vec<GivenUp>,
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
    #[serde(default)]
    secrets: SecretVersions,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct HoldEntry {
    kept: KeptEntry,
    count: u32,
    by: String,
    since_s: u64,
    #[serde(default)]
    reason: Option<String>,
}

/// A service that root of the node holds, and who asked for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hold {
    /// At what.
    pub held: Held,
    /// The user, as the node knows it.
    pub by: String,
    /// Unix seconds by the node's clock.
    pub since_s: u64,
    /// What they said about it.
    pub reason: Option<String>,
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

    /// Sealed copies of the secrets that the manifest and history name.
    #[must_use]
    pub fn secrets(&self) -> &[secret::Copy] {
        &self.secrets
    }

    /// Services that root of the node holds.
    #[must_use]
    pub fn holds(&self) -> BTreeMap<ServiceName, Hold> {
        let hold = |(service, entry): (&ServiceName, &HoldEntry)| {
            let HoldEntry { kept, count, by, since_s, reason } = entry.clone();
            let held = Held::new(service.clone(), kept.into(), count);
            (service.clone(), Hold { held, by, since_s, reason })
        };
        self.holds.iter().map(hold).collect()
    }

    /// With a service held, or released.
    #[must_use]
    pub fn hold(&self, service: &ServiceName, hold: Option<&Hold>) -> Self {
        let mut next = self.clone();
        match hold.cloned() {
            Some(Hold { held, by, since_s, reason }) => {
                let (kept, count) = (held.kept.into(), held.assignment.count);
                let entry = HoldEntry { kept, count, by, since_s, reason };
                next.holds.insert(service.clone(), entry);
            }
            None => drop(next.holds.remove(service)),
        }
        next
    }

    /// The security floors.
    #[must_use]
    pub fn floors(&self) -> &Floors {
        &self.floors
    }

    /// What is remembered of every service. Moments of another boot than `boot_id` count as `opened_at`.
    #[must_use]
    pub fn histories(&self, boot_id: &str, opened_at: Now) -> BTreeMap<ServiceName, History> {
        let history = |(name, entry): (&ServiceName, &Entry)| {
            let history = entry.to_history();
            let is_of_another =
                entry.completed_at.as_ref().is_some_and(|moment| moment.boot_id != boot_id);
            let completed_at = if is_of_another { Some(opened_at) } else { history.completed_at };
            (name.clone(), History { completed_at, ..history })
        };
        self.services.iter().map(history).collect()
    }

    /// Whom the node trusts, given what its file says. The file is the first trust: it counts again only where somebody
    /// placed a newer root, or one of another fleet, by hand.
    #[must_use]
    pub fn trust(&self, file: &Root) -> Trust {
        let kept = self.root.as_ref().filter(|root| root.fleet == file.fleet);
        let (root, older) = match kept {
            Some(kept) if kept.version >= file.version => (kept, None),
            Some(kept) => (file, Some(kept)),
            None => (file, None),
        };
        let former = self.former.iter().chain(older).cloned().collect();
        let held = self.releases.keys().cloned().collect();
        Trust { root: root.clone(), former, held }
    }

    /// With the trust root that follows `before`. A version never goes back.
    #[must_use]
    pub fn succeed(&self, root: &Root, before: &Root) -> Self {
        let mut next = self.clone();
        if root.version > before.version {
            next.former.push(before.clone());
            next.root = Some(root.clone());
            next.forget_former();
        }
        next
    }

    /// With what proves the trust roots that led to the newest, oldest first. Of all of them the newest that fit into one chain
    /// are kept.
    #[must_use]
    pub fn prove(self, proofs: &[Envelope]) -> Self {
        if proofs.is_empty() {
            return self;
        }
        let roots = self.proofs.iter().chain(proofs).cloned().collect();
        let chain = Chain::from_bytes(&Chain { roots }.to_bytes());
        let proofs = chain.expect("what was written as a chain is one").roots;
        Self { proofs, ..self }
    }

    /// What proves the trust roots that were followed, oldest first.
    #[must_use]
    pub fn proofs(&self) -> &[Envelope] {
        &self.proofs
    }

    /// The newest time that somebody had vouched for when it was written, seconds since 1970.
    #[must_use]
    pub const fn floor_s(&self) -> u64 {
        self.floor_s
    }

    /// With the floor of the time as it is known now.
    #[must_use]
    pub fn raise_floor(self, floor_s: u64) -> Self {
        Self { floor_s: floor_s.max(self.floor_s), ..self }
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
        for (service, below) in &accepted.floors {
            retirement::raise(&mut next.floors, service, *below);
        }
        next.forget_retired();
        if let Some(in_use) = in_use {
            let hooks = accepted.manifest.hooks.iter().map(|hook| &hook.release);
            let assigned = accepted.manifest.services.iter().flat_map(|a| a.releases());
            let assigned = assigned.chain(hooks);
            next.forget_releases(&assigned.chain(in_use).cloned().collect());
        }
        next.keep_secrets(&accepted.manifest);
        next.forget_former();
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
            *entry = entry.after(&change, evidence, boot_id);
            next.forget_retired();
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

    /// What lies below its service's floor is not gone back to: there is nothing to go back to then.
    fn forget_retired(&mut self) {
        for (service, floor) in &self.floors {
            let Some(entry) = self.services.get_mut(service) else { continue };
            let last_good = entry.last_good.as_ref();
            let envelope = last_good.and_then(|kept| self.releases.get(&kept.release));
            if envelope.and_then(counter).is_some_and(|counter| counter < *floor) {
                entry.last_good = None;
            }
        }
    }

    /// Keeps the former roots that vouch for something that the newest does not vouch for any more.
    fn forget_former(&mut self) {
        let Some(newest) = self.root.clone().filter(|_| !self.former.is_empty()) else { return };
        let (manifest, releases) = (self.manifest.clone(), &self.releases);
        let vouches = |root: &Root| {
            let for_manifest = |e: &Envelope| e.verify::<Manifest>(root).is_ok();
            let for_release = |e: &Envelope| e.verify::<Release>(root).is_ok();
            let manifest = manifest.iter().filter(|e| e.verify::<Manifest>(&newest).is_err());
            let releases = releases.values().filter(|e| e.verify::<Release>(&newest).is_err());
            manifest.into_iter().any(for_manifest) || releases.into_iter().any(for_release)
        };
        self.former.retain(vouches);
        self.former.dedup_by(|a, b| a.roles == b.roles);
    }

    /// Takes the copies of a manifest, each in the place of an older one, and keeps those that it or history names. Logins for pulls are
    /// the manifest's alone.
    fn keep_secrets(&mut self, manifest: &Manifest) {
        self.secrets.retain(|held| held.registry.is_none());
        for copy in &manifest.secrets {
            self.secrets.retain(|held| (&held.name, held.version) != (&copy.name, copy.version));
            self.secrets.push(copy.clone());
        }
        let of_history = kept(&self.services, &self.holds).map(|kept| &kept.secrets);
        let named: BTreeSet<(&SecretName, u64)> = manifest
            .secret_versions()
            .chain(of_history)
            .flat_map(|versions| versions.iter().map(|(name, version)| (name, *version)))
            .collect();
        self.secrets
            .retain(|copy| copy.registry.is_some() || named.contains(&(&copy.name, copy.version)));
    }

    /// Keeps the releases that are needed or that history may go back to.
    fn forget_releases(&mut self, needed: &BTreeSet<ReleaseId>) {
        let kept: BTreeSet<ReleaseId> =
            kept(&self.services, &self.holds).map(|kept| kept.release.clone()).collect();
        self.releases.retain(|id, _| needed.contains(id) || kept.contains(id));
    }
}

impl Entry {
    fn after(&self, change: &LedgerChange, evidence: Option<Evidence>, boot_id: &str) -> Self {
        let next = self.to_history().after(change, evidence);
        let moment = match change {
            LedgerChange::Complete(at) => Some(Moment { boot_id: boot_id.to_owned(), ms: at.0 }),
            // One of another boot stays of that boot.
            LedgerChange::Begin { .. } | LedgerChange::GiveUp { .. } | LedgerChange::Forget => {
                self.completed_at.clone()
            }
        };
        Self {
            running: next.running.map(Into::into),
            completed: next.completed,
            completed_at: moment.filter(|_| next.completed_at.is_some()),
            stop_first: next.stop_first,
            warm: next.warm,
            last_good: next.last_good.map(Into::into),
            proven: next.proven,
            failures: next.failures,
        }
    }

    /// As it was written: moments are of whatever boot they were of.
    fn to_history(&self) -> History {
        History {
            running: self.running.clone().map(Into::into),
            completed: self.completed,
            completed_at: self.completed_at.as_ref().map(|moment| Now(moment.ms)),
            stop_first: self.stop_first,
            warm: self.warm,
            last_good: self.last_good.clone().map(Into::into),
            proven: self.proven,
            failures: self.failures.clone(),
        }
    }
}

impl From<Kept> for KeptEntry {
    fn from(Kept { release, template, attempt, revision, secrets }: Kept) -> Self {
        Self { release, template, attempt, revision, secrets }
    }
}

impl From<KeptEntry> for Kept {
    fn from(KeptEntry { release, template, attempt, revision, secrets }: KeptEntry) -> Self {
        Self { release, template, attempt, revision, secrets }
    }
}

/// What runs, what is gone back to and what is held.
fn kept<'a>(
    services: &'a BTreeMap<ServiceName, Entry>,
    holds: &'a BTreeMap<ServiceName, HoldEntry>,
) -> impl Iterator<Item = &'a KeptEntry> {
    let held = holds.values().map(|hold| &hold.kept);
    services.values().flat_map(|entry| entry.running.iter().chain(&entry.last_good)).chain(held)
}

/// The id of an embedded release: the hash of its payload bytes.
fn release_id(envelope: &Envelope) -> Option<ReleaseId> {
    Some(ReleaseId::of_payload(&payload(envelope)?))
}

/// The counter of a release that was verified when it came.
fn counter(envelope: &Envelope) -> Option<u64> {
    #[derive(Deserialize)]
    struct Counted {
        counter: u64,
    }
    serde_json::from_slice::<Counted>(&payload(envelope)?).ok().map(|release| release.counter)
}

fn payload(envelope: &Envelope) -> Option<Vec<u8>> {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.decode(&envelope.payload).ok()
}
