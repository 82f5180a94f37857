//! Secrets as the command line hands them over: sealed.

use protocol::id::SecretName;
use serde::{Deserialize, Serialize};

use crate::state::records::{NodeCopy, OperatorCopy};

/// A new value of a secret, sealed for everyone who reads it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SetSecret {
    /// The version that it is sealed as: one above the newest.
    pub version: u64,
    /// Refused where there is none yet.
    #[serde(default)]
    pub must_exist: bool,
    /// It is a login for pulls from this registry.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub registry: Option<String>,
    /// For release keys.
    pub operators: Vec<OperatorCopy>,
    /// For nodes.
    pub nodes: Vec<NodeCopy>,
    /// Why, in a person's words.
    pub cause: Option<String>,
    /// Who.
    #[serde(default)]
    pub by: String,
}

/// Copies for nodes and release keys that came later.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct AddCopies {
    /// One entry per version.
    pub copies: Vec<CopiesOf>,
    /// Who.
    #[serde(default)]
    pub by: String,
}

/// Copies of one version.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct CopiesOf {
    /// Of which secret.
    pub name: SecretName,
    /// Which version.
    pub version: u64,
    /// For release keys.
    pub operators: Vec<OperatorCopy>,
    /// For nodes.
    pub nodes: Vec<NodeCopy>,
}
