//! Which archives are needed: those of what stands, of what is under way, and of what nodes are told.

use std::collections::BTreeSet;

use planner::fleet::Rollout;
use protocol::id::{Digest, ReleaseId};
use protocol::release::Pin;

use super::State;

impl State {
    /// The services that need this archive, `environment/name`.
    #[must_use]
    pub fn users_of_archive(&self, sha256: &Digest) -> Vec<String> {
        let is_of_it = |release: &ReleaseId| {
            let stored = self.releases.get(release);
            stored.is_some_and(|stored| match &stored.release.image.pin {
                Pin::Archive(archive) => archive.sha256 == *sha256,
                Pin::Digest(_) | Pin::ImageId(_) => false,
            })
        };
        let mut users = BTreeSet::new();
        for (id, service) in &self.services {
            let open = service.rollout.as_ref().filter(|rollout| !rollout.state().is_final());
            let order = open.map(Rollout::order);
            let from = order.and_then(|order| order.from_revision);
            let numbers = [service.record.stable, order.map(|order| order.revision), from];
            let mut revisions =
                numbers.into_iter().flatten().filter_map(|n| service.revisions.get(&n));
            if revisions.any(|revision| is_of_it(&revision.release)) {
                users.insert(id.to_string());
            }
        }
        for node in self.nodes.values() {
            for (name, assigned) in &node.intent.assigned {
                let beside = assigned.candidate.as_ref().map(|candidate| &candidate.release);
                if std::iter::once(&assigned.release).chain(beside).any(is_of_it) {
                    users.insert(format!("{}/{name}", node.record.environment));
                }
            }
        }
        users.into_iter().collect()
    }
}
