//! Commands to single nodes: signed here against the newest hello that was heard of the node, and their answers, verified
//! under the node's key.
//!
//! ```text
//! command -> signed for (node, nonce of its hello, seconds since it was heard + 30) -> down/command
//! up/stream -> of this node and of a command that was sent? -> whoever waits for it
//!           -> refused as stale, for the first time: the node says hello, and it is signed once more
//! ```
//! A hello is heard after it was said, so that a command is never good for longer than it should be, however late its hello came.

use planner::Now;
use protocol::FORMAT;
use protocol::acceptance::verify_node_message;
use protocol::command::{Act, Command, End, LIFE_S, Part, Refused as OnNode, What};
use protocol::envelope::Envelope;
use protocol::id::{CommandId, NodeId, NodeName, ServiceId};

use super::heard::NotTaken;
use super::{At, Refused, State, natural};

/// Streams of the whole fleet at once.
const MAX_STREAMS: usize = 256;

/// A command whose stream is not over.
#[derive(Debug, Clone)]
pub(super) struct Sent {
    node: NodeId,
    act: Act,
    /// Of the hello that it was signed against last.
    nonce: String,
    again: Again,
}

/// Whether a command that came too late is signed once more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Again {
    /// It may be.
    Possible,
    /// With the next hello.
    AtHello,
    /// It was.
    Done,
}

/// A node that may be asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Its id.
    pub id: NodeId,
    /// Its name.
    pub name: NodeName,
    /// Whether it is heard of.
    pub online: bool,
}

impl State {
    /// The nodes that have or should have something of a service, or the one that is named.
    ///
    /// # Errors
    /// Where there is no such service, or no such node.
    pub fn whom_to_ask(
        &self,
        service: &ServiceId,
        named: Option<&NodeName>,
    ) -> Result<Vec<Target>, Refused> {
        if !self.services.contains_key(service) {
            return Err(Refused::NoService(service.clone()));
        }
        let of_it = self.nodes.values().filter(|node| {
            let record = &node.record;
            record.environment == service.environment
                && self.is_admitted(&record.id)
                && match named {
                    Some(name) => record.name == *name,
                    None => node.show_service(service).is_some(),
                }
        });
        let target = |node: &super::Node| Target {
            id: node.record.id.clone(),
            name: node.record.name.clone(),
            online: node.record.online,
        };
        let mut targets: Vec<Target> = of_it.map(target).collect();
        targets.sort_by_key(|target| natural(target.name.as_str()));
        match named {
            Some(name) if targets.is_empty() => Err(Refused::NoNode(name.to_string())),
            Some(_) | None => Ok(targets),
        }
    }

    /// One node, by its name or id.
    ///
    /// # Errors
    /// Where there is none that was let in and has said hello.
    pub fn whom_to_examine(&self, who: &str) -> Result<Target, Refused> {
        let is_it = |node: &&super::Node| {
            let record = &node.record;
            let is_named = record.name.as_str() == who || record.id.as_str() == who;
            is_named && self.is_admitted(&record.id)
        };
        let node = self.nodes.values().find(is_it);
        let node = node.ok_or_else(|| Refused::NoNode(who.to_owned()))?;
        let (id, name) = (node.record.id.clone(), node.record.name.clone());
        Ok(Target { id, name, online: node.record.online })
    }

    /// Whether a node is heard of, and which process of its agent speaks: one that started anew knows no stream of the one before.
    #[must_use]
    pub fn who_speaks(&self, id: &NodeId) -> (bool, Option<u64>) {
        let Some(node) = self.nodes.get(id) else { return (false, None) };
        let report = node.record.report.as_ref();
        (node.record.online, report.map(|report| report.agent_started_ms))
    }

    /// Signs a command that a stream answers; false: there are too many streams already.
    pub fn command(&mut self, node: &NodeId, id: &CommandId, act: Act, at: At) -> bool {
        if self.commands.len() >= MAX_STREAMS {
            return false;
        }
        let nonce = self.sign_command(node, id, act.clone(), at);
        let sent = Sent { node: node.clone(), act, nonce, again: Again::Possible };
        self.commands.insert(id.clone(), sent);
        true
    }

    /// Signs a command that nothing answers.
    pub(super) fn say_once(&mut self, node: &NodeId, id: &CommandId, act: Act, at: At) {
        let _ = self.sign_command(node, id, act, at);
    }

    /// Tells the node of a stream that is not over something about it: how much was taken, or what was typed.
    pub fn feed_stream(&mut self, stream: &CommandId, act: Act, id: &CommandId, at: At) {
        if let Some(node) = self.commands.get(stream).map(|sent| sent.node.clone()) {
            let _ = self.sign_command(&node, id, act, at);
        }
    }

    /// Nobody listens to a stream any more.
    pub fn end_stream(&mut self, stream: &CommandId, id: &CommandId, at: At) {
        if let Some(sent) = self.commands.remove(stream) {
            let _ = self.sign_command(&sent.node, id, Act::End { stream: stream.clone() }, at);
        }
    }

    /// A hello was heard: what came too late is said once more.
    pub(super) fn hello_was_heard(&mut self, id: &NodeId, nonce: &str, at: At) {
        let Some(node) = self.nodes.get_mut(id) else { return };
        // One that is played again is as old as it was.
        if node.hello.as_ref().is_none_or(|(known, _)| known != nonce) {
            node.hello = Some((nonce.to_owned(), at.now));
            // An agent that starts anew does not know who looks.
            node.watched = None;
        }
        let is_due = |sent: &Sent| sent.node == *id && sent.again == Again::AtHello;
        let due: Vec<CommandId> =
            self.commands.iter().filter(|(_, s)| is_due(s)).map(|(id, _)| id.clone()).collect();
        for command in due {
            self.sign_again(&command, at);
        }
    }

    pub(super) fn heard_stream(
        &mut self,
        topic: &NodeId,
        bytes: &[u8],
        at: At,
    ) -> Result<(), NotTaken> {
        let node = self.nodes.get(topic).ok_or(NotTaken::UnknownNode)?;
        let fleet = &self.director.fleet;
        let part = verify_node_message::<Part>(bytes, fleet, &node.record.key)?.into_inner();
        let newest = node.hello.as_ref().map(|(nonce, _)| nonce.clone());
        let id = part.stream.clone();
        let sent = self.commands.get_mut(&id).filter(|sent| sent.node == *topic);
        let sent = sent.ok_or(NotTaken::UnknownStream)?;
        match &part.what {
            What::End(End::Refused { code, .. })
                if OnNode::is_stale(code) && sent.again == Again::Possible =>
            {
                sent.again = Again::AtHello;
                if newest.is_some_and(|nonce| nonce != sent.nonce) {
                    self.sign_again(&id, at);
                }
                return Ok(());
            }
            What::End(_) => drop(self.commands.remove(&id)),
            What::Begun { .. } | What::Output(_) | What::Taken { .. } => {}
        }
        self.effects.parts.push(part);
        Ok(())
    }

    fn sign_again(&mut self, id: &CommandId, at: At) {
        let Some(sent) = self.commands.get(id).cloned() else { return };
        let nonce = self.sign_command(&sent.node, id, sent.act.clone(), at);
        self.commands.insert(id.clone(), Sent { nonce, again: Again::Done, ..sent });
    }

    /// Signs for the newest hello that was heard, and gives its nonce. Where none was, the node refuses, and says one.
    fn sign_command(&mut self, node: &NodeId, id: &CommandId, act: Act, at: At) -> String {
        let hello = self.nodes.get(node).and_then(|node| node.hello.clone());
        let (nonce, heard_at): (String, Now) = hello.unwrap_or((String::new(), at.now));
        let command = Command {
            format: FORMAT,
            fleet: self.director.fleet.clone(),
            node: node.clone(),
            nonce: nonce.clone(),
            valid_s: at.now.since(heard_at) / 1_000 + LIFE_S,
            id: id.clone(),
            act,
        };
        let bytes = Envelope::sign(&command, &[&self.director.key]).to_bytes();
        self.effects.commands.push((node.clone(), bytes));
        nonce
    }
}
