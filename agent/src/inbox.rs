//! The inbox: bytes from the broker become an accepted manifest, or a counted refusal. Nothing else happens here: no
//! engine, no disk, no effect before `protocol::acceptance` has said yes.

use std::collections::{BTreeMap, BTreeSet};

use protocol::acceptance::{self, Acceptance, Accepted, NodeIdentity, Seen};
use protocol::envelope::{Envelope, Rejected};
use protocol::id::ServiceName;
use protocol::keys::Root;
use tracing::{debug, warn};

/// Accepts and refuses manifests; counts refusals by code.
#[derive(Debug)]
pub struct Inbox {
    root: Root,
    node: NodeIdentity,
    refused: BTreeMap<String, u64>,
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
    Refused {
        /// The stable code.
        code: &'static str,
        /// One sentence for a person.
        message: String,
        /// Refusals with this code since the agent's start, this one included.
        count: u64,
    },
}

impl Inbox {
    /// An empty inbox of a node.
    #[must_use]
    pub fn new(root: Root, node: NodeIdentity) -> Self {
        Self { root, node, refused: BTreeMap::new() }
    }

    /// Takes one message. `running` are the services that run here: none may disappear unnamed.
    pub fn receive(
        &mut self,
        bytes: &[u8],
        seen: Option<&Seen>,
        running: &BTreeSet<ServiceName>,
    ) -> Received {
        let accepted = acceptance::accept(bytes, &self.root, &self.node, seen, running)
            .and_then(|acceptance| Ok((acceptance, Envelope::from_bytes(bytes)?)));
        match accepted {
            Ok((Acceptance::New(accepted), envelope)) => Received::New { accepted, envelope },
            Ok((Acceptance::Same, _)) => Received::Same,
            Err(reason) => self.refuse(&reason),
        }
    }

    /// Refusals since the agent's start, by code.
    #[must_use]
    pub fn refused(&self) -> &BTreeMap<String, u64> {
        &self.refused
    }

    fn refuse(&mut self, reason: &Rejected) -> Received {
        let code = reason.code();
        let count = self.refused.entry(code.to_owned()).or_default();
        *count += 1;
        if *count == 1 {
            warn!(code, %reason, "manifest refused");
        } else {
            debug!(code, count, "manifest refused again");
        }
        Received::Refused { code, message: reason.to_string(), count: *count }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{self, ManifestBuilder};
    use protocol::keys::SecretKey;

    fn inbox() -> Inbox {
        Inbox::new(testing::root(), testing::identity())
    }

    #[track_caller]
    fn check_refused(bytes: &[u8], seen: Option<&Seen>, running: &[&str], expected: &str) {
        let mut inbox = inbox();
        let running = running.iter().map(|name| name.parse().unwrap()).collect();
        for round in 1..=2 {
            let Received::Refused { code, count, .. } = inbox.receive(bytes, seen, &running) else {
                panic!("{expected}: not refused");
            };
            assert_eq!((code, count), (expected, round));
        }
        assert_eq!(inbox.refused(), &BTreeMap::from([(expected.to_owned(), 2)]));
    }

    fn seen_of(bytes: &[u8]) -> Seen {
        let Received::New { accepted, .. } = inbox().receive(bytes, None, &BTreeSet::new()) else {
            panic!("not accepted");
        };
        accepted.seen()
    }

    #[test]
    fn a_good_manifest_is_taken_once() {
        let bytes = ManifestBuilder::new(1).service("web", "v1").bytes();
        let seen = seen_of(&bytes);
        assert!(matches!(inbox().receive(&bytes, Some(&seen), &BTreeSet::new()), Received::Same));
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
            let received = inbox().receive(&flipped, None, &BTreeSet::new());
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
}
