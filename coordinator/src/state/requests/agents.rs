//! What people ask about releases of the agent.

use protocol::envelope::Envelope;
use serde::{Deserialize, Serialize};

/// A signed release whose programs were sent before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AddAgentRelease {
    /// It.
    pub release: Envelope,
    /// Who.
    #[serde(default)]
    pub by: String,
}

/// Bring nodes to a release.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RollAgent {
    /// Which; none: the newest.
    pub version: Option<String>,
    /// Nodes at once.
    pub batch: u32,
    /// Who.
    #[serde(default)]
    pub by: String,
}

/// Hold or go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AgentSteer {
    /// No more nodes are told.
    Pause,
    /// More are, also past those that took it back.
    Resume,
}
