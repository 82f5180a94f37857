//! Which nodes' proxies serve each other: whoever calls a service, or runs it, knows other nodes that run it, and those
//! admit it.
//!
//! Nobody who may still be in use is dropped: a proxy cuts what goes through a node that left its table.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use protocol::id::{NodeId, NodeName, ServiceName};
use protocol::peers::{Elsewhere, Peer, PeerPort, Peers};

/// Nodes that one node knows for one service. A large fleet's manifests stay small, and that so many are lost at once is
/// no reason to hold requests.
pub const MAX_NODES_PER_SERVICE: usize = 8;

/// A node as this looks at it; all of one environment.
#[derive(Debug, Clone)]
pub struct Neighbour<'a> {
    /// Its name.
    pub name: NodeName,
    /// Its id, which its certificate is for.
    pub id: NodeId,
    /// Its fleet port; none: it neither serves other nodes nor asks them.
    pub fleet_port: Option<SocketAddr>,
    /// What it runs, with the revision and the ports of it.
    pub runs: BTreeMap<ServiceName, (u64, Vec<PeerPort>)>,
    /// What it must not run any more and may still be ending.
    pub leaves: BTreeSet<ServiceName>,
    /// What its services call.
    pub calls: BTreeSet<ServiceName>,
    /// Something of it is being replaced or removed: what it called may still be called.
    pub is_moving: bool,
    /// What it was told last.
    pub before: &'a Peers,
}

type Providers<'a> = BTreeMap<&'a ServiceName, Vec<&'a Neighbour<'a>>>;

/// What each node must know of the others; nodes that need to know nothing have an empty entry.
#[must_use]
pub fn peers(neighbours: &[Neighbour<'_>]) -> BTreeMap<NodeName, Peers> {
    let mut sorted: Vec<&Neighbour<'_>> = neighbours.iter().collect();
    sorted.sort_by(|a, b| a.name.cmp(&b.name));
    let mut providers: Providers<'_> = BTreeMap::new();
    for node in sorted.iter().filter(|node| node.fleet_port.is_some()) {
        for service in node.runs.keys().chain(&node.leaves) {
            providers.entry(service).or_default().push(node);
        }
    }
    let mut all: BTreeMap<NodeName, Peers> =
        sorted.iter().map(|node| (node.name.clone(), known_to(node, &providers))).collect();
    for (node, callers) in callers(&sorted, &all) {
        all.entry(node).or_default().callers = callers;
    }
    all
}

/// Everything but the callers.
fn known_to(node: &Neighbour<'_>, providers: &Providers<'_>) -> Peers {
    let mut peers = Peers::default();
    if node.fleet_port.is_none() {
        return peers;
    }
    let lately: Vec<&ServiceName> = match node.is_moving {
        true => node.before.services.keys().collect(),
        false => Vec::new(),
    };
    let services: BTreeSet<&ServiceName> =
        node.runs.keys().chain(&node.calls).chain(lately).collect();
    for service in services {
        let all = providers.get(service).map_or(&[][..], Vec::as_slice);
        let chosen = choose(node, service, all);
        if chosen.is_empty() {
            continue;
        }
        let ports = match node.runs.contains_key(service) {
            true => Vec::new(),
            false => ports(service, all),
        };
        let nodes = chosen.iter().map(|other| other.name.clone()).collect();
        peers.services.insert(service.clone(), Elsewhere { nodes, ports });
        let known = chosen.iter().filter_map(|other| {
            Some((other.name.clone(), Peer { id: other.id.clone(), address: other.fleet_port? }))
        });
        peers.nodes.extend(known);
    }
    peers
}

/// Those it knows already, then those that follow it by name, around the end: callers spread over the nodes.
fn choose<'a>(
    node: &Neighbour<'_>,
    service: &ServiceName,
    providers: &[&'a Neighbour<'a>],
) -> Vec<&'a Neighbour<'a>> {
    let known = |other: &&&Neighbour<'_>| {
        node.before.services.get(service).is_some_and(|e| e.nodes.contains(&other.name))
    };
    let start = providers.partition_point(|other| other.name <= node.name);
    let around = || providers[start..].iter().chain(&providers[..start]);
    let mut chosen: Vec<&Neighbour<'_>> = Vec::new();
    for other in providers.iter().filter(known).chain(around()) {
        // Behind one address there is one proxy: a node is never sent to itself.
        let is_new = chosen.iter().all(|one| one.fleet_port != other.fleet_port);
        if is_new && other.fleet_port != node.fleet_port && chosen.len() < MAX_NODES_PER_SERVICE {
            chosen.push(other);
        }
    }
    chosen
}

/// The ports of a service by name, the oldest revision's first: what runs decides until it is replaced everywhere.
fn ports(service: &ServiceName, providers: &[&Neighbour<'_>]) -> Vec<PeerPort> {
    let mut revisions: Vec<&(u64, Vec<PeerPort>)> =
        providers.iter().filter_map(|node| node.runs.get(service)).collect();
    revisions.sort_by_key(|(revision, _)| *revision);
    let mut ports: Vec<PeerPort> = Vec::new();
    for port in revisions.into_iter().flat_map(|(_, ports)| ports) {
        if ports.iter().all(|known| known.name != port.name && known.number != port.number) {
            ports.push(port.clone());
        }
    }
    ports
}

/// Whoever knows a node's fleet port is admitted there.
fn callers(
    nodes: &[&Neighbour<'_>],
    all: &BTreeMap<NodeName, Peers>,
) -> BTreeMap<NodeName, BTreeMap<NodeId, IpAddr>> {
    let mut callers: BTreeMap<NodeName, BTreeMap<NodeId, IpAddr>> = BTreeMap::new();
    for node in nodes {
        let Some(own) = node.fleet_port else { continue };
        for other in all.get(&node.name).into_iter().flat_map(|peers| peers.nodes.keys()) {
            callers.entry(other.clone()).or_default().insert(node.id.clone(), own.ip());
        }
    }
    callers
}

#[cfg(test)]
mod tests;
