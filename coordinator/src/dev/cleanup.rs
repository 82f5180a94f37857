//! What is taken away at the end: containers and networks that carry the fleet's label. Volumes stay and are named.

use protocol::id::FleetId;

use super::AtEnd;
use crate::docker::{Docker, DockerError};

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

/// Containers at once, since each takes Docker a moment; then the networks, which must be empty.
async fn remove(docker: &Docker, label: &str) -> Result<(), DockerError> {
    let containers = docker.containers(label).await?;
    let removals = containers.iter().map(|container| docker.remove_container(&container.id));
    futures_util::future::try_join_all(removals).await?;
    for network in docker.networks(label).await? {
        docker.remove_network(&network.id).await?;
    }
    Ok(())
}
