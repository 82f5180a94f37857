//! A coordinator that was lost with everything it knew, and made anew by the root keys: its nodes come back one by one, each with the
//! manifest that it holds (docs/decisions/0019).
//!
//! ```text
//! renew with a manifest of this fleet -> lobby --approve--> first hello -> what the manifest names is entered, then signed again
//! ```
//! What is entered is what the node was told by a director of an earlier trust root, so that it is told the same again and touches no
//! container. What other nodes run is not known until they come: counts stay at what is known, so that nothing is made up for them meanwhile.

mod absent;
mod entering;

use protocol::FORMAT;
use protocol::acceptance::Accepted;
use protocol::envelope::{Envelope, Rejected};
use protocol::file::MAX_REPLICAS;
use protocol::id::NodeId;
use protocol::join::{Answer, RefusalCode, Refused, Renew};
use protocol::keys::PublicKey;
use protocol::manifest::{Assignment, Candidate};
use protocol::recovery::{Again, Recovery, RecoveryBody, held_manifest};

use super::heard::MAX_NODES;
use super::members::refused;
use super::records::{Member, Standing};
use super::shown::RunsShown;
use super::{At, State};

/// No service had as many revisions, tries or restarts.
const MAX_GIVEN: u64 = 1 << 24;
/// Nodes in the lobby that came like that, at once; the others come again. Room is left for those that join by a token.
const MAX_WAITING: usize = 1024;
/// Of their manifests; an ordinary one has some thousand.
const MAX_WAITING_BYTES: usize = 64 << 20;

impl State {
    /// Which CA is the fleet's, for nodes that knew another: `ca_sha256` of the DER, and its PEM.
    #[must_use]
    pub fn recovery(&self, ca_sha256: String, ca: String) -> RecoveryBody {
        let director = &self.director;
        let recovery = Recovery {
            format: FORMAT,
            fleet: director.fleet.clone(),
            root_version: director.root.version,
            ca_sha256,
        };
        let recovery = Envelope::sign(&recovery, &[&director.key]);
        RecoveryBody { chain: director.chain.bounded(), recovery, ca }
    }

    /// A node that this coordinator knows nothing of, or that waits in the lobby after it came like that.
    pub(super) fn come_again(
        &mut self,
        renew: Renew,
        key: PublicKey,
        manifest: Option<&Envelope>,
        at: At,
    ) -> Result<Answer, Refused> {
        let unknown = |why: &str| {
            let text = format!("{why}; join with a token of `pith node token`");
            refused(RefusalCode::UnknownNode, &text)
        };
        let (Some(again), Some(manifest)) = (renew.again, manifest) else {
            return Err(unknown("this coordinator knows no such node"));
        };
        let known = self.members.get(&renew.node);
        let is_news = known.is_none_or(|known| known.recovered.as_ref() != Some(manifest));
        if let Err(reason) = is_news.then(|| self.told_before(manifest, &renew.node)).transpose() {
            let why = format!(
                "this coordinator knows no such node, and its manifest is no proof: {reason}"
            );
            return Err(unknown(&why));
        }
        if known.is_none() && self.members.len() >= MAX_NODES {
            let text = format!("the fleet has {MAX_NODES} nodes already");
            return Err(refused(RefusalCode::Busy, &text));
        }
        let waiting = self.members.values().filter_map(|member| member.recovered.as_ref());
        let (count, bytes) =
            waiting.fold((0, 0), |(count, bytes), one| (count + 1, bytes + one.payload.len()));
        if known.is_none() && (count >= MAX_WAITING || bytes > MAX_WAITING_BYTES) {
            let text = "too many wait already: `pith node approve` or `pith node revoke` some";
            return Err(refused(RefusalCode::Busy, text));
        }
        let Again { name, environment, labels, seal_key } = again;
        let member = Member {
            standing: Standing::Pending,
            name: Some(name.clone()),
            asked_environment: Some(environment),
            asked_labels: labels,
            key: Some(key),
            tls_key: Some(renew.tls_key),
            seal_key: Some(seal_key),
            recovered: Some(manifest.clone()),
            ..Member::unknown(renew.node.clone(), known.map_or(at.unix_ms, |known| known.since_ms))
        };
        let is_new = known.is_none();
        if known != Some(&member) {
            self.keep_member(member);
        }
        if is_new {
            tracing::info!(%name, id = %renew.node, "a node of the coordinator before asks to be let in");
            let text = format!(
                "comes back to a coordinator that was recovered: `pith node approve {}` lets it in",
                renew.node
            );
            self.note_member(&renew.node, text, at);
        }
        Ok(Answer::Pending)
    }

    /// What a manifest says that some director of this fleet signed for a node: whole, as the node itself would read it again.
    pub(super) fn told_before(
        &self,
        manifest: &Envelope,
        node: &NodeId,
    ) -> Result<Accepted, Rejected> {
        let told = held_manifest(manifest, node, &self.former)?;
        let secrets = told.manifest.secrets.iter().all(|copy| copy.version < MAX_GIVEN);
        if secrets && told.manifest.services.iter().all(is_given) {
            return Ok(told);
        }
        Err(Rejected::BadPayload("numbers that no coordinator ever gave".to_owned()))
    }

    /// What a member was told to run by the coordinator before, for whoever approves it.
    pub(super) fn show_runs(&self, member: &Member) -> Vec<RunsShown> {
        let told = member.recovered.as_ref().map(|one| self.told_before(one, &member.id));
        let Some(Ok(told)) = told else { return Vec::new() };
        let run = |assignment: &Assignment| RunsShown {
            service: assignment.service.clone(),
            revision: assignment.revision,
            count: assignment.count,
        };
        told.manifest.services.iter().map(run).collect()
    }

    /// Enters what a node was told before, at its first hello.
    pub(super) fn bring_back(&mut self, id: &NodeId, at: At) {
        let Some(mut member) = self.members.get(id).cloned() else { return };
        let Some(envelope) = member.recovered.take() else { return };
        self.keep_member(member);
        let Some(record) = self.nodes.get(id).map(|node| node.record.clone()) else { return };
        let told = match self.told_before(&envelope, id) {
            Ok(told) if told.manifest.environment == record.environment => told,
            Ok(told) => {
                let text = format!(
                    "was told what to run in environment {} and is in {}: nothing of it is taken over",
                    told.manifest.environment, record.environment
                );
                self.note_node(id, text, at);
                return;
            }
            Err(reason) => {
                self.note_node(
                    id,
                    format!("what it was told before is not taken over: {reason}"),
                    at,
                );
                return;
            }
        };
        let told = self.enter_releases(told);
        let at_ms = told.issued_at.saturating_mul(1000).min(at.unix_ms);
        self.enter_floors(&told, at_ms);
        self.enter_secrets(&told, &record, at_ms);
        for assignment in &told.services {
            self.enter_service(assignment, &record, at_ms);
        }
        self.enter_intent(id, &told);
        for of_it in self.examine_releases() {
            self.note_service(&of_it.service, None, of_it.to_string(), at);
        }
        let services = told.services.len();
        self.note_node(id, format!("is back, with {services} services that it runs"), at);
    }
}

/// Whether a coordinator that counts from one can have given these numbers: nobody's director may leave none for later.
fn is_given(assignment: &Assignment) -> bool {
    let is_given = |revision: u64, attempt: u32, restarts: u32, count: u32| {
        let counted = u64::from(attempt.max(restarts));
        revision < MAX_GIVEN && counted < MAX_GIVEN && count <= MAX_REPLICAS
    };
    let Assignment { revision, attempt, restarts, count, candidate, .. } = assignment;
    is_given(*revision, *attempt, *restarts, *count)
        && candidate.as_ref().is_none_or(
            |Candidate { revision, attempt, restarts, count, .. }| {
                is_given(*revision, *attempt, *restarts, *count)
            },
        )
}
