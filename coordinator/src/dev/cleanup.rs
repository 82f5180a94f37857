//! What is taken away at the end: containers and networks that carry the fleet's label. Volumes stay and are named.

use futures_util::{StreamExt as _, stream};
use protocol::id::FleetId;

use super::AtEnd;
use crate::docker::{Docker, DockerError};

/// Containers that are removed at the same time: more of them only make each slower.
const AT_ONCE: usize = 4;
/// Times that it is tried.
const ROUNDS: u32 = 5;

/// Removes, and says what could not be removed and what stays.
pub(super) async fn run(docker: &Docker, fleet: &FleetId, at_end: AtEnd) {
    let label = format!("io.pith.fleet={fleet}");
    if at_end == AtEnd::Keep {
        eprintln!("containers and networks stay (--keep); they carry the label {label}");
        return;
    }
    if let Err(error) = remove(docker, &label).await {
        eprintln!("not everything could be removed: {error}\nleft over carries the label {label}");
    }
    match docker.volumes(&label).await {
        Ok(volumes) => {
            for volume in volumes {
                let name = volume.name;
                eprintln!("volume {name} stays; `docker volume rm {name}` deletes it");
            }
        }
        Err(error) => eprintln!("volumes could not be listed: {error}"),
    }
}

/// What is left is looked for anew and taken away again: a busy engine takes longer than one answer may.
async fn remove(docker: &Docker, label: &str) -> Result<(), DockerError> {
    let mut round = 1;
    loop {
        match remove_once(docker, label).await {
            Err(error) if round == ROUNDS => return Err(error),
            Err(_) => round += 1,
            Ok(()) => return Ok(()),
        }
    }
}

/// A few containers at once, since each takes Docker a moment; then the networks, which must be empty.
async fn remove_once(docker: &Docker, label: &str) -> Result<(), DockerError> {
    let containers = docker.containers(label).await?;
    let removals = containers.iter().map(|container| docker.remove_container(&container.id));
    let removals: Vec<_> = stream::iter(removals).buffer_unordered(AT_ONCE).collect().await;
    removals.into_iter().collect::<Result<(), DockerError>>()?;
    for network in docker.networks(label).await? {
        docker.remove_network(&network.id).await?;
    }
    Ok(())
}
