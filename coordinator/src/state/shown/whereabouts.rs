//! What people are shown of where nodes look for the coordinator.

use protocol::id::NodeId;
use serde::{Deserialize, Serialize};

/// `pith coordinator addresses`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AddressesShown {
    /// Counts what views show.
    pub version: u64,
    /// What nodes are told, in the order in which they try it; empty: nothing yet, they know what they joined by.
    pub addresses: Vec<String>,
    /// What they are told to forget.
    pub forgotten: Vec<String>,
    /// Every admitted node, also one that has not said hello yet.
    pub nodes: Vec<NodeLearned>,
}

/// One node of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeLearned {
    /// Its id.
    pub id: NodeId,
    /// Its name; its id where it has said none.
    pub node: String,
    /// Whether it is heard of.
    pub online: bool,
    /// Whether it has said something signed since this coordinator's start: after a move, that it has come over.
    pub heard: bool,
    /// Whether it has the newest of it durably.
    pub learned: bool,
    /// What it tries, as it said last; empty: it has learned nothing yet.
    pub knows: Vec<String>,
    /// Where its own `agent.toml` says that the broker is: it looks for it nowhere else.
    pub broker: Option<String>,
}

impl AddressesShown {
    /// Nodes that are heard of and have not learned it.
    pub fn waiting(&self) -> impl Iterator<Item = &NodeLearned> {
        self.nodes.iter().filter(|node| node.online && !node.learned)
    }

    /// Nodes that have not learned it, heard of or not.
    pub fn missing(&self) -> impl Iterator<Item = &NodeLearned> {
        self.nodes.iter().filter(|node| !node.learned)
    }
}
