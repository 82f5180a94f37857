//! The routing table as the agent sets it: whole, as one value.
//!
//! Owns the shapes and their checks. Must not know sockets or tasks; what is live stands in `live`.

use crate::limits::ROUTE_ID_MAX_BYTES as ID_MAX_BYTES;
use serde::{Deserialize, Serialize};
use std::collections::HashSet;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

/// All routes of one node. A table replaces the one before it as a whole.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Table {
    /// Chosen by the agent; echoed in replies, never compared.
    pub version: u64,
    /// The routes, each with a unique id.
    pub routes: Vec<Route>,
    /// What this node has to do with others; without it their proxies are neither served nor asked.
    #[serde(default)]
    pub fleet: Option<Fleet>,
}

/// The one port on which a node's proxy serves those of other nodes, for every route, and how they know each other.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fleet {
    /// Every address to listen on.
    pub listen: Vec<SocketAddr>,
    /// The other nodes that are served; connections from elsewhere are closed unheard.
    #[serde(default)]
    pub callers: Vec<Caller>,
    /// Without it other nodes' proxies are neither served nor asked.
    #[serde(default)]
    pub trust: Option<Trust>,
}

/// Another node whose proxy may ask this one's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Caller {
    /// Where it comes from.
    pub address: IpAddr,
    /// The DNS name that its certificate must be for.
    pub name: String,
}

/// How the proxies of two nodes know each other.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Trust {
    /// By their addresses, and they talk in clear: for a fleet without certificates.
    Clear,
    /// By certificates of one CA. The files are read again when they change.
    Certificates {
        /// This node's certificate, PEM, for both sides of a connection.
        chain: PathBuf,
        /// Its key, PEM.
        key: PathBuf,
        /// The CA, PEM; several are believed alike.
        ca: PathBuf,
        /// Shown in the place of `chain` and `key` while both files are there: others may not know this node by its own yet.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        instead: Option<Box<Shown>>,
        /// Certificates are looked at at this time, seconds since 1970; a lower one than before changes nothing.
        verify_at_s: u64,
    },
}

/// A certificate and its key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shown {
    /// The certificate, PEM.
    pub chain: PathBuf,
    /// Its key, PEM.
    pub key: PathBuf,
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
    /// Which part of them a candidate release gets.
    #[serde(default)]
    pub split: Option<Split>,
}

/// A canary: two cohorts of a route's backends, those of the candidate release and the stable ones.
///
/// Each request (each TCP connection) has a point from 0 to 9,999, and the candidate serves those below its
/// share. So a client that keeps its point moves to the candidate as the share grows, and never back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Split {
    /// The label ([`Backend::release`]) of the candidate.
    pub release: String,
    /// How many of 10,000 requests go to it. At 0 it gets nothing, whatever a request asks for.
    pub share: u32,
    /// `http` only: the name of a cookie that keeps a client's point.
    #[serde(default)]
    pub cookie: Option<String>,
    /// `http` only: the name of a header whose value `canary` or `stable` selects the cohort of its request.
    #[serde(default)]
    pub header: Option<String>,
}

/// One more than the last point of a [`Split`].
pub const POINTS: u32 = 10_000;

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
    /// With `through` and certificates: the DNS name that the other node's must be for.
    #[serde(default)]
    pub name: Option<String>,
    /// Connect from this address of the node, by which the other one knows it; without it the system chooses.
    #[serde(default)]
    pub source: Option<IpAddr>,
    /// Takes work only while no other backend of its cohort can; another node's proxy, for example.
    #[serde(default)]
    pub backup: bool,
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
    /// A split gives away more than everything.
    #[error("route {route} gives its candidate {share} of 10000 requests")]
    ShareTooLarge {
        /// The route.
        route: String,
        /// What it says.
        share: u32,
    },
    /// A split's cookie or header could not be written into a head (RFC 9110 §5.6.2).
    #[error("route {route} names a cookie or a header {name:?}, which is no HTTP token")]
    NotAToken {
        /// The route.
        route: String,
        /// The name.
        name: String,
    },
}

impl Fleet {
    /// The names of the callers at this address. An IPv4 address mapped into IPv6 counts as IPv4.
    pub(crate) fn callers_at(&self, peer: IpAddr) -> impl Iterator<Item = &str> {
        let is_there = move |one: &&Caller| one.address.to_canonical() == peer.to_canonical();
        self.callers.iter().filter(is_there).map(|one| one.name.as_str())
    }
}

impl Trust {
    /// The files it names.
    pub(crate) fn files(&self) -> impl Iterator<Item = &Path> {
        let (own, instead) = match self {
            Self::Clear => (None, None),
            Self::Certificates { chain, key, ca, instead, .. } => {
                (Some([chain, key, ca]), instead.as_ref())
            }
        };
        let instead = instead.map(|shown| [&shown.chain, &shown.key]);
        own.into_iter().flatten().chain(instead.into_iter().flatten()).map(PathBuf::as_path)
    }
}

impl Table {
    /// Checks that ids are unique, which everything live is keyed by, that those that other nodes are asked for
    /// fit into the question, and that splits make sense.
    ///
    /// # Errors
    /// Names the first route that is wrong.
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
            route.split.as_ref().map_or(Ok(()), |split| split.check(&route.id))?;
        }
        Ok(())
    }
}

fn is_askable(id: &str) -> bool {
    !id.is_empty() && id.len() <= ID_MAX_BYTES && !id.contains(|c: char| c.is_control())
}

impl Split {
    fn check(&self, route: &str) -> Result<(), TableError> {
        if self.share > POINTS {
            return Err(TableError::ShareTooLarge { route: route.to_owned(), share: self.share });
        }
        match self.cookie.iter().chain(&self.header).find(|name| !is_token(name)) {
            Some(name) => {
                Err(TableError::NotAToken { route: route.to_owned(), name: name.clone() })
            }
            None => Ok(()),
        }
    }
}

fn is_token(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !name.is_empty() && name.bytes().all(allowed)
}

#[cfg(test)]
mod tests {
    use super::{Caller, Fleet, Table};

    #[test]
    fn a_peer_is_known_by_its_ipv4_address_however_it_is_written() {
        let callers = ["10.0.0.1", "::ffff:10.0.0.2"]
            .map(|address| Caller { address: address.parse().unwrap(), name: address.into() });
        let fleet = Fleet { callers: callers.into(), ..Fleet::default() };
        for (peer, known) in [
            ("10.0.0.1", true),
            ("::ffff:10.0.0.1", true),
            ("10.0.0.2", true),
            ("::ffff:10.0.0.2", true),
            ("10.0.0.3", false),
            ("::10.0.0.1", false),
        ] {
            let names = fleet.callers_at(peer.parse().unwrap()).count();
            assert_eq!(names, usize::from(known), "{peer}");
        }
    }

    #[test]
    fn a_table_written_before_splits_tiers_and_the_fleet_is_read() {
        let text = r#"{"version":1,"routes":[{"id":"default/web/http","listen":[],"protocol":"http",
            "backends":[{"id":"a","address":"10.0.0.2:80","weight":1,"state":"active","release":"r"}]}]}"#;
        let table: Table = serde_json::from_str(text).unwrap();
        assert!(table.fleet.is_none() && table.routes[0].backends[0].through.is_none());
        assert!(table.routes[0].split.is_none() && !table.routes[0].backends[0].backup);
    }
}
