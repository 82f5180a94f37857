//! How one trust root follows another, and how a node that was away walks from the one it knows to the newest.
//!
//! ```text
//! N -> N+1: signed under the root role of N -> form -> fleet -> version -> epoch -> roles -> signed under its own
//! ```
//!
//! Pure, as [`crate::acceptance`]. The chain itself is not signed and need not be: each root in it is.

use serde::{Deserialize, Serialize};

use crate::envelope::{Envelope, MAX_ENVELOPE_BYTES, Rejected, Verified};
use crate::keys::{Role, RoleName, Root};
use crate::payload::PayloadType;

/// Roots in one chain: a rotation every month for twenty years.
pub const MAX_CHAIN: usize = 256;
/// Bytes of one chain, so that every broker that carries a manifest carries it.
pub const MAX_CHAIN_BYTES: usize = MAX_ENVELOPE_BYTES;

/// The trust roots of a fleet since version 2, oldest first, as they travel on `down/root` and lie in the coordinator's
/// folder. Version 1 is what a node was given by hand.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Chain {
    /// The signed roots.
    pub roots: Vec<Envelope>,
}

impl Chain {
    /// Reads a chain, sizes first.
    ///
    /// # Errors
    /// [`Rejected::ChainTooLong`] or [`Rejected::BadEnvelope`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Rejected> {
        if bytes.len() > MAX_CHAIN_BYTES {
            return Err(Rejected::ChainTooLong { roots: 0, size: bytes.len() });
        }
        let chain: Self =
            serde_json::from_slice(bytes).map_err(|e| Rejected::BadEnvelope(e.to_string()))?;
        if chain.roots.len() > MAX_CHAIN {
            return Err(Rejected::ChainTooLong { roots: chain.roots.len(), size: bytes.len() });
        }
        Ok(chain)
    }

    /// The bytes that travel: the newest roots that fit. A node older than the oldest of them needs the newest root by
    /// hand.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        serde_json::to_vec(&self.bounded()).expect("envelopes of strings serialise")
    }

    /// What of it travels.
    #[must_use]
    pub fn bounded(&self) -> Self {
        let mut size = r#"{"roots":[]}"#.len();
        let fits = |envelope: &&Envelope| {
            size += envelope.to_bytes().len() + 1;
            size <= MAX_CHAIN_BYTES
        };
        let newest = self.roots.iter().rev().take(MAX_CHAIN).take_while(fits).count();
        Self { roots: self.roots[self.roots.len() - newest..].to_vec() }
    }
}

/// A root with the envelope that proves it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedRoot {
    /// What it says.
    pub root: Root,
    /// As it travels and is kept.
    pub envelope: Envelope,
}

/// How far a chain led.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Walked {
    /// Every root that follows the known one, oldest first.
    pub roots: Vec<SignedRoot>,
    /// Why the rest of the chain was refused.
    pub refused: Option<Rejected>,
}

/// Reads a root that vouches for itself: signed by the root role that it names. Whoever placed it decides whom is
/// trusted; the signature shows that it is whole.
///
/// # Errors
/// Reasons of signature and form.
pub fn first(envelope: &Envelope) -> Result<Verified<Root>, Rejected> {
    let claimed = claimed(envelope)?;
    envelope.verify(&claimed)
}

/// What an envelope says, whoever signed it: for people who are to sign it, never to act upon.
///
/// # Errors
/// Reasons of form.
pub fn unproven(envelope: &Envelope) -> Result<Root, Rejected> {
    claimed(envelope)
}

/// Accepts or refuses the root that follows `current`.
///
/// # Errors
/// The first reason in the order shown at the top of this module.
pub fn succeed(current: &Root, envelope: &Envelope) -> Result<Verified<Root>, Rejected> {
    let next = verify_under(current, current.version, envelope)?;
    if next.fleet != current.fleet {
        return Err(Rejected::WrongFleet);
    }
    let expected = current.version.saturating_add(1);
    if next.version != expected {
        return Err(Rejected::RootVersion { found: next.version, expected });
    }
    if next.epoch < current.epoch {
        return Err(Rejected::LowerEpoch { found: next.epoch, current: current.epoch });
    }
    next.check()?;
    verify_under(&next, next.version, envelope)
}

/// Walks a chain from `current` to the newest root. What is older than `current` is passed over; what is good before a
/// root that is refused counts.
#[must_use]
pub fn walk(current: &Root, chain: &Chain) -> Walked {
    let mut roots: Vec<SignedRoot> = Vec::new();
    for envelope in &chain.roots {
        let newest = roots.last().map_or(current, |signed| &signed.root);
        match step(newest, envelope) {
            Ok(None) => {}
            Ok(Some(root)) => roots.push(SignedRoot { root, envelope: envelope.clone() }),
            Err(reason) => return Walked { roots, refused: Some(reason) },
        }
    }
    Walked { roots, refused: None }
}

/// None where the node is past it.
fn step(newest: &Root, envelope: &Envelope) -> Result<Option<Root>, Rejected> {
    let claimed = claimed(envelope)?;
    if claimed.version > newest.version {
        return succeed(newest, envelope).map(|root| Some(root.into_inner()));
    }
    if claimed.version == newest.version && claimed != *newest {
        return Err(Rejected::RootFork { version: claimed.version });
    }
    Ok(None)
}

/// What an envelope says before any proof: only to find out which keys to ask.
fn claimed(envelope: &Envelope) -> Result<Root, Rejected> {
    serde_json::from_slice(&envelope.open_unsigned::<Root>()?)
        .map_err(|error| Rejected::BadPayload(error.to_string()))
}

fn verify_under(
    root: &Root,
    version: u64,
    envelope: &Envelope,
) -> Result<Verified<Root>, Rejected> {
    let role: &Role = root.roles.get(&RoleName::Root).ok_or(Rejected::NoRole(PayloadType::Root))?;
    envelope.open::<Root>()?.verify(role).map_err(|reason| {
        let Rejected::BadSignature { valid, threshold } = reason else { return reason };
        Rejected::RootSignature { version, valid, threshold }
    })
}
