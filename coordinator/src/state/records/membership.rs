//! Who belongs to the fleet, as it is kept.

use std::collections::BTreeMap;

use protocol::envelope::Envelope;
use protocol::id::{EnvironmentName, NodeId, NodeName};
use protocol::join::{SealKey, TlsKey, TokenId};
use protocol::keys::PublicKey;
use serde::{Deserialize, Serialize};

/// A board that asked to belong to the fleet, or was let in by its id.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// From its key.
    pub id: NodeId,
    /// Whether it is let in.
    pub standing: Standing,
    /// What it calls itself; none: it has not asked yet.
    #[serde(default)]
    pub name: Option<NodeName>,
    /// What it is called whatever it says: it has taken another's place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fixed_name: Option<NodeName>,
    /// What its token fixed; none: its hello says it.
    #[serde(default)]
    pub environment: Option<EnvironmentName>,
    /// What it is configured for.
    #[serde(default)]
    pub asked_environment: Option<EnvironmentName>,
    /// What its token fixed.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// What it gives itself.
    #[serde(default)]
    pub asked_labels: BTreeMap<String, String>,
    /// Its identity.
    #[serde(default)]
    pub key: Option<PublicKey>,
    /// The key of its next certificate.
    #[serde(default)]
    pub tls_key: Option<TlsKey>,
    /// What secrets are sealed to.
    #[serde(default)]
    pub seal_key: Option<SealKey>,
    /// The token that it joined with.
    #[serde(default)]
    pub token: Option<TokenId>,
    /// Its certificates that were good at the last renewal, oldest first.
    #[serde(default)]
    pub certificates: Vec<IssuedCertificate>,
    /// Whether a certificate that is over is renewed.
    #[serde(default)]
    pub renewal: Renewal,
    /// The manifest that it came back with to a coordinator that knew nothing of it, until its first hello.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recovered: Option<Envelope>,
    /// Unix milliseconds of the last change of standing.
    #[serde(default)]
    pub since_ms: u64,
}

/// Where a member stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// In the lobby; an operator moves it on.
    Pending,
    /// Of the fleet, until it is revoked.
    Admitted,
    /// Out, for ever.
    Revoked,
}

/// Whether an admitted node whose certificate is over gets another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Renewal {
    /// Nothing was asked.
    #[default]
    No,
    /// It asked; an operator moves it on.
    Asked,
    /// The next time that it asks.
    Granted,
}

/// A certificate that was given to a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IssuedCertificate {
    /// Its serial number, hexadecimal.
    pub serial: String,
    /// Unix seconds.
    pub expires_at: u64,
}

/// The right to join once; the secret is not kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenRecord {
    /// Which.
    pub id: TokenId,
    /// sha256 of its secret, hexadecimal.
    pub secret_sha256: String,
    /// Unix milliseconds.
    pub expires_ms: u64,
    /// Labels of the node.
    pub labels: BTreeMap<String, String>,
    /// The node's environment.
    pub environment: Option<EnvironmentName>,
    /// Whether it lets in by itself.
    pub approve: bool,
    /// Who joined with it.
    pub used_by: Option<NodeId>,
    /// In whose place the board comes that joins with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replaces: Option<NodeId>,
}
