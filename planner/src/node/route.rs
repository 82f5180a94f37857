//! The route of a service: which instances stand behind which port, and how each is treated.

use std::collections::BTreeSet;

use protocol::id::{NodeName, PortName};
use protocol::peers::{Elsewhere, Peer};
use protocol::spec::{Cohort, Listen, Port, PortProtocol, ServiceSpec, Strategy};

use super::facts::{Instance, Life, Routing};
use super::fate::{self, Fates};
use super::step::{Backend, BackendState, OtherNode, PortPlan, RoutePlan, Split};
use super::view::View;

/// What a port's name gets where its candidate is reached.
pub(super) const PREVIEW: &str = "-preview";

/// The route that the instances call for. None: no port at all.
pub(super) fn plan(view: &View<'_>, fates: &Fates<'_>) -> Option<RoutePlan> {
    let specs = specs(view);
    let standby = Standby::of(view, fates);
    let mut ports: Vec<PortPlan> = Vec::new();
    for port in specs.iter().flat_map(|spec| &spec.ports) {
        if ports.iter().any(|p| p.name == port.name) {
            continue;
        }
        let taken = ports.iter().any(|p| p.service_port == Some(port.target));
        ports.push(PortPlan {
            name: port.name.clone(),
            listen: listens(&specs, &port.name),
            service_port: (!taken).then_some(port.target),
            protocol: port.protocol,
            proxy_protocol: port.proxy_protocol,
            hold: specs[0].rollout.hold_requests,
            split: split(view),
            backends: backends(view, &port.name, fates, &standby),
            elsewhere: other_nodes(view),
        });
    }
    ports.extend(preview(view, fates));
    (!ports.is_empty()).then_some(RoutePlan { ports })
}

/// What the manifest says of the service on other nodes.
pub(super) fn elsewhere<'a>(view: &View<'a>) -> Option<&'a Elsewhere> {
    view.wanted.peers.services.get(view.name)
}

fn other_nodes(view: &View<'_>) -> Vec<OtherNode> {
    let nodes = elsewhere(view).into_iter().flat_map(|elsewhere| &elsewhere.nodes);
    let known = nodes.filter_map(|name| Some((name, view.wanted.peers.nodes.get(name)?)));
    let other = |(name, peer): (&NodeName, &Peer)| OtherNode {
        name: name.clone(),
        id: peer.id.clone(),
        fleet_port: peer.address,
    };
    known.map(other).collect()
}

/// The route of a service that is called here and runs elsewhere, around what still ends here.
pub(super) fn plan_elsewhere(view: &View<'_>, ending: Option<RoutePlan>) -> Option<RoutePlan> {
    let mut ports = ending.map(|plan| plan.ports).unwrap_or_default();
    for port in elsewhere(view).into_iter().flat_map(|elsewhere| &elsewhere.ports) {
        if let Some(known) = ports.iter_mut().find(|known| known.name == port.name) {
            known.service_port = Some(port.number);
            continue;
        }
        ports.push(PortPlan {
            name: port.name.clone(),
            listen: Vec::new(),
            service_port: Some(port.number),
            protocol: port.protocol,
            proxy_protocol: port.proxy_protocol,
            hold: port.hold,
            split: None,
            backends: Vec::new(),
            elsewhere: other_nodes(view),
        });
    }
    (!ports.is_empty()).then_some(RoutePlan { ports })
}

/// What runs first, then what is to come, then what still stands.
fn specs<'a>(view: &View<'a>) -> Vec<&'a ServiceSpec> {
    let running = view.history.running.as_ref().map(|k| &k.release);
    let target = view.target.as_ref().map(|k| &k.release);
    let candidate = view.candidate.as_ref().map(|k| &k.release);
    let up = view.facts.instances.iter().filter(|i| i.is_up()).map(|i| &i.release);
    let mut seen = BTreeSet::new();
    running
        .into_iter()
        .chain(target)
        .chain(candidate)
        .chain(up)
        .filter(|release| seen.insert(*release))
        .filter_map(|release| view.spec(release))
        .collect()
}

fn named<'a>(spec: &'a ServiceSpec, name: &PortName) -> Option<&'a Port> {
    spec.ports.iter().find(|p| p.name == *name)
}

fn listens(specs: &[&ServiceSpec], name: &PortName) -> Vec<protocol::spec::Listen> {
    let mut listens = Vec::new();
    for listen in specs.iter().filter_map(|s| named(s, name)).filter_map(|p| p.listen.clone()) {
        if !listens.contains(&listen) {
            listens.push(listen);
        }
    }
    listens
}

/// Who gets nothing for now although ready: the new set before a switch, the old one after it.
struct Standby {
    /// The new set, which is not complete yet, while an old one serves.
    is_new_set_held: bool,
    /// Nobody else serves: what rests comes back until somebody does.
    are_resting_needed: bool,
}

impl Standby {
    fn of(view: &View<'_>, fates: &Fates<'_>) -> Self {
        let Some(spec) = view.running_spec() else {
            return Self { is_new_set_held: false, are_resting_needed: false };
        };
        let serves = |i: &&Instance| {
            i.is_live()
                && i.is_ready()
                && !fates.is_leaving(i)
                && !fates.is_resting(i)
                && !view.is_wanted_candidate(i)
        };
        let serving = || view.facts.instances.iter().filter(serves);
        let switches = matches!(spec.rollout.strategy, Strategy::BlueGreen(_));
        let is_incomplete = fate::available(view, spec) < view.count(spec) as usize;
        let old_serves = serving().any(|i| !view.is_of_running(i));
        Self {
            is_new_set_held: switches && is_incomplete && !view.history.completed && old_serves,
            are_resting_needed: serving().next().is_none(),
        }
    }
}

/// The candidate's share of the requests, while there is one.
fn split(view: &View<'_>) -> Option<Split> {
    let kept = view.candidate.as_ref().filter(|kept| !view.has_given_up(kept))?;
    let candidate = view.assignment?.candidate.as_ref()?;
    let cohort = match &view.spec(&kept.release)?.rollout.strategy {
        Strategy::Canary(canary) => canary.cohort.clone(),
        Strategy::Rolling | Strategy::Recreate | Strategy::BlueGreen(_) => Cohort::default(),
    };
    Some(Split { release: kept.release.clone(), share: candidate.share, cohort })
}

/// Where the green set answers before the switch.
fn preview(view: &View<'_>, fates: &Fates<'_>) -> Option<PortPlan> {
    let kept = view.candidate.as_ref().filter(|kept| !view.has_given_up(kept))?;
    let spec = view.spec(&kept.release)?;
    let Strategy::BlueGreen(blue_green) = &spec.rollout.strategy else { return None };
    let number = blue_green.preview_port?;
    let port = spec.ports.iter().find(|port| port.listen.is_some())?;
    let address = port.listen.as_ref().and_then(|listen| listen.address);
    let backends = view.facts.instances.iter().filter(|i| view.is_wanted_candidate(i));
    let backend = |i: &Instance| {
        Some(Backend {
            container: i.container.clone(),
            target: port.target,
            release: i.release.clone(),
            state: state(i, fates.is_leaving(i), false)?,
        })
    };
    Some(PortPlan {
        name: format!("{}{PREVIEW}", port.name).parse().ok()?,
        listen: vec![Listen { address, port: number }],
        service_port: None,
        protocol: port.protocol,
        proxy_protocol: port.protocol == PortProtocol::Tcp && port.proxy_protocol,
        hold: spec.rollout.hold_requests,
        split: None,
        backends: backends.filter_map(backend).collect(),
        // It is this node's candidate that is looked at.
        elsewhere: Vec::new(),
    })
}

fn backends(
    view: &View<'_>,
    port: &PortName,
    fates: &Fates<'_>,
    standby: &Standby,
) -> Vec<Backend> {
    let backend = |instance: &Instance| {
        let spec = view.spec(&instance.release)?;
        let is_held = fates.is_resting(instance) && !standby.are_resting_needed
            || view.is_of_running(instance) && standby.is_new_set_held;
        let state = state(instance, fates.is_leaving(instance), is_held)?;
        Some(Backend {
            container: instance.container.clone(),
            target: named(spec, port)?.target,
            release: instance.release.clone(),
            state,
        })
    };
    view.facts.instances.iter().filter_map(backend).collect()
}

fn state(instance: &Instance, is_leaving: bool, is_held: bool) -> Option<BackendState> {
    match (&instance.life, instance.routing) {
        (Life::Created | Life::Exited(_), _) => None,
        (Life::Running { .. } | Life::Stopping { .. }, Routing::Draining { .. })
        | (Life::Stopping { .. }, Routing::Active | Routing::Suspended) => {
            Some(BackendState::Draining)
        }
        (Life::Stopping { .. }, Routing::Absent) => None,
        (Life::Running { .. }, Routing::Active | Routing::Suspended) if is_leaving => {
            Some(BackendState::Draining)
        }
        (Life::Running { .. }, Routing::Absent) if is_leaving => None,
        (Life::Running { .. }, _) if instance.is_ready() && !is_held => Some(BackendState::Active),
        (Life::Running { .. }, Routing::Active | Routing::Suspended) => {
            Some(BackendState::Suspended)
        }
        (Life::Running { .. }, Routing::Absent) if instance.is_ready() => {
            Some(BackendState::Suspended)
        }
        (Life::Running { .. }, Routing::Absent) => None,
    }
}
