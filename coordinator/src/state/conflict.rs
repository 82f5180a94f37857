//! Whether what a node has seen can have come from here. A coordinator that was restored from an old backup knows less than
//! its nodes: it must not count on from what they have seen, for it would put what it remembers in the place of what
//! was decided since (docs/decisions/0013).
//!
//! ```text
//! Unheard --hello or report--> Agreed   --> intent is signed and published
//!        \--hello or report--> Conflict --> intent is stored, nothing is signed; ends with a higher epoch, which root signs
//! ```

use protocol::envelope::Envelope;
use protocol::id::{NodeId, NodeName, ServiceId};
use protocol::keys::Root;
use protocol::manifest::Version;
use protocol::reason::Reason;

use super::records::{Change, Happened, Intent};
use super::requests::Refused;
use super::{At, Node, State, natural};

/// What mends it.
pub const MEND: &str = "pith fleet reconcile";

/// Where a node stands with this coordinator since its start.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) enum Accord {
    /// It has not said, signed, what it has seen. Nothing new is signed for it: who knows what that would overtake.
    #[default]
    Unheard,
    /// Everything it has seen was signed here.
    Agreed(Said),
    /// It has seen what was not.
    Conflict(Said, Conflict),
}

/// What a node has said, signed, of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Said {
    /// The newest manifest it accepted.
    pub(super) seen: Version,
    /// sha256 of its signed bytes, where the node says it.
    pub(super) sha256: Option<String>,
    /// The trust root it knows.
    pub(super) root: u64,
}

/// What was signed here last for a node.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Signed {
    /// Its number.
    pub(super) version: Version,
    /// sha256 of its bytes; none: nothing was signed.
    pub(super) sha256: Option<String>,
}

/// Why a node and this coordinator do not agree.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Conflict {
    /// The fleet's folder is older than a change of the trust root. No root that is signed here can follow that one.
    #[error(
        "it knows trust root {knows} and the fleet's folder has {newest}: root.json and roots.json are old"
    )]
    NewerRoot {
        /// The node's.
        knows: u64,
        /// The newest here.
        newest: u64,
    },
    /// As before, told by the manifest it holds.
    #[error(
        "it has seen a manifest of epoch {seen} and the trust root here has epoch {epoch}: root.json and roots.json are old"
    )]
    NewerEpoch {
        /// What it has seen.
        seen: u64,
        /// That of the trust root.
        epoch: u64,
    },
    /// The database is older than what it decided.
    #[error("it has seen manifest {seen} and {signed} is the newest signed here")]
    NewerManifest {
        /// What it has seen.
        seen: u64,
        /// What was signed here.
        signed: u64,
    },
    /// Two coordinators, or one before and after it was restored, have signed under one number.
    #[error("it has seen another manifest {generation} than the one signed here")]
    OtherManifest {
        /// The number.
        generation: u64,
    },
}

impl Conflict {
    /// Whether a root signed here mends it.
    #[must_use]
    pub const fn is_mended_here(&self) -> bool {
        match self {
            Self::NewerManifest { .. } | Self::OtherManifest { .. } => true,
            Self::NewerRoot { .. } | Self::NewerEpoch { .. } => false,
        }
    }

    /// In one sentence, with what mends it.
    #[must_use]
    pub fn with_mend(&self) -> String {
        format!("conflict: {self}; `{MEND}` shows and mends it")
    }
}

/// Whether what a node has seen was signed here, given the trust root and what was signed last.
pub(super) fn judge(root: &Root, signed: &Signed, said: &Said) -> Option<Conflict> {
    if said.root > root.version {
        return Some(Conflict::NewerRoot { knows: said.root, newest: root.version });
    }
    let seen = said.seen;
    if seen.epoch > root.epoch {
        return Some(Conflict::NewerEpoch { seen: seen.epoch, epoch: root.epoch });
    }
    if seen.epoch < root.epoch {
        // Whatever it was, a manifest of the newer epoch takes its place.
        return None;
    }
    let is_of_epoch = signed.version.epoch == root.epoch;
    let newest = if is_of_epoch { signed.version.generation } else { 0 };
    if seen.generation > newest {
        return Some(Conflict::NewerManifest { seen: seen.generation, signed: newest });
    }
    let both = said.sha256.as_ref().zip(signed.sha256.as_ref());
    let differ = both.is_some_and(|(seen, signed)| seen != signed);
    (seen.generation == newest && is_of_epoch && differ)
        .then_some(Conflict::OtherManifest { generation: newest })
}

impl State {
    /// What a node says, signed, that it has seen.
    pub(super) fn heed(&mut self, id: &NodeId, seen: Version, sha256: Option<String>, at: At) {
        let Some(node) = self.nodes.get_mut(id) else { return };
        node.record.seen = seen;
        // A report does not repeat what the hello before it said of the bytes.
        let known = node.accord.said().filter(|known| known.seen == seen);
        let sha256 = sha256.or_else(|| known.and_then(|known| known.sha256.clone()));
        let root = node.record.root_version.unwrap_or(1);
        self.take_word(id, Said { seen, sha256, root }, at);
        self.publish_where_behind(id, seen);
    }

    /// What a node says, unsigned, that it has seen: only that it lacks the newest follows from it.
    pub(super) fn glance(&mut self, id: &NodeId, seen: Version) {
        if let Some(node) = self.nodes.get_mut(id) {
            node.record.seen = seen;
        }
        self.publish_where_behind(id, seen);
    }

    /// A higher epoch ends conflicts: what nodes have seen of the one before counts no more.
    pub(super) fn judge_anew(&mut self, at: At) {
        let said = self.nodes.iter().filter_map(|(id, node)| {
            let said = node.accord.said()?.clone();
            Some((id.clone(), said))
        });
        for (id, said) in said.collect::<Vec<_>>() {
            self.take_word(&id, said, at);
        }
    }

    fn take_word(&mut self, id: &NodeId, said: Said, at: At) {
        let root = &self.director.root;
        let Some(node) = self.nodes.get_mut(id) else { return };
        let judged = judge(root, &node.intent.signed(), &said);
        let accord = match &judged {
            None => Accord::Agreed(said),
            Some(conflict) => Accord::Conflict(said, conflict.clone()),
        };
        let before = std::mem::replace(&mut node.accord, accord);
        match (before, judged) {
            (Accord::Agreed(_), None) => {}
            (Accord::Conflict(_, known), Some(conflict)) if known == conflict => {}
            (before, None) => {
                if node.intent.is_unsigned {
                    self.touched.insert(id.clone());
                }
                // The broker is a lossy pipe, and nothing was published while it was not heard.
                self.effects.publish_roots.insert(id.clone());
                self.effects.publish.insert(id.clone());
                self.effects.visible = true;
                if matches!(before, Accord::Conflict(..)) {
                    self.note_node(id, "conflict is over".to_owned(), at);
                }
            }
            (_, Some(conflict)) => self.note_conflict(id, &conflict, at),
        }
    }

    fn note_conflict(&mut self, id: &NodeId, conflict: &Conflict, at: At) {
        let Some(node) = self.nodes.get(id) else { return };
        let (name, environment) = (node.record.name.clone(), node.record.environment.clone());
        tracing::warn!(node = %name, %conflict, "conflict: nothing is signed for it");
        self.effects.visible = true;
        self.note(Happened {
            id: 0,
            at_ms: at.unix_ms,
            environment: Some(environment),
            service: None,
            node: Some(name),
            reason: Some(Reason::Conflict),
            message: conflict.with_mend(),
        });
    }

    /// A node that holds an older manifest than the newest gets it again.
    fn publish_where_behind(&mut self, id: &NodeId, seen: Version) {
        let Some(node) = self.nodes.get(id) else { return };
        if node.accord.is_agreed() && seen < node.intent.version() {
            self.effects.publish.insert(id.clone());
        }
    }

    /// Whether new manifests are signed for a node, and published.
    pub(super) fn is_agreed(&self, id: &NodeId) -> bool {
        self.nodes.get(id).is_some_and(|node| node.accord.is_agreed())
    }

    /// Whether a node may be told the trust roots: a newer one than ours must not be overwritten where a broker keeps it.
    pub(super) fn takes_roots(&self, id: &NodeId) -> bool {
        let conflict = self.nodes.get(id).and_then(Node::conflict);
        conflict.is_none_or(Conflict::is_mended_here)
    }

    /// The intent of a node that is not agreed with: it is kept, and signed once it is.
    pub(super) fn keep_unsigned(&mut self, id: &NodeId) {
        let Some(node) = self.nodes.get_mut(id) else { return };
        node.intent.is_unsigned = true;
        self.effects.changes.push(Change::Intent(id.clone(), Box::new(node.intent.clone())));
        self.effects.visible = true;
    }

    /// Refuses what would need nodes in conflict: those named, and those that have the service.
    pub(super) fn check_agreed<'a>(
        &self,
        id: &ServiceId,
        needed: impl IntoIterator<Item = &'a NodeName>,
    ) -> Result<(), Refused> {
        let needed: std::collections::BTreeSet<&NodeName> = needed.into_iter().collect();
        let of_it = self.nodes.values().filter(|node| {
            node.record.environment == id.environment
                && (needed.contains(&node.record.name)
                    || node.intent.assigned.contains_key(&id.name)
                    || node.reports(id))
        });
        let mut in_conflict: Vec<(&NodeName, &Conflict)> =
            of_it.filter_map(|node| Some((&node.record.name, node.conflict()?))).collect();
        in_conflict.sort_by_key(|(name, _)| natural(name.as_str()));
        let Some((first, why)) = in_conflict.first() else { return Ok(()) };
        let names: Vec<&str> = in_conflict.iter().map(|(name, _)| name.as_str()).collect();
        Err(Refused::Conflict {
            service: id.clone(),
            nodes: names.join(", "),
            why: format!("{first}: {why}"),
        })
    }
}

impl Accord {
    const fn is_agreed(&self) -> bool {
        matches!(self, Self::Agreed(_))
    }

    const fn said(&self) -> Option<&Said> {
        match self {
            Self::Unheard => None,
            Self::Agreed(said) | Self::Conflict(said, _) => Some(said),
        }
    }
}

impl Node {
    /// Why nothing is signed for it, where it is in conflict.
    pub(super) const fn conflict(&self) -> Option<&Conflict> {
        match &self.accord {
            Accord::Conflict(_, conflict) => Some(conflict),
            Accord::Unheard | Accord::Agreed(_) => None,
        }
    }

    /// Whether it was heard, signed, since the coordinator's start.
    pub(super) const fn is_heard(&self) -> bool {
        self.accord.said().is_some()
    }

    /// Whether it says that it has a service.
    fn reports(&self, id: &ServiceId) -> bool {
        let report = self.record.report.as_ref();
        report.is_some_and(|report| report.services.iter().any(|of_it| of_it.service == id.name))
    }
}

impl Intent {
    /// The number of its newest manifest.
    #[must_use]
    pub const fn version(&self) -> Version {
        self.of_epoch(self.generation)
    }

    /// A generation of its epoch.
    #[must_use]
    pub const fn of_epoch(&self, generation: u64) -> Version {
        Version { epoch: self.epoch, generation }
    }

    /// The next number: under another epoch generations begin anew, and what had to go before has to go still.
    pub(super) fn count_on(&mut self, epoch: u64) {
        if self.epoch != epoch {
            (self.epoch, self.generation) = (epoch, 0);
            self.removed.values_mut().for_each(|since| *since = 1);
        }
        self.generation += 1;
    }

    fn signed(&self) -> Signed {
        let envelope = Envelope::from_bytes(&self.manifest).ok();
        let sha256 = envelope.and_then(|envelope| envelope.payload_sha256());
        Signed { version: self.version(), sha256 }
    }
}
