//! What people ask of the fleet and how it may refuse. These types are the bodies of the API.

use protocol::envelope::Envelope;
use protocol::id::{EnvironmentName, ServiceId};
use protocol::release::Image;
use protocol::spec::ServiceSpec;
use serde::{Deserialize, Serialize};

/// A signed release, to be rolled out.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Deploy {
    /// Where.
    pub environment: EnvironmentName,
    /// What.
    pub release: Envelope,
    /// The service file as written; the base of `pith deploy NAME --image`.
    pub file: String,
    /// Why, in a person's words.
    pub cause: Option<String>,
    /// Who.
    pub by: String,
}

/// An old release, to be rolled out again.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Undo {
    /// Which revision's; none: the one before, never one that failed.
    pub to_revision: Option<u64>,
    /// Why, in a person's words.
    pub cause: Option<String>,
    /// Who.
    #[serde(default)]
    pub by: String,
}

/// An operator's count.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Scale {
    /// Instances; none: what the service file says.
    pub count: Option<u32>,
}

/// What would be deployed, unsigned.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct PlanRequest {
    /// Where.
    pub environment: EnvironmentName,
    /// The pinned image.
    pub image: Image,
    /// The service.
    pub spec: Box<ServiceSpec>,
}

/// A deploy or undo that was accepted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Accepted {
    /// Of which service.
    pub service: ServiceId,
    /// Its number.
    pub revision: u64,
    /// The revision it replaces.
    pub from_revision: Option<u64>,
    /// True where nothing had to change and `revision` is the one that runs.
    pub unchanged: bool,
    /// Instances that no node could take.
    pub unplaced: u32,
}

/// Why a request was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The release's envelope.
    #[error("the release was refused: {0}")]
    Release(#[from] protocol::envelope::Rejected),
    /// A release older than one accepted before.
    #[error("release counter {found} is not above {newest}, which was accepted before")]
    OldCounter {
        /// What it says.
        found: u64,
        /// The newest accepted.
        newest: u64,
    },
    /// Nobody can run it.
    #[error(transparent)]
    NoNodeFits(#[from] planner::fleet::NoNodeFits),
    /// No such service.
    #[error("no service `{0}`; `pith ps` lists them")]
    NoService(ServiceId),
    /// No such revision.
    #[error("{service} has no revision {revision}; `pith rollout history {name}` lists them", name = service.name)]
    NoRevision {
        /// The service.
        service: ServiceId,
        /// What was asked for.
        revision: u64,
    },
    /// No older revision that succeeded.
    #[error("{0} has no earlier revision that succeeded; name one with --to-revision")]
    NothingToUndo(ServiceId),
    /// A rollout is under way.
    #[error("revision {revision} of {service} is still being rolled out; wait for it or undo it")]
    Busy {
        /// The service.
        service: ServiceId,
        /// The revision.
        revision: u64,
    },
    /// A node's manifest would not fit into an envelope.
    #[error(
        "the manifest of {node} would have {size} bytes, more than the {max} allowed; use fewer or smaller services on it"
    )]
    ManifestTooLarge {
        /// Which node.
        node: String,
        /// Bytes it would have.
        size: usize,
        /// Bytes it may have.
        max: usize,
    },
    /// Two services would open the same port on a node.
    #[error("port {port} is used by `{other}` on {node}; choose another `listen`")]
    PortUsed {
        /// The port.
        port: u16,
        /// By which service.
        other: String,
        /// On which node.
        node: String,
    },
}

impl Refused {
    /// The stable code.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Release(_) => "release_refused",
            Self::OldCounter { .. } => "old_counter",
            Self::NoNodeFits(_) => "no_node_fits",
            Self::NoService(_) => "no_service",
            Self::NoRevision { .. } => "no_revision",
            Self::NothingToUndo(_) => "nothing_to_undo",
            Self::Busy { .. } => "busy",
            Self::ManifestTooLarge { .. } => "manifest_too_large",
            Self::PortUsed { .. } => "port_used",
        }
    }
}
