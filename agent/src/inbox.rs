//! The inbox: bytes from the broker become an accepted manifest, the next trust root, a signed time or the coordinator's addresses,
//! or a counted refusal.
//! Nothing else happens here: no engine, no disk, no effect before `protocol` has said yes.

use std::collections::BTreeMap;

use mqtt::VerifyAt;
use protocol::acceptance::{self, Acceptance, Accepted, Known, NodeIdentity, Trust};
use protocol::agent_release::{self, AgentRelease};
use protocol::command::{self, Command, Refused};
use protocol::envelope::{Envelope, Rejected};
use protocol::keys::Root;
use protocol::manifest::{Manifest, Version};
use protocol::succession::{self, Chain, Walked};
use protocol::time::{self, Time};
use protocol::whereabouts::{self, Whereabouts};
use tracing::{debug, warn};

/// As people read it.
const ADDRESSES: &str = "address of the coordinator";

/// Accepts and refuses manifests; counts refusals by code.
#[derive(Debug)]
pub struct Inbox {
    trust: Trust,
    node: NodeIdentity,
    /// The last manifest that the newest root did not vouch for: it may have come before the root that does.
    early: Option<Vec<u8>>,
    floor: VerifyAt,
    refused: BTreeMap<String, u64>,
    refused_newest: Option<Version>,
}

/// What became of the bytes.
#[derive(Debug)]
pub enum Received {
    /// Newer than what was seen: to be written down, then acted on.
    New {
        /// The manifest with its releases.
        accepted: Box<Accepted>,
        /// What is written down.
        envelope: Envelope,
    },
    /// The one that was seen.
    Same,
    /// Refused and counted.
    Refused(Refusal),
}

/// What became of trust roots.
#[derive(Debug)]
pub struct ReceivedRoots {
    /// Newer than the one known: to be written down, then trusted.
    pub newest: Option<Box<Root>>,
    /// What proves it and those between, oldest first.
    pub proofs: Vec<Envelope>,
    /// What was refused among them.
    pub refused: Option<Refusal>,
}

/// What became of a signed time.
#[derive(Debug)]
pub enum ReceivedTime {
    /// It answers the last hello.
    Answer(Box<Time>),
    /// The director's for this node, and of another hello: late or replayed. Not worth more than a lost one.
    Late,
    /// Refused and counted.
    Refused(Refusal),
}

/// What became of addresses of the coordinator.
#[derive(Debug)]
pub enum ReceivedAddresses {
    /// The director's; whether they are news is still to be asked.
    Said(Box<Whereabouts>),
    /// The director's, of an epoch that is over: what a broker has kept.
    Old,
    /// Refused and counted.
    Refused(Refusal),
}

/// Something refused and counted.
#[derive(Debug, PartialEq, Eq)]
pub struct Refusal {
    /// `manifest`, `trust root`, `time`, `address of the coordinator`, `command` or `release of the agent`.
    pub what: &'static str,
    /// The stable code.
    pub code: &'static str,
    /// One sentence for a person.
    pub message: String,
    /// Refusals with this code since the agent's start, this one included.
    pub count: u64,
}

impl Inbox {
    /// An empty inbox of a node.
    #[must_use]
    pub fn new(trust: impl Into<Trust>, node: NodeIdentity) -> Self {
        Self {
            trust: trust.into(),
            node,
            early: None,
            floor: VerifyAt::default(),
            refused: BTreeMap::new(),
            refused_newest: None,
        }
    }

    /// Whom the node trusts.
    #[must_use]
    pub const fn trust(&self) -> &Trust {
        &self.trust
    }

    /// Trusts this from now on; it is durable. Gives a manifest that may have come before its root.
    pub fn set_trust(&mut self, trust: Trust) -> Option<Vec<u8>> {
        let is_newer = trust.root.version > self.trust.root.version;
        self.trust = trust;
        if is_newer { self.early.take() } else { None }
    }

    /// Takes a chain of trust roots. The version only ever grows.
    pub fn receive_roots(&mut self, bytes: &[u8]) -> ReceivedRoots {
        let walked = match Chain::from_bytes(bytes) {
            Ok(chain) => succession::walk(&self.trust.root, &chain),
            Err(reason) => Walked { roots: Vec::new(), refused: Some(reason) },
        };
        let Walked { roots, refused } = walked;
        let newest = roots.last().map(|signed| Box::new(signed.root.clone()));
        let proofs = roots.into_iter().map(|signed| signed.envelope).collect();
        let refused = refused.map(|reason| self.refuse("trust root", reason.code(), &reason));
        ReceivedRoots { newest, proofs, refused }
    }

    /// What it accepts raises `floor`, the newest time that somebody has signed.
    #[must_use]
    pub fn raising(self, floor: VerifyAt) -> Self {
        Self { floor, ..self }
    }

    /// Takes one message, given what the ledger holds.
    pub fn receive(&mut self, bytes: &[u8], known: Known<'_>) -> Received {
        let accepted = acceptance::accept(bytes, &self.trust, &self.node, known)
            .and_then(|acceptance| Ok((acceptance, Envelope::from_bytes(bytes)?)));
        match accepted {
            Ok((Acceptance::New(accepted), envelope)) => {
                self.floor.raise(accepted.manifest.issued_at);
                Received::New { accepted, envelope }
            }
            Ok((Acceptance::Same, _)) => Received::Same,
            Err(reason) => {
                if matches!(reason.code(), "bad_signature" | "no_role" | "wrong_epoch") {
                    self.early = Some(bytes.to_vec());
                }
                self.refused_newest = self.refused_newest.max(self.version_for_us(bytes));
                Received::Refused(self.refuse("manifest", reason.code(), &reason))
            }
        }
    }

    /// Takes the answer to `nonce`. Refusals are counted as `time_` and their code.
    pub fn receive_time(&mut self, bytes: &[u8], nonce: Option<&str>) -> ReceivedTime {
        match time::accept(bytes, &self.trust.root, &self.node, nonce) {
            Ok(time) => ReceivedTime::Answer(Box::new(time.into_inner())),
            Err(Rejected::WrongNonce) => ReceivedTime::Late,
            Err(reason) => {
                let code = format!("time_{}", reason.code());
                ReceivedTime::Refused(self.refuse("time", &code, &reason))
            }
        }
    }

    /// Takes addresses of the coordinator. Refusals are counted as `addresses_` and their code.
    pub fn receive_addresses(&mut self, bytes: &[u8]) -> ReceivedAddresses {
        match whereabouts::accept(bytes, &self.trust.root) {
            Ok(said) => ReceivedAddresses::Said(Box::new(said.into_inner())),
            Err(Rejected::WrongEpoch { found, expected }) if found < expected => {
                ReceivedAddresses::Old
            }
            Err(reason) => {
                let code = format!("addresses_{}", reason.code());
                ReceivedAddresses::Refused(self.refuse(ADDRESSES, &code, &reason))
            }
        }
    }

    /// Takes a release of the agent; whether it is for this node is not asked here.
    ///
    /// # Errors
    /// Any other, counted as `agent_release_` and its code.
    pub fn receive_agent_release(&mut self, bytes: &[u8]) -> Result<AgentRelease, Refusal> {
        agent_release::accept(bytes, &self.trust.root)
            .map(protocol::envelope::Verified::into_inner)
            .map_err(|reason| {
                let counted_as = format!("agent_release_{}", reason.code());
                self.refuse("release of the agent", &counted_as, &reason)
            })
    }

    /// Takes a command that the director has signed for this node.
    ///
    /// # Errors
    /// Any other, counted as `command_` and its code.
    pub fn receive_command(&mut self, bytes: &[u8]) -> Result<Command, Refusal> {
        command::accept(bytes, &self.trust.root, &self.node)
            .map(protocol::envelope::Verified::into_inner)
            .map_err(|reason| {
                let counted_as = format!("command_{}", reason.code());
                self.refuse("command", &counted_as, &reason)
            })
    }

    /// Counts a command that the director has signed for this node and that is not done.
    pub fn refuse_command(&mut self, refused: &Refused) -> Refusal {
        self.count("command", refused.code(), refused.code(), refused)
    }

    /// The newest manifest that the director signed for this node and that was refused nevertheless, since the agent's
    /// start.
    #[must_use]
    pub const fn refused_newest(&self) -> Option<Version> {
        self.refused_newest
    }

    fn version_for_us(&self, bytes: &[u8]) -> Option<Version> {
        let manifest =
            Envelope::from_bytes(bytes).ok()?.verify::<Manifest>(&self.trust.root).ok()?;
        let is_ours = manifest.fleet == self.node.fleet && manifest.node == self.node.node;
        is_ours.then_some(manifest.version)
    }

    /// Refusals since the agent's start, by code.
    #[must_use]
    pub fn refused(&self) -> &BTreeMap<String, u64> {
        &self.refused
    }

    fn refuse(&mut self, what: &'static str, counted_as: &str, reason: &Rejected) -> Refusal {
        self.count(what, counted_as, reason.code(), reason)
    }

    fn count(
        &mut self,
        what: &'static str,
        counted_as: &str,
        code: &'static str,
        reason: &dyn std::fmt::Display,
    ) -> Refusal {
        let count = self.refused.entry(counted_as.to_owned()).or_default();
        *count += 1;
        if *count == 1 {
            warn!(what, code, %reason, "refused");
        } else {
            debug!(what, code, count, "refused again");
        }
        Refusal { what, code, message: reason.to_string(), count: *count }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{self, ManifestBuilder};
    use protocol::acceptance::Seen;
    use protocol::keys::SecretKey;
    use protocol::retirement::Floors;
    use std::collections::BTreeSet;

    fn inbox() -> Inbox {
        Inbox::new(testing::root(), testing::identity())
    }

    #[track_caller]
    fn check_refused(bytes: &[u8], seen: Option<&Seen>, running: &[&str], expected: &str) {
        let running: BTreeSet<_> = running.iter().map(|name| name.parse().unwrap()).collect();
        check_refused_knowing(bytes, Known { seen, running: &running, ..Known::NOTHING }, expected);
    }

    #[track_caller]
    fn check_refused_knowing(bytes: &[u8], known: Known<'_>, expected: &str) {
        let mut inbox = inbox();
        for round in 1..=2 {
            let Received::Refused(refusal) = inbox.receive(bytes, known) else {
                panic!("{expected}: not refused");
            };
            assert_eq!((refusal.code, refusal.count), (expected, round));
        }
        assert_eq!(inbox.refused(), &BTreeMap::from([(expected.to_owned(), 2)]));
    }

    fn seen_of(bytes: &[u8]) -> Seen {
        let Received::New { accepted, .. } = inbox().receive(bytes, Known::NOTHING) else {
            panic!("not accepted");
        };
        accepted.seen()
    }

    #[test]
    fn a_good_manifest_is_taken_once() {
        let bytes = ManifestBuilder::new(1).service("web", "v1").bytes();
        let seen = seen_of(&bytes);
        let known = Known { seen: Some(&seen), ..Known::NOTHING };
        assert!(matches!(inbox().receive(&bytes, known), Received::Same));
    }

    #[test]
    fn what_is_not_for_this_node_or_not_signed_is_refused() {
        check_refused(b"{", None, &[], "bad_envelope");
        check_refused(&vec![b' '; 10 << 20], None, &[], "too_large");
        let stranger = SecretKey::from_seed([9; 32]);
        let other = "f".repeat(32).parse().unwrap();
        let mut foreign = ManifestBuilder::new(1).service("web", "v1");
        foreign.manifest.node = other;
        check_refused(&foreign.bytes(), None, &[], "wrong_node");
        let unsigned = ManifestBuilder::new(1).service("web", "v1").signed_by(&stranger);
        check_refused(&unsigned, None, &[], "bad_signature");
    }

    #[test]
    fn every_flipped_bit_of_a_manifest_is_refused_or_changes_nothing() {
        let bytes = ManifestBuilder::new(1).service("web", "v1").bytes();
        let seen = seen_of(&bytes);
        for place in (0..bytes.len()).step_by(7) {
            let mut flipped = bytes.clone();
            flipped[place] ^= 0x04;
            let received = inbox().receive(&flipped, Known::NOTHING);
            if let Received::New { accepted, .. } = received {
                // A hint, or a field of the outer envelope that proves nothing: the signed bytes are the same.
                assert_eq!(accepted.seen(), seen, "byte {place}");
            }
        }
    }

    #[test]
    fn older_replayed_and_equivocating_manifests_are_refused() {
        let second = ManifestBuilder::new(2).service("web", "v2").bytes();
        let seen = seen_of(&second);
        let first = ManifestBuilder::new(1).service("web", "v1").bytes();
        check_refused(&first, Some(&seen), &[], "stale_generation");
        let other = ManifestBuilder::new(2).service("web", "v3").bytes();
        check_refused(&other, Some(&seen), &[], "equivocation");
        let jump = ManifestBuilder::new(3 + (1 << 20)).service("web", "v1").bytes();
        check_refused(&jump, Some(&seen), &[], "generation_jump");
    }

    #[test]
    fn a_service_that_runs_cannot_be_dropped_by_omission() {
        let bytes = ManifestBuilder::new(1).service("web", "v1").bytes();
        check_refused(&bytes, None, &["web", "db"], "unnamed_removal");
    }

    #[test]
    fn a_release_below_the_floor_is_refused_although_release_and_manifest_are_signed() {
        let bytes = ManifestBuilder::new(1).service("web", "v1").bytes();
        let floors: Floors = [("web".parse().unwrap(), 2)].into();
        check_refused_knowing(
            &bytes,
            Known { floors: &floors, ..Known::NOTHING },
            "retired_release",
        );
        let itself = ManifestBuilder::new(1).service("web", "v1").retired("web", 2);
        check_refused(&itself.bytes(), None, &[], "retired_release");
        let mut forged = ManifestBuilder::new(1).service("web", "v1").retired("web", 1);
        forged.manifest.retirements = vec![testing::retirement("web", 1, &testing::director_key())];
        check_refused(&forged.bytes(), None, &[], "bad_signature");
    }

    fn chain(seeds: &[(u64, u8)], signed_by: &SecretKey) -> Vec<u8> {
        let root = |(version, director): &(u64, u8)| {
            let envelope = Envelope::sign(&testing::root_with(*version, *director), &[signed_by]);
            serde_json::to_value(envelope).unwrap()
        };
        let roots: Vec<_> = seeds.iter().map(root).collect();
        serde_json::to_vec(&serde_json::json!({ "roots": roots })).unwrap()
    }

    #[test]
    fn roots_lead_to_the_newest_and_never_back() {
        let mut inbox = inbox();
        let newest = chain(&[(2, 21), (3, 22)], &testing::root_key());
        let received = inbox.receive_roots(&newest);
        assert_eq!(received.proofs, Chain::from_bytes(&newest).unwrap().roots, "each is kept");
        let root = received.newest.unwrap();
        assert_eq!(*root, testing::root_with(3, 22));
        inbox.set_trust((*root).into());
        for known in [newest, chain(&[(2, 21)], &testing::root_key())] {
            let again = inbox.receive_roots(&known);
            assert!(again.newest.is_none() && again.refused.is_none(), "{again:?}");
        }
        let stranger = chain(&[(4, 23)], &SecretKey::from_seed([9; 32]));
        let refused = inbox.receive_roots(&stranger);
        assert!(refused.newest.is_none());
        assert_eq!(refused.refused.unwrap().code, "root_signature");
        assert_eq!(inbox.receive_roots(b"?").refused.unwrap().code, "bad_envelope");
        assert_eq!(inbox.refused().len(), 2, "each is counted");
    }

    #[test]
    fn a_manifest_that_came_before_its_root_is_taken_up_again() {
        let mut inbox = inbox();
        let new_director = SecretKey::from_seed([21; 32]);
        let early = ManifestBuilder::new(1).service("web", "v1").signed_by(&new_director);
        let received = inbox.receive(&early, Known::NOTHING);
        assert!(matches!(received, Received::Refused(_)));
        let again = inbox.set_trust(testing::root_with(2, 21).into());
        assert_eq!(again.as_ref(), Some(&early));
        let received = inbox.receive(&again.unwrap(), Known::NOTHING);
        assert!(matches!(received, Received::New { .. }));
        let old = ManifestBuilder::new(2).service("web", "v1").bytes();
        let Received::Refused(refusal) = inbox.receive(&old, Known::NOTHING) else {
            panic!("the old director has no say any more");
        };
        assert_eq!(refusal.code, "bad_signature");
    }
}
