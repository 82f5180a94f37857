//! How the nodes of a fleet believe a coordinator that was lost with everything it had, and was made anew by the root keys.
//!
//! ```text
//! node: the coordinator's certificate is of another CA -> GET /v1/recovery, whatever the certificate
//!       -> chain of roots, Recovery, CA: each proves itself; a newer root of a higher epoch, with another director, which vouches for the CA
//!       -> POST /v1/renew under that CA, with Again and the manifest that the node holds -> the lobby, until somebody approves
//! ```
//! The answer needs no secrecy and is believed for its signatures alone: root signs the next root, and the director that it names says
//! which CA is the fleet's. So nobody else than the root keys can bring nodes under another CA: a director's thief cannot raise the epoch,
//! and what was made for one recovery is refused by a node that has come past it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::acceptance::{Accepted, NodeIdentity, Trust, release_id, reread};
use crate::envelope::{Envelope, Rejected, Verified};
use crate::id::{EnvironmentName, FleetId, NodeId, NodeName};
use crate::join::SealKey;
use crate::keys::{RoleName, Root};
use crate::manifest::Manifest;
use crate::payload::{Payload, PayloadType};
use crate::succession::{self, Chain, MAX_CHAIN_BYTES, SignedRoot};

/// Answers a [`RecoveryBody`] to anyone.
pub const RECOVERY_PATH: &str = "/v1/recovery";
/// A larger [`RecoveryBody`] is read no further.
pub const MAX_RECOVERY_BYTES: usize = MAX_CHAIN_BYTES + 64 * 1024;

/// Which CA is the fleet's; signed by the director, anew for each who asks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recovery {
    /// [`crate::FORMAT`] at the time of writing.
    pub format: u32,
    /// The fleet it is for.
    pub fleet: FleetId,
    /// Of the newest trust root.
    pub root_version: u64,
    /// sha256 of the CA's DER, hexadecimal.
    pub ca_sha256: String,
}

/// What `GET /v1/recovery` answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecoveryBody {
    /// The trust roots, oldest first.
    pub chain: Chain,
    /// A signed [`Recovery`].
    pub recovery: Envelope,
    /// The CA, PEM: one certificate.
    pub ca: String,
}

/// What a node says of itself to a coordinator that has lost everything, in its [`crate::join::Renew`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Again {
    /// Its name among people.
    pub name: NodeName,
    /// Its one environment.
    pub environment: EnvironmentName,
    /// Labels that placements select by, those of its joining among them.
    pub labels: BTreeMap<String, String>,
    /// What secrets are sealed to.
    pub seal_key: SealKey,
}

/// A recovery that a node may follow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recovered {
    /// Every root that follows the one held, oldest first; at least one.
    pub roots: Vec<SignedRoot>,
    /// sha256 of the DER of the CA that is to be believed; the caller compares it with the one that was sent.
    pub ca_sha256: String,
}

/// Why a node does not follow.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotRecovered {
    /// A signature or a form. Where the chain has a gap the coordinator's `pith fleet recover` needs the trust root that this node holds.
    #[error(transparent)]
    Refused(#[from] Rejected),
    /// The coordinator knows no newer trust root than the node.
    #[error("trust root {newest} there does not follow {held}, which this node holds")]
    NoNewerRoot {
        /// The newest that was sent, or 0.
        newest: u64,
        /// The node's.
        held: u64,
    },
    /// Only root raises it.
    #[error("the epoch is still {0}: no recovery was signed")]
    SameEpoch(u64),
    /// A thief of the director's key would look like this.
    #[error(
        "no trust root there raised the epoch and named another director in one: no recovery was signed"
    )]
    SameDirector,
}

impl Payload for Recovery {
    const TYPE: PayloadType = PayloadType::Recovery;
}

/// Whether a node that holds a trust root follows what was sent.
///
/// # Errors
/// The first reason not to.
pub fn accept(sent: &RecoveryBody, held: &Root) -> Result<Recovered, NotRecovered> {
    let walked = succession::walk(held, &sent.chain);
    if let Some(refused) = walked.refused {
        return Err(refused.into());
    }
    let Some(newest) = walked.roots.last().map(|signed| &signed.root) else {
        let last = sent.chain.roots.last().and_then(|one| succession::unproven(one).ok());
        let newest = last.map_or(0, |root| root.version);
        return Err(NotRecovered::NoNewerRoot { newest, held: held.version });
    };
    if newest.epoch <= held.epoch {
        return Err(NotRecovered::SameEpoch(held.epoch));
    }
    let before = std::iter::once(held).chain(walked.roots.iter().map(|signed| &signed.root));
    let mut steps = before.zip(walked.roots.iter().map(|signed| &signed.root));
    if !steps.any(|(before, next)| is_recovery(before, next)) {
        return Err(NotRecovered::SameDirector);
    }
    let recovery: Verified<Recovery> = sent.recovery.verify(newest)?;
    if recovery.fleet != held.fleet {
        return Err(Rejected::WrongFleet.into());
    }
    if recovery.root_version != newest.version {
        let (found, expected) = (recovery.root_version, newest.version);
        return Err(Rejected::RootVersion { found, expected }.into());
    }
    let ca_sha256 = recovery.into_inner().ca_sha256;
    Ok(Recovered { roots: walked.roots, ca_sha256 })
}

/// Whether root signed in one step that another director is to begin anew.
fn is_recovery(before: &Root, next: &Root) -> bool {
    let keys = |root: &Root| root.roles.get(&RoleName::Director).map(|role| role.keys.clone());
    let before_keys = keys(before).unwrap_or_default();
    next.epoch > before.epoch
        && keys(next).unwrap_or_default().iter().all(|key| !before_keys.contains(key))
}

/// The manifest that a node holds, as proof that it was of the fleet and of what it was told to run: signed for this very node by a director
/// of one of these roots (newest first), and read whole, as the node itself reads it again.
///
/// # Errors
/// Reasons of signature and form, [`Rejected::WrongFleet`], [`Rejected::WrongNode`], and those of releases.
pub fn held_manifest(
    envelope: &Envelope,
    node: &NodeId,
    roots: &[Root],
) -> Result<Accepted, Rejected> {
    let [newest, former @ ..] = roots else {
        return Err(Rejected::NoRole(PayloadType::Manifest));
    };
    let mut proofs = roots.iter().map(|root| envelope.verify::<Manifest>(root));
    let first = proofs.next().unwrap_or(Err(Rejected::NoRole(PayloadType::Manifest)));
    let told = first.or_else(|why| proofs.find_map(Result::ok).ok_or(why))?;
    let (fleet, environment) = (newest.fleet.clone(), told.environment.clone());
    let held = told.releases.iter().filter_map(release_id).collect();
    let trust = Trust { root: newest.clone(), former: former.to_vec(), held };
    reread(&envelope.to_bytes(), &trust, &NodeIdentity { fleet, node: node.clone(), environment })
}
