//! From the planner's route plans to the proxy's table, and from the proxy's answers back to what the planner knows.
//! Translation only: who gets requests is the planner's choice.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::num::NonZeroU16;
use std::path::PathBuf;

use planner::Now;
use planner::node::{Backend, BackendState, OtherNode, PortPlan, Refusal, RoutePlan, Routing};
use protocol::id::{EnvironmentName, FleetId, NodeId, PortName, ServiceName};
use protocol::join;
use protocol::peers::Peers;
use protocol::reason::Reason;
use protocol::spec::{Listen, PortProtocol};
use proxy::{
    Caller, Fleet, Protocol, Refused, RefusedReason, Route, Shown, Snapshot, Table, Trust,
};

/// A backend that gets requests.
const WEIGHT: u32 = 1;
/// What other nodes answered is counted under this: they count it under the release themselves.
const ELSEWHERE: &str = "elsewhere";

/// What the translation needs to know beside the plans.
#[derive(Debug, Clone, Copy)]
pub struct Addresses<'a> {
    /// The fleet.
    pub fleet: &'a FleetId,
    /// The node's environment.
    pub environment: &'a EnvironmentName,
    /// Where ports are open unless the service narrows it.
    pub listen: &'a [IpAddr],
    /// The address of each service: the gateway of its network.
    pub gateways: &'a BTreeMap<ServiceName, Ipv4Addr>,
    /// The address of each container.
    pub containers: &'a BTreeMap<String, Ipv4Addr>,
    /// The address by which other nodes know this one; none: as the system chooses.
    pub own: Option<IpAddr>,
}

/// What a node tells its proxy about those of other nodes, whatever the manifest says.
#[derive(Debug, Clone)]
pub struct Between {
    /// The fleet port; none: other nodes are neither served nor asked.
    pub port: Option<NonZeroU16>,
    /// The folder with the node's certificate; none: they talk in clear.
    pub certificates: Option<PathBuf>,
    /// Certificates are looked at at this time.
    pub floor: mqtt::VerifyAt,
}

/// A day; the proxy need not be told of every second.
const DAY_S: u64 = 86_400;

impl Between {
    fn trust(&self) -> Trust {
        let Some(state_dir) = &self.certificates else { return Trust::Clear };
        Trust::Certificates {
            chain: state_dir.join(join::CERTIFICATE_FILE),
            key: state_dir.join(join::TLS_KEY_FILE),
            ca: state_dir.join(join::CA_FILE),
            instead: Some(Box::new(Shown {
                chain: state_dir.join(join::FLEET_CERTIFICATE_FILE),
                key: state_dir.join(join::FLEET_KEY_FILE),
            })),
            verify_at_s: self.floor.unix_s() / DAY_S * DAY_S,
        }
    }
}

/// What this node has to do with others; the fleet port is open while anyone is to be served there.
#[must_use]
pub fn fleet(
    listen: &[IpAddr],
    between: &Between,
    fleet: &FleetId,
    peers: &Peers,
) -> Option<Fleet> {
    let port = between.port.filter(|_| !peers.is_empty())?;
    let listen = listen.iter().filter(|_| !peers.callers.is_empty());
    let caller = |(id, address): (&NodeId, &IpAddr)| Caller {
        address: *address,
        name: join::node_dns_name(fleet, id),
    };
    Some(Fleet {
        listen: listen.map(|address| SocketAddr::new(*address, port.get())).collect(),
        callers: peers.callers.iter().map(caller).collect(),
        trust: Some(between.trust()),
    })
}

/// The routes of all services, in a stable order.
#[must_use]
pub fn routes(plans: &BTreeMap<ServiceName, RoutePlan>, addresses: Addresses<'_>) -> Vec<Route> {
    let of_service = |(service, plan): (&ServiceName, &RoutePlan)| {
        let route = |port: &PortPlan| route(service, port, addresses);
        plan.ports.iter().map(route).collect::<Vec<_>>()
    };
    plans.iter().flat_map(of_service).collect()
}

/// `environment/service/port`.
#[must_use]
pub fn route_id(environment: &EnvironmentName, service: &ServiceName, port: &PortName) -> String {
    format!("{environment}/{service}/{port}")
}

/// The service and port of a route of this environment.
#[must_use]
pub fn parse_route_id(environment: &EnvironmentName, id: &str) -> Option<(ServiceName, PortName)> {
    let rest = id.strip_prefix(environment.as_str())?.strip_prefix('/')?;
    let (service, port) = rest.split_once('/')?;
    Some((service.parse().ok()?, port.parse().ok()?))
}

/// The services whose routes in `table` are not the wanted ones.
#[must_use]
pub fn differing(
    environment: &EnvironmentName,
    wanted: &[Route],
    table: &Table,
) -> BTreeSet<ServiceName> {
    let by_id = |routes: &[Route]| -> BTreeMap<String, Route> {
        routes.iter().map(|route| (route.id.clone(), route.clone())).collect()
    };
    let (wanted, present) = (by_id(wanted), by_id(&table.routes));
    let ids: BTreeSet<&String> = wanted.keys().chain(present.keys()).collect();
    ids.into_iter()
        .filter(|id| wanted.get(*id) != present.get(*id))
        .filter_map(|id| parse_route_id(environment, id))
        .map(|(service, _)| service)
        .collect()
}

fn route(service: &ServiceName, port: &PortPlan, addresses: Addresses<'_>) -> Route {
    let mut listen: Vec<SocketAddr> =
        port.listen.iter().flat_map(|listen| sockets(listen, addresses.listen)).collect();
    if let (Some(number), Some(gateway)) = (port.service_port, addresses.gateways.get(service)) {
        listen.push(SocketAddr::from((*gateway, number)));
    }
    listen.dedup();
    let id = route_id(addresses.environment, service, &port.name);
    let own = port.backends.iter().filter_map(|one| backend(one, addresses.containers));
    let others = port.elsewhere.iter().map(|node| other_node(node, &id, addresses));
    Route {
        backends: own.chain(others).collect(),
        id,
        listen,
        protocol: match port.protocol {
            PortProtocol::Http => Protocol::Http,
            PortProtocol::Tcp => Protocol::Tcp,
        },
        hold_ms: port.hold.0,
        send_proxy_v2: port.proxy_protocol,
        trusted: Vec::new(),
        split: port.split.as_ref().map(|split| proxy::Split {
            release: split.release.to_string(),
            share: split.share,
            cookie: split.cohort.cookie.clone(),
            header: split.cohort.header.clone(),
        }),
    }
}

/// Has what no instance here takes, and asks its own instances alone.
fn other_node(node: &OtherNode, route: &str, addresses: Addresses<'_>) -> proxy::Backend {
    proxy::Backend {
        id: format!("node/{}", node.name),
        address: node.fleet_port,
        weight: WEIGHT,
        state: proxy::BackendState::Active,
        release: ELSEWHERE.to_owned(),
        through: Some(route.to_owned()),
        name: Some(join::node_dns_name(addresses.fleet, &node.id)),
        source: addresses.own,
        backup: true,
    }
}

fn sockets(listen: &Listen, all: &[IpAddr]) -> Vec<SocketAddr> {
    match listen.address {
        Some(address) => vec![SocketAddr::new(address, listen.port)],
        None => all.iter().map(|address| SocketAddr::new(*address, listen.port)).collect(),
    }
}

fn backend(backend: &Backend, containers: &BTreeMap<String, Ipv4Addr>) -> Option<proxy::Backend> {
    let address = containers.get(&backend.container)?;
    let (weight, state) = match backend.state {
        BackendState::Active => (WEIGHT, proxy::BackendState::Active),
        BackendState::Suspended => (0, proxy::BackendState::Active),
        BackendState::Draining => (WEIGHT, proxy::BackendState::Draining),
    };
    Some(proxy::Backend {
        id: backend.container.clone(),
        address: SocketAddr::from((*address, backend.target)),
        weight,
        state,
        release: backend.release.to_string(),
        through: None,
        name: None,
        source: None,
        backup: false,
    })
}

/// How the proxy treats a container, over all routes that name it, and its requests and connections.
/// `draining_since` is when this agent first saw it draining.
#[must_use]
pub fn routing(
    snapshot: &Snapshot,
    container: &str,
    draining_since: Option<Now>,
) -> (Routing, u64) {
    let backends = || {
        let routes = snapshot.table.routes.iter();
        routes.flat_map(|route| &route.backends).filter(|backend| backend.id == container)
    };
    let statuses = snapshot.backends.iter().filter(|status| status.backend == container);
    let in_flight = statuses.map(|status| status.in_flight + status.connections).sum();
    let is_draining = |backend: &proxy::Backend| backend.state == proxy::BackendState::Draining;
    let routing = if backends().any(is_draining) {
        Routing::Draining { since: draining_since.unwrap_or_default() }
    } else if backends().any(|backend| backend.weight > 0) {
        Routing::Active
    } else if backends().next().is_some() {
        Routing::Suspended
    } else {
        Routing::Absent
    };
    (routing, in_flight)
}

/// Containers that a snapshot shows draining.
#[must_use]
pub fn draining(snapshot: &Snapshot) -> BTreeSet<&str> {
    let backends = snapshot.table.routes.iter().flat_map(|route| &route.backends);
    backends
        .filter(|backend| backend.state == proxy::BackendState::Draining)
        .map(|backend| backend.id.as_str())
        .collect()
}

/// Addresses that the table names and the proxy does not listen on.
#[must_use]
pub fn unheard(snapshot: &Snapshot) -> Vec<(String, SocketAddr)> {
    let named = |route: &Route| {
        let id = route.id.clone();
        route.listen.iter().map(|address| (id.clone(), *address)).collect::<Vec<_>>()
    };
    let mut wanted: Vec<_> = snapshot.table.routes.iter().flat_map(named).collect();
    wanted.retain(|one| !snapshot.listening.contains(one));
    wanted
}

/// Whether the table has a fleet port that the proxy does not listen on.
#[must_use]
pub fn is_fleet_port_closed(snapshot: &Snapshot) -> bool {
    let is_open = |address: &SocketAddr| {
        snapshot.listening.iter().any(|(id, open)| id == proxy::FLEET && open == address)
    };
    snapshot.table.fleet.iter().flat_map(|fleet| &fleet.listen).any(|address| !is_open(address))
}

/// Why the fleet port is not open.
#[must_use]
pub fn fleet_port_trouble(refused: &[Refused]) -> Option<(Reason, String)> {
    refused.iter().find(|refused| refused.route == proxy::FLEET).map(sentence)
}

/// What the proxy could not listen on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trouble {
    /// The service.
    pub service: ServiceName,
    /// As the planner knows it.
    pub refusal: Refusal,
    /// Where it would be open.
    pub reach: Reach,
}

/// For whom an address is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// For clients of the node: a service without it is not what was asked for.
    Node,
    /// For other containers, by the service's name: the service works without it, and it is tried again.
    Containers,
}

/// The refusals of a table, in the planner's words.
#[must_use]
pub fn troubles(
    environment: &EnvironmentName,
    gateways: &BTreeMap<ServiceName, Ipv4Addr>,
    refused: &[Refused],
) -> Vec<Trouble> {
    let trouble = |refused: &Refused| {
        let (service, port) = parse_route_id(environment, &refused.route)?;
        let (reason, message) = sentence(refused);
        let is_gateway =
            gateways.get(&service).is_some_and(|gateway| refused.address.ip() == *gateway);
        let reach = if is_gateway { Reach::Containers } else { Reach::Node };
        Some(Trouble { service, refusal: Refusal { port, reason, message }, reach })
    };
    refused.iter().filter_map(trouble).collect()
}

fn sentence(refused: &Refused) -> (Reason, String) {
    let address = refused.address;
    match &refused.reason {
        RefusedReason::PortTaken { by: Some(by) } => {
            (Reason::PortTaken, format!("{address} is taken by {by}"))
        }
        RefusedReason::PortTaken { by: None } => {
            (Reason::PortTaken, format!("{address} is taken by another program"))
        }
        RefusedReason::AddressNotAvailable => {
            (Reason::AddressNotAvailable, format!("no interface of this node has {}", address.ip()))
        }
        RefusedReason::PermissionDenied => (
            Reason::AddressNotAvailable,
            format!("the proxy may not listen on {address}; it lacks CAP_NET_BIND_SERVICE"),
        ),
        RefusedReason::Other(text) => {
            (Reason::AddressNotAvailable, format!("cannot listen on {address}: {text}"))
        }
    }
}

#[cfg(test)]
mod tests;
