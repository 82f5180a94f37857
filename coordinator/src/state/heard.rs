//! What nodes say: verified here, under the key that each node is known by.

use planner::fleet::{FleetEvent, NodeReport};
use protocol::acceptance::{verify_hello, verify_node_message};
use protocol::envelope::Rejected;
use protocol::hello::{Event, Hello, Load, Presence};
use protocol::id::{EnvironmentName, NodeId, NodeName, ServiceId, ServiceName};
use protocol::keys::PublicKey;
use protocol::reason::Reason;
use protocol::report::{Report, ServiceReport};
use protocol::topic::Up;

use super::conflict::Accord;
use super::manifests::is_gone;
use super::notices::NoticeKind;
use super::records::{Happened, Intent, NodeRecord};
use super::replacing::Place;
use super::{At, Node, State};

/// A message larger than this is not read: load and events are small, the rest is an envelope.
const MAX_UNSIGNED_BYTES: usize = protocol::load::MAX_LOAD_BYTES;
/// An event of the node about a refusal arrives this long before the report that counts it, at most.
const REFUSAL_TOLD_MS: u64 = 10_000;
/// Characters kept of a sentence that a node says.
const MAX_MESSAGE_CHARS: usize = 500;
/// Boards of one fleet; a stranger on an open broker must not fill the database with keys.
pub const MAX_NODES: usize = 4096;

/// Why a message of a node was not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotTaken {
    /// Its envelope.
    #[error(transparent)]
    Rejected(#[from] Rejected),
    /// Said by one node on another's topic.
    #[error("said on the topic of another node")]
    ForeignTopic,
    /// It was not let in, or is revoked.
    #[error("a node that is not admitted")]
    NotAdmitted,
    /// Nothing is known of it before its hello.
    #[error("a node that has not said hello")]
    UnknownNode,
    /// The fleet is full.
    #[error("the fleet has {MAX_NODES} nodes already")]
    TooManyNodes,
    /// Not what the topic carries.
    #[error("not readable: {0}")]
    Unreadable(String),
    /// An answer to nothing that was asked of this node.
    #[error("a stream that nobody waits for")]
    UnknownStream,
    /// Older than one that was taken.
    #[error("older than what was taken before")]
    Old,
}

impl State {
    /// Takes a message from a node's topic.
    ///
    /// # Errors
    /// Says why it was not taken; nothing has changed then.
    pub fn heard(&mut self, node: &NodeId, up: Up, bytes: &[u8], at: At) -> Result<(), NotTaken> {
        if !self.is_admitted(node) {
            self.ignored += 1;
            return Err(NotTaken::NotAdmitted);
        }
        match up {
            Up::Hello => self.heard_hello(node, bytes, at),
            Up::Report => self.heard_report(node, bytes, at),
            Up::Load => self.heard_load(node, bytes, at),
            Up::Event => self.heard_event(node, bytes, at),
            Up::Presence => self.heard_presence(node, bytes, at),
            Up::Stream => self.heard_stream(node, bytes, at),
        }
    }

    fn heard_hello(&mut self, topic: &NodeId, bytes: &[u8], at: At) -> Result<(), NotTaken> {
        let (hello, key) = verify_hello(bytes, &self.director.fleet)?;
        if hello.node != *topic {
            return Err(NotTaken::ForeignTopic);
        }
        let hello = self.as_fixed(hello.into_inner());
        let (seen, sha256) = (hello.seen, hello.seen_sha256.clone());
        let nonce = hello.nonce.clone();
        if hello.root_version.unwrap_or(1) < self.director.root.version {
            self.effects.publish_roots.insert(topic.clone());
        }
        let is_new = !self.nodes.contains_key(topic);
        if is_new && self.nodes.len() >= MAX_NODES {
            return Err(NotTaken::TooManyNodes);
        }
        self.note_boot(&hello, at);
        self.watch_clones(&hello, at);
        self.leave_environment(&hello);
        let place = self.take_name_of_revoked(&hello);
        let record = self.record_of(hello, key, at);
        let name = record.name.clone();
        self.are_peers_stale = true;
        match self.nodes.get_mut(topic) {
            Some(node) => (node.record, node.is_greeted) = (record, true),
            None => {
                let (intent, load, watched, heard_at) = (Intent::default(), None, None, at.now);
                let accord = Accord::default();
                let (kept, hello, is_greeted) = (None, None, true);
                let node = Node {
                    record,
                    kept,
                    intent,
                    load,
                    watched,
                    heard_at,
                    accord,
                    hello,
                    is_greeted,
                };
                self.nodes.insert(topic.clone(), node);
            }
        }
        if is_new {
            tracing::info!(node = %name, id = %topic.short(), "node joined");
            self.note_node(topic, "joined".to_owned(), at);
        }
        self.keep_node(topic);
        if is_new {
            self.bring_back(topic, at);
        }
        self.heard_of(topic, at);
        self.heed(topic, seen, sha256, at);
        self.remind_of_addresses(topic);
        if let Some(place) = place {
            self.take_place(topic, place, at);
        }
        self.remind_of_agent(topic);
        if self.is_agreed(topic) {
            self.place_on_newcomer(topic);
        }
        self.asks_time(topic, &nonce);
        self.hello_was_heard(topic, &nonce, at);
        Ok(())
    }

    /// The record of a node as its hello describes it; what only reports say is kept.
    fn record_of(&self, hello: Hello, key: PublicKey, at: At) -> NodeRecord {
        let known = self.nodes.get(&hello.node).map(|node| &node.record);
        let kept_name = known.filter(|known| known.claimed_name == hello.name);
        let name = kept_name
            .map_or_else(|| self.free_name(&hello.name, &hello.node), |known| known.name.clone());
        NodeRecord {
            key,
            name,
            claimed_name: hello.name,
            environment: hello.environment,
            labels: hello.labels,
            address: hello.address,
            fleet_port: hello.fleet_port,
            seal_key: hello.seal_key,
            policy: hello.policy,
            agent_version: hello.agent_version,
            formats: hello.formats,
            capacity: hello.capacity,
            boot_id: hello.boot_id,
            root_version: hello.root_version,
            seen: hello.seen,
            online: known.is_some_and(|known| known.online),
            heard_ms: at.unix_ms,
            report: known.and_then(|known| known.report.clone()),
            learned: hello.learned,
            metered: hello.metered,
            id: hello.node,
        }
    }

    /// Names are unique: the second board that claims one becomes `name-2`.
    fn free_name(&self, claimed: &NodeName, id: &NodeId) -> NodeName {
        let taken = |name: &NodeName| {
            self.nodes.values().any(|n| n.record.name == *name && n.record.id != *id)
        };
        let numbered = |n: u32| -> Option<NodeName> { format!("{claimed}-{n}").parse().ok() };
        let others = (2..).take(self.nodes.len() + 1).filter_map(numbered);
        std::iter::once(claimed.clone())
            .chain(others)
            .find(|name| !taken(name))
            .unwrap_or_else(|| claimed.clone())
    }

    /// What its token fixed stands above what a node says of itself.
    fn as_fixed(&self, mut hello: Hello) -> Hello {
        let Some(fixed) = self.fixed_for(&hello.node) else { return hello };
        if let Some(environment) = fixed.environment.clone() {
            hello.environment = environment;
        }
        if let Some(name) = fixed.fixed_name.clone() {
            hello.name = name;
        }
        hello.labels.extend(fixed.labels.clone());
        hello
    }

    /// A board that replaces one whose identity was revoked has its name, and with it its place.
    fn take_name_of_revoked(&mut self, hello: &Hello) -> Option<Place> {
        let holder = self.id_of(&hello.name).filter(|holder| *holder != hello.node)?;
        if self.is_admitted(&holder) { None } else { self.vacate(&holder) }
    }

    /// The same node under another boot.
    fn note_boot(&mut self, hello: &Hello, at: At) {
        let Some(node) = self.nodes.get(&hello.node) else { return };
        let changed = node.record.boot_id != hello.boot_id;
        if changed && !node.record.boot_id.is_empty() {
            self.note_node(&hello.node, "started anew (another boot)".to_owned(), at);
        }
    }

    /// What a node ran in another environment than it says now is not its any more.
    fn leave_environment(&mut self, hello: &Hello) {
        let Some(node) = self.nodes.get(&hello.node) else { return };
        if node.record.environment == hello.environment {
            return;
        }
        let services: Vec<ServiceName> = node.intent.assigned.keys().cloned().collect();
        for service in services {
            self.take_off(&hello.node, &service);
        }
    }

    fn heard_report(&mut self, topic: &NodeId, bytes: &[u8], at: At) -> Result<(), NotTaken> {
        let node = self.nodes.get(topic).ok_or(NotTaken::UnknownNode)?;
        let fleet = &self.director.fleet;
        let report = verify_node_message::<Report>(bytes, fleet, &node.record.key)?.into_inner();
        let age = |r: &Report| (r.agent_started_ms, r.sequence);
        // A board's clock may go back, and its agent start anew: a hello is of the process that speaks now.
        let is_old = node.record.report.as_ref().is_some_and(|known| age(known) > age(&report));
        if is_old && !node.is_greeted {
            return Err(NotTaken::Old);
        }
        let seen = report.seen;
        let name = node.record.name.clone();
        let environment = node.record.environment.clone();
        let services = report.services.clone();
        let refused = newly_refused(node.record.report.as_ref(), &report);
        let (before, said) = (node.record.report.clone(), report.clone());
        if let Some(node) = self.nodes.get_mut(topic) {
            (node.record.report, node.is_greeted) = (Some(report), false);
            // What it called is known to it until it has moved.
            self.are_peers_stale |= !node.intent.peers.is_empty();
        }
        if !refused.is_empty() {
            // What it refused may be what the broker keeps for it.
            self.effects.publish_roots.insert(topic.clone());
            self.effects.publish.insert(topic.clone());
        }
        self.note_alarms((&name, &environment), before.as_ref(), &said, at);
        let update =
            |report: Option<&Report>| report.and_then(|report| report.agent_update.clone());
        let (was, is) = (update(before.as_ref()), update(Some(&said)));
        self.note_agent_update(topic, was.as_ref(), is.as_ref(), at);
        for code in refused {
            self.note_refusal(&name, &environment, &code, at);
        }
        self.keep_node(topic);
        self.heard_of(topic, at);
        self.heed(topic, seen, None, at);
        if !self.is_agreed(topic) {
            // What it runs was decided elsewhere: its revisions are none of ours, whatever their numbers.
            return Ok(());
        }
        for of_it in &services {
            let id = ServiceId { environment: environment.clone(), name: of_it.service.clone() };
            self.tell_report(&id, &name, of_it, at);
        }
        self.tell_gone(topic, &name, &services, at);
        Ok(())
    }

    /// Whoever publishes forgeries in our name has our session at that moment, and the node's own event about them is
    /// lost; the report is retained and signed, so that none of them stays unnoticed.
    fn note_refusal(&mut self, node: &NodeName, of: &EnvironmentName, code: &str, at: At) {
        let of_time = code.strip_prefix("time_");
        let of_addresses = code.strip_prefix("addresses_");
        let (what, reason) = match of_time {
            None if code.starts_with("command_") => ("command", Reason::CommandRefused),
            Some(_) => ("time", Reason::TimeRefused),
            None if of_addresses.is_some() => {
                ("address of the coordinator", Reason::AddressesRefused)
            }
            None if code.starts_with("agent_release_") => {
                ("release of the agent", Reason::AgentReleaseRefused)
            }
            None if Rejected::ROOT_CODES.contains(&code) => ("trust root", Reason::RootRefused),
            None => ("manifest", Reason::ManifestRefused),
        };
        let code_of = of_time.or(of_addresses).or_else(|| code.strip_prefix("command_"));
        let code = code_of.or_else(|| code.strip_prefix("agent_release_")).unwrap_or(code);
        let refused = format!("refused: {}", printable(code));
        let message = format!("{what} {refused}");
        // The node knows which of them it was.
        let is_told = |event: &&Happened| {
            event.node.as_ref() == Some(node)
                && matches!(
                    event.reason,
                    Some(
                        Reason::ManifestRefused
                            | Reason::RootRefused
                            | Reason::TimeRefused
                            | Reason::AddressesRefused
                            | Reason::CommandRefused
                            | Reason::AgentReleaseRefused
                    )
                )
                && event.message.contains(&refused)
        };
        let is_fresh = |event: &&Happened| at.unix_ms.saturating_sub(event.at_ms) < REFUSAL_TOLD_MS;
        if self.events.iter().rev().take_while(is_fresh).any(|event| is_told(&event)) {
            return;
        }
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

    /// A node that had to drop a service in a rollback confirms by saying nothing of it any more.
    fn tell_gone(&mut self, id: &NodeId, name: &NodeName, said: &[ServiceReport], at: At) {
        let Some(node) = self.nodes.get(id) else { return };
        let gone: Vec<ServiceId> = node
            .intent
            .removed
            .iter()
            .filter(|(service, _)| said.iter().all(|of_it| of_it.service != **service))
            .filter(|(service, since)| {
                is_gone(&node.record, service, node.intent.of_epoch(**since))
            })
            .map(|(service, _)| ServiceId {
                environment: node.record.environment.clone(),
                name: service.clone(),
            })
            .collect();
        for service in gone {
            let from =
                self.services.get(&service).and_then(|s| s.rollout.as_ref()?.order().from_revision);
            let Some(revision) = from else { continue };
            let report = NodeReport {
                revision,
                phase: protocol::report::Phase::Running,
                reason: None,
                message: None,
                candidate: None,
                hook: None,
                is_held: false,
            };
            let event = FleetEvent::Report { node: name.clone(), report };
            self.tell_rollout(&service, event, at);
        }
    }

    fn heard_load(&mut self, topic: &NodeId, bytes: &[u8], at: At) -> Result<(), NotTaken> {
        let load: Load = read(bytes)?;
        let node = self.nodes.get_mut(topic).ok_or(NotTaken::UnknownNode)?;
        let seen = load.seen;
        let (name, environment) = (node.record.name.clone(), node.record.environment.clone());
        let traffic = load.traffic.clone();
        node.load = Some(load);
        self.effects.visible = true;
        self.heard_of(topic, at);
        self.glance(topic, seen);
        if self.is_agreed(topic) {
            self.tell_traffic(&name, &environment, &traffic, at);
        }
        Ok(())
    }

    fn heard_event(&mut self, topic: &NodeId, bytes: &[u8], at: At) -> Result<(), NotTaken> {
        let event: Event = read(bytes)?;
        let node = self.nodes.get(topic).ok_or(NotTaken::UnknownNode)?;
        let happened = Happened {
            id: 0,
            at_ms: at.unix_ms,
            environment: Some(node.record.environment.clone()),
            service: event.service,
            node: Some(node.record.name.clone()),
            reason: event.reason,
            message: printable(&event.message),
        };
        self.note(happened);
        self.heard_of(topic, at);
        Ok(())
    }

    fn heard_presence(&mut self, topic: &NodeId, bytes: &[u8], at: At) -> Result<(), NotTaken> {
        let presence: Presence = read(bytes)?;
        if !self.nodes.contains_key(topic) {
            return Err(NotTaken::UnknownNode);
        }
        if presence.online {
            self.heard_of(topic, at);
        } else {
            self.lose(topic, "its connection ended", at);
        }
        Ok(())
    }

    /// Whatever a node says, it is there.
    fn heard_of(&mut self, id: &NodeId, at: At) {
        let Some(node) = self.nodes.get_mut(id) else { return };
        node.heard_at = at.now;
        node.record.heard_ms = at.unix_ms;
        if node.record.online {
            return;
        }
        node.record.online = true;
        let name = node.record.name.clone();
        self.keep_node(id);
        self.note_node(id, "online".to_owned(), at);
        self.notice_node(id, NoticeKind::NodeBack, (None, "it is heard of again"), at);
        self.tell_rollouts(&FleetEvent::Online(name), at);
    }

    /// A node is gone that nobody sent away.
    pub(super) fn lose(&mut self, id: &NodeId, why: &str, at: At) {
        if self.nodes.get(id).is_some_and(|node| node.record.online) {
            self.notice_node(id, NoticeKind::NodeLost, (Some(Reason::NodeOffline), why), at);
        }
        self.set_offline(id, why, at);
    }

    pub(super) fn set_offline(&mut self, id: &NodeId, why: &str, at: At) {
        let Some(node) = self.nodes.get_mut(id) else { return };
        if !node.record.online {
            return;
        }
        node.record.online = false;
        let name = node.record.name.clone();
        tracing::warn!(node = %name, why, "node offline");
        self.keep_node(id);
        self.note_node(id, format!("offline: {why}"), at);
        self.tell_rollouts(&FleetEvent::Offline(name), at);
    }
}

/// Codes that a report counts for the first time since its agent's start.
fn newly_refused(known: Option<&Report>, report: &Report) -> Vec<String> {
    let known = known.filter(|known| known.agent_started_ms == report.agent_started_ms);
    let is_new = |code: &&String| known.is_none_or(|known| !known.refused.contains_key(*code));
    report.refused.keys().filter(is_new).cloned().collect()
}

fn read<T: serde::de::DeserializeOwned>(bytes: &[u8]) -> Result<T, NotTaken> {
    if bytes.len() > MAX_UNSIGNED_BYTES {
        return Err(NotTaken::Unreadable(format!("{} bytes", bytes.len())));
    }
    serde_json::from_slice(bytes).map_err(|e| NotTaken::Unreadable(e.to_string()))
}

/// Text from outside, safe on a terminal.
pub(super) fn printable(text: &str) -> String {
    let safe = |c: char| if c.is_control() { ' ' } else { c };
    text.chars().take(MAX_MESSAGE_CHARS).map(safe).collect()
}
