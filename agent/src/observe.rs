//! What is seen: raw facts from engine and proxy, gathered in one go, and their translation for the planner.
//!
//! Owns no policy: nothing here says what should be. [`memory`] keeps what only this process knows (when an instance
//! was first seen to run, how often it ended, since when it drains).
//!
//! ```text
//! engine, proxy --gather(Scope)--> Gathered --apply--> Facts --assemble(Memory, probes)--> planner::node::Observed
//! ```

pub mod gather;
pub mod memory;

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use planner::Now;
use planner::node::{
    Exit, ImageState, Instance, Life, Observed, Probed, Repair, Routing, ServiceFacts,
};
use protocol::id::{EnvironmentName, ReleaseId, ServiceName};
use protocol::policy::PolicyState;
use protocol::reason::Reason;
use protocol::release::{Pin, runs_on};
use proxy::Snapshot;

use crate::engine::{Container, ContainerState, EngineInfo, ImageFacts, Network};
use crate::routes;
use memory::{Damaged, Memory, Pulling, Removal};

/// The newest of everything that was gathered. None: never yet.
#[derive(Debug, Clone, Default)]
pub struct Facts {
    /// What the engine is.
    pub info: Option<EngineInfo>,
    /// Containers of ours.
    pub containers: Option<Vec<Container>>,
    /// Networks of ours.
    pub networks: Option<Vec<Network>>,
    /// Images asked for; none inside: not on the node.
    pub images: BTreeMap<Pin, Option<ImageFacts>>,
    /// The proxy's state.
    pub proxy: Option<Snapshot>,
    /// Percent of the engine's disk in use.
    pub disk_used_percent: Option<u8>,
}

impl Facts {
    /// The address of each service of this environment.
    #[must_use]
    pub fn gateways(&self, environment: &EnvironmentName) -> BTreeMap<ServiceName, Ipv4Addr> {
        let networks = self.networks.iter().flatten();
        networks
            .filter(|network| network.environment == *environment)
            .map(|network| (network.service.clone(), network.gateway))
            .collect()
    }

    /// The address of each container.
    #[must_use]
    pub fn addresses(&self) -> BTreeMap<String, Ipv4Addr> {
        let containers = self.containers.iter().flatten();
        containers.filter_map(|c| Some((c.id.clone(), c.address?))).collect()
    }

    /// Releases that containers here are made of; none: nobody has looked yet.
    #[must_use]
    pub fn releases_in_use(&self) -> Option<BTreeSet<ReleaseId>> {
        let containers = self.containers.as_ref()?;
        Some(containers.iter().map(|container| container.identity.release.clone()).collect())
    }

    /// The network of a service.
    #[must_use]
    pub fn network(
        &self,
        environment: &EnvironmentName,
        service: &ServiceName,
    ) -> Option<&Network> {
        let networks = self.networks.iter().flatten();
        networks.into_iter().find(|n| n.environment == *environment && n.service == *service)
    }

    /// Every address that an instance has or the proxy's table names: none of them is given out again yet.
    #[must_use]
    pub fn used_addresses(&self) -> BTreeSet<Ipv4Addr> {
        let routes = self.proxy.iter().flat_map(|snapshot| &snapshot.table.routes);
        let named = routes.flat_map(|route| &route.backends).filter_map(|backend| {
            match backend.address.ip() {
                std::net::IpAddr::V4(address) => Some(address),
                std::net::IpAddr::V6(_) => None,
            }
        });
        self.containers.iter().flatten().filter_map(|c| c.address).chain(named).collect()
    }
}

/// What the planner decides from. `probed` says what the probes of a container say.
#[must_use]
pub fn assemble(
    facts: &Facts,
    memory: &Memory,
    environment: &EnvironmentName,
    probed: impl Fn(&str) -> Probed,
    images_pulled: BTreeSet<Pin>,
) -> Observed {
    let mut services: BTreeMap<ServiceName, ServiceFacts> = BTreeMap::new();
    for network in facts.networks.iter().flatten().filter(|n| n.environment == *environment) {
        services.entry(network.service.clone()).or_default().network = true;
    }
    for container in facts.containers.iter().flatten() {
        // A node has one environment: a container of another is of its past and belongs to the service all the same.
        let service = services.entry(container.identity.service.clone()).or_default();
        let probed = match container.state {
            ContainerState::Running { .. } => probed(&container.id),
            ContainerState::Created | ContainerState::Exited { .. } => Probed::default(),
        };
        service.instances.push(instance(facts.proxy.as_ref(), memory, container, probed));
    }
    for (name, remembered) in &memory.services {
        if services.contains_key(name)
            || remembered.failure.is_some()
            || !remembered.refused.is_empty()
        {
            let service = services.entry(name.clone()).or_default();
            service.refused.clone_from(&remembered.refused);
            service.failure.clone_from(&remembered.failure);
            service.progress_at = Some(remembered.progress_at);
            service.candidate_progress_at = Some(remembered.candidate_progress_at);
        }
    }
    for service in services.values_mut() {
        service.instances.sort_by(|a, b| (&a.template, a.slot).cmp(&(&b.template, b.slot)));
    }
    Observed {
        services,
        images: images(facts, memory),
        images_pulled,
        disk_used_percent: facts.disk_used_percent,
        memory_available: None,
        policy: PolicyState::default(),
        secrets: BTreeSet::new(),
    }
}

fn instance(
    proxy: Option<&Snapshot>,
    memory: &Memory,
    container: &Container,
    probed: Probed,
) -> Instance {
    let known = memory.containers.get(&container.id);
    let draining_since = known.and_then(|known| known.draining_since);
    let (routing, in_flight) = proxy
        .map(|snapshot| routes::routing(snapshot, &container.id, draining_since))
        .unwrap_or_default();
    let started = known.map_or(Now(0), |known| known.started);
    let life = match container.state {
        ContainerState::Created => Life::Created,
        ContainerState::Running { .. } => match known.and_then(|known| known.told_to_stop) {
            Some(since) => Life::Stopping { since },
            None => Life::Running { since: started },
        },
        ContainerState::Exited { code, oom, .. } => {
            let at = known.and_then(|known| known.ended).unwrap_or_default();
            Life::Exited(Exit { at, code, oom })
        }
    };
    let probed = inherit(probed, routing, known.and_then(|known| known.ran_before_us));
    let was_ready = probed.was_ready || known.is_some_and(|known| known.was_ready);
    Instance {
        container: container.id.clone(),
        name: container.name.clone(),
        slot: container.identity.slot,
        release: container.identity.release.clone(),
        template: container.identity.template.clone(),
        address: container.address,
        life,
        probed: Probed { was_ready, ..probed },
        routing,
        in_flight,
        exits: known.map_or(0, memory::Known::exit_count),
        finding: known.map(|known| known.finding.clone()).unwrap_or_default(),
    }
}

/// An agent that starts anew has not asked anyone yet. What the agent before it had found ready stands in the proxy's
/// table, and counts until the first answer, so that a restart takes nobody out of the route.
fn inherit(probed: Probed, routing: Routing, ran_before_us: Option<Now>) -> Probed {
    let has_answered = probed.was_ready || probed.dead || probed.last_failure.is_some();
    match ran_before_us {
        Some(since) if !has_answered && routing == Routing::Active => {
            Probed { ready_since: Some(since), was_ready: true, ..probed }
        }
        Some(_) | None => probed,
    }
}

fn images(facts: &Facts, memory: &Memory) -> BTreeMap<Pin, ImageState> {
    let mut images: BTreeMap<Pin, ImageState> = BTreeMap::new();
    for (pin, pulling) in &memory.pulls {
        let state = match pulling {
            Pulling::Underway { progress, is_stalled, .. } => {
                ImageState::Pulling { progress: progress.clone(), stalled: *is_stalled }
            }
            Pulling::Failed { reason, message, permanent, retry_at, .. } => ImageState::Failed {
                reason: *reason,
                message: message.clone(),
                permanent: *permanent,
                retry_at: *retry_at,
            },
        };
        images.insert(pin.clone(), state);
    }
    let present = facts.images.iter().filter_map(|(pin, image)| Some((pin, image.as_ref()?)));
    for (pin, image) in present {
        let state = match memory.damaged.get(pin) {
            Some(damaged) => broken(damaged, memory.repaired.contains(pin)),
            None => usable(facts.info.as_ref(), image),
        };
        images.insert(pin.clone(), state);
    }
    images
}

/// `is_repaired`: it was removed for that already.
fn broken(damaged: &Damaged, is_repaired: bool) -> ImageState {
    let repair = match &damaged.removal {
        Removal::Refused(why) => Repair::Refused(why.clone()),
        Removal::Underway | Removal::Done { .. } => Repair::Due,
        Removal::Due if is_repaired => Repair::InVain,
        Removal::Due => Repair::Due,
    };
    ImageState::Damaged { what: damaged.what.clone(), repair }
}

/// An image for another processor is on the node and cannot run there.
fn usable(info: Option<&EngineInfo>, image: &ImageFacts) -> ImageState {
    let Some(info) = info else { return ImageState::Present };
    if runs_on(&info.architecture, &image.architecture) {
        return ImageState::Present;
    }
    let message =
        format!("the image is for {}, this node is {}", image.architecture, info.architecture);
    ImageState::Failed {
        reason: Reason::WrongPlatform,
        message,
        permanent: true,
        retry_at: Now::default(),
    }
}

#[cfg(test)]
mod tests;
