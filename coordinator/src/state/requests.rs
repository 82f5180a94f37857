//! What people ask of the fleet and how it may refuse. These types are the bodies of the API.

use std::collections::BTreeMap;

use protocol::envelope::Envelope;
use protocol::id::{EnvironmentName, ServiceId, ServiceName};
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
    /// Only where this is the newest revision.
    #[serde(default)]
    pub if_revision: Option<u64>,
}

/// The release of one environment, to be rolled out in another.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Promote {
    /// The service.
    pub service: ServiceName,
    /// Where it stands.
    pub from: EnvironmentName,
    /// Where it is to run.
    pub to: EnvironmentName,
    /// Why, in a person's words.
    pub cause: Option<String>,
    /// Who.
    #[serde(default)]
    pub by: String,
}

/// What an operator does to a rollout under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "verb")]
pub enum Steer {
    /// Hold it.
    Pause,
    /// Let what was held go on.
    Resume,
    /// Past the step or gate it is at.
    Promote {
        /// Past all steps.
        full: bool,
    },
    /// End it, back to the release before.
    Abort,
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
    /// Only where this is the newest revision.
    #[serde(default)]
    pub if_revision: Option<u64>,
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
    /// The service as that environment reads it.
    pub spec: Box<ServiceSpec>,
    /// The service in every environment that has an overlay: only the size of it counts here.
    #[serde(default)]
    pub environments: BTreeMap<EnvironmentName, ServiceSpec>,
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
    /// Somebody was faster.
    #[error("{service} is at revision {newest} by now, not {expected}: look again with `pith rollout history {name}`", name = service.name)]
    RevisionChanged {
        /// The service.
        service: ServiceId,
        /// What was expected.
        expected: u64,
        /// What is there.
        newest: u64,
    },
    /// The environment takes only what another ran.
    #[error(
        "{to} takes only releases that succeeded in {from}, and this one did not; deploy it with --env {from}, then \
         `pith promote {name} --from {from} --to {to}`"
    )]
    OnlyFrom {
        /// The service.
        name: ServiceName,
        /// Where it should have run.
        from: EnvironmentName,
        /// Where it was to run.
        to: EnvironmentName,
    },
    /// Nothing of it has succeeded where it is to come from.
    #[error("no revision of {0} has succeeded: there is nothing to promote")]
    NothingToPromote(ServiceId),
    /// No rollout is under way.
    #[error("no rollout of {0} is under way; `pith rollout status {name}` shows the last one", name = .0.name)]
    NotUnderWay(ServiceId),
    /// It is not in a state in which this means anything.
    #[error("revision {revision} of {service} is {state}: there is nothing to {verb}")]
    CannotSteer {
        /// The service.
        service: ServiceId,
        /// The revision.
        revision: u64,
        /// Where it stands.
        state: String,
        /// What was asked for.
        verb: &'static str,
    },
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
            Self::RevisionChanged { .. } => "revision_changed",
            Self::OnlyFrom { .. } => "refused_by_policy",
            Self::NothingToPromote(_) => "nothing_to_promote",
            Self::NotUnderWay(_) => "not_under_way",
            Self::CannotSteer { .. } => "cannot_steer",
            Self::Busy { .. } => "busy",
            Self::ManifestTooLarge { .. } => "manifest_too_large",
            Self::PortUsed { .. } => "port_used",
        }
    }
}
