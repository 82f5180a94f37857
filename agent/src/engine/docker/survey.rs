//! Everything that Docker says of itself and of whoever else uses it.

use bollard::Docker as Client;
use bollard::models::{ContainerSummary, ContainerSummaryStateEnum, LocalNodeState};
use bollard::query_parameters as query;

use super::{QUERY_DEADLINE_MS, info, within};
use crate::engine::error::EngineError;
use crate::engine::identity::FLEET;
use crate::engine::survey::{Neighbour, Survey};

pub(super) async fn survey(client: &Client) -> Result<Survey, EngineError> {
    let version = within(QUERY_DEADLINE_MS, client.version()).await?;
    let seen = within(QUERY_DEADLINE_MS, client.info()).await?;
    let options = query::ListContainersOptionsBuilder::new().all(true).build();
    let listed = within(QUERY_DEADLINE_MS, client.list_containers(Some(options))).await?;
    let state = seen.swarm.as_ref().and_then(|swarm| swarm.local_node_state);
    Ok(Survey {
        limits_swap: seen.swap_limit.unwrap_or(false),
        limits_pids: seen.pids_limit.unwrap_or(false),
        log_driver: seen.logging_driver.clone().unwrap_or_default(),
        is_swarm: matches!(state, Some(LocalNodeState::ACTIVE | LocalNodeState::LOCKED)),
        warnings: seen.warnings.clone().unwrap_or_default(),
        neighbours: listed.into_iter().filter_map(neighbour).collect(),
        info: info(version, seen),
    })
}

fn neighbour(listed: ContainerSummary) -> Option<Neighbour> {
    if listed.labels.is_some_and(|labels| labels.contains_key(FLEET)) {
        return None;
    }
    let name = listed.names.unwrap_or_default().into_iter().next().unwrap_or_default();
    Some(Neighbour {
        name: name.trim_start_matches('/').to_owned(),
        image: listed.image.unwrap_or_default(),
        runs: listed.state == Some(ContainerSummaryStateEnum::RUNNING),
    })
}
