//! Secrets, as they are kept: sealed, for readers whose keys the coordinator does not have.

use std::collections::BTreeMap;

use protocol::id::{EnvironmentName, NodeId, SecretName};
use protocol::join::SealKey;
use protocol::keys::PublicKey;
use protocol::secret::Sealed;
use serde::{Deserialize, Serialize};

/// A secret of an environment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecretRecord {
    /// Where.
    pub environment: EnvironmentName,
    /// Its name there.
    pub name: SecretName,
    /// It is a login for pulls from this registry, and no container gets it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub registry: Option<String>,
    /// The newest version that there was.
    pub newest: u64,
    /// The newest, and those that something may still run with; none: it was removed.
    pub versions: BTreeMap<u64, VersionRecord>,
}

/// One value, sealed for each of its readers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VersionRecord {
    /// Unix milliseconds.
    pub at_ms: u64,
    /// Who.
    pub by: String,
    /// For release keys, so that it can be sealed again.
    pub operators: Vec<OperatorCopy>,
    /// For nodes.
    pub nodes: BTreeMap<NodeId, NodeCopy>,
}

/// A copy for a release key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OperatorCopy {
    /// Whose.
    pub key: PublicKey,
    /// The value.
    pub sealed: Sealed,
}

/// A copy for a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeCopy {
    /// Whose.
    pub node: NodeId,
    /// The node's key that it is sealed to.
    pub key: SealKey,
    /// The value.
    pub sealed: Sealed,
}
