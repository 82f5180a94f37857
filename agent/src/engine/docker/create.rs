//! From a [`ContainerSpec`] to what Docker is asked for.

use std::collections::HashMap;

use bollard::models::{
    ContainerCreateBody, EndpointIpamConfig, EndpointSettings, HealthConfig, HostConfig,
    HostConfigLogConfig, MountType, NetworkingConfig, ResourcesUlimits, RestartPolicy,
    RestartPolicyNameEnum,
};
use bollard::query_parameters as query;
use protocol::spec::Resources;
use serde_json::json;

use super::answers::Volume;
use super::{CHANGE_DEADLINE_MS, Docker, Host, access, observe, within};
use crate::engine::container::{ContainerSpec, Mount};
use crate::engine::error::EngineError;

/// A container's log never grows past this times [`LOG_FILES`].
const LOG_FILE_SIZE: &str = "10m";
const LOG_FILES: &str = "3";
/// Applications are killed for memory before the agent and Docker are.
const OOM_SCORE_ADJUSTMENT: i64 = 500;
const NANOS_PER_MILLI_CPU: i64 = 1_000_000;
/// Docker's relative weight of one core.
const SHARES_PER_CORE: u64 = 1024;
/// The least the kernel takes.
const MIN_SHARES: i64 = 2;

pub(super) async fn create(docker: &Docker, spec: &ContainerSpec) -> Result<String, EngineError> {
    let host = docker.host().await?;
    observe::refuse_wrong_platform(docker, host, &spec.image).await?;
    for mount in &spec.mounts {
        ensure_volume(docker, spec, mount).await?;
    }
    let name = spec.name();
    let options = query::CreateContainerOptionsBuilder::new().name(&name).build();
    let mut body = body(host, spec);
    body.image = Some(observe::reference(docker, &spec.image).await?);
    let call = docker.client()?.create_container(Some(options), body);
    match within(CHANGE_DEADLINE_MS, call).await {
        Ok(created) => Ok(created.id),
        Err(EngineError::Conflict(text)) => existing(docker, spec, &name, text).await,
        Err(error) => Err(error),
    }
}

/// The container that has the name already, when it is the very one.
async fn existing(
    docker: &Docker,
    spec: &ContainerSpec,
    name: &str,
    text: String,
) -> Result<String, EngineError> {
    let Some(seen) = observe::inspect(docker, name).await? else {
        return Err(EngineError::NotFound(format!("No such container: {name}")));
    };
    let labels = seen.config.and_then(|config| config.labels).unwrap_or_default();
    let wanted = spec.ours.container_labels(&spec.identity);
    let is_same = wanted.iter().all(|(key, value)| labels.get(key) == Some(value));
    match seen.id {
        Some(id) if is_same => Ok(id),
        Some(_) | None => Err(EngineError::Conflict(text)),
    }
}

async fn ensure_volume(
    docker: &Docker,
    spec: &ContainerSpec,
    mount: &Mount,
) -> Result<(), EngineError> {
    let labels = spec.ours.service_labels(&spec.identity.environment, &spec.identity.service);
    let wanted = json!({ "Name": mount.volume, "Labels": labels });
    let volume: Volume = docker.post("/volumes/create", &wanted).await?;
    // Docker answers with the volume that exists, whoever made it.
    if !spec.ours.owns(&volume.labels.unwrap_or_default()) {
        let text = format!("a volume {} exists and is not ours", mount.volume);
        return Err(EngineError::Conflict(text));
    }
    Ok(())
}

fn body(host: &Host, spec: &ContainerSpec) -> ContainerCreateBody {
    let process = &spec.process;
    ContainerCreateBody {
        env: Some(process.env.iter().map(|(key, value)| format!("{key}={value}")).collect()),
        entrypoint: process.entrypoint.clone(),
        cmd: process.command.clone(),
        user: process.user.clone(),
        working_dir: process.working_dir.clone(),
        labels: Some(spec.labels().into_iter().collect()),
        // Probes are ours: the image's own check costs processor time and flash.
        healthcheck: Some(HealthConfig {
            test: Some(vec!["NONE".to_owned()]),
            ..Default::default()
        }),
        host_config: Some(host_config(host, spec)),
        networking_config: (!spec.access.host().network).then(|| networking(spec)),
        ..Default::default()
    }
}

fn networking(spec: &ContainerSpec) -> NetworkingConfig {
    let endpoint = EndpointSettings {
        ipam_config: Some(EndpointIpamConfig {
            ipv4_address: Some(spec.address.to_string()),
            ..Default::default()
        }),
        ..Default::default()
    };
    NetworkingConfig { endpoints_config: Some(HashMap::from([(spec.network(), endpoint)])) }
}

fn host_config(host: &Host, spec: &ContainerSpec) -> HostConfig {
    let process = &spec.process;
    let log = [("max-size", LOG_FILE_SIZE), ("max-file", LOG_FILES)];
    let ulimit = |(name, limit): (&String, &protocol::spec::Ulimit)| ResourcesUlimits {
        name: Some(name.clone()),
        soft: Some(limit.soft),
        hard: Some(limit.hard),
    };
    let tmpfs = |(path, size): (&String, &Option<protocol::units::Bytes>)| {
        (path.clone(), size.map(|bytes| format!("size={}", bytes.0)).unwrap_or_default())
    };
    let limits = limits(host, &spec.resources);
    let plain = HostConfig {
        network_mode: Some(spec.network()),
        restart_policy: Some(RestartPolicy {
            name: Some(RestartPolicyNameEnum::NO),
            maximum_retry_count: None,
        }),
        log_config: Some(HostConfigLogConfig {
            typ: Some("json-file".to_owned()),
            config: Some(log.map(|(k, v)| (k.to_owned(), v.to_owned())).into()),
        }),
        mounts: Some(mounts(spec)),
        init: Some(process.init),
        readonly_rootfs: Some(process.read_only),
        cap_drop: Some(process.cap_drop.iter().cloned().collect()),
        tmpfs: Some(process.tmpfs.iter().map(tmpfs).collect()),
        ulimits: Some(process.ulimits.iter().map(ulimit).collect()),
        oom_score_adj: Some(OOM_SCORE_ADJUSTMENT),
        ..limits
    };
    access::give(&spec.access, plain)
}

fn mounts(spec: &ContainerSpec) -> Vec<bollard::models::Mount> {
    let hosts = bollard::models::Mount {
        typ: Some(MountType::BIND),
        source: Some(spec.hosts_file.display().to_string()),
        target: Some(access::HOSTS_TARGET.to_owned()),
        read_only: Some(true),
        ..Default::default()
    };
    let volume = |mount: &Mount| bollard::models::Mount {
        typ: Some(MountType::VOLUME),
        source: Some(mount.volume.clone()),
        target: Some(mount.path.clone()),
        read_only: Some(mount.read_only),
        ..Default::default()
    };
    let secret = |(source, target): &(std::path::PathBuf, String)| bollard::models::Mount {
        typ: Some(MountType::BIND),
        source: Some(source.display().to_string()),
        target: Some(target.clone()),
        read_only: Some(true),
        ..Default::default()
    };
    let volumes = spec.mounts.iter().map(volume).chain(spec.secrets.iter().map(secret));
    std::iter::once(hosts).chain(volumes).chain(access::mounts(&spec.access)).collect()
}

/// What was asked for is a weight under pressure, what is allowed is a bound. A memory limit holds without swap, as in
/// Kubernetes: a leak ends in a kill instead of wearing out a card. Docker refuses more processor than there is, which is
/// no bound at all, so a release may be written for bigger boards too.
fn limits(host: &Host, resources: &Resources) -> HostConfig {
    let bytes = |amount: protocol::units::Bytes| i64::try_from(amount.0).unwrap_or(i64::MAX);
    let memory = resources.limits.memory.map(bytes);
    let shares = |cpu: protocol::units::MilliCpu| {
        i64::try_from(cpu.0.saturating_mul(SHARES_PER_CORE) / 1000)
            .unwrap_or(i64::MAX)
            .max(MIN_SHARES)
    };
    let nanos = |cpu: protocol::units::MilliCpu| {
        let all = u64::from(host.cores) * 1000;
        i64::try_from(cpu.0.min(all)).unwrap_or(i64::MAX).saturating_mul(NANOS_PER_MILLI_CPU)
    };
    HostConfig {
        memory,
        memory_swap: memory,
        memory_reservation: resources.requests.memory.map(bytes),
        nano_cpus: resources.limits.cpu.map(nanos),
        cpu_shares: resources.requests.cpu.map(shares),
        ..Default::default()
    }
}
