//! What is shown of a board in the place of another.

use std::collections::BTreeMap;

use protocol::id::{EnvironmentName, NodeId, NodeName, ServiceName};
use serde::{Deserialize, Serialize};

use super::{SecretToRotate, TokenShown};

/// `pith node replace`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplacementShown {
    /// Of the old board.
    pub id: NodeId,
    /// What it is called, and the new one will be.
    pub name: NodeName,
    /// Its environment, and the new one's.
    pub environment: EnvironmentName,
    /// Its labels, and the new one's.
    pub labels: BTreeMap<String, String>,
    /// Whether the old one is heard of.
    pub online: bool,
    /// What it runs, and the new one will.
    pub services: Vec<ServiceName>,
    /// What lies on it alone.
    pub lost: Vec<LostVolume>,
    /// What was sealed to it.
    pub secrets: Vec<SecretToRotate>,
    /// For the board that is to come.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<TokenShown>,
    /// The board that has taken its place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<NodeId>,
}

/// Data that lies on one board.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LostVolume {
    /// Whose.
    pub service: ServiceName,
    /// By its Docker name, or a path of the board.
    pub volume: String,
    /// One instance alone writes it: there is no other copy.
    pub exclusive: bool,
}
