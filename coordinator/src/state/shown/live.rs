//! Everything that a page shows of the fleet, in one document.

use protocol::id::ReleaseId;
use serde::{Deserialize, Serialize};

use super::{FleetShown, NodesShown, PsShown, RolloutShown};
use crate::role::Role;
use crate::state::records::Happened;
use crate::state::requests::Steer;

/// The fleet as it is at one moment; what `GET /v1/live` tells whenever something has changed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LiveShown {
    /// Of the state that is shown.
    pub version: u64,
    /// Unix milliseconds by the coordinator's clock.
    pub at_ms: u64,
    /// At a glance.
    pub fleet: FleetShown,
    /// Nodes of all environments.
    pub nodes: NodesShown,
    /// Services of all environments.
    pub services: PsShown,
    /// Rollouts under way and those that ended within the last five minutes, by environment and name.
    pub rollouts: Vec<LiveRollout>,
    /// The newest fifty, ascending.
    pub events: Vec<Happened>,
}

/// A rollout with what its judgement is read by.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LiveRollout {
    /// As `pith rollout status` shows it.
    #[serde(flatten)]
    pub rollout: RolloutShown,
    /// Whether it has not ended.
    pub active: bool,
    /// How it can be steered now, by whoever may.
    pub steers: Vec<Steer>,
    /// Steps and gates behind it: what one who steers it says it saw.
    pub passed: usize,
    /// The release that it replaces, as nodes count traffic by it.
    pub from_release: Option<ReleaseId>,
    /// What new release and old one do beside each other before any node moves; none: nodes move at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trial: Option<LiveTrial>,
}

/// A trial.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LiveTrial {
    /// Percent of the requests at each step of a canary; empty: blue-green.
    pub weights: Vec<u32>,
    /// Steps behind it.
    pub step: usize,
    /// It is over: nodes move.
    pub promoted: bool,
}

/// Who looks, as the coordinator knows them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CallerShown {
    /// As the audit log names them.
    pub who: String,
    /// What they may do.
    pub role: Role,
}
