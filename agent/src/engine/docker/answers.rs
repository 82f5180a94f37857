//! What Docker answers, as far as it is read. Docker leaves out what it does not know, or says null; its own description names the fields
//! (docs.docker.com/reference/api/engine).

use std::collections::BTreeMap;

use serde::Deserialize;

/// Of one container: `/containers/{id}/json`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct ContainerSeen {
    pub(super) id: Option<String>,
    pub(super) name: Option<String>,
    /// The program.
    pub(super) path: Option<String>,
    pub(super) config: Option<ContainerConfig>,
    pub(super) host_config: Option<HostConfig>,
    pub(super) state: Option<State>,
    pub(super) network_settings: Option<NetworkSettings>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct ContainerConfig {
    pub(super) labels: Option<BTreeMap<String, String>>,
    pub(super) env: Option<Vec<String>>,
    pub(super) working_dir: Option<String>,
    pub(super) stop_signal: Option<String>,
}

/// What a container has of the machine.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct HostConfig {
    pub(super) privileged: Option<bool>,
    pub(super) network_mode: Option<String>,
    pub(super) cap_add: Option<Vec<String>>,
    pub(super) devices: Option<Vec<Device>>,
    pub(super) mounts: Option<Vec<Mount>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Device {
    pub(super) path_on_host: Option<String>,
    pub(super) path_in_container: Option<String>,
    pub(super) cgroup_permissions: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Mount {
    #[serde(rename = "Type")]
    pub(super) kind: Option<String>,
    pub(super) source: Option<String>,
    pub(super) target: Option<String>,
    pub(super) read_only: Option<bool>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct State {
    /// `created`, `running`, `exited` and others.
    pub(super) status: Option<String>,
    pub(super) running: Option<bool>,
    #[serde(rename = "OOMKilled")]
    pub(super) oom_killed: Option<bool>,
    pub(super) exit_code: Option<i64>,
    pub(super) started_at: Option<String>,
    pub(super) finished_at: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct NetworkSettings {
    pub(super) networks: Option<BTreeMap<String, Endpoint>>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Endpoint {
    #[serde(rename = "IPAMConfig")]
    pub(super) fixed: Option<EndpointFixed>,
    #[serde(rename = "IPAddress")]
    pub(super) address: Option<String>,
}

#[derive(Debug, Deserialize)]
pub(super) struct EndpointFixed {
    #[serde(rename = "IPv4Address")]
    pub(super) address: Option<String>,
}

/// One of a list of containers: `/containers/json`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct ContainerListed {
    pub(super) id: Option<String>,
    pub(super) names: Option<Vec<String>>,
    /// As it was named when the container was made.
    pub(super) image: Option<String>,
    /// As the status of [`State`].
    pub(super) state: Option<String>,
    pub(super) labels: Option<BTreeMap<String, String>>,
}

/// `/images/{name}/json`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct ImageSeen {
    pub(super) id: Option<String>,
    pub(super) repo_digests: Option<Vec<String>>,
    pub(super) architecture: Option<String>,
    pub(super) os: Option<String>,
    pub(super) size: Option<i64>,
    pub(super) config: Option<ImageConfig>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct ImageConfig {
    pub(super) user: Option<String>,
    pub(super) healthcheck: Option<Healthcheck>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Healthcheck {
    pub(super) test: Option<Vec<String>>,
}

/// `/version`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Version {
    pub(super) version: Option<String>,
    pub(super) api_version: Option<String>,
    pub(super) arch: Option<String>,
    pub(super) os: Option<String>,
}

/// `/info`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Info {
    #[serde(rename = "NCPU")]
    pub(super) cores: Option<i64>,
    pub(super) mem_total: Option<i64>,
    pub(super) operating_system: Option<String>,
    pub(super) docker_root_dir: Option<String>,
    pub(super) security_options: Option<Vec<String>>,
    pub(super) memory_limit: Option<bool>,
    pub(super) swap_limit: Option<bool>,
    pub(super) cpu_cfs_quota: Option<bool>,
    pub(super) pids_limit: Option<bool>,
    pub(super) live_restore_enabled: Option<bool>,
    pub(super) logging_driver: Option<String>,
    pub(super) swarm: Option<Swarm>,
    pub(super) warnings: Option<Vec<String>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Swarm {
    pub(super) local_node_state: Option<String>,
}

/// One of a list of networks: `/networks`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct NetworkListed {
    pub(super) id: Option<String>,
    pub(super) name: Option<String>,
    pub(super) labels: Option<BTreeMap<String, String>>,
    #[serde(rename = "IPAM")]
    pub(super) ipam: Option<Ipam>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Ipam {
    pub(super) config: Option<Vec<IpamConfig>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct IpamConfig {
    pub(super) subnet: Option<String>,
    pub(super) gateway: Option<String>,
}

/// `/volumes`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Volumes {
    pub(super) volumes: Option<Vec<Volume>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Volume {
    pub(super) name: String,
    pub(super) labels: Option<BTreeMap<String, String>>,
}

/// `/containers/{id}/stats`.
#[derive(Debug, Deserialize)]
pub(super) struct Stats {
    pub(super) memory_stats: Option<MemoryStats>,
}

#[derive(Debug, Deserialize)]
pub(super) struct MemoryStats {
    pub(super) usage: Option<u64>,
    pub(super) limit: Option<u64>,
    /// As the kernel names them.
    pub(super) stats: Option<BTreeMap<String, u64>>,
}

/// `/exec/{id}/json`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct ExecSeen {
    pub(super) exit_code: Option<i64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_docker_leaves_out_or_says_null_of_is_not_there_and_the_rest_is_passed_over() {
        let seen: ContainerSeen = serde_json::from_str(
            r#"{
                "Id": "ab", "Created": "2026-11-23T10:01:02Z", "Args": ["-c", "x"],
                "State": {"Status": "exited", "OOMKilled": true, "ExitCode": 137, "Health": {"Log": []}},
                "Config": {"Labels": null, "Env": ["A=b"], "ExposedPorts": {"80/tcp": {}}},
                "HostConfig": {"CapAdd": null, "NetworkMode": "host", "Mounts": [
                    {"Type": "bind", "Source": "/a", "Target": "/b", "ReadOnly": true, "BindOptions": {}}
                ]},
                "NetworkSettings": {"Networks": {"web": {"IPAMConfig": {"IPv4Address": "10.9.0.2"}, "IPAddress": ""}}}
            }"#,
        )
        .unwrap();
        assert_eq!((seen.id.as_deref(), seen.name.as_deref()), (Some("ab"), None));
        let state = seen.state.unwrap();
        assert_eq!((state.oom_killed, state.exit_code), (Some(true), Some(137)));
        assert!(state.running.is_none() && seen.config.unwrap().labels.is_none());
        let host = seen.host_config.unwrap();
        assert!(host.cap_add.is_none() && host.devices.is_none());
        let mount = &host.mounts.unwrap()[0];
        assert_eq!((mount.kind.as_deref(), mount.read_only), (Some("bind"), Some(true)));
        let networks = seen.network_settings.unwrap().networks.unwrap();
        let fixed = networks["web"].fixed.as_ref().unwrap();
        assert_eq!(fixed.address.as_deref(), Some("10.9.0.2"));
    }
}
