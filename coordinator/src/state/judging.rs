//! Counters of nodes' proxies, for the judge of a canary.

use std::collections::BTreeSet;

use planner::fleet::FleetEvent;
use planner::fleet::analysis::{Counts, Sample};
use protocol::hello::Traffic;
use protocol::id::{EnvironmentName, NodeName, ServiceId, ServiceName};

use super::{At, State};

impl State {
    /// What a node's proxy counted of a canary and of what it would replace. Traffic of services that have none there is for people, and
    /// judges nothing.
    pub(super) fn tell_traffic(
        &mut self,
        node: &NodeName,
        environment: &EnvironmentName,
        traffic: &[Traffic],
        at: At,
    ) {
        let services: BTreeSet<&ServiceName> = traffic.iter().map(|one| &one.service).collect();
        for name in services {
            let id = ServiceId { environment: environment.clone(), name: name.clone() };
            let tried = self.services.get(&id).and_then(|service| {
                let revision = service.revisions.get(&service.active()?)?;
                Some(revision.release.clone())
            });
            let Some(tried) = tried else { continue };
            let intent = self.node_named(node).and_then(|node| node.intent.assigned.get(name));
            let beside = intent.and_then(|assigned| assigned.candidate.as_ref());
            if beside.is_none_or(|candidate| candidate.release != tried) {
                continue;
            }
            let mut sample = Sample::default();
            for one in traffic.iter().filter(|one| one.service == *name) {
                let counts = Counts {
                    requests: one.requests,
                    errors: one.errors,
                    latency_ms: one.latency_ms.iter().copied().collect(),
                    restarts: one.restarts,
                    unready: one.unready,
                    memory_percent: one.memory_percent,
                };
                if one.release == tried {
                    sample.candidate = counts;
                } else {
                    sample.stable = counts;
                }
            }
            self.tell_rollout(&id, FleetEvent::Traffic { node: node.clone(), sample }, at);
        }
    }
}
