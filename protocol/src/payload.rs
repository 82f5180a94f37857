//! One payload type per purpose: a signature for one can never be read as another.

use std::fmt;

use serde::Serialize;
use serde::de::DeserializeOwned;

/// The purposes that are signed in this version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum PayloadType {
    /// The trust root of a fleet; signed by the root keys.
    Root,
    /// A release; signed by a release key.
    Release,
    /// The security floor of a service; signed by a release key.
    Retirement,
    /// What one node must run; signed by the director.
    Manifest,
    /// What time it is, for the node that asked; signed by the director.
    Time,
    /// Where the coordinator is reached; signed by the director.
    Whereabouts,
    /// Which CA is the fleet's, for nodes that knew another; signed by the director.
    Recovery,
    /// What one node is told to do once; signed by the director.
    Command,
    /// A version of the agent; signed by an agent-release key.
    AgentRelease,
    /// What a node says at connect; signed by the node.
    Hello,
    /// What a node says of itself; signed by the node.
    Report,
    /// What a node answers to a command; signed by the node.
    Stream,
    /// The wish to become a node; signed by the node.
    Join,
    /// The wish for a certificate; signed by the node.
    Renew,
}

impl PayloadType {
    /// All of them, for tables and tests.
    pub const ALL: [Self; 14] = [
        Self::Root,
        Self::Release,
        Self::Retirement,
        Self::Manifest,
        Self::Time,
        Self::Whereabouts,
        Self::Recovery,
        Self::Command,
        Self::AgentRelease,
        Self::Hello,
        Self::Report,
        Self::Stream,
        Self::Join,
        Self::Renew,
    ];

    /// The media type inside the envelope.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Root => "application/vnd.pith.root.v1+json",
            Self::Release => "application/vnd.pith.release.v1+json",
            Self::Retirement => "application/vnd.pith.retirement.v1+json",
            Self::Manifest => "application/vnd.pith.manifest.v1+json",
            Self::Time => "application/vnd.pith.time.v1+json",
            Self::Whereabouts => "application/vnd.pith.whereabouts.v1+json",
            Self::Recovery => "application/vnd.pith.recovery.v1+json",
            Self::Command => "application/vnd.pith.command.v1+json",
            Self::AgentRelease => "application/vnd.pith.agent-release.v1+json",
            Self::Hello => "application/vnd.pith.hello.v1+json",
            Self::Report => "application/vnd.pith.report.v1+json",
            Self::Stream => "application/vnd.pith.stream.v1+json",
            Self::Join => "application/vnd.pith.join.v1+json",
            Self::Renew => "application/vnd.pith.renew.v1+json",
        }
    }
}

impl fmt::Display for PayloadType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A document that travels signed.
pub trait Payload: Serialize + DeserializeOwned {
    /// Its purpose.
    const TYPE: PayloadType;
}
