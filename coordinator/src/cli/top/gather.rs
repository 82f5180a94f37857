//! What is asked of the coordinator for `pith top` and `pith node top`. Asking also has nodes tell their load in detail.

use std::time::Duration;

use protocol::id::{EnvironmentName, ServiceId};
use serde::Serialize;
use tokio::time::{Instant, sleep};

use crate::client::{Client, ClientError};
use crate::event_loop::at;
use crate::render::top::is_heard;
use crate::render::top::tracks::Tracks;
use crate::state::shown::{NodeShown, NodesShown, PsShown, RolloutShown};

/// Between two looks: as often as a watched node tells its load, and well before nodes stop doing so.
pub(in crate::cli) const EVERY: Duration = Duration::from_secs(2);
/// Nodes have so long to tell it where one look is all that is wanted.
const TOLD_WITHIN: Duration = Duration::from_secs(5);
/// Between two looks meanwhile.
const MEANWHILE: Duration = Duration::from_millis(500);
/// Rates are of two loads.
const LOADS: usize = 2;
/// More rollouts at once are not asked for.
const MAX_ROLLOUTS: usize = 32;

/// The fleet, as it is shown.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(in crate::cli) struct Answer {
    pub(in crate::cli) nodes: NodesShown,
    pub(in crate::cli) services: PsShown,
    /// In flight.
    pub(in crate::cli) rollouts: Vec<RolloutShown>,
}

/// Unix milliseconds on this machine.
pub(in crate::cli) fn now_here_ms() -> u64 {
    at().unix_ms
}

/// Everything that `pith top` shows.
pub(in crate::cli) async fn ask(
    client: &Client,
    environment: Option<&EnvironmentName>,
) -> Result<Answer, ClientError> {
    let nodes = client.watched_nodes(environment, None).await?;
    let services = client.services(environment, None).await?;
    let rollouts = rollouts(client, &services).await?;
    Ok(Answer { nodes, services, rollouts })
}

async fn rollouts(client: &Client, services: &PsShown) -> Result<Vec<RolloutShown>, ClientError> {
    let mut rollouts = Vec::new();
    let moving = services.services.iter().filter(|service| is_in_flight(&service.rollout));
    for service in moving.take(MAX_ROLLOUTS) {
        let id = ServiceId { environment: service.environment.clone(), name: service.name.clone() };
        match client.rollout(&id, None, None).await {
            Ok(rollout) => rollouts.push(rollout),
            // It was removed since.
            Err(ClientError::Refused(_)) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(rollouts)
}

/// Whether a rollout in this state moves, or waits for somebody.
fn is_in_flight(state: &str) -> bool {
    matches!(state, "pending" | "in_progress" | "rolling_back" | "paused" | "awaiting_promotion")
}

/// Nodes, once those that are heard of (or the one that is meant) have told their load twice; after five seconds in any case.
pub(in crate::cli) async fn nodes_told(
    client: &Client,
    environment: Option<&EnvironmentName>,
    who: Option<&str>,
    tracks: &mut Tracks,
) -> Result<NodesShown, ClientError> {
    let until = Instant::now() + TOLD_WITHIN;
    loop {
        let nodes = client.watched_nodes(environment, None).await?;
        tracks.take(&nodes);
        if Instant::now() >= until || has_told(&nodes, who, tracks) {
            return Ok(nodes);
        }
        sleep(MEANWHILE).await;
    }
}

fn has_told(nodes: &NodesShown, who: Option<&str>, tracks: &Tracks) -> bool {
    let now_ms = now_here_ms();
    let is_meant = |node: &&NodeShown| {
        let is_named = |who| node.name.as_str() == who || node.id.as_str() == who;
        is_heard(node, now_ms) && who.is_none_or(is_named)
    };
    let told = |node: &NodeShown| tracks.of(&node.id).map_or(0, |track| track.in_detail());
    nodes.nodes.iter().filter(is_meant).all(|node| told(node) >= LOADS)
}
