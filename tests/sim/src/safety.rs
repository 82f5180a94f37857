//! What must hold after every act, whatever went wrong (DESIGN §9).

use std::collections::{BTreeMap, BTreeSet};

use agent::engine::{Container, ContainerState};
use agent::routes::parse_route_id;
use planner::node::Wanted;
use protocol::id::{ReleaseId, ServiceName};
use protocol::manifest::Version;
use protocol::spec::{ServiceSpec, Strategy};
use proxy::{Backend, Route, Split};

use crate::board::hardware::{Hardware, TABLE_MS};
use crate::board::proxy::takes;
use crate::board::{Board, process::Process};

/// What a manifest says of shares is in the table by then.
const SHARE_PATIENCE_MS: u64 = 10_000;

/// What is remembered from one act to the next.
#[derive(Debug, Default)]
pub struct Safety {
    seen: Version,
    /// Containers that served, by route.
    served: BTreeMap<String, BTreeSet<String>>,
    /// Until when a table may be set that was asked for while nothing of the service was wanted.
    unwanted_until_ms: BTreeMap<ServiceName, u64>,
    /// Since when a candidate gets requests that it must not get.
    astray_since_ms: Option<u64>,
    looked_at: Option<(u64, usize)>,
}

impl Safety {
    /// Notes what nothing is wanted of now; to be said whenever the agent may have changed its mind.
    pub fn note(&mut self, hardware: &Hardware, process: &Process) {
        let Some(wanted) = process.agent.wanted() else { return };
        let histories = process.agent.histories().keys();
        for service in histories.filter(|service| !is_wanted(wanted, service)) {
            self.unwanted_until_ms.insert(service.clone(), hardware.now_ms + TABLE_MS);
        }
    }

    /// The proxy lost its table with everything else.
    pub fn rebooted(&mut self) {
        self.served.clear();
    }
}

/// Looks at a board.
///
/// # Errors
/// Names what does not hold.
pub fn check(board: &mut Board) -> Result<(), String> {
    let (hardware, safety, process) = board.parts();
    let name = hardware.name.clone();
    let seen = hardware.disk.seen().map(|seen| seen.version).unwrap_or_default();
    if seen < safety.seen {
        return Err(format!("{name}: `seen` went from {:?} to {seen:?}", safety.seen));
    }
    safety.seen = seen;
    let version = (hardware.proxy.table().version, hardware.docker.changes().len());
    if safety.looked_at == Some(version) && safety.astray_since_ms.is_none() {
        return Ok(());
    }
    safety.looked_at = Some(version);
    let containers = {
        let ours = hardware.ours();
        hardware.docker.containers(&ours).unwrap_or_default()
    };
    let hardware = &*hardware;
    check_runs(hardware, &containers)?;
    if let Some((key, _)) = hardware.went_back.iter().find(|(_, count)| **count > 1) {
        return Err(format!("{name}: went back twice from {key:?}"));
    }
    for route in &hardware.proxy.table().routes {
        check_route(hardware, safety, process, route)?;
    }
    let served = |route: &Route| {
        let serving = route.backends.iter().filter(|b| serves(route, b)).map(|b| b.id.clone());
        (route.id.clone(), serving.collect())
    };
    safety.served = hardware.proxy.table().routes.iter().map(served).collect();
    Ok(())
}

/// Whether requests may come to a backend: a candidate at share 0 gets none, also where it is alone.
fn serves(route: &Route, backend: &Backend) -> bool {
    let is_kept_out = |split: &Split| split.share == 0 && split.release == backend.release;
    takes(backend) && !route.split.as_ref().is_some_and(is_kept_out)
}

/// Nothing runs that was not in a verified manifest, and no volume has two writers.
fn check_runs(hardware: &Hardware, containers: &[Container]) -> Result<(), String> {
    let name = &hardware.name;
    let mut writers: BTreeMap<(ServiceName, String), u32> = BTreeMap::new();
    for container in containers {
        let ContainerState::Running { .. } = container.state else { continue };
        let identity = &container.identity;
        if !hardware.allowed.contains(&identity.release) {
            return Err(format!("{name}: {} runs and no manifest said so", container.name));
        }
        let Some(known) = hardware.known(&identity.release) else { continue };
        for volume in known.spec.volumes.iter().filter(|v| !v.read_only && !v.shared) {
            let writers =
                writers.entry((identity.service.clone(), volume.name.to_string())).or_default();
            *writers += 1;
            if *writers > 1 {
                return Err(format!(
                    "{name}: two write the volume {} of {}",
                    volume.name, identity.service
                ));
            }
        }
    }
    Ok(())
}

fn check_route(
    hardware: &Hardware,
    safety: &mut Safety,
    process: Option<&Process>,
    route: &Route,
) -> Result<(), String> {
    let Some((service, port)) = parse_route_id(&hardware.identity.environment, &route.id) else {
        return Err(format!("{}: a route of nobody: {}", hardware.name, route.id));
    };
    // The agent that would mend it is not there, or has not looked yet.
    let Some(process) = process else { return Ok(()) };
    if port.as_str().ends_with("-preview") {
        return Ok(());
    }
    check_share(hardware, safety, process, &service, route)?;
    let is_on_its_way =
        safety.unwanted_until_ms.get(&service).is_some_and(|u| hardware.now_ms <= *u);
    if route.backends.iter().any(|b| serves(route, b))
        || is_on_its_way
        || may_be_empty(hardware, process, &service)
    {
        return Ok(());
    }
    let healthy = safety.served.get(&route.id).into_iter().flatten().find(|container| {
        !hardware.doomed.contains(*container) && hardware.is_lastingly_ready(container)
    });
    match healthy {
        Some(container) => Err(format!(
            "{}: the route {} is empty while {container} is healthy",
            hardware.name, route.id
        )),
        None => Ok(()),
    }
}

fn is_wanted(wanted: &Wanted, service: &ServiceName) -> bool {
    wanted.assignments.get(service).is_some_and(|assignment| assignment.count > 0)
}

/// Recreate, stop-first and exclusive services hold requests; what is removed or scaled to nothing has no clients; and the
/// way back of what failed with nothing before it is to nothing, also where some of its instances were ready.
fn may_be_empty(hardware: &Hardware, process: &Process, service: &ServiceName) -> bool {
    let assignment = process.agent.wanted().and_then(|w| w.assignments.get(service));
    let Some(assignment) = assignment.filter(|assignment| assignment.count > 0) else {
        return true;
    };
    let Some(history) = process.agent.histories().get(service) else { return true };
    if history.running.is_none() && !history.failures.is_empty() {
        return true;
    }
    let running = history.running.as_ref().map(|kept| &kept.release);
    let specs = running.into_iter().chain([&assignment.release]);
    let stops = |spec: &ServiceSpec| {
        spec.is_exclusive()
            || spec.rollout.strategy == Strategy::Recreate
            || spec.rollout.max_surge.ceil_of(assignment.count) == 0
    };
    // Without memory it is about to be decided, and the route follows at once.
    let is_short = hardware.memory_available.is_some();
    is_short
        || history.stop_first
        || specs.filter_map(|id| hardware.known(id)).any(|of_it| stops(&of_it.spec))
}

/// At share 0 a candidate is reached by its preview port alone.
fn check_share(
    hardware: &Hardware,
    safety: &mut Safety,
    process: &Process,
    service: &ServiceName,
    route: &Route,
) -> Result<(), String> {
    let assignment = process.agent.wanted().and_then(|w| w.assignments.get(service));
    let candidate = assignment.and_then(|a| a.candidate.as_ref()).filter(|c| c.share == 0);
    let running = process.agent.histories().get(service).and_then(|h| h.running.as_ref());
    let is_main = |release: &ReleaseId| {
        assignment.is_some_and(|a| a.release == *release)
            || running.is_some_and(|kept| kept.release == *release)
    };
    let Some(candidate) = candidate.filter(|c| !is_main(&c.release)) else {
        safety.astray_since_ms = None;
        return Ok(());
    };
    let is_kept_out = route
        .split
        .as_ref()
        .is_some_and(|split| split.release == candidate.release.as_str() && split.share == 0);
    let serves = route.backends.iter().any(|b| takes(b) && b.release == candidate.release.as_str());
    if !serves || is_kept_out {
        safety.astray_since_ms = None;
        return Ok(());
    }
    let since_ms = *safety.astray_since_ms.get_or_insert(hardware.now_ms);
    if hardware.now_ms - since_ms < SHARE_PATIENCE_MS {
        return Ok(());
    }
    Err(format!("{}: the candidate of {service} gets requests at share 0", hardware.name))
}
