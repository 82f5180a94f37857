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
    /// What one node must run; signed by the director.
    Manifest,
    /// What a node says at connect; signed by the node.
    Hello,
    /// What a node says of itself; signed by the node.
    Report,
}

impl PayloadType {
    /// All of them, for tables and tests.
    pub const ALL: [Self; 5] =
        [Self::Root, Self::Release, Self::Manifest, Self::Hello, Self::Report];

    /// The media type inside the envelope.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Root => "application/vnd.pith.root.v1+json",
            Self::Release => "application/vnd.pith.release.v1+json",
            Self::Manifest => "application/vnd.pith.manifest.v1+json",
            Self::Hello => "application/vnd.pith.hello.v1+json",
            Self::Report => "application/vnd.pith.report.v1+json",
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
