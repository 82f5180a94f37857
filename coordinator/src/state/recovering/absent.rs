//! Nodes that others were told of by the coordinator before, and that have not come back: they run on, and calls between boards must not end because
//! one is back sooner than another.

use std::collections::{BTreeMap, BTreeSet};

use protocol::id::{NodeId, NodeName, ServiceId};
use protocol::peers::{Elsewhere, Peer, Peers};

use crate::state::State;
use crate::state::records::Standing;
use crate::state::shown::AbsentShown;

impl State {
    /// What a node is told of the others, and of those that it was told of before and nobody here has heard or revoked yet: they run on, and calls
    /// between boards must not end because one is back sooner than the other.
    pub(in crate::state) fn with_absent(&self, mut peers: Peers, absent: &Peers) -> Peers {
        let is_absent = |id: &NodeId| self.is_absent(id);
        let nodes = absent
            .nodes
            .iter()
            .filter(|(name, peer)| is_absent(&peer.id) && self.node_named(name).is_none());
        let nodes: BTreeMap<&NodeName, &Peer> = nodes.collect();
        for (service, elsewhere) in &absent.services {
            let there = elsewhere.nodes.iter().filter(|name| nodes.contains_key(name));
            let there: Vec<NodeName> = there.cloned().collect();
            if there.is_empty() {
                continue;
            }
            let fresh = || Elsewhere { nodes: BTreeSet::new(), ports: elsewhere.ports.clone() };
            let known = peers.services.entry(service.clone()).or_insert_with(fresh);
            for name in there {
                peers.nodes.insert(name.clone(), nodes[&name].clone());
                known.nodes.insert(name);
            }
        }
        let callers = absent.callers.iter().filter(|(id, _)| is_absent(id));
        peers.callers.extend(callers.map(|(id, address)| (id.clone(), *address)));
        peers
    }

    /// Nodes that others were told of before, and nobody here has heard or revoked: their names then, and ids.
    pub(in crate::state) fn absent(&self) -> impl Iterator<Item = (Option<&NodeName>, &NodeId)> {
        let told = self.nodes.values().map(|node| &node.intent.absent);
        let all = told.flat_map(|absent| {
            let named = absent.nodes.iter().map(|(name, peer)| (Some(name), &peer.id));
            named.chain(absent.callers.keys().map(|id| (None, id)))
        });
        all.filter(|(_, id)| self.is_absent(id))
    }

    /// Each once, by its name where one is told.
    pub(in crate::state) fn show_absent(&self) -> Vec<AbsentShown> {
        let mut by_id: BTreeMap<&NodeId, Option<&NodeName>> = BTreeMap::new();
        for (name, id) in self.absent().filter(|(_, id)| !self.members.contains_key(*id)) {
            let known = by_id.entry(id).or_default();
            *known = known.or(name);
        }
        let shown = |(id, name): (&NodeId, Option<&NodeName>)| AbsentShown {
            name: name.cloned(),
            id: id.clone(),
        };
        by_id.into_iter().map(shown).collect()
    }

    fn is_absent(&self, id: &NodeId) -> bool {
        let member = self.members.get(id);
        !self.nodes.contains_key(id)
            && member.is_none_or(|member| member.standing != Standing::Revoked)
    }

    /// A service is deployed here: what nodes that are not back run of it is called no more.
    pub(in crate::state) fn forget_absent(&mut self, id: &ServiceId) {
        for node in self.nodes.values_mut().filter(|n| n.record.environment == id.environment) {
            self.are_peers_stale |= node.intent.absent.services.remove(&id.name).is_some();
        }
    }
}
