//! Releases of the agent, as people see them.

use protocol::agent_release::AgentRelease;
use serde::{Deserialize, Serialize};

/// `pith agent status`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentsShown {
    /// See `State::version`.
    pub version: u64,
    /// Newest first.
    pub releases: Vec<AgentReleaseShown>,
    /// What nodes are brought to.
    pub rollout: Option<AgentRolloutShown>,
}

/// A release.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentReleaseShown {
    /// What people call it.
    pub version: String,
    /// Its place in the order.
    pub counter: u64,
    /// For whom it has a program.
    pub platforms: Vec<String>,
    /// Unix milliseconds.
    pub added_ms: u64,
    /// Who signed it, as they said.
    pub by: String,
    /// Whether some node has confirmed it: what `undo` goes back to was.
    #[serde(default)]
    pub confirmed: bool,
    /// What was signed.
    pub release: AgentRelease,
}

/// A release on its way to the nodes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentRolloutShown {
    /// What people call it.
    pub version: String,
    /// Its place in the order.
    pub counter: u64,
    /// Nodes at once.
    pub batch: u32,
    /// `in_progress`, `pending` (offline nodes lack it), `succeeded`, `paused` or `failed`.
    pub state: String,
    /// Why it does not go on.
    pub why: Option<String>,
    /// Who asked.
    pub by: String,
    /// Unix milliseconds.
    pub started_ms: u64,
    /// All nodes, in the order in which they move.
    pub nodes: Vec<AgentNodeShown>,
}

/// A node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentNodeShown {
    /// Its name.
    pub node: String,
    /// Whether it is heard of.
    pub online: bool,
    /// The agent it runs.
    pub agent_version: String,
    /// `confirmed`, `no program for it`, or as in `pith node ls`.
    pub phase: String,
    /// Why.
    pub why: Option<String>,
}
