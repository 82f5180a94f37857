//! What a node keeps of its joining, and where below its `state_dir`.

use serde::{Deserialize, Serialize};

use crate::whereabouts::Edition;

/// The node's Ed25519 key.
pub const IDENTITY_KEY_FILE: &str = "node.key";
/// Its X25519 key, base64 of 32 bytes, mode 0600.
pub const SEAL_KEY_FILE: &str = "seal.key";
/// The folder of the next six.
pub const TLS_DIR: &str = "tls";
/// The node's certificate, PEM.
pub const CERTIFICATE_FILE: &str = "tls/node.crt";
/// The key of the certificate, PEM of PKCS#8, mode 0600. Made on the node, never leaves it.
pub const TLS_KEY_FILE: &str = "tls/node.key";
/// The fleet's CA, PEM. Behind it, of a node that has followed a [`crate::recovery`], the one before: the coordinator is believed under
/// the first alone, other nodes under both.
pub const CA_FILE: &str = "tls/ca.crt";
/// Shown to other nodes in the place of [`CERTIFICATE_FILE`] while it is there: those that have not followed a [`crate::recovery`] yet
/// know no other.
pub const FLEET_CERTIFICATE_FILE: &str = "tls/fleet.crt";
/// Its key, as [`TLS_KEY_FILE`].
pub const FLEET_KEY_FILE: &str = "tls/fleet.key";
/// [`Times`] as JSON. Where it is missing the node asks for a renewal at its next connect.
pub const TIMES_FILE: &str = "tls/times.json";
/// The trust root: one envelope.
pub const ROOT_FILE: &str = "root.json";
/// [`Coordinators`] as JSON.
pub const ADDRESSES_FILE: &str = "coordinator.json";

/// When a certificate must be renewed, in seconds of Unix time by the coordinator's clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Times {
    /// From here on the node asks for the next one.
    pub renew_at: u64,
    /// From here on the coordinator refuses it.
    pub expires_at: u64,
}

/// Where the coordinator is reached.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Coordinators {
    /// `host:port`, tried in this order.
    pub addresses: Vec<String>,
    /// The newest [`crate::whereabouts::Whereabouts`] in it; none: only what it joined by.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub edition: Option<Edition>,
}
