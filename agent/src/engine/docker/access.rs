//! What a container has of the node: asked of Docker as it is admitted, and read back from what Docker would start.

use bollard::models::{DeviceMapping, HostConfig, Mount, MountType};
use protocol::id::ServiceName;
use protocol::spec::{Device, HostAccess, HostPath};

use super::{Docker, answers, observe};
use crate::engine::error::EngineError;
use crate::engine::identity::Identity;
use crate::policy::Admitted;

/// The network mode of a container in the node's own.
pub(super) const HOST_NETWORK: &str = "host";
/// How Docker names a mount of a path of the node's.
const BIND: &str = "bind";
/// Mounted over by the agent's own hosts file in every container.
pub(super) const HOSTS_TARGET: &str = "/etc/hosts";

/// Adds what was admitted; mounts are [`mounts`].
pub(super) fn give(access: &Admitted, config: HostConfig) -> HostConfig {
    let host = access.host();
    let device = |device: &Device| DeviceMapping {
        path_on_host: Some(device.path.clone()),
        path_in_container: Some(device.target.clone()),
        cgroup_permissions: Some(device.permissions.clone()),
    };
    let network = host.network.then(|| HOST_NETWORK.to_owned());
    HostConfig {
        privileged: Some(host.privileged),
        cap_add: Some(host.capabilities.iter().cloned().collect()),
        devices: Some(host.devices.iter().map(device).collect()),
        network_mode: network.or(config.network_mode),
        ..config
    }
}

/// Docker refuses a path that is not there, instead of making it.
pub(super) fn mounts(access: &Admitted) -> impl Iterator<Item = Mount> {
    access.host().paths.iter().map(|path| Mount {
        typ: Some(MountType::BIND),
        source: Some(path.host.clone()),
        target: Some(path.path.clone()),
        read_only: Some(path.read_only),
        ..Default::default()
    })
}

pub(super) async fn of_container(
    docker: &Docker,
    id: &str,
) -> Result<Option<(ServiceName, HostAccess)>, EngineError> {
    let Some(seen) = observe::inspect(docker, id).await? else { return Ok(None) };
    let labels = seen.config.and_then(|config| config.labels).unwrap_or_default();
    let Some(identity) = Identity::of_labels(&labels) else {
        let text = format!("container {id} carries our labels in a form that cannot be read");
        return Err(EngineError::BadRequest(text));
    };
    Ok(Some((identity.service, read(seen.host_config.unwrap_or_default()))))
}

fn read(config: answers::HostConfig) -> HostAccess {
    let is_ours = |mount: &answers::Mount| mount.target.as_deref() == Some(HOSTS_TARGET);
    let mounts = config.mounts.unwrap_or_default().into_iter();
    let binds = mounts.filter(|mount| mount.kind.as_deref() == Some(BIND) && !is_ours(mount));
    let path = |mount: answers::Mount| HostPath {
        host: mount.source.unwrap_or_default(),
        path: mount.target.unwrap_or_default(),
        read_only: mount.read_only.unwrap_or(false),
        shared: false,
    };
    let device = |device: answers::Device| Device {
        path: device.path_on_host.unwrap_or_default(),
        target: device.path_in_container.unwrap_or_default(),
        permissions: device.cgroup_permissions.unwrap_or_default(),
    };
    let added = config.cap_add.unwrap_or_default();
    let plain = |name: &String| name.strip_prefix("CAP_").unwrap_or(name).to_owned();
    HostAccess {
        privileged: config.privileged.unwrap_or(false),
        network: config.network_mode.as_deref() == Some(HOST_NETWORK),
        capabilities: added.iter().map(plain).collect(),
        devices: config.devices.unwrap_or_default().into_iter().map(device).collect(),
        paths: binds.map(path).collect(),
    }
}
