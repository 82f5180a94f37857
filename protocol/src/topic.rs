//! Every topic, with its quality of service and whether it is retained, in one table (DESIGN §6).

use std::fmt;

use crate::id::{FleetId, NodeId};

/// Coordinator to node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Down {
    /// The trust roots since version 2: see [`crate::succession::Chain`].
    Root,
    /// What the node must run.
    Manifest,
    /// The answer to the nonce of a hello: see [`crate::time::Time`].
    Time,
    /// Where the coordinator is reached: see [`crate::whereabouts::Whereabouts`].
    Addresses,
    /// What it is told to do once: see [`crate::command::Command`].
    Command,
    /// Which agent it is to run: see [`crate::agent_release::AgentRelease`].
    AgentRelease,
}

/// Node to coordinator.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Up {
    /// At connect and every 15 minutes.
    Hello,
    /// After a change of state.
    Report,
    /// The periodic sample.
    Load,
    /// Something happened.
    Event,
    /// Whether the session stands.
    Presence,
    /// What it answers to commands: see [`crate::command::Part`].
    Stream,
}

/// MQTT's promise for one hop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Qos {
    /// 0
    AtMostOnce,
    /// 1
    AtLeastOnce,
}

/// Whether the broker keeps the last one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retain {
    /// It does.
    Kept,
    /// It does not.
    Passing,
}

/// A topic of this fleet.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Topic {
    /// The fleet.
    pub fleet: FleetId,
    /// The node it belongs to.
    pub node: NodeId,
    /// Direction and subject.
    pub subject: Subject,
}

/// Direction and subject.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Subject {
    /// To the node.
    Down(Down),
    /// From the node.
    Up(Up),
}

/// The table: subject, last part of the topic, quality, retained. A node subscribes in this order: the roots come before
/// what is signed under them.
pub const TABLE: [(Subject, &str, Qos, Retain); 12] = [
    (Subject::Down(Down::Root), "down/root", Qos::AtLeastOnce, Retain::Kept),
    (Subject::Down(Down::Manifest), "down/manifest", Qos::AtLeastOnce, Retain::Kept),
    // An answer that is late is worth nothing, and the next hello asks again.
    (Subject::Down(Down::Time), "down/time", Qos::AtMostOnce, Retain::Passing),
    (Subject::Down(Down::Addresses), "down/addresses", Qos::AtLeastOnce, Retain::Kept),
    (Subject::Down(Down::Command), "down/command", Qos::AtLeastOnce, Retain::Passing),
    (Subject::Down(Down::AgentRelease), "down/agent-release", Qos::AtLeastOnce, Retain::Kept),
    (Subject::Up(Up::Hello), "up/hello", Qos::AtLeastOnce, Retain::Passing),
    (Subject::Up(Up::Report), "up/report", Qos::AtLeastOnce, Retain::Kept),
    (Subject::Up(Up::Load), "up/load", Qos::AtMostOnce, Retain::Passing),
    (Subject::Up(Up::Event), "up/event", Qos::AtLeastOnce, Retain::Passing),
    (Subject::Up(Up::Presence), "up/presence", Qos::AtLeastOnce, Retain::Kept),
    // Every part counts, and of what is said once at most only the newest is.
    (Subject::Up(Up::Stream), "up/stream", Qos::AtLeastOnce, Retain::Passing),
];

impl Subject {
    fn row(self) -> (Subject, &'static str, Qos, Retain) {
        TABLE
            .into_iter()
            .find(|(subject, ..)| *subject == self)
            .expect("the table has every subject")
    }

    /// Its quality of service.
    #[must_use]
    pub fn qos(self) -> Qos {
        self.row().2
    }

    /// Whether it is retained.
    #[must_use]
    pub fn retain(self) -> Retain {
        self.row().3
    }
}

impl Topic {
    /// The topic with this name; none where it is not one of ours.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        let rest = name.strip_prefix("pith/v1/")?;
        let (fleet, rest) = rest.split_once("/n/")?;
        let (node, last) = rest.split_once('/')?;
        let (subject, ..) = TABLE.into_iter().find(|(_, part, ..)| *part == last)?;
        Some(Self { fleet: fleet.parse().ok()?, node: node.parse().ok()?, subject })
    }

    /// The exact topics a node subscribes to.
    #[must_use]
    pub fn node_subscriptions(fleet: &FleetId, node: &NodeId) -> Vec<String> {
        TABLE
            .into_iter()
            .filter(|(subject, ..)| matches!(subject, Subject::Down(_)))
            .map(|(subject, ..)| {
                Self { fleet: fleet.clone(), node: node.clone(), subject }.to_string()
            })
            .collect()
    }

    /// The topics the coordinator subscribes to: one per subject, over all nodes.
    #[must_use]
    pub fn coordinator_subscriptions(fleet: &FleetId) -> Vec<String> {
        TABLE
            .into_iter()
            .filter(|(subject, ..)| matches!(subject, Subject::Up(_)))
            .map(|(_, part, ..)| format!("pith/v1/{fleet}/n/+/{part}"))
            .collect()
    }
}

impl fmt::Display for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (_, part, ..) = self.subject.row();
        write!(f, "pith/v1/{}/n/{}/{part}", self.fleet, self.node)
    }
}
