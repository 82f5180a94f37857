//! What people are shown of the trust root.

use protocol::id::{KeyId, NodeName, ReleaseId, ServiceId};
use serde::{Deserialize, Serialize};

/// The trust root in effect.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RootShown {
    /// Its version.
    pub version: u64,
    /// Its epoch.
    pub epoch: u64,
    /// The key that the coordinator signs with.
    pub director: KeyId,
    /// Releases that no key of it vouches for: they run on where they run, and are assigned nowhere any more.
    pub distrusted: Vec<DistrustedShown>,
    /// Nodes that have said last that they know an older one.
    pub behind: Vec<BehindShown>,
}

/// A revision whose release no key vouches for any more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DistrustedShown {
    /// The service.
    pub service: ServiceId,
    /// The revision.
    pub revision: u64,
    /// Its image.
    pub image: String,
    /// The release.
    pub release: ReleaseId,
    /// Who signed it, as the signatures say.
    pub signed_by: Vec<KeyId>,
    /// Whether it is the one that stands for the service.
    pub runs: bool,
}

impl std::fmt::Display for DistrustedShown {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { service, revision, image, .. } = self;
        let runs = if self.runs { " (it runs on; deploy another)" } else { "" };
        write!(
            f,
            "{service} revision {revision} ({image}) is signed by no key that is trusted{runs}"
        )
    }
}

/// A node with an older trust root.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BehindShown {
    /// The node.
    pub node: NodeName,
    /// The version it knows.
    pub version: u64,
}
