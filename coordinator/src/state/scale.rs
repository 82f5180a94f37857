//! Counts set by an operator, services removed, and nodes that join.

use planner::fleet::Refusing;
use protocol::id::{NodeId, NodeName, ServiceId};

use super::manifests::is_gone;
use super::records::{Change, Revision};
use super::replacing::volume_prefix;
use super::requests::{Accepted, Refused};
use super::{At, State};

impl State {
    /// Sets or resets the count of a service; the nodes follow at once.
    ///
    /// # Errors
    /// Where there is no such service, it is being rolled out, or no node fits.
    pub fn scale(
        &mut self,
        id: &ServiceId,
        count: Option<u32>,
        at: At,
    ) -> Result<Accepted, Refused> {
        let service = self.services.get_mut(id).ok_or_else(|| Refused::NoService(id.clone()))?;
        if let Some(revision) = service.active() {
            return Err(Refused::Busy { service: id.clone(), revision });
        }
        let current = service.current().ok_or_else(|| Refused::NoService(id.clone()))?;
        let (number, release) = (current.number, current.release.clone());
        let before = service.record.count_override;
        service.record.count_override = count;
        let spec =
            self.releases.get(&release).map(|stored| stored.release.spec(&id.environment).clone());
        let spec = spec.ok_or_else(|| Refused::NoService(id.clone()))?;
        let now = self.counts_of(id);
        let placed = self.place_with(id, &spec, Refusing::LeaveOut).and_then(|placed| {
            let more =
                |(node, count): (&NodeName, &u32)| *count > now.get(node).copied().unwrap_or(0);
            if placed.counts.iter().any(more) {
                self.check_trusted(id, &release)?;
            }
            self.check_agreed(id, placed.counts.keys())?;
            Ok(placed)
        });
        let placed = match placed {
            Ok(placed) => placed,
            Err(refused) => {
                if let Some(service) = self.services.get_mut(id) {
                    service.record.count_override = before;
                }
                return Err(refused);
            }
        };
        let unplaced = placed.unplaced;
        let nodes: Vec<NodeName> = placed.counts.keys().cloned().collect();
        self.change_revision(id, number, |revision| {
            revision.placement = placed.counts;
            revision.unplaced = unplaced;
        });
        self.keep_service(id);
        for node in &nodes {
            self.put_on(id, number, node);
        }
        self.take_off_where_not_placed(id, number);
        let what = count.map_or("its file's count".to_owned(), |count| count.to_string());
        self.note_service(id, None, format!("scaled to {what}"), at);
        Ok(Accepted {
            service: id.clone(),
            revision: number,
            from_revision: None,
            unchanged: false,
            unplaced,
        })
    }

    /// Removes a service from every node and forgets it. Named volumes stay; their Docker names are returned.
    ///
    /// # Errors
    /// Where there is no such service.
    pub fn remove(&mut self, id: &ServiceId, at: At) -> Result<Vec<String>, Refused> {
        if !self.services.contains_key(id) {
            return Err(Refused::NoService(id.clone()));
        }
        self.check_agreed(id, [])?;
        let volumes = self.volumes_of(id);
        let holders: Vec<NodeId> = self
            .nodes
            .values()
            .filter(|node| node.record.environment == id.environment)
            .map(|node| node.record.id.clone())
            .collect();
        for node in &holders {
            self.take_off(node, &id.name);
        }
        self.services.remove(id);
        self.effects.changes.push(Change::ForgetService(id.clone()));
        self.forget_releases();
        self.note_service(id, None, "removed".to_owned(), at);
        Ok(volumes)
    }

    /// Nodes that still hold something of a removed service, with whether they are heard of.
    #[must_use]
    pub fn removal_pending(&self, id: &ServiceId) -> Vec<(NodeName, bool)> {
        let of_it = self.nodes.values().filter(|n| n.record.environment == id.environment);
        of_it
            .filter(|node| {
                let removed = node.intent.removed.get(&id.name);
                removed.is_some_and(|since| {
                    !is_gone(&node.record, &id.name, node.intent.of_epoch(*since))
                })
            })
            .map(|node| (node.record.name.clone(), node.record.online))
            .collect()
    }

    /// A node that is new, or carries other labels, takes what was meant for nodes like it; nothing leaves another.
    pub(super) fn place_on_newcomer(&mut self, id: &NodeId) {
        let Some(node) = self.nodes.get(id) else { return };
        let (name, environment) = (node.record.name.clone(), node.record.environment.clone());
        let settled: Vec<(ServiceId, u64)> = self
            .services
            .iter()
            .filter(|(service, of_it)| {
                service.environment == environment && of_it.active().is_none()
            })
            .filter_map(|(service, of_it)| Some((service.clone(), of_it.record.stable?)))
            .collect();
        for (service, stable) in settled {
            self.place_one_on_newcomer(&service, stable, &name);
        }
    }

    fn place_one_on_newcomer(&mut self, id: &ServiceId, stable: u64, name: &NodeName) {
        let revision = self.services.get(id).and_then(|s| s.revisions.get(&stable));
        let Some(revision) = revision else { return };
        if revision.placement.contains_key(name) {
            return;
        }
        if let Err(reason) = self.check_trusted(id, &revision.release) {
            tracing::warn!(service = %id, node = %name, %reason, "not placed");
            return;
        }
        let spec =
            self.releases.get(&revision.release).map(|s| s.release.spec(&id.environment).clone());
        let Some(spec) = spec else { return };
        let placed = self.place_with(id, &spec, Refusing::LeaveOut);
        let Ok(placed) = placed else { return };
        let Some(count) = placed.counts.get(name).copied() else { return };
        if self.node_named(name).is_some_and(|node| self.check_ports(id, &spec, node).is_err()) {
            tracing::warn!(service = %id, node = %name, "not placed: a port is used by another service");
            return;
        }
        let unplaced = placed.unplaced;
        self.change_revision(id, stable, |revision| {
            revision.placement.insert(name.clone(), count);
            revision.unplaced = unplaced;
        });
        self.put_on(id, stable, name);
    }

    fn change_revision(&mut self, id: &ServiceId, number: u64, change: impl FnOnce(&mut Revision)) {
        let revision = self.services.get_mut(id).and_then(|s| s.revisions.get_mut(&number));
        if let Some(revision) = revision {
            change(revision);
            self.keep_revision(id, number);
        }
    }

    /// As the agent names them.
    fn volumes_of(&self, id: &ServiceId) -> Vec<String> {
        let mut names = Vec::new();
        for node in self.nodes.values() {
            if node.record.environment != id.environment {
                continue;
            }
            let Some(assigned) = node.intent.assigned.get(&id.name) else { continue };
            let Some(stored) = self.releases.get(&assigned.release) else { continue };
            for volume in &stored.release.spec(&id.environment).volumes {
                let prefix = volume_prefix(&node.record, &id.name);
                names.push(format!("{prefix}-{}", volume.name));
            }
        }
        names
    }
}
