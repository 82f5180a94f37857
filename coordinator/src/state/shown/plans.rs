//! What a deploy would do, as it is shown before.

use std::collections::BTreeMap;

use protocol::id::{EnvironmentName, NodeName, ServiceName};
use serde::{Deserialize, Serialize};

/// `pith plan`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanShown {
    /// The service.
    pub service: ServiceName,
    /// Where.
    pub environment: EnvironmentName,
    /// The revision that stands.
    pub from_revision: Option<u64>,
    /// What is written differently, by dotted path.
    pub changes: Vec<ChangeShown>,
    /// What that means per node.
    pub nodes: Vec<NodePlanShown>,
    /// Whether only the local Docker has the image: no node pulls it.
    pub image_is_local: bool,
    /// Which nodes pull the image: those that are to run it and hold no instance of it yet.
    pub pulls: Vec<PullShown>,
    /// What happens, in its order, and why.
    pub steps: Vec<String>,
    /// Instances no node could take.
    pub unplaced: u32,
    /// What the policy of every node that runs it must say.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub needs_policy: Vec<String>,
    /// Nodes that would refuse it and are left out, with their reasons.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub left_out: BTreeMap<NodeName, String>,
    /// What the file implies without saying it.
    pub notes: Vec<String>,
    /// Whether a deploy would do anything.
    pub anything: bool,
}

/// A node that would pull the image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PullShown {
    /// Which.
    pub node: NodeName,
    /// What its processor runs.
    pub architecture: String,
    /// Compressed, at most: layers that it has already are not pulled again. None: not known.
    pub bytes: Option<u64>,
}

/// One difference.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChangeShown {
    /// Dotted path into the service.
    pub path: String,
    /// None where it is new.
    pub before: Option<String>,
    /// None where it goes.
    pub after: Option<String>,
}

/// What a node would do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodePlanShown {
    /// Which.
    pub node: NodeName,
    /// Whether it is heard of.
    pub online: bool,
    /// Instances now.
    pub before: u32,
    /// Instances then.
    pub after: u32,
    /// `create`, `replace`, `scale`, `remove`, `keep`.
    pub action: String,
}
