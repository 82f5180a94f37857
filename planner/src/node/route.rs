//! The route of a service: which instances stand behind which port, and how each is treated.

use std::collections::BTreeSet;

use protocol::id::PortName;
use protocol::spec::{Port, ServiceSpec};

use super::facts::{Instance, Life, Routing};
use super::step::{Backend, BackendState, PortPlan, RoutePlan};
use super::view::View;

/// The route that the instances call for; `leaving` get nothing new. None: no port at all.
pub(super) fn plan(view: &View<'_>, leaving: &[&Instance]) -> Option<RoutePlan> {
    let specs = specs(view);
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
            backends: backends(view, &port.name, leaving),
        });
    }
    (!ports.is_empty()).then_some(RoutePlan { ports })
}

/// What runs first, then what is to come, then what still stands.
fn specs<'a>(view: &View<'a>) -> Vec<&'a ServiceSpec> {
    let running = view.history.running.as_ref().map(|k| &k.release);
    let target = view.target.as_ref().map(|k| &k.release);
    let up = view.facts.instances.iter().filter(|i| i.is_up()).map(|i| &i.release);
    let mut seen = BTreeSet::new();
    running
        .into_iter()
        .chain(target)
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

fn backends(view: &View<'_>, port: &PortName, leaving: &[&Instance]) -> Vec<Backend> {
    let backend = |instance: &Instance| {
        let spec = view.spec(&instance.release)?;
        let state = state(instance, leaving)?;
        Some(Backend {
            container: instance.container.clone(),
            target: named(spec, port)?.target,
            release: instance.release.clone(),
            state,
        })
    };
    view.facts.instances.iter().filter_map(backend).collect()
}

fn state(instance: &Instance, leaving: &[&Instance]) -> Option<BackendState> {
    let selected = leaving.iter().any(|l| l.container == instance.container);
    match (&instance.life, instance.routing) {
        (Life::Created | Life::Exited(_), _) => None,
        (Life::Running { .. } | Life::Stopping { .. }, Routing::Draining { .. })
        | (Life::Stopping { .. }, Routing::Active | Routing::Suspended) => {
            Some(BackendState::Draining)
        }
        (Life::Stopping { .. }, Routing::Absent) => None,
        (Life::Running { .. }, Routing::Active | Routing::Suspended) if selected => {
            Some(BackendState::Draining)
        }
        (Life::Running { .. }, Routing::Absent) if selected => None,
        (Life::Running { .. }, _) if instance.is_ready() => Some(BackendState::Active),
        (Life::Running { .. }, Routing::Active | Routing::Suspended) => {
            Some(BackendState::Suspended)
        }
        (Life::Running { .. }, Routing::Absent) => None,
    }
}
