//! What would become of nodes in conflict, and an operator's word that services which only they know of may go.
//!
//! Shown from what nodes report; the conflict itself ends with a trust root of a higher epoch ([`super::conflict`]).

use std::collections::{BTreeMap, BTreeSet};

use protocol::id::{NodeId, NodeName, ReleaseId, ServiceId, ServiceName};
use protocol::report::{InstanceState, ServiceReport};
use serde::{Deserialize, Serialize};

use super::conflict::Conflict;
use super::records::Assigned;
use super::shown::{NodeReconciled, ReconcileShown, Reconciling, RunShown, ServiceReconciled};
use super::{At, Node, State, natural};

/// The word of a node that was told to drop a service without its being named.
const UNNAMED_REMOVAL: &str = "unnamed_removal";

/// What an operator has seen and confirmed.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Reconcile {
    /// Services that nodes are to drop.
    pub removals: BTreeMap<NodeId, BTreeSet<ServiceName>>,
}

impl State {
    /// What nodes in conflict, and those that refuse to drop what is not assigned to them, would be told.
    #[must_use]
    pub fn show_reconcile(&self) -> ReconcileShown {
        let admitted = self.nodes.values().filter(|node| self.is_admitted(&node.record.id));
        let mut nodes: Vec<NodeReconciled> = Vec::new();
        let mut unheard: Vec<NodeName> = Vec::new();
        for node in admitted {
            if !node.is_heard() {
                unheard.push(node.record.name.clone());
            } else if node.conflict().is_some() || node.refuses_to_drop() {
                nodes.push(self.show_reconciled(node));
            }
        }
        nodes.sort_by_key(|of_it| natural(of_it.node.as_str()));
        unheard.sort_by_key(|name| natural(name.as_str()));
        let hopeless = self.nodes.values().find_map(|node| {
            let conflict = node.conflict().filter(|conflict| !conflict.is_mended_here())?;
            Some(format!("{}: {conflict}", node.record.name))
        });
        let root = &self.director.root;
        let (root_version, epoch) = (root.version, root.epoch);
        ReconcileShown { root_version, epoch, nodes, unheard, hopeless }
    }

    /// Takes an operator's word that nodes may drop services. Where a node is in conflict it is kept until that ends.
    /// Gives the same as [`State::show_reconcile`] from then on.
    pub fn reconcile(&mut self, confirmed: &Reconcile, at: At) -> ReconcileShown {
        for (id, services) in &confirmed.removals {
            let Some(node) = self.nodes.get_mut(id) else { continue };
            let strays: Vec<ServiceName> =
                node.strays().filter(|name| services.contains(*name)).cloned().collect();
            let since = node.intent.generation + 1;
            for service in &strays {
                node.intent.known.insert(service.clone());
                node.intent.removed.insert(service.clone(), since);
            }
            if !strays.is_empty() {
                let names: Vec<&str> = strays.iter().map(|name| name.as_str()).collect();
                let message = format!("an operator lets it drop {}", names.join(", "));
                self.touched.insert(id.clone());
                self.note_node(id, message, at);
            }
        }
        self.skip_lost_revisions();
        self.show_reconcile()
    }

    /// Numbers of revisions that were lost are not given again.
    fn skip_lost_revisions(&mut self) {
        let mut lost: BTreeMap<ServiceId, u64> = BTreeMap::new();
        for node in self.nodes.values().filter(|node| node.conflict().is_some()) {
            for of_it in node.record.report.iter().flat_map(|report| &report.services) {
                let environment = node.record.environment.clone();
                let id = ServiceId { environment, name: of_it.service.clone() };
                let newest = lost.entry(id).or_default();
                *newest = of_it.revision.max(*newest);
            }
        }
        for (id, newest) in lost {
            let Some(service) = self.services.get_mut(&id) else { continue };
            // A node says what it likes; one number more than was given is what a lost deploy needs.
            let next = newest.saturating_add(1).min(service.record.next_revision + MAX_LOST);
            if next > service.record.next_revision {
                service.record.next_revision = next;
                self.keep_service(&id);
            }
        }
    }

    fn show_reconciled(&self, node: &Node) -> NodeReconciled {
        let said = node.record.report.iter().flat_map(|report| &report.services);
        let said: BTreeMap<&ServiceName, &ServiceReport> =
            said.map(|of_it| (&of_it.service, of_it)).collect();
        let names: BTreeSet<&ServiceName> =
            said.keys().copied().chain(node.intent.assigned.keys()).collect();
        let service = |name: &ServiceName| {
            let runs = said.get(name).map(|of_it| self.show_running(of_it));
            let then = node.intent.assigned.get(name).map(|assigned| self.show_assigned(assigned));
            let action = action(runs.as_ref(), then.as_ref());
            ServiceReconciled { service: name.clone(), action, runs, then }
        };
        NodeReconciled {
            id: node.record.id.clone(),
            node: node.record.name.clone(),
            environment: node.record.environment.clone(),
            conflict: node.conflict().map(Conflict::to_string),
            seen: node.record.seen,
            signed: node.intent.version(),
            services: names.into_iter().map(service).collect(),
        }
    }

    fn show_running(&self, of_it: &ServiceReport) -> RunShown {
        let serves = |state: InstanceState| {
            !matches!(
                state,
                InstanceState::Kept
                    | InstanceState::Warm
                    | InstanceState::Draining
                    | InstanceState::Stopping
            )
        };
        let serving = of_it.instances.iter().find(|instance| serves(instance.state));
        let release = serving.or(of_it.instances.first()).map(|instance| instance.release.clone());
        RunShown {
            revision: of_it.revision,
            image: release.as_ref().and_then(|release| self.known_image(release)),
            release,
            count: of_it.desired,
        }
    }

    fn show_assigned(&self, assigned: &Assigned) -> RunShown {
        RunShown {
            revision: assigned.revision,
            release: Some(assigned.release.clone()),
            image: self.known_image(&assigned.release),
            count: assigned.count,
        }
    }

    fn known_image(&self, release: &ReleaseId) -> Option<String> {
        self.releases.get(release).map(|stored| stored.release.image.reference.clone())
    }
}

/// Revisions that a coordinator may have forgotten of one service.
const MAX_LOST: u64 = 1 << 20;

impl Node {
    /// What it says it has and is not assigned, or to drop, already.
    fn strays(&self) -> impl Iterator<Item = &ServiceName> {
        let said = self.record.report.iter().flat_map(|report| &report.services);
        said.map(|of_it| &of_it.service).filter(|name| {
            let intent = &self.intent;
            !intent.assigned.contains_key(*name)
                && !intent.hooks.contains_key(*name)
                && !intent.removed.contains_key(*name)
        })
    }

    /// It was not heard when the others were reconciled, and keeps what it was not told by name to drop.
    fn refuses_to_drop(&self) -> bool {
        let report = self.record.report.as_ref();
        let refuses = report.is_some_and(|report| report.refused.contains_key(UNNAMED_REMOVAL));
        refuses && self.strays().next().is_some()
    }
}

fn action(runs: Option<&RunShown>, then: Option<&RunShown>) -> Reconciling {
    match (runs, then) {
        (None, _) => Reconciling::Start,
        (Some(_), None) => Reconciling::Remove,
        (Some(runs), Some(then)) if runs.release != then.release => Reconciling::Replace,
        (Some(runs), Some(then)) if runs.count != then.count => Reconciling::Scale,
        (Some(_), Some(_)) => Reconciling::Keep,
    }
}
