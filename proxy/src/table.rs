//! The routing table as the agent sets it: whole, as one value.
//!
//! Owns the shapes and their checks. Must not know sockets or tasks; what is live stands in `live`.

use crate::limits::ROUTE_ID_MAX_BYTES as ID_MAX_BYTES;
use serde::{Deserialize, Serialize};
use std::collections::HashSet;
use std::net::{IpAddr, SocketAddr};

/// All routes of one node. A table replaces the one before it as a whole.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Table {
    /// Chosen by the agent; echoed in replies, never compared.
    pub version: u64,
    /// The routes, each with a unique id.
    pub routes: Vec<Route>,
    /// The fleet port of this node; without it other nodes' proxies are not served.
    #[serde(default)]
    pub fleet: Option<Fleet>,
}

/// The one port on which a node's proxy serves those of other nodes, for every route.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fleet {
    /// Every address to listen on.
    pub listen: Vec<SocketAddr>,
    /// The other nodes; connections from elsewhere are closed unheard.
    pub peers: Vec<IpAddr>,
}

/// A listening port of a service and the weighted backends behind it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    /// `environment/service/port`, for example `default/hello/http`.
    pub id: String,
    /// Every address to listen on. A wildcard IPv6 address is bound for IPv6 only.
    pub listen: Vec<SocketAddr>,
    /// How bytes are understood.
    pub protocol: Protocol,
    /// How long a new request or connection waits while no backend takes it.
    #[serde(default)]
    pub hold_ms: u64,
    /// `tcp` only: a PROXY protocol v2 header opens each connection to a backend.
    #[serde(default)]
    pub send_proxy_v2: bool,
    /// Peers whose inbound `X-Forwarded-*` headers are kept and appended to.
    #[serde(default)]
    pub trusted: Vec<IpAddr>,
    /// Where requests go.
    #[serde(default)]
    pub backends: Vec<Backend>,
}

/// How a route understands the bytes of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// HTTP/1.1, balanced for each request.
    Http,
    /// Bytes, balanced for each connection.
    Tcp,
}

/// A local instance or another node's proxy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Backend {
    /// Unique within its route.
    pub id: String,
    /// Where it accepts connections.
    pub address: SocketAddr,
    /// Its share among the active ones; 0 gets nothing.
    pub weight: u32,
    /// Whether it takes new work.
    pub state: BackendState,
    /// The label under which its requests are counted.
    pub release: String,
    /// When set, `address` is another node's fleet port, and this is the id of the route to ask for there.
    #[serde(default)]
    pub through: Option<String>,
}

/// Whether a backend takes new work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BackendState {
    /// Takes its share.
    Active,
    /// Ends what it has and takes nothing new.
    Draining,
}

/// Why a table is refused as a whole.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TableError {
    /// Two routes carry one id.
    #[error("route {0} is named twice")]
    RouteTwice(String),
    /// Two backends of one route carry one id.
    #[error("route {route} names backend {backend} twice")]
    BackendTwice {
        /// The route.
        route: String,
        /// The repeated backend.
        backend: String,
    },
    /// A backend asks another node for what cannot be a route's id.
    #[error(
        "backend {backend} of route {route} goes through a route id that is no line of at most {ID_MAX_BYTES} bytes"
    )]
    Through {
        /// The route.
        route: String,
        /// The backend.
        backend: String,
    },
}

impl Fleet {
    /// Whether connections from `peer` are served. An IPv4 address mapped into IPv6 counts as IPv4.
    pub(crate) fn admits(&self, peer: IpAddr) -> bool {
        self.peers.iter().any(|one| one.to_canonical() == peer.to_canonical())
    }
}

impl Table {
    /// Checks that ids are unique, which everything live is keyed by, and that those that other nodes are
    /// asked for fit into the question.
    pub fn check(&self) -> Result<(), TableError> {
        let mut routes = HashSet::new();
        for route in &self.routes {
            if !routes.insert(route.id.as_str()) {
                return Err(TableError::RouteTwice(route.id.clone()));
            }
            let mut backends = HashSet::new();
            for backend in &route.backends {
                if !backends.insert(backend.id.as_str()) {
                    return Err(TableError::BackendTwice {
                        route: route.id.clone(),
                        backend: backend.id.clone(),
                    });
                }
                if !backend.through.as_deref().is_none_or(is_askable) {
                    let (route, backend) = (route.id.clone(), backend.id.clone());
                    return Err(TableError::Through { route, backend });
                }
            }
        }
        Ok(())
    }
}

fn is_askable(id: &str) -> bool {
    !id.is_empty() && id.len() <= ID_MAX_BYTES && !id.contains(|c: char| c.is_control())
}

#[cfg(test)]
mod tests {
    use super::Fleet;

    #[test]
    fn a_peer_is_known_by_its_ipv4_address_however_it_is_written() {
        let peers = vec!["10.0.0.1".parse().unwrap(), "::ffff:10.0.0.2".parse().unwrap()];
        let fleet = Fleet { listen: Vec::new(), peers };
        for (peer, known) in [
            ("10.0.0.1", true),
            ("::ffff:10.0.0.1", true),
            ("10.0.0.2", true),
            ("::ffff:10.0.0.2", true),
            ("10.0.0.3", false),
            ("::10.0.0.1", false),
        ] {
            assert_eq!(fleet.admits(peer.parse().unwrap()), known, "{peer}");
        }
    }
}
