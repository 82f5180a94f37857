//! How a node accepts a manifest, and how the coordinator accepts what a node says.
//!
//! Pure: bytes, trust and what is known go in, a verified document or the reason of refusal comes out. Nothing has an
//! effect before this has said yes, and the caller writes [`Accepted`] durably before acting on it.
//!
//! ```text
//! size -> envelope -> signature -> form -> fleet, node, environment -> epoch -> generation -> services -> releases
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

/// The newest manifest that a node has accepted; never goes back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// Its place in the order.
    pub version: Version,
    /// sha256 of its signed bytes, in hexadecimal.
    pub payload_sha256: String,
}

/// A manifest that may be acted on, with the releases it names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Accepted {
    /// The manifest.
    pub manifest: Verified<Manifest>,
    /// Every release it carries, by id; each assignment's is among them.
    pub releases: BTreeMap<ReleaseId, Verified<Release>>,
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

impl Accepted {
    /// What the node has seen once this is written.
    #[must_use]
    pub fn seen(&self) -> Seen {
        Seen { version: self.manifest.version, payload_sha256: self.payload_sha256.clone() }
    }
}

/// Accepts or refuses the bytes of a manifest.
///
/// `running` are the services that run here now: none of them may disappear without being named in `removed`.
///
/// # Errors
/// The first reason of [`Rejected`] in the order shown at the top of this module.
pub fn accept(
    bytes: &[u8],
    root: &Root,
    node: &NodeIdentity,
    seen: Option<&Seen>,
    running: &BTreeSet<ServiceName>,
) -> Result<Acceptance, Rejected> {
    let manifest: Verified<Manifest> = Envelope::from_bytes(bytes)?.verify(root)?;
    check_addressee(&manifest, node)?;
    let payload_sha256 = sha256_hex(manifest.payload());
    if check_order(manifest.version, root.epoch, &payload_sha256, seen)? == Order::Equal {
        return Ok(Acceptance::Same);
    }
    check_services(&manifest, running)?;
    let releases = verify_releases(&manifest, root)?;
    Ok(Acceptance::New(Box::new(Accepted { manifest, releases, payload_sha256 })))
}

/// Reads again what [`accept`] has accepted before, from the node's own disk: order and removals are not asked.
///
/// # Errors
/// Every reason of [`Rejected`] that concerns signatures, form, addressee and releases.
pub fn reread(bytes: &[u8], root: &Root, node: &NodeIdentity) -> Result<Accepted, Rejected> {
    let manifest: Verified<Manifest> = Envelope::from_bytes(bytes)?.verify(root)?;
    check_addressee(&manifest, node)?;
    check_services(&manifest, &BTreeSet::new())?;
    let releases = verify_releases(&manifest, root)?;
    let payload_sha256 = sha256_hex(manifest.payload());
    Ok(Accepted { manifest, releases, payload_sha256 })
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
    #[derive(Deserialize)]
    struct Claim {
        public_key: PublicKey,
    }
    let signed = Envelope::from_bytes(bytes)?.open::<Hello>()?;
    let claim: Claim = serde_json::from_slice(signed.unverified_payload())
        .map_err(|error| Rejected::BadPayload(error.to_string()))?;
    let hello = verify_node_message(bytes, fleet, &claim.public_key)?;
    Ok((hello, claim.public_key))
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
    root: &Root,
) -> Result<BTreeMap<ReleaseId, Verified<Release>>, Rejected> {
    let mut releases = BTreeMap::new();
    for envelope in &manifest.releases {
        let release: Verified<Release> =
            envelope.verify(root).map_err(|inner| Rejected::Release(Box::new(inner)))?;
        if release.fleet != manifest.fleet || !release.has_one_name() {
            return Err(Rejected::ForeignRelease { service: release.service().to_string() });
        }
        releases.insert(ReleaseId::of_payload(release.payload()), release);
    }
    let assigned = manifest
        .services
        .iter()
        .flat_map(|assignment| assignment.releases().map(|release| (&assignment.service, release)));
    let hooks = manifest.hooks.iter().map(|hook| (&hook.service, &hook.release));
    for (service, named) in assigned.chain(hooks) {
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
