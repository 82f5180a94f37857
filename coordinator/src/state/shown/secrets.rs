//! Secrets as they are shown. No value is among them.

use std::collections::BTreeMap;

use protocol::id::{EnvironmentName, NodeId, NodeName, SecretName, ServiceName};
use protocol::join::SealKey;
use protocol::keys::PublicKey;
use serde::{Deserialize, Serialize};

use crate::state::records::OperatorCopy;
use crate::state::requests::Accepted;

/// `pith secret ls`, and whom a new value is sealed to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecretsShown {
    /// Where.
    pub environment: EnvironmentName,
    /// Those that have a value.
    pub secrets: Vec<SecretShown>,
    /// The newest version of each name that was ever set.
    pub newest: BTreeMap<SecretName, u64>,
    /// Nodes of the environment.
    pub recipients: Vec<RecipientShown>,
    /// The trust root whose release keys can open a copy.
    pub root_version: u64,
}

/// A secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecretShown {
    /// Its name.
    pub name: SecretName,
    /// Where.
    pub environment: EnvironmentName,
    /// It is a login for pulls from this registry.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub registry: Option<String>,
    /// The newest version.
    pub version: u64,
    /// Unix milliseconds.
    pub set_ms: u64,
    /// By whom.
    pub by: String,
    /// Services that use it.
    pub used_by: Vec<ServiceName>,
    /// Nodes that need it and have no copy.
    pub lacking: Vec<NodeName>,
}

/// Somebody whom values are sealed to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecipientShown {
    /// Its name.
    pub name: NodeName,
    /// Its id.
    pub node: NodeId,
    /// Its sealing key; none: it has not said one yet.
    pub seal_key: Option<SealKey>,
}

/// `pith secret set` and `rotate`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecretSet {
    /// Its name.
    pub name: SecretName,
    /// Where.
    pub environment: EnvironmentName,
    /// The new version.
    pub version: u64,
    /// Rollouts of the services that use it.
    pub rollouts: Vec<Accepted>,
    /// Services whose rollout could not begin, with the reason.
    pub failed: Vec<(ServiceName, String)>,
    /// Nodes that need it and have no copy.
    pub lacking: Vec<NodeName>,
}

/// `pith secret rm`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecretRemoved {
    /// Its name.
    pub name: SecretName,
    /// Where.
    pub environment: EnvironmentName,
}

/// A secret that a revoked node could read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecretToRotate {
    /// Where.
    pub environment: EnvironmentName,
    /// Its name there.
    pub name: SecretName,
}

/// What `pith secret sync` has to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnsyncedShown {
    /// Where.
    pub environment: EnvironmentName,
    /// Versions that somebody has no copy of.
    pub lacking: Vec<LackingShown>,
    /// Nodes of the environment.
    pub recipients: Vec<RecipientShown>,
}

/// A version that somebody has no copy of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LackingShown {
    /// Its name.
    pub name: SecretName,
    /// Which version.
    pub version: u64,
    /// Copies to open it from.
    pub operators: Vec<OperatorCopy>,
    /// Nodes without one.
    pub nodes: Vec<NodeId>,
    /// Release keys without one.
    pub keys: Vec<PublicKey>,
}

/// `pith secret sync`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SyncShown {
    /// Where.
    pub environment: EnvironmentName,
    /// Copies that were sealed.
    pub copies: usize,
    /// Nodes that got some.
    pub nodes: Vec<NodeName>,
}
