//! Everything that Docker says of itself and of whoever else uses it.

use super::answers::{ContainerListed, Info};
use super::{Docker, info};
use crate::engine::error::EngineError;
use crate::engine::identity::FLEET;
use crate::engine::survey::{Neighbour, Survey};

pub(super) async fn survey(docker: &Docker) -> Result<Survey, EngineError> {
    let version = docker.get("/version").await?;
    let seen: Info = docker.get("/info").await?;
    let listed: Vec<ContainerListed> = docker.get("/containers/json?all=true").await?;
    let state = seen.swarm.as_ref().and_then(|swarm| swarm.local_node_state.as_deref());
    Ok(Survey {
        limits_swap: seen.swap_limit.unwrap_or(false),
        limits_pids: seen.pids_limit.unwrap_or(false),
        log_driver: seen.logging_driver.clone().unwrap_or_default(),
        is_swarm: matches!(state, Some("active" | "locked")),
        warnings: seen.warnings.clone().unwrap_or_default(),
        neighbours: listed.into_iter().filter_map(neighbour).collect(),
        info: info(version, seen),
    })
}

fn neighbour(listed: ContainerListed) -> Option<Neighbour> {
    if listed.labels.is_some_and(|labels| labels.contains_key(FLEET)) {
        return None;
    }
    let name = listed.names.unwrap_or_default().into_iter().next().unwrap_or_default();
    Some(Neighbour {
        name: name.trim_start_matches('/').to_owned(),
        image: listed.image.unwrap_or_default(),
        runs: listed.state.as_deref() == Some("running"),
    })
}
