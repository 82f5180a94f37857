//! How a board becomes a node of a fleet, and stays one: the token, what the node asks, what it is answered.
//!
//! ```text
//! pith node token -> Token, pasted -> pith-agent join
//! node: TLS to an address of the token; the chain must end in the CA whose hash the token carries
//!       -> POST /v1/join {token id, secret, signed Join} -> pending | approved | refused
//!       pending: POST /v1/renew {signed Renew} again and again, until the answer is another one
//! later: POST /v1/renew at two thirds of the certificate's life, and when it has expired
//! ```
//! Neither needs a client certificate: both are signed by the node's own key, and a certificate is worth nothing without the
//! TLS key that the request names. The token's secret goes out only after the CA's hash was checked.

mod files;
mod keys;
mod token;

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

pub use self::files::{
    ADDRESSES_FILE, CA_FILE, CERTIFICATE_FILE, Coordinators, FLEET_CERTIFICATE_FILE,
    FLEET_KEY_FILE, IDENTITY_KEY_FILE, ROOT_FILE, SEAL_KEY_FILE, TIMES_FILE, TLS_DIR, TLS_KEY_FILE,
    Times,
};
pub use self::keys::{InvalidSealKey, InvalidTlsKey, SealKey, TlsKey};
pub use self::token::{BadToken, Offer, TOKEN_PREFIX, Token, TokenId};
use crate::acceptance::{NodeMessage, verify_introduction};
use crate::envelope::{Envelope, MAX_ENVELOPE_BYTES, Rejected, Verified};
use crate::id::{EnvironmentName, FleetId, NodeId, NodeName, OperatorName};
use crate::keys::PublicKey;
use crate::payload::{Payload, PayloadType};
use crate::recovery::Again;

/// Where a [`JoinBody`] is posted.
pub const JOIN_PATH: &str = "/v1/join";
/// Where a [`RenewBody`] is posted.
pub const RENEW_PATH: &str = "/v1/renew";
/// Answers 200 to anyone.
pub const HEALTH_PATH: &str = "/healthz";
/// A larger body is refused unread.
pub const MAX_BODY_BYTES: usize = 64 * 1024;
/// As [`MAX_BODY_BYTES`] for a [`RenewBody`], which may hold a manifest.
pub const MAX_RENEW_BYTES: usize = MAX_BODY_BYTES + MAX_ENVELOPE_BYTES;
/// Names HTTP on the one TLS port; a client that offers another protocol or none is an MQTT client.
pub const ALPN_HTTP: &[u8] = b"http/1.1";
/// Offered by MQTT clients that offer anything.
pub const ALPN_MQTT: &[u8] = b"mqtt";
/// How often a node in the lobby asks again, seconds.
pub const LOBBY_INTERVAL_SECS: u64 = 10;
/// A node's certificate is good for this long.
pub const CERTIFICATE_DAYS: u64 = 90;
/// It is renewed this long after it was made.
pub const RENEW_AFTER_DAYS: u64 = 60;
/// The CN of the coordinator's own certificate at an external broker; no node id can equal it.
pub const COORDINATOR_NAME: &str = "coordinator";

/// The DNS name of the coordinator's certificate: the name that TLS asks for, whatever the address.
#[must_use]
pub fn server_name(fleet: &FleetId) -> String {
    format!("{fleet}.pith")
}

/// The DNS name of a node's certificate; its CN is the node's id.
#[must_use]
pub fn node_dns_name(fleet: &FleetId, node: &NodeId) -> String {
    format!("{node}.node.{fleet}.pith")
}

/// The DNS name of an operator's certificate: another kind than a node's, so that neither passes for the other.
#[must_use]
pub fn operator_dns_name(fleet: &FleetId, operator: &OperatorName) -> String {
    format!("{operator}.operator.{fleet}.pith")
}

/// The wish to become a node of the fleet; signed by the node's own key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Join {
    /// [`crate::FORMAT`] at the time of writing.
    pub format: u32,
    /// The fleet, as the token says.
    pub fleet: FleetId,
    /// The node; must be the hash of `public_key`.
    pub node: NodeId,
    /// The node's Ed25519 public key, base64.
    pub public_key: String,
    /// The public half of the key that its certificate is for.
    pub tls_key: TlsKey,
    /// What secrets are sealed to.
    pub seal_key: SealKey,
    /// Its name among people.
    pub name: NodeName,
    /// The environment that it is configured for; none: the token's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub environment: Option<EnvironmentName>,
    /// Labels that it gives itself; the token's are added and win.
    pub labels: BTreeMap<String, String>,
    /// The token's id, so that the signature is for this joining; the secret stands outside, unsigned.
    pub token: TokenId,
}

/// The wish for a certificate, of a node that has joined or stands in the lobby; signed by the node's own key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Renew {
    /// [`crate::FORMAT`] at the time of writing.
    pub format: u32,
    /// The fleet.
    pub fleet: FleetId,
    /// The node; must be the hash of `public_key`.
    pub node: NodeId,
    /// The node's Ed25519 public key, base64.
    pub public_key: String,
    /// The public half of the key that the new certificate is for; may be another than before.
    pub tls_key: TlsKey,
    /// The newest version of the trust root that the node holds; 0: none. The answer carries the newer ones.
    pub root_version: u64,
    /// Said to a coordinator of a CA that the node has come to believe by [`crate::recovery`] and has no certificate of: it knows nothing of
    /// the node. Older coordinators are never sent it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub again: Option<Again>,
}

/// The body of `POST /v1/join`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JoinBody {
    /// The token's secret.
    pub secret: String,
    /// A signed [`Join`].
    pub request: Envelope,
}

/// The body of `POST /v1/renew`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RenewBody {
    /// A signed [`Renew`].
    pub request: Envelope,
    /// The manifest that the node holds, beside [`Renew::again`]: it proves itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub manifest: Option<Envelope>,
}

/// What the coordinator answers to both. HTTP says 200 approved, 202 pending, 400 not understood, 403 refused, 429 and 503
/// later; the body is this in every case.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "snake_case")]
pub enum Answer {
    /// In the lobby: `pith node approve` decides. Ask again with [`Renew`].
    Pending,
    /// A certificate.
    Approved(Box<Approved>),
    /// No.
    Refused(Refused),
}

/// A certificate, and what the node trusts from now on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Approved {
    /// The node's certificate, PEM.
    pub certificate: String,
    /// The fleet's CA, PEM. At joining its hash must be the token's, at renewal it must be the one the node has.
    pub ca: String,
    /// The trust root and what led to it: versions ascending, each verified under the one before. The first is taken on the word of
    /// a coordinator that the token's hash vouches for; at renewal only those newer than what the node holds.
    pub roots: Vec<Envelope>,
    /// The node's one environment.
    pub environment: EnvironmentName,
    /// The node's labels, those of the token among them.
    pub labels: BTreeMap<String, String>,
    /// `host:port` of the broker, where it is another one than the coordinator's own port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub broker: Option<String>,
    /// When to renew, and when the certificate ends.
    pub times: Times,
}

/// A refusal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refused {
    /// Stable, for programs.
    pub code: RefusalCode,
    /// One sentence for a person, with the mend.
    pub message: String,
}

/// Why a node is refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub enum RefusalCode {
    /// No token has this id, or its secret is another.
    TokenUnknown,
    /// Too old.
    TokenExpired,
    /// Another node has used it.
    TokenUsed,
    /// The token or the request is of another fleet.
    WrongFleet,
    /// The node is configured for another environment than the token's.
    WrongEnvironment,
    /// This identity was revoked.
    Revoked,
    /// Renewal for a node that never joined.
    UnknownNode,
    /// Not readable, or not signed by the key that it names.
    BadRequest,
    /// Too many at once: later.
    Busy,
    /// One that this version does not know.
    Other(String),
}

impl RefusalCode {
    const TABLE: [(Self, &'static str); 9] = [
        (Self::TokenUnknown, "token_unknown"),
        (Self::TokenExpired, "token_expired"),
        (Self::TokenUsed, "token_used"),
        (Self::WrongFleet, "wrong_fleet"),
        (Self::WrongEnvironment, "wrong_environment"),
        (Self::Revoked, "revoked"),
        (Self::UnknownNode, "unknown_node"),
        (Self::BadRequest, "bad_request"),
        (Self::Busy, "busy"),
    ];

    /// The code as it travels.
    #[must_use]
    pub fn as_str(&self) -> &str {
        if let Self::Other(code) = self {
            return code;
        }
        Self::TABLE.iter().find(|(code, _)| code == self).map_or("other", |(_, text)| text)
    }

    /// Whether asking again later, unchanged, may help.
    #[must_use]
    pub fn may_pass(&self) -> bool {
        *self == Self::Busy
    }
}

impl From<String> for RefusalCode {
    fn from(code: String) -> Self {
        let known = Self::TABLE.into_iter().find(|(_, text)| *text == code);
        known.map_or(Self::Other(code), |(known, _)| known)
    }
}

impl From<RefusalCode> for String {
    fn from(code: RefusalCode) -> Self {
        code.as_str().to_owned()
    }
}

impl fmt::Display for RefusalCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Verifies a wish to join under the key that it carries. Says who asks; whether they may is the token's and the operator's.
///
/// # Errors
/// Reasons of size, signature and form, [`Rejected::ForeignKey`] and [`Rejected::WrongFleet`].
pub fn verify_join(bytes: &[u8], fleet: &FleetId) -> Result<(Verified<Join>, PublicKey), Rejected> {
    verify_introduction(bytes, fleet)
}

/// Verifies a wish for a certificate under the key that it carries.
///
/// # Errors
/// As [`verify_join`].
pub fn verify_renew(
    bytes: &[u8],
    fleet: &FleetId,
) -> Result<(Verified<Renew>, PublicKey), Rejected> {
    verify_introduction(bytes, fleet)
}

impl Payload for Join {
    const TYPE: PayloadType = PayloadType::Join;
}

impl Payload for Renew {
    const TYPE: PayloadType = PayloadType::Renew;
}

impl NodeMessage for Join {
    fn fleet(&self) -> &FleetId {
        &self.fleet
    }
    fn node(&self) -> &NodeId {
        &self.node
    }
}

impl NodeMessage for Renew {
    fn fleet(&self) -> &FleetId {
        &self.fleet
    }
    fn node(&self) -> &NodeId {
        &self.node
    }
}
