//! The coordinator is set back to an older copy of what it kept, and nodes say what they have seen since.

use std::collections::BTreeSet;

use protocol::envelope::Envelope;
use protocol::hello::Hello;
use protocol::id::NodeId;
use protocol::manifest::Version;
use protocol::report::{Phase, Report};
use protocol::topic::Up;

use super::super::super::records::Change;
use super::super::super::requests::Deploy;
use super::super::super::{Effects, State};
use super::{World, director};

impl World {
    /// A copy of the database.
    pub(in super::super) fn copy(&self) -> Vec<Change> {
        self.kept.clone()
    }

    /// The coordinator starts from that copy; nobody has spoken yet.
    pub(in super::super) fn put_back(&mut self, copy: &[Change]) -> BTreeSet<NodeId> {
        self.kept = copy.to_vec();
        let dir = tempfile::tempdir().unwrap();
        let kept = crate::store::write_and_read(&dir.path().join("state.db"), copy).unwrap();
        self.state = State::restore(director(), kept, self.at);
        self.settle()
    }

    /// A hello that says what the node has seen.
    pub(in super::super) fn says_seen(
        &mut self,
        handle: &str,
        seen: Version,
        sha256: Option<&str>,
        root: u64,
    ) -> BTreeSet<NodeId> {
        let seen_sha256 = sha256.map(str::to_owned);
        let hello = Hello { seen, seen_sha256, root_version: Some(root), ..self.hello(handle) };
        let bytes = Envelope::sign(&hello, &[&self.keys[handle]]).to_bytes();
        self.hears(handle, Up::Hello, &bytes)
    }

    /// A hello that says that it has seen this generation.
    pub(in super::super) fn greeting(&self, handle: &str, generation: u64) -> Vec<u8> {
        let seen = Version { epoch: 1, generation };
        let hello = Hello { seen, ..self.hello(handle) };
        Envelope::sign(&hello, &[&self.keys[handle]]).to_bytes()
    }

    fn hello(&self, handle: &str) -> Hello {
        let envelope = Envelope::from_bytes(&self.hello_bytes(handle)).unwrap();
        let own = protocol::keys::Role::single(self.keys[handle].public());
        envelope.open::<Hello>().unwrap().verify(&own).unwrap().into_inner()
    }

    /// What a node would report that runs what it is told.
    pub(in super::super) fn report_of(&mut self, handle: &str) -> Report {
        self.report(handle, Phase::Running)
    }

    /// Signed by the node.
    pub(in super::super) fn signed_by(&self, handle: &str, report: &Report) -> Vec<u8> {
        Envelope::sign(report, &[&self.keys[handle]]).to_bytes()
    }

    /// A deploy of a service that runs once on each node.
    pub(in super::super) fn request(&mut self, service: &str, version: &str) -> Deploy {
        Deploy {
            environment: "default".parse().unwrap(),
            release: self.sign(service, version),
            file: String::new(),
            cause: None,
            by: "test".to_owned(),
            if_revision: None,
        }
    }

    /// A message that was made before.
    pub(in super::super) fn hears(
        &mut self,
        handle: &str,
        up: Up,
        bytes: &[u8],
    ) -> BTreeSet<NodeId> {
        self.hear(handle, up, bytes)
    }

    /// The effects as the loop takes them.
    pub(in super::super) fn effects(&mut self) -> Effects {
        let effects = self.state.take_effects(self.at);
        self.kept.extend(effects.changes.iter().cloned());
        effects
    }
}
