//! What `/metrics` is made of: the fleet as it is shown, with the little that no view says.

use std::collections::{BTreeMap, BTreeSet};

use planner::fleet::RolloutState;
use protocol::id::{NodeName, OperatorName, ServiceId};

use super::shown::{NodeShown, ServiceShown};
use super::{At, State};

/// The fleet at one moment.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Measured {
    /// By name.
    pub nodes: Vec<NodeMeasured>,
    /// By environment and name.
    pub services: Vec<ServiceMeasured>,
    /// Rollouts that have ended since the coordinator's start, by the name of how; every way to end is there.
    pub rollouts: BTreeMap<&'static str, u64>,
}

/// A node.
#[derive(Debug, Clone, PartialEq)]
pub struct NodeMeasured {
    /// Whether it is heard of.
    pub online: bool,
    /// As `pith node ls` shows it.
    pub shown: NodeShown,
}

/// A service.
#[derive(Debug, Clone, PartialEq)]
pub struct ServiceMeasured {
    /// As `pith ps` shows it.
    pub shown: ServiceShown,
    /// Instances of its newest revision on nodes that are heard of.
    pub updated: u32,
}

impl State {
    /// The fleet as Prometheus is told it.
    #[must_use]
    pub fn measured(&self, at: At) -> Measured {
        let nodes = self.show_nodes(None, at).nodes.into_iter().map(|shown| {
            let online = self.nodes.get(&shown.id).is_some_and(|node| node.record.online);
            NodeMeasured { online, shown }
        });
        let services = self.show_services(None, at.unix_ms).services.into_iter();
        let services = services.map(|shown| {
            let updated = self.updated(&shown);
            ServiceMeasured { shown, updated }
        });
        let ended = RolloutState::ALL.into_iter().filter(|state| state.is_final());
        let rollouts = ended.map(|state| {
            let name = state.as_str();
            (name, self.rollouts_ended.get(name).copied().unwrap_or(0))
        });
        Measured {
            nodes: nodes.collect(),
            services: services.collect(),
            rollouts: rollouts.collect(),
        }
    }

    /// As `pith rollout status` counts it, without what else that shows of each node.
    fn updated(&self, shown: &ServiceShown) -> u32 {
        let id = ServiceId { environment: shown.environment.clone(), name: shown.name.clone() };
        let newest =
            self.services.get(&id).and_then(|service| service.revisions.values().next_back());
        let Some(newest) = newest else { return 0 };
        let order: BTreeSet<&NodeName> = newest.order.iter().collect();
        let of_it = self
            .nodes
            .values()
            .filter(|node| node.record.online && order.contains(&node.record.name));
        of_it.filter_map(|node| node.report_on(&id)).map(|report| newest.updated_in(report)).sum()
    }

    /// Whose a certificate is, and when it ends (Unix seconds).
    #[must_use]
    pub fn certificate_end(&self, sha256: &str) -> Option<(OperatorName, u64)> {
        self.operators.values().find_map(|operator| {
            let theirs = operator.certificate.iter().chain(&operator.renewed_over);
            let shown = theirs.filter(|one| one.sha256 == sha256).map(|one| one.expires_at).next();
            Some((operator.name.clone(), shown?))
        })
    }
}
