//! Releases of the agent, and which nodes were told of the newest, as it is kept.

use std::collections::{BTreeMap, BTreeSet};

use protocol::agent_release::AgentRelease;
use protocol::envelope::Envelope;
use protocol::id::NodeId;
use serde::{Deserialize, Serialize};

/// All of it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentsRecord {
    /// By counter, ascending; the newest few.
    pub releases: Vec<AgentReleaseRecord>,
    /// What nodes are brought to.
    pub rollout: Option<AgentRollout>,
}

/// A release.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentReleaseRecord {
    /// As it was signed.
    pub envelope: Envelope,
    /// What it says.
    pub release: AgentRelease,
    /// Unix milliseconds.
    pub added_ms: u64,
    /// Who signed it, as they said.
    pub by: String,
    /// Whether some node has confirmed it.
    #[serde(default)]
    pub confirmed: bool,
}

/// A release on its way to the nodes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentRollout {
    /// Which.
    pub counter: u64,
    /// Nodes at once.
    pub batch: u32,
    /// Whether more are told.
    pub state: AgentRolloutState,
    /// Why they are not.
    pub why: Option<String>,
    /// Who was told, and when, in Unix milliseconds.
    pub told: BTreeMap<NodeId, u64>,
    /// Who took it back, or did not begin, and is gone on without.
    #[serde(default)]
    pub let_go: BTreeSet<NodeId>,
    /// Unix milliseconds.
    pub started_ms: u64,
    /// Who asked.
    pub by: String,
}

/// Whether more nodes are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AgentRolloutState {
    /// They are, also those that come later.
    Active,
    /// Not until an operator says so.
    Paused,
    /// A node took it back: not until an operator says so.
    Failed,
}
