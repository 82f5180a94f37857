//! What a node must know of other nodes, so that its proxy passes requests on to theirs and takes theirs.
//!
//! Part of a signed [`crate::manifest::Manifest`]. A node is named once with its address, however many services it runs.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};

use crate::id::{NodeId, NodeName, PortName, ServiceName};
use crate::spec::PortProtocol;
use crate::units::Millis;

/// The other nodes, as far as one node has to do with them.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Peers {
    /// Every node that `services` names.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub nodes: BTreeMap<NodeName, Peer>,
    /// Services that run elsewhere and are called or run here too.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub services: BTreeMap<ServiceName, Elsewhere>,
    /// Nodes whose proxies may ask this node's, and where they come from: its fleet port serves nobody else.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub callers: BTreeMap<NodeId, IpAddr>,
}

/// Another node's proxy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Peer {
    /// Whose certificate it must show.
    pub id: NodeId,
    /// Its fleet port.
    pub address: SocketAddr,
}

/// A service on other nodes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Elsewhere {
    /// Nodes that run it.
    pub nodes: BTreeSet<NodeName>,
    /// How it is reached by its name; empty where this node runs the service, whose release says it then.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<PeerPort>,
}

/// A port of a service that runs elsewhere.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PeerPort {
    /// Its name within the service.
    pub name: PortName,
    /// The port on the service's own address, the same as inside its container.
    pub number: u16,
    /// How the proxy treats what passes.
    pub protocol: PortProtocol,
    /// tcp only: tell the backend the client's address by PROXY protocol v2.
    pub proxy_protocol: bool,
    /// How long a request waits while no node takes it.
    pub hold: Millis,
}

impl Peers {
    /// Whether this node has nothing to do with any other.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        let Self { nodes, services, callers } = self;
        nodes.is_empty() && services.is_empty() && callers.is_empty()
    }
}
