//! What time it is, and which manifest is the newest: the director's answer to the nonce of a hello.
//!
//! A node asks with bytes that nobody can foresee, so that an answer is fresh whatever the node's clock says. It raises the
//! floor under that clock, and a broker that keeps the newest manifest back is found out by the node itself.

use serde::{Deserialize, Serialize};

use crate::acceptance::NodeIdentity;
use crate::envelope::{Envelope, Rejected, Verified};
use crate::id::{FleetId, NodeId};
use crate::keys::Root;
use crate::manifest::Version;
use crate::payload::{Payload, PayloadType};

/// The document that the director signs for one node and one nonce.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Time {
    /// [`crate::FORMAT`] at the time of writing.
    pub format: u32,
    /// The fleet it is for.
    pub fleet: FleetId,
    /// The node it is for.
    pub node: NodeId,
    /// Of the hello that it answers.
    pub nonce: String,
    /// Unix seconds by the coordinator's clock.
    pub unix_s: u64,
    /// The manifest that the node is to have; none: there is none for it yet.
    pub newest: Option<Newest>,
}

/// The manifest that the coordinator wants a node to have.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Newest {
    /// Its place in the order.
    pub version: Version,
    /// sha256 of its signed bytes, in hexadecimal.
    pub payload_sha256: String,
}

impl Payload for Time {
    const TYPE: PayloadType = PayloadType::Time;
}

/// A nonce that is answered has so many hexadecimal digits at least and at most.
const NONCE_DIGITS: std::ops::RangeInclusive<usize> = 16..=64;

/// Whether the coordinator answers a nonce: it signs nothing long or strange that a node says.
#[must_use]
pub fn is_nonce(text: &str) -> bool {
    NONCE_DIGITS.contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// Accepts the answer to `nonce`, and no other.
///
/// # Errors
/// Reasons of size, signature and form, [`Rejected::WrongFleet`], [`Rejected::WrongNode`] and [`Rejected::WrongNonce`].
pub fn accept(
    bytes: &[u8],
    root: &Root,
    node: &NodeIdentity,
    nonce: Option<&str>,
) -> Result<Verified<Time>, Rejected> {
    let time: Verified<Time> = Envelope::from_bytes(bytes)?.verify(root)?;
    if time.fleet != node.fleet {
        return Err(Rejected::WrongFleet);
    }
    if time.node != node.node {
        return Err(Rejected::WrongNode);
    }
    if nonce != Some(time.nonce.as_str()) {
        return Err(Rejected::WrongNonce);
    }
    Ok(time)
}
