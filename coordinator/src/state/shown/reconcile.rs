//! What people are shown before nodes in conflict are told what this coordinator means.

use std::collections::{BTreeMap, BTreeSet};

use protocol::id::{EnvironmentName, NodeId, NodeName, ReleaseId, ServiceName};
use protocol::manifest::Version;
use serde::{Deserialize, Serialize};

/// `pith fleet reconcile`, before it signs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReconcileShown {
    /// The trust root here.
    pub root_version: u64,
    /// Its epoch; the next root raises it.
    pub epoch: u64,
    /// Nodes that would be told something else than they have accepted.
    pub nodes: Vec<NodeReconciled>,
    /// Nodes that have not said since the coordinator's start what they have seen: they take part when they speak.
    pub unheard: Vec<NodeName>,
    /// Why no root that is signed here mends it; none: one does.
    pub hopeless: Option<String>,
}

/// One node of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeReconciled {
    /// Its id.
    pub id: NodeId,
    /// Its name.
    pub node: NodeName,
    /// Its environment.
    pub environment: EnvironmentName,
    /// Why it is in conflict; none: it only holds services that are not assigned to it, and refuses to drop them unnamed.
    pub conflict: Option<String>,
    /// What it has seen.
    pub seen: Version,
    /// What was signed for it here.
    pub signed: Version,
    /// What it runs, or is to run.
    pub services: Vec<ServiceReconciled>,
}

/// One service of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceReconciled {
    /// Which.
    pub service: ServiceName,
    /// What becomes of it.
    pub action: Reconciling,
    /// What the node says it runs.
    pub runs: Option<RunShown>,
    /// What it is to run.
    pub then: Option<RunShown>,
}

/// What becomes of a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reconciling {
    /// The same release in the same number.
    Keep,
    /// Another release.
    Replace,
    /// Another number of instances.
    Scale,
    /// It is not there and is to be.
    Start,
    /// It is there and is not to be: it is named as removed once an operator has said so.
    Remove,
}

/// A release on a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunShown {
    /// By whoever decided it: two revisions of one number need not be the same.
    pub revision: u64,
    /// The release; none: no instance says it.
    pub release: Option<ReleaseId>,
    /// Its image; none: the release is not known here.
    pub image: Option<String>,
    /// Instances.
    pub count: u32,
}

impl ReconcileShown {
    /// Whether some node is in conflict.
    #[must_use]
    pub fn has_conflict(&self) -> bool {
        self.nodes.iter().any(|node| node.conflict.is_some())
    }

    /// What nodes are to drop, as an operator confirms it.
    #[must_use]
    pub fn removals(&self) -> BTreeMap<NodeId, BTreeSet<ServiceName>> {
        let dropped = |node: &NodeReconciled| {
            let of_it = node.services.iter().filter(|of_it| of_it.action == Reconciling::Remove);
            (node.id.clone(), of_it.map(|of_it| of_it.service.clone()).collect())
        };
        self.nodes.iter().map(dropped).collect()
    }
}
