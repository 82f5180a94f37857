//! Tells nodes of each other: gathers what `planner::fleet::peers` decides from, and renews the manifests that differ.
//!
//! At most once a second (the tick), so that a rollout over many nodes is not a manifest for each of them at each of its
//! steps; a manifest that is signed anyway says the newest.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use planner::fleet::{Neighbour, peers};
use protocol::id::{EnvironmentName, NodeId, NodeName, ServiceName};
use protocol::peers::{PeerPort, Peers};
use protocol::report::Phase;
use protocol::spec::ServiceSpec;

use super::manifests::is_gone;
use super::records::{Assigned, NodeRecord};
use super::{Node, State};

impl State {
    /// Nodes that know others than they should get a new manifest.
    pub(super) fn renew_peers(&mut self) {
        if !std::mem::take(&mut self.are_peers_stale) {
            return;
        }
        let all = self.all_peers();
        // One without a manifest runs nothing and is told nothing.
        let told = self.nodes.iter().filter(|(_, node)| !node.intent.manifest.is_empty());
        let differ = told.filter(|(_, node)| {
            all.get(&node.record.name).is_some_and(|peers| *peers != node.intent.peers)
        });
        let differ: Vec<NodeId> = differ.map(|(id, _)| id.clone()).collect();
        self.touched.extend(differ);
    }

    /// What the next manifests of these nodes say of the others.
    pub(super) fn tell_peers(&mut self, nodes: &BTreeSet<NodeId>) {
        if nodes.is_empty() {
            return;
        }
        let mut all = self.all_peers();
        for id in nodes {
            let Some(node) = self.nodes.get_mut(id) else { continue };
            if let Some(peers) = all.remove(&node.record.name) {
                node.intent.peers = peers;
            }
        }
    }

    fn all_peers(&self) -> BTreeMap<NodeName, Peers> {
        let mut by_environment: BTreeMap<&EnvironmentName, Vec<Neighbour<'_>>> = BTreeMap::new();
        // A revoked node's proxy is nobody's neighbour.
        let admitted = self.nodes.values().filter(|node| self.is_admitted(&node.record.id));
        for node in admitted {
            let neighbours = by_environment.entry(&node.record.environment).or_default();
            neighbours.push(self.neighbour(node));
        }
        let all = by_environment.into_values().flat_map(|neighbours| peers(&neighbours));
        all.map(|(name, peers)| {
            let peers = match self.node_named(&name) {
                Some(node) => self.with_absent(peers, &node.intent.absent),
                None => peers,
            };
            (name, peers)
        })
        .collect()
    }

    fn neighbour<'a>(&'a self, node: &'a Node) -> Neighbour<'a> {
        let (record, intent) = (&node.record, &node.intent);
        let is_ending = |(service, since): (&ServiceName, &u64)| {
            (!is_gone(record, service, intent.of_epoch(*since))).then(|| service.clone())
        };
        let leaves: BTreeSet<ServiceName> = intent.removed.iter().filter_map(is_ending).collect();
        let has_instances =
            |assigned: &&Assigned| assigned.count > 0 || assigned.candidate.is_some();
        let runs = intent.assigned.iter().filter(|(_, assigned)| has_instances(assigned));
        let runs = runs.map(|(service, assigned)| {
            let spec = self.specs_of(record, assigned).next();
            (service.clone(), (assigned.revision, spec.map(ports).unwrap_or_default()))
        });
        let specs = intent.assigned.values().flat_map(|one| self.specs_of(record, one));
        let calls = specs.flat_map(|spec| spec.depends_on.iter().chain(&spec.uses)).cloned();
        Neighbour {
            name: record.name.clone(),
            id: record.id.clone(),
            fleet_port: fleet_port(record),
            runs: runs.collect(),
            calls: calls.collect(),
            is_moving: !leaves.is_empty() || is_moving(record, &intent.assigned),
            leaves,
            before: &intent.peers,
        }
    }

    /// The service that is assigned, then that of a candidate beside it.
    fn specs_of<'a>(
        &'a self,
        record: &'a NodeRecord,
        assigned: &'a Assigned,
    ) -> impl Iterator<Item = &'a ServiceSpec> {
        let beside = assigned.candidate.as_ref().map(|candidate| &candidate.release);
        let releases = std::iter::once(&assigned.release).chain(beside);
        let stored = releases.filter_map(|release| self.releases.get(release));
        stored.map(|stored| stored.release.spec(&record.environment))
    }
}

fn ports(spec: &ServiceSpec) -> Vec<PeerPort> {
    let port = |port: &protocol::spec::Port| PeerPort {
        name: port.name.clone(),
        number: port.target,
        protocol: port.protocol,
        proxy_protocol: port.proxy_protocol,
        hold: spec.rollout.hold_requests,
    };
    spec.ports.iter().map(port).collect()
}

/// Where other nodes reach its proxy; none where it said no address that they could use.
fn fleet_port(record: &NodeRecord) -> Option<SocketAddr> {
    let address: IpAddr = record.address.parse().ok()?;
    let port = record.fleet_port.filter(|port| *port > 0)?;
    (!address.is_unspecified()).then(|| SocketAddr::new(address, port))
}

/// Whether a release other than the assigned one may still have instances, with other names that it calls.
fn is_moving(record: &NodeRecord, assigned: &BTreeMap<ServiceName, Assigned>) -> bool {
    let said = record.report.iter().flat_map(|report| &report.services);
    said.into_iter().any(|of_it| {
        let wanted = assigned.get(&of_it.service);
        let is_settled = of_it.phase == Phase::Running || of_it.phase == Phase::Degraded;
        !is_settled || wanted.is_none_or(|wanted| wanted.revision != of_it.revision)
    })
}
