//! How a node accepts a manifest, and how the coordinator accepts what a node says.
//!
//! Pure: bytes, trust and what is known go in, a verified document or the reason of refusal comes out. Nothing has an
//! effect before this has said yes, and the caller writes [`Accepted`] durably before acting on it.
//!
//! ```text
//! size -> envelope -> signature -> form -> fleet, node, environment -> epoch -> generation -> services -> releases -> floors
//! ```

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

use crate::envelope::{Envelope, Rejected, Verified};
use crate::hello::Hello;
use crate::id::{EnvironmentName, FleetId, NodeId, ReleaseId, ServiceName, sha256_hex};
use crate::keys::{PublicKey, Role, Root};
use crate::manifest::{MAX_GENERATION_JUMP, Manifest, Version};
use crate::payload::Payload;
use crate::release::Release;
use crate::report::Report;
use crate::retirement::{self, Floors, Retirement};

/// Who a node is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeIdentity {
    /// Its fleet.
    pub fleet: FleetId,
    /// Its id.
    pub node: NodeId,
    /// Its one environment.
    pub environment: EnvironmentName,
}

/// Whom a node trusts: the newest root for everything new, and the ones before it for what it accepted under them and
/// still holds. A key that is revoked so ends nothing that runs, and starts nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trust {
    /// The newest.
    pub root: Root,
    /// Older ones, under which something held was accepted.
    pub former: Vec<Root>,
    /// Releases that the node holds.
    pub held: BTreeSet<ReleaseId>,
}

impl From<Root> for Trust {
    /// Nothing is held yet.
    fn from(root: Root) -> Self {
        Self { root, former: Vec::new(), held: BTreeSet::new() }
    }
}

impl Trust {
    /// The first proof that holds: the newest root's, else a former one's. Only for what the node holds.
    fn verify_held<T: Payload>(&self, envelope: &Envelope) -> Result<Verified<T>, Rejected> {
        let newest = envelope.verify(&self.root);
        let Err(Rejected::BadSignature { .. } | Rejected::NoRole(_)) = newest else {
            return newest;
        };
        let mut former = self.former.iter().filter_map(|root| envelope.verify(root).ok());
        former.next().map_or(newest, Ok)
    }

    fn verify_release(&self, envelope: &Envelope) -> Result<Verified<Release>, Rejected> {
        let newest = envelope.verify::<Release>(&self.root);
        if newest.is_ok() || self.former.is_empty() {
            return newest;
        }
        let held = release_id(envelope).is_some_and(|id| self.held.contains(&id));
        if held { self.verify_held(envelope) } else { newest }
    }
}

/// The newest manifest that a node has accepted; never goes back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// Its place in the order.
    pub version: Version,
    /// sha256 of its signed bytes, in hexadecimal.
    pub payload_sha256: String,
}

/// What a node knows when a manifest arrives.
#[derive(Debug, Clone, Copy)]
pub struct Known<'a> {
    /// The newest manifest accepted.
    pub seen: Option<&'a Seen>,
    /// The services that run here now: none of them may disappear without being named in `removed`.
    pub running: &'a BTreeSet<ServiceName>,
    /// The security floors of earlier manifests.
    pub floors: &'a Floors,
}

impl Known<'static> {
    /// What a node knows before its first manifest.
    pub const NOTHING: Self =
        Self { seen: None, running: &BTreeSet::new(), floors: &Floors::new() };
}

/// A manifest that may be acted on, with the releases it names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Accepted {
    /// The manifest.
    pub manifest: Verified<Manifest>,
    /// Every release it carries, by id; each assignment's is among them.
    pub releases: BTreeMap<ReleaseId, Verified<Release>>,
    /// The security floors that it carries.
    pub floors: Floors,
    /// What [`Seen`] must hold next.
    pub payload_sha256: String,
}

/// The outcome of a manifest that is not refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Acceptance {
    /// Newer than what was seen: write it down, then act.
    New(Box<Accepted>),
    /// The very one that was seen: acknowledge, nothing changes.
    Same,
}

/// Of the bytes as they are, whoever signed them.
pub(crate) fn release_id(envelope: &Envelope) -> Option<ReleaseId> {
    Some(ReleaseId::of_payload(envelope.open::<Release>().ok()?.unverified_payload()))
}

impl Accepted {
    /// The releases as they were signed, by id.
    #[must_use]
    pub fn envelopes(&self) -> BTreeMap<ReleaseId, Envelope> {
        let by_id = |envelope: &Envelope| Some((release_id(envelope)?, envelope.clone()));
        self.manifest.releases.iter().filter_map(by_id).collect()
    }

    /// What the node has seen once this is written.
    #[must_use]
    pub fn seen(&self) -> Seen {
        Seen { version: self.manifest.version, payload_sha256: self.payload_sha256.clone() }
    }
}

/// Accepts or refuses the bytes of a manifest.
///
/// # Errors
/// The first reason of [`Rejected`] in the order shown at the top of this module.
pub fn accept(
    bytes: &[u8],
    trust: &Trust,
    node: &NodeIdentity,
    known: Known<'_>,
) -> Result<Acceptance, Rejected> {
    let manifest: Verified<Manifest> = Envelope::from_bytes(bytes)?.verify(&trust.root)?;
    check_addressee(&manifest, node)?;
    let payload_sha256 = sha256_hex(manifest.payload());
    if check_order(manifest.version, trust.root.epoch, &payload_sha256, known.seen)? == Order::Equal
    {
        return Ok(Acceptance::Same);
    }
    check_services(&manifest, known.running)?;
    let releases = verify_releases(&manifest, trust)?;
    let floors = verify_retirements(&manifest, |envelope| envelope.verify(&trust.root))?;
    check_floors(&manifest, &releases, known.floors)?;
    check_floors(&manifest, &releases, &floors)?;
    Ok(Acceptance::New(Box::new(Accepted { manifest, releases, floors, payload_sha256 })))
}

/// Reads again what [`accept`] has accepted before, from the node's own disk: order, removals and floors are not asked.
///
/// # Errors
/// Every reason of [`Rejected`] that concerns signatures, form, addressee and releases.
pub fn reread(bytes: &[u8], trust: &Trust, node: &NodeIdentity) -> Result<Accepted, Rejected> {
    let manifest: Verified<Manifest> = trust.verify_held(&Envelope::from_bytes(bytes)?)?;
    check_addressee(&manifest, node)?;
    check_services(&manifest, &BTreeSet::new())?;
    let releases = verify_releases(&manifest, trust)?;
    let floors = verify_retirements(&manifest, |envelope| trust.verify_held(envelope))?;
    let payload_sha256 = sha256_hex(manifest.payload());
    Ok(Accepted { manifest, releases, floors, payload_sha256 })
}

/// Verifies a release that the node holds, under the newest root or one that it was accepted under.
///
/// # Errors
/// As [`verify_release`].
pub fn verify_held_release(
    envelope: &Envelope,
    trust: &Trust,
    fleet: &FleetId,
) -> Result<Verified<Release>, Rejected> {
    let release: Verified<Release> = trust.verify_held(envelope)?;
    if release.fleet == *fleet { Ok(release) } else { Err(Rejected::WrongFleet) }
}

/// Verifies a release under the release role and as one of this fleet.
///
/// # Errors
/// Reasons of signature and form, and [`Rejected::WrongFleet`].
pub fn verify_release(
    envelope: &Envelope,
    root: &Root,
    fleet: &FleetId,
) -> Result<Verified<Release>, Rejected> {
    let release: Verified<Release> = envelope.verify(root)?;
    if release.fleet != *fleet {
        return Err(Rejected::WrongFleet);
    }
    Ok(release)
}

/// Verifies a retirement under the release role and as one of this fleet.
///
/// # Errors
/// Reasons of signature and form, and [`Rejected::WrongFleet`].
pub fn verify_retirement(
    envelope: &Envelope,
    root: &Root,
    fleet: &FleetId,
) -> Result<Verified<Retirement>, Rejected> {
    envelope.verify(root).and_then(|retirement| of_fleet(retirement, fleet))
}

/// What a node signs with its own key.
pub trait NodeMessage: Payload {
    /// The fleet it claims.
    fn fleet(&self) -> &FleetId;
    /// The node it claims to be.
    fn node(&self) -> &NodeId;
}

impl NodeMessage for Hello {
    fn fleet(&self) -> &FleetId {
        &self.fleet
    }
    fn node(&self) -> &NodeId {
        &self.node
    }
}

impl NodeMessage for Report {
    fn fleet(&self) -> &FleetId {
        &self.fleet
    }
    fn node(&self) -> &NodeId {
        &self.node
    }
}

/// Verifies what a known node says, under the key that it is known by.
///
/// # Errors
/// Reasons of size, signature and form, [`Rejected::ForeignKey`] and [`Rejected::WrongFleet`].
pub fn verify_node_message<T: NodeMessage>(
    bytes: &[u8],
    fleet: &FleetId,
    key: &PublicKey,
) -> Result<Verified<T>, Rejected> {
    let message = Envelope::from_bytes(bytes)?.open::<T>()?.verify(&Role::single(key.clone()))?;
    if *message.node() != key.node_id() {
        return Err(Rejected::ForeignKey);
    }
    if message.fleet() != fleet {
        return Err(Rejected::WrongFleet);
    }
    Ok(message)
}

/// Verifies a hello under the key that it carries, which the node's id must be the hash of. Says who speaks, not that
/// the node is one of the fleet: that is the caller's to know.
///
/// # Errors
/// As [`verify_node_message`].
pub fn verify_hello(
    bytes: &[u8],
    fleet: &FleetId,
) -> Result<(Verified<Hello>, PublicKey), Rejected> {
    verify_introduction(bytes, fleet)
}

/// Verifies what a node says of itself under the `public_key` in it.
///
/// # Errors
/// As [`verify_node_message`].
pub(crate) fn verify_introduction<T: NodeMessage>(
    bytes: &[u8],
    fleet: &FleetId,
) -> Result<(Verified<T>, PublicKey), Rejected> {
    #[derive(Deserialize)]
    struct Claim {
        public_key: PublicKey,
    }
    let signed = Envelope::from_bytes(bytes)?.open::<T>()?;
    let claim: Claim = serde_json::from_slice(signed.unverified_payload())
        .map_err(|error| Rejected::BadPayload(error.to_string()))?;
    let message = verify_node_message(bytes, fleet, &claim.public_key)?;
    Ok((message, claim.public_key))
}

fn check_addressee(manifest: &Manifest, node: &NodeIdentity) -> Result<(), Rejected> {
    if manifest.fleet != node.fleet {
        return Err(Rejected::WrongFleet);
    }
    if manifest.node != node.node {
        return Err(Rejected::WrongNode);
    }
    if manifest.environment != node.environment {
        return Err(Rejected::WrongEnvironment);
    }
    Ok(())
}

/// Where a manifest stands against the newest seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Order {
    Newer,
    Equal,
}

/// Monotone in (epoch, generation); a new epoch counts its generations from the start.
fn check_order(
    found: Version,
    epoch: u64,
    payload_sha256: &str,
    seen: Option<&Seen>,
) -> Result<Order, Rejected> {
    // A root older than what was seen cannot bring an old epoch back.
    let expected = seen.map_or(epoch, |seen| epoch.max(seen.version.epoch));
    if found.epoch != expected {
        return Err(Rejected::WrongEpoch { found: found.epoch, expected });
    }
    let same_epoch = seen.filter(|seen| seen.version.epoch == found.epoch);
    let newest = same_epoch.map_or(0, |seen| seen.version.generation);
    let generation = found.generation;
    if generation < newest {
        return Err(Rejected::StaleGeneration { found: generation, seen: newest });
    }
    if let Some(seen) = same_epoch.filter(|seen| seen.version.generation == generation) {
        if seen.payload_sha256 == payload_sha256 {
            return Ok(Order::Equal);
        }
        return Err(Rejected::Equivocation { generation });
    }
    if generation - newest > MAX_GENERATION_JUMP {
        return Err(Rejected::GenerationJump { found: generation, seen: newest });
    }
    Ok(Order::Newer)
}

fn check_services(manifest: &Manifest, running: &BTreeSet<ServiceName>) -> Result<(), Rejected> {
    let mut named = manifest.removed.clone();
    for assignment in &manifest.services {
        if !named.insert(assignment.service.clone()) {
            return Err(Rejected::DuplicateService { service: assignment.service.to_string() });
        }
    }
    let mut hooks = BTreeSet::new();
    for hook in &manifest.hooks {
        if !hooks.insert(hook.service.clone()) {
            return Err(Rejected::DuplicateService { service: hook.service.to_string() });
        }
    }
    named.extend(hooks);
    match running.difference(&named).next() {
        Some(service) => Err(Rejected::UnnamedRemoval { service: service.to_string() }),
        None => Ok(()),
    }
}

/// Every embedded release verified, and each assignment's among them and of its service.
fn verify_releases(
    manifest: &Manifest,
    trust: &Trust,
) -> Result<BTreeMap<ReleaseId, Verified<Release>>, Rejected> {
    let mut releases = BTreeMap::new();
    for envelope in &manifest.releases {
        let release: Verified<Release> =
            trust.verify_release(envelope).map_err(|inner| Rejected::Release(Box::new(inner)))?;
        if release.fleet != manifest.fleet || !release.has_one_name() {
            return Err(Rejected::ForeignRelease { service: release.service().to_string() });
        }
        releases.insert(ReleaseId::of_payload(release.payload()), release);
    }
    for (service, named) in named_releases(manifest) {
        let service_name = service.to_string();
        let Some(release) = releases.get(named) else {
            let release = named.short().to_owned();
            return Err(Rejected::MissingRelease { service: service_name, release });
        };
        if release.service() != service {
            return Err(Rejected::ForeignRelease { service: service_name });
        }
    }
    Ok(releases)
}

/// Every release that a manifest lets run, with its service.
fn named_releases(manifest: &Manifest) -> impl Iterator<Item = (&ServiceName, &ReleaseId)> {
    let assigned = manifest
        .services
        .iter()
        .flat_map(|assignment| assignment.releases().map(|release| (&assignment.service, release)));
    assigned.chain(manifest.hooks.iter().map(|hook| (&hook.service, &hook.release)))
}

/// The floors of a manifest's retirements, each verified.
fn verify_retirements(
    manifest: &Manifest,
    prove: impl Fn(&Envelope) -> Result<Verified<Retirement>, Rejected>,
) -> Result<Floors, Rejected> {
    let mut floors = Floors::new();
    for envelope in &manifest.retirements {
        let proven = prove(envelope).and_then(|r| of_fleet(r, &manifest.fleet));
        let retired = proven.map_err(|inner| Rejected::Retirement(Box::new(inner)))?;
        retirement::raise(&mut floors, &retired.service, retired.below);
    }
    Ok(floors)
}

fn of_fleet(
    retirement: Verified<Retirement>,
    fleet: &FleetId,
) -> Result<Verified<Retirement>, Rejected> {
    if retirement.fleet == *fleet { Ok(retirement) } else { Err(Rejected::WrongFleet) }
}

/// Nothing below a floor is begun.
fn check_floors(
    manifest: &Manifest,
    releases: &BTreeMap<ReleaseId, Verified<Release>>,
    floors: &Floors,
) -> Result<(), Rejected> {
    for (service, named) in named_releases(manifest) {
        let counter = releases.get(named).map(|release| release.counter);
        let below = counter.zip(floors.get(service)).filter(|(counter, floor)| counter < *floor);
        if let Some((counter, floor)) = below {
            let service = service.to_string();
            return Err(Rejected::RetiredRelease { service, counter, floor: *floor });
        }
    }
    Ok(())
}
