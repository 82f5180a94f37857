//! The signed time that each hello asks for, and what nodes say where they miss something: a manifest that is kept from
//! them, or the answers themselves.

use std::time::Duration;

use protocol::FORMAT;
use protocol::envelope::Envelope;
use protocol::id::{EnvironmentName, NodeId, NodeName};
use protocol::manifest::Manifest;
use protocol::reason::Reason;
use protocol::report::{Detail, Report};
use protocol::time::{Newest, Time, is_nonce};

use super::heard::printable;
use super::notices::NoticeKind;
use super::records::Happened;
use super::{At, Node, State};

impl State {
    /// A node asks; the answer goes out with the next effects, after the manifest that it names.
    pub(super) fn asks_time(&mut self, node: &NodeId, nonce: &str) {
        if is_nonce(nonce) {
            self.asked.insert(node.clone(), nonce.to_owned());
        }
    }

    /// Signs what was asked for; called once manifests are signed.
    pub(super) fn answer_times(&mut self, at: At) {
        for (id, nonce) in std::mem::take(&mut self.asked) {
            let Some(newest) = self.nodes.get(&id).map(|node| self.newest_of(&id, node)) else {
                continue;
            };
            let time = Time {
                format: FORMAT,
                fleet: self.director.fleet.clone(),
                node: id.clone(),
                nonce,
                unix_s: Duration::from_millis(at.unix_ms).as_secs(),
                newest,
            };
            let bytes = Envelope::sign(&time, &[&self.director.key]).to_bytes();
            self.effects.times.push((id, bytes));
        }
    }

    /// None to a node that is not agreed with: what it should have is not known here.
    fn newest_of(&self, id: &NodeId, node: &Node) -> Option<Newest> {
        if !self.is_agreed(id) {
            return None;
        }
        let envelope = Envelope::from_bytes(&node.intent.manifest).ok()?;
        let manifest = envelope.verify::<Manifest>(&self.director.root).ok()?;
        let payload_sha256 = protocol::id::sha256_hex(manifest.payload());
        Some(Newest { version: manifest.version, payload_sha256 })
    }

    /// Which alarms began or ended with a report: it is signed, and an event of the node would not be.
    pub(super) fn note_alarms(
        &mut self,
        (node, of): (&NodeName, &EnvironmentName),
        before: Option<&Report>,
        report: &Report,
        at: At,
    ) {
        let none = Vec::new();
        let (before, after) = (before.map_or(&none, |report| &report.alarms), &report.alarms);
        let stands = |alarms: &[Detail], reason| alarms.iter().any(|alarm| alarm.reason == reason);
        let begun = after.iter().filter(|alarm| !stands(before, alarm.reason));
        let begun: Vec<(Reason, String)> =
            begun.map(|alarm| (alarm.reason, printable(&alarm.message))).collect();
        if let Some(id) = self.id_of(node) {
            for (reason, message) in &begun {
                self.notice_node(&id, NoticeKind::NodeAlarm, (Some(*reason), message), at);
            }
        }
        let over = before.iter().filter(|alarm| !stands(after, alarm.reason));
        let over = over.map(|alarm| (alarm.reason, over_text(alarm.reason).to_owned()));
        let told: Vec<(Reason, String)> = begun.into_iter().chain(over).collect();
        for (reason, message) in told {
            tracing::warn!(node = %node, %reason, message, "a node's alarm began or ended");
            self.note(Happened {
                id: 0,
                at_ms: at.unix_ms,
                environment: Some(of.clone()),
                service: None,
                node: Some(node.clone()),
                reason: Some(reason),
                message,
            });
        }
    }
}

fn over_text(reason: Reason) -> &'static str {
    if reason == Reason::NoTime {
        "over: signed times come again"
    } else {
        "over: the manifest has come"
    }
}

impl Node {
    /// What is wrong with the node as a whole, as it says.
    pub(super) fn alarms(&self) -> Vec<Detail> {
        let alarms = self.record.report.iter().flat_map(|report| &report.alarms);
        let safe = |alarm: &Detail| Detail { message: printable(&alarm.message), ..alarm.clone() };
        alarms.map(safe).collect()
    }
}
