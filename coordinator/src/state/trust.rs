//! The next trust root while the coordinator runs: verified, taken, told to every node; and what its keys do not vouch for
//! any more.
//!
//! A root change ends nothing that runs: manifests are signed anew where the director has changed, and a release of a
//! revoked key stays where it is and goes nowhere else.

use std::collections::BTreeSet;

use protocol::acceptance::verify_release;
use protocol::envelope::Envelope;
use protocol::id::{KeyId, NodeId, ReleaseId, ServiceId};
use protocol::keys::{PublicKey, RoleName, Root, SecretKey};
use protocol::manifest::Manifest;
use protocol::succession;

use super::requests::Refused;
use super::shown::{BehindShown, DistrustedShown, RootShown};
use super::{At, State, former_roots};

/// A root that was verified, with the director's key that is held here.
#[derive(Debug)]
pub struct NextRoot {
    /// What it says.
    pub root: Root,
    /// The one that the coordinator signs with under it.
    pub director: PublicKey,
}

/// Verifies the root that follows `current` and finds the director's key among those that are held, the first of which is
/// liked best.
///
/// # Errors
/// Where it does not follow, or the coordinator could sign nothing under it.
pub fn next_root(
    current: &Root,
    envelope: &Envelope,
    held: &[PublicKey],
) -> Result<NextRoot, Refused> {
    let root = succession::succeed(current, envelope).map_err(Refused::Root)?.into_inner();
    let director = root.roles.get(&RoleName::Director);
    let alone = director.filter(|role| role.threshold == 1);
    let key = alone.and_then(|role| held.iter().find(|key| role.keys.contains(key)));
    let director = key.cloned().ok_or(Refused::NoDirectorKey { version: root.version })?;
    Ok(NextRoot { root, director })
}

impl State {
    /// Takes the next trust root. `held` are the keys in the coordinator's folder that sign without a person.
    ///
    /// # Errors
    /// As [`next_root`]; nothing has changed then.
    pub fn succeed(
        &mut self,
        envelope: Envelope,
        held: Vec<SecretKey>,
        at: At,
    ) -> Result<RootShown, Refused> {
        if self.director.chain.roots.last() == Some(&envelope) {
            return Ok(self.show_root());
        }
        let own = self.director.key.public();
        let known: Vec<PublicKey> =
            std::iter::once(own).chain(held.iter().map(SecretKey::public)).collect();
        let NextRoot { root, director } = next_root(&self.director.root, &envelope, &known)?;
        // None where it is the one that signs already.
        if let Some(key) = held.into_iter().find(|key| key.public() == director) {
            self.director.key = key;
        }
        tracing::info!(version = root.version, epoch = root.epoch, "trust root accepted");
        let message = format!("trust root {} in effect", root.version);
        self.director.root = root;
        self.director.chain.roots.push(envelope.clone());
        self.former = former_roots(&self.director);
        self.effects.root = Some(envelope);
        self.effects.publish_roots.extend(self.nodes.keys().cloned());
        self.publish_addresses();
        self.effects.visible = true;
        self.note_fleet(message, at);
        for of_it in self.examine_releases() {
            self.note_service(&of_it.service, None, of_it.to_string(), at);
        }
        self.judge_anew(at);
        self.sign_anew();
        Ok(self.show_root())
    }

    /// The chain of trust roots as nodes take it; none where they know the only one.
    #[must_use]
    pub fn roots(&self) -> Option<Vec<u8>> {
        let chain = &self.director.chain;
        (!chain.roots.is_empty()).then(|| chain.to_bytes())
    }

    /// The trust root, what it does not vouch for any more, and which nodes know an older one.
    #[must_use]
    pub fn show_root(&self) -> RootShown {
        let root = &self.director.root;
        let known = |of: &super::Node| of.record.root_version.unwrap_or(1);
        let behind = self.nodes.values().filter(|node| known(node) < root.version);
        RootShown {
            version: root.version,
            epoch: root.epoch,
            director: self.director.key.public().id(),
            distrusted: self.distrusted_shown(),
            behind: behind
                .map(|node| BehindShown { node: node.record.name.clone(), version: known(node) })
                .collect(),
        }
    }

    /// Whether no key of the newest root vouches for a release.
    pub(super) fn check_trusted(&self, id: &ServiceId, release: &ReleaseId) -> Result<(), Refused> {
        if !self.distrusted.contains(release) {
            return Ok(());
        }
        let version = self.director.root.version;
        Err(Refused::Distrusted { service: id.clone(), root: version })
    }

    /// Which of the stored releases the newest root vouches for; what became distrusted by it, as revisions name it.
    pub(super) fn examine_releases(&mut self) -> Vec<DistrustedShown> {
        let (root, fleet) = (&self.director.root, &self.director.fleet);
        let is_distrusted = |envelope: &Envelope| verify_release(envelope, root, fleet).is_err();
        let stored = self.releases.iter().filter(|(_, stored)| is_distrusted(&stored.envelope));
        let distrusted: BTreeSet<ReleaseId> = stored.map(|(id, _)| id.clone()).collect();
        let before = std::mem::replace(&mut self.distrusted, distrusted);
        let mut shown = self.distrusted_shown();
        shown.retain(|of_it| !before.contains(&of_it.release));
        shown
    }

    /// Manifests that nodes would not take from us any more are signed again.
    pub(super) fn sign_anew(&mut self) {
        let root = &self.director.root;
        let is_stale = |bytes: &[u8]| {
            let manifest = Envelope::from_bytes(bytes).and_then(|e| e.verify::<Manifest>(root));
            !manifest.is_ok_and(|manifest| manifest.version.epoch == root.epoch)
        };
        let signed = self.nodes.values().filter(|node| !node.intent.manifest.is_empty());
        let stale = signed.filter(|node| is_stale(&node.intent.manifest));
        let stale: Vec<NodeId> = stale.map(|node| node.record.id.clone()).collect();
        self.touched.extend(stale);
    }

    fn distrusted_shown(&self) -> Vec<DistrustedShown> {
        let mut shown = Vec::new();
        for (id, service) in &self.services {
            let current = service.current().map(|revision| revision.number);
            for revision in service.revisions.values() {
                let Some(stored) = self.releases.get(&revision.release) else { continue };
                if self.distrusted.contains(&revision.release) {
                    shown.push(DistrustedShown {
                        service: id.clone(),
                        revision: revision.number,
                        image: stored.release.image.reference.clone(),
                        release: revision.release.clone(),
                        signed_by: stored.envelope.signatures.iter().map(hint).collect(),
                        runs: current == Some(revision.number),
                    });
                }
            }
        }
        shown
    }
}

/// Only to say it: nothing is decided by a hint.
fn hint(signature: &protocol::envelope::Signature) -> KeyId {
    signature.keyid.clone()
}
