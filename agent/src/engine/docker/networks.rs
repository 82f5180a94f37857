//! Networks: one bridge per service, whose gateway is the service's address.

use bollard::models::{Ipam, IpamConfig, NetworkCreateRequest};

use super::answers::NetworkListed;
use super::ask::path_of_ours;
use super::{CHANGE_DEADLINE_MS, Docker, within};
use crate::engine::error::EngineError;
use crate::engine::identity::{ENVIRONMENT, Ours, SERVICE};
use crate::engine::{Network, NetworkSpec};
use crate::network::Ipv4Net;

pub(super) async fn of_ours(docker: &Docker, ours: &Ours) -> Result<Vec<Network>, EngineError> {
    let listed: Vec<NetworkListed> = docker.get(&path_of_ours("/networks", ours)).await?;
    let mut networks: Vec<Network> = listed.into_iter().filter_map(network).collect();
    networks.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(networks)
}

fn network(seen: NetworkListed) -> Option<Network> {
    let labels = seen.labels?;
    let config = seen.ipam?.config?.into_iter().find_map(|config| {
        let subnet: Ipv4Net = config.subnet?.parse().ok()?;
        let gateway = config.gateway.and_then(|text| text.parse().ok());
        Some((subnet, gateway.unwrap_or_else(|| subnet.gateway())))
    });
    let (subnet, gateway) = config?;
    Some(Network {
        id: seen.id?,
        name: seen.name?,
        environment: labels.get(ENVIRONMENT)?.parse().ok()?,
        service: labels.get(SERVICE)?.parse().ok()?,
        subnet,
        gateway,
    })
}

pub(super) async fn all_subnets(docker: &Docker) -> Result<Vec<Ipv4Net>, EngineError> {
    let listed: Vec<NetworkListed> = docker.get("/networks").await?;
    let configs = listed.into_iter().filter_map(|network| network.ipam?.config).flatten();
    Ok(configs.filter_map(|config| config.subnet?.parse().ok()).collect())
}

pub(super) async fn create(docker: &Docker, spec: &NetworkSpec) -> Result<Network, EngineError> {
    let name = spec.ours.network_name(&spec.environment, &spec.service);
    // Docker up to 24 would make a second network of the same name without a word.
    let existing = of_ours(docker, &spec.ours).await?.into_iter().find(|n| n.name == name);
    if let Some(network) = existing {
        return Ok(network);
    }
    let gateway = spec.subnet.gateway();
    let ipam = IpamConfig {
        subnet: Some(spec.subnet.to_string()),
        gateway: Some(gateway.to_string()),
        ..Default::default()
    };
    let labels = spec.ours.service_labels(&spec.environment, &spec.service);
    let request = NetworkCreateRequest {
        name: name.clone(),
        driver: Some("bridge".to_owned()),
        ipam: Some(Ipam { config: Some(vec![ipam]), ..Default::default() }),
        labels: Some(labels.into_iter().collect()),
        ..Default::default()
    };
    let created = within(CHANGE_DEADLINE_MS, docker.client()?.create_network(request)).await?;
    Ok(Network {
        id: created.id,
        name,
        environment: spec.environment.clone(),
        service: spec.service.clone(),
        subnet: spec.subnet,
        gateway,
    })
}
