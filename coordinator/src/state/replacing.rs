//! A board in the place of another: its name, labels and environment, and with them its services. The old identity is revoked in the same
//! transaction; what lies on the old board alone is named.
//!
//! ```text
//! replace OLD by a token -> a token that is good for OLD's place -> a board joins with it: OLD is revoked, in the same step
//!                           -> its first hello: OLD's assignments are its own
//! replace OLD by NEW     -> OLD is revoked, NEW is called OLD from now on, and has its assignments
//! ```
//! A token changes nothing until somebody joins with it: nothing old stops before the new board is known to reach the coordinator.

use std::collections::BTreeMap;

use planner::fleet::Refusing;
use protocol::id::{EnvironmentName, NodeId, NodeName, ServiceId, ServiceName};
use protocol::join::Offer;

use super::records::{Assigned, Change, Member, NodeRecord, Standing, TokenRecord};
use super::requests::{NewToken, Refused};
use super::shown::{LostVolume, ReplacementShown};
use super::{At, Node, State};

/// What a board had in whose place another comes.
#[derive(Debug)]
pub(super) struct Place {
    record: NodeRecord,
    assigned: BTreeMap<ServiceName, Assigned>,
}

impl State {
    /// What another board would get in this one's place, and what would be gone with it.
    ///
    /// # Errors
    /// Where nobody, or more than one, is meant, or it was never heard.
    pub fn show_replacement(&self, who: &str) -> Result<ReplacementShown, Refused> {
        let old = self.replaceable(who)?;
        let record = &old.record;
        Ok(ReplacementShown {
            id: record.id.clone(),
            name: record.name.clone(),
            environment: record.environment.clone(),
            labels: record.labels.clone(),
            online: record.online,
            services: old.intent.assigned.keys().cloned().collect(),
            lost: self.lost_with(old),
            secrets: self.sealed_to(&record.id),
            token: None,
            node: None,
        })
    }

    /// A token whose board takes the place of this one, which is revoked when it joins.
    ///
    /// # Errors
    /// As [`Self::show_replacement`] and [`State::new_token`].
    pub fn replace_by_token(
        &mut self,
        who: &str,
        wish: &NewToken,
        offer: &Offer,
        at: At,
    ) -> Result<(ReplacementShown, TokenRecord), Refused> {
        let shown = self.show_replacement(who)?;
        let wish = NewToken {
            labels: shown.labels.clone(),
            environment: Some(shown.environment.clone()),
            approve: true,
            ..wish.clone()
        };
        let token = self.token_for(&wish, Some(shown.id.clone()), offer, at)?;
        self.note_node(
            &shown.id,
            "is to be replaced: the board that joins with its token takes its place".to_owned(),
            at,
        );
        Ok((shown, token))
    }

    /// A board that has joined takes the place of this one, which is revoked.
    ///
    /// # Errors
    /// As [`Self::show_replacement`], and where the new one is not a ready member of the same environment.
    pub fn replace_by_node(
        &mut self,
        who: &str,
        by: &str,
        at: At,
    ) -> Result<ReplacementShown, Refused> {
        let shown = self.show_replacement(who)?;
        let id = self.member_named(by)?;
        let new = self
            .nodes
            .get(&id)
            .filter(|_| self.is_admitted(&id))
            .ok_or_else(|| Refused::NoNode(by.to_owned()))?;
        let (new_name, environment) = (new.record.name.clone(), new.record.environment.clone());
        if id == shown.id || environment != shown.environment {
            return Err(Refused::CannotReplace {
                old: shown.name,
                old_environment: shown.environment,
                new: new_name,
                new_environment: environment,
            });
        }
        for service in shown.services.iter().chain(new.intent.assigned.keys()) {
            let service = ServiceId { environment: environment.clone(), name: service.clone() };
            if let Some(revision) = self.services.get(&service).and_then(super::Service::active) {
                return Err(Refused::Busy { service, revision });
            }
            self.check_agreed(&service, [&new_name])?;
        }
        let _ = self.revoke(shown.id.as_str(), at)?;
        let place = self.vacate(&shown.id);
        self.rename_in_placements(&environment, &new_name, &shown.name);
        if let Some(node) = self.nodes.get_mut(&id) {
            (node.record.name, node.record.claimed_name) = (shown.name.clone(), shown.name.clone());
            node.record.labels.extend(shown.labels.clone());
        }
        if let Some(mut member) = self.members.get(&id).cloned() {
            member.labels.extend(shown.labels.clone());
            member.fixed_name = Some(shown.name.clone());
            self.keep_member(member);
        }
        self.keep_node(&id);
        self.are_peers_stale = true;
        self.note_node(
            &id,
            format!("was {new_name} and has taken the place of {}", shown.id.short()),
            at,
        );
        if let Some(place) = place {
            self.take_place(&id, place, at);
        }
        Ok(ReplacementShown { node: Some(id), ..shown })
    }

    /// The board of a token that replaces another: it is called as that was, which is revoked.
    pub(super) fn succeed_old(&mut self, member: &mut Member, old: &NodeId, at: At) {
        if *old == member.id {
            return;
        }
        let name = self.nodes.get(old).map(|node| node.record.name.clone());
        let of_member = || self.members.get(old).and_then(|old| old.name.clone());
        if let Some(name) = name.or_else(of_member) {
            member.fixed_name = Some(name.clone());
            member.name = Some(name);
        }
        // Known when the token was made; whoever was forgotten since is in nobody's way.
        let _ = self.revoke(old.as_str(), at);
    }

    /// Forgets a node whose identity was revoked; what it had.
    pub(super) fn vacate(&mut self, id: &NodeId) -> Option<Place> {
        let old = self.nodes.remove(id)?;
        self.effects.changes.push(Change::ForgetNode(id.clone()));
        Some(Place { record: old.record, assigned: old.intent.assigned })
    }

    /// Gives a node that has another's name what that was to run, as far as it fits and may still run.
    pub(super) fn take_place(&mut self, id: &NodeId, place: Place, at: At) {
        let Some(record) = self.nodes.get(id).map(|node| node.record.clone()) else { return };
        if record.environment != place.record.environment {
            return;
        }
        for (name, assigned) in place.assigned {
            let service = ServiceId { environment: record.environment.clone(), name };
            match self.fits(&service, &assigned, &record.name) {
                Ok(()) => self.assign(id, &service.name, assigned),
                Err(why) => self.note_service(
                    &service,
                    None,
                    format!("does not come to the new {}: {why}", record.name),
                    at,
                ),
            }
        }
    }

    fn fits(&self, id: &ServiceId, assigned: &Assigned, name: &NodeName) -> Result<(), String> {
        if !self.services.contains_key(id) {
            return Err("it was removed".to_owned());
        }
        self.check_trusted(id, &assigned.release).map_err(|refused| refused.to_string())?;
        let stored =
            self.releases.get(&assigned.release).ok_or("its release is not known any more")?;
        let spec = stored.release.spec(&id.environment).clone();
        let placed = self
            .place_with(id, &spec, Refusing::LeaveOut)
            .map_err(|refused| refused.to_string())?;
        match placed.counts.contains_key(name) {
            true => Ok(()),
            false => Err("its [placement], devices or the node's policy do not take it; `pith plan` says why".to_owned()),
        }
    }

    fn replaceable(&self, who: &str) -> Result<&Node, Refused> {
        let id = self.member_named(who)?;
        // One that was revoked a while ago still has its place, until somebody takes it.
        let node = self.nodes.get(&id);
        let is_member =
            self.members.get(&id).is_some_and(|member| member.standing != Standing::Pending);
        node.filter(|_| is_member).ok_or_else(|| Refused::NoNode(who.to_owned()))
    }

    /// What lies on a board alone.
    fn lost_with(&self, node: &Node) -> Vec<LostVolume> {
        let mut lost = Vec::new();
        for (name, assigned) in &node.intent.assigned {
            let Some(stored) = self.releases.get(&assigned.release) else { continue };
            let spec = stored.release.spec(&node.record.environment);
            let prefix = volume_prefix(&node.record, name);
            let named = spec.volumes.iter().map(|volume| {
                (format!("{prefix}-{}", volume.name), !volume.read_only && !volume.shared)
            });
            let paths = spec.host.paths.iter().filter(|path| !path.read_only);
            let paths = paths.map(|path| (path.host.clone(), !path.shared));
            lost.extend(named.chain(paths).map(|(volume, is_exclusive)| LostVolume {
                service: name.clone(),
                volume,
                exclusive: is_exclusive,
            }));
        }
        lost
    }

    /// Where revisions say where a service runs, the new name stands for the board from now on.
    fn rename_in_placements(
        &mut self,
        environment: &EnvironmentName,
        from: &NodeName,
        to: &NodeName,
    ) {
        let mut changed = Vec::new();
        for (id, service) in
            self.services.iter_mut().filter(|(id, _)| id.environment == *environment)
        {
            for revision in service.revisions.values_mut() {
                let Some(count) = revision.placement.remove(from) else { continue };
                revision.placement.entry(to.clone()).or_insert(count);
                if let Some(progress) = revision.nodes.remove(from) {
                    revision.nodes.entry(to.clone()).or_insert(progress);
                }
                let has_both = revision.order.contains(to);
                revision.order.retain(|name| !has_both || name != from);
                revision
                    .order
                    .iter_mut()
                    .filter(|name| *name == from)
                    .for_each(|name| name.clone_from(to));
                changed.push((id.clone(), revision.number));
            }
        }
        for (id, number) in changed {
            self.keep_revision(&id, number);
        }
    }
}

/// As the agent names volumes: `pith-<node8>-<service>`, the environment before the service where it is not `default`.
pub(super) fn volume_prefix(record: &NodeRecord, service: &ServiceName) -> String {
    match record.environment.as_str() {
        "default" => format!("pith-{}-{service}", record.id.short()),
        environment => format!("pith-{}-{environment}-{service}", record.id.short()),
    }
}
