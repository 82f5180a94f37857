//! The listening sockets: bound once, kept while any route names their address, and the accept loops.
//!
//! All carry SO_REUSEPORT, so that a wildcard and a specific address of one port may belong to two routes.
//! That would also let us share a port with a stranger, hence the look before binding.

use crate::control::{Refused, RefusedReason};
use crate::fleet;
use crate::http::Arrival;
use crate::limits::{ACCEPT_PAUSE, BACKLOG, KEEPALIVE_IDLE};
use crate::live::Live;
use crate::live::route::Route;
use crate::ports;
use crate::stream::Stream;
use crate::table::Protocol;
use socket2::{Domain, SockRef, Socket, TcpKeepalive, Type};
use std::collections::HashSet;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::AbortHandle;

/// The fleet port's name among the routes' ids, which all have a slash.
pub const FLEET: &str = "fleet";

/// Where an address leads at this moment. Kept connections follow it too.
#[derive(Debug)]
pub(crate) struct Slot(Mutex<Arc<Route>>);

impl Slot {
    pub(crate) fn to(route: Arc<Route>) -> Arc<Self> {
        Arc::new(Self(Mutex::new(route)))
    }

    pub(crate) fn route(&self) -> Arc<Route> {
        Arc::clone(&self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn lead_to(&self, route: Arc<Route>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = route;
    }
}

/// What a listening socket is wanted for.
#[derive(Debug)]
pub(crate) enum Leads {
    /// One route's clients.
    Route(Arc<Route>),
    /// Other nodes' proxies; each of their connections says which route it is for.
    Fleet,
}

/// Where accepted connections go.
#[derive(Debug, Clone)]
enum Door {
    Route(Arc<Slot>),
    Fleet,
}

impl Leads {
    fn name(&self) -> String {
        match self {
            Self::Route(route) => route.id.clone(),
            Self::Fleet => FLEET.to_owned(),
        }
    }
}

impl Door {
    fn to(leads: &Leads) -> Self {
        match leads {
            Leads::Route(route) => Self::Route(Slot::to(Arc::clone(route))),
            Leads::Fleet => Self::Fleet,
        }
    }

    /// Leads elsewhere from now on. Kept connections follow from one route to another.
    fn lead_to(&mut self, leads: &Leads) {
        match (&*self, leads) {
            (Self::Route(slot), Leads::Route(route)) => slot.lead_to(Arc::clone(route)),
            (Self::Route(_), Leads::Fleet) | (Self::Fleet, Leads::Route(_) | Leads::Fleet) => {
                *self = Self::to(leads);
            }
        }
    }

    fn name(&self) -> String {
        match self {
            Self::Route(slot) => slot.route().id.clone(),
            Self::Fleet => FLEET.to_owned(),
        }
    }
}

/// A listening socket that nothing uses yet.
#[derive(Debug)]
pub(crate) struct Listener {
    pub(crate) address: SocketAddr,
    pub(crate) socket: std::net::TcpListener,
}

/// A listening socket in use.
#[derive(Debug)]
struct Bound {
    address: SocketAddr,
    socket: Arc<OwnedFd>,
    door: Arc<Mutex<Door>>,
    accepting: AbortHandle,
}

impl Bound {
    fn name(&self) -> String {
        lock(&self.door).name()
    }
}

fn lock(door: &Mutex<Door>) -> MutexGuard<'_, Door> {
    door.lock().unwrap_or_else(PoisonError::into_inner)
}

/// See the file's head.
#[derive(Debug, Default)]
pub(crate) struct Listeners {
    bound: Vec<Bound>,
    adopted: Vec<Listener>,
}

impl Drop for Bound {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl Listeners {
    /// Listens on exactly `wanted`, as far as possible; returns what was refused.
    pub(crate) fn apply(
        &mut self,
        live: &Arc<Live>,
        wanted: Vec<(SocketAddr, Leads)>,
    ) -> Vec<Refused> {
        let mut before = std::mem::take(&mut self.bound);
        let mut adopted = std::mem::take(&mut self.adopted);
        let mut strange = Strangers::new();
        let mut refused = Vec::new();
        for (address, leads) in wanted {
            if let Some(other) = self.bound.iter().find(|bound| bound.address == address) {
                let by = Some(format!("route {}", other.name()));
                let reason = RefusedReason::PortTaken { by };
                refused.push(Refused { route: leads.name(), address, reason });
                continue;
            }
            if let Some(place) = before.iter().position(|bound| bound.address == address) {
                let bound = before.swap_remove(place);
                lock(&bound.door).lead_to(&leads);
                self.bound.push(bound);
                continue;
            }
            let socket = match adopted.iter().position(|one| one.address == address) {
                Some(place) => Ok(adopted.swap_remove(place).socket),
                None => strange
                    .check(address)
                    .and_then(|()| bind(address).map_err(|error| strange.explain(address, &error))),
            };
            match socket.and_then(|socket| {
                start(live, address, socket, Door::to(&leads))
                    .map_err(|error| RefusedReason::Other(error.to_string()))
            }) {
                Ok(bound) => self.bound.push(bound),
                Err(reason) => refused.push(Refused { route: leads.name(), address, reason }),
            }
        }
        refused
    }

    /// Sockets from an older proxy, used by the next `apply`.
    pub(crate) fn adopt(&mut self, listeners: Vec<Listener>) {
        self.adopted = listeners;
    }

    pub(crate) fn sockets(&self) -> (Vec<SocketAddr>, Vec<Arc<OwnedFd>>) {
        self.bound.iter().map(|bound| (bound.address, Arc::clone(&bound.socket))).unzip()
    }

    pub(crate) fn listening(&self) -> Vec<(String, SocketAddr)> {
        self.bound.iter().map(|bound| (bound.name(), bound.address)).collect()
    }

    /// Stops accepting and closes our descriptors.
    pub(crate) fn close(&mut self) {
        self.bound.clear();
    }
}

/// Other programs' listeners, looked up at the first need.
#[derive(Debug)]
struct Strangers {
    ours: HashSet<u64>,
    all: Option<Vec<ports::Listening>>,
}

impl Strangers {
    fn new() -> Self {
        Self { ours: HashSet::new(), all: None }
    }

    /// Read once: nothing is bound by others of this process meanwhile.
    fn look(&mut self) -> (&[ports::Listening], &HashSet<u64>) {
        if self.all.is_none() {
            self.ours = ports::own_sockets();
        }
        (self.all.get_or_insert_with(ports::listening), &self.ours)
    }

    fn check(&mut self, address: SocketAddr) -> Result<(), RefusedReason> {
        if ports::is_free(address) {
            return Ok(());
        }
        let (all, ours) = self.look();
        match ports::foreign(all, ours, address) {
            Some(other) => Err(RefusedReason::PortTaken { by: ports::owner(other.inode) }),
            None => Ok(()),
        }
    }

    fn explain(&mut self, address: SocketAddr, error: &io::Error) -> RefusedReason {
        #[expect(clippy::wildcard_enum_match_arm, reason = "the system has dozens of kinds")]
        match error.kind() {
            io::ErrorKind::AddrInUse => {
                let (all, ours) = self.look();
                let other = ports::same_port(all, ours, address.port());
                let by = other.and_then(|other| ports::owner(other.inode));
                RefusedReason::PortTaken { by }
            }
            io::ErrorKind::AddrNotAvailable => RefusedReason::AddressNotAvailable,
            io::ErrorKind::PermissionDenied => RefusedReason::PermissionDenied,
            _ => RefusedReason::Other(error.to_string()),
        }
    }
}

/// Options set here are inherited by accepted sockets (tcp(7)), which saves calls for each of them.
fn bind(address: SocketAddr) -> io::Result<std::net::TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM.cloexec(), None)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    socket.set_tcp_nodelay(true)?;
    let keepalive = TcpKeepalive::new().with_time(KEEPALIVE_IDLE).with_interval(KEEPALIVE_IDLE / 5);
    socket.set_tcp_keepalive(&keepalive)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

fn start(
    live: &Arc<Live>,
    address: SocketAddr,
    socket: std::net::TcpListener,
    door: Door,
) -> io::Result<Bound> {
    SockRef::from(&socket).set_nonblocking(true)?;
    let kept = Arc::new(socket.as_fd().try_clone_to_owned()?);
    let door = Arc::new(Mutex::new(door));
    let listener = TcpListener::from_std(socket)?;
    let accepting = accept(Arc::clone(live), listener, Arc::clone(&door));
    let accepting = tokio::spawn(accepting).abort_handle();
    Ok(Bound { address, socket: kept, door, accepting })
}

/// Runs until it is aborted; an accepted connection is spawned without an await in between, so that none
/// is lost then.
async fn accept(live: Arc<Live>, listener: TcpListener, door: Arc<Mutex<Door>>) {
    loop {
        let Ok(permit) = Arc::clone(&live.connections).acquire_owned().await else {
            return;
        };
        match listener.accept().await {
            Ok((client, peer)) => {
                let (live, door) = (Arc::clone(&live), lock(&door).clone());
                tokio::spawn(async move {
                    let _permit = permit;
                    match door {
                        Door::Route(slot) => serve(client, peer, slot, live).await,
                        // On the heap, so that its size is not every connection's.
                        Door::Fleet => Box::pin(fleet::serve(client, peer.ip(), live)).await,
                    }
                });
            }
            // A connection that ended in the queue is its client's business (accept(2)).
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => (),
            Err(error) => {
                tracing::warn!(%error, "accept failed");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn serve(client: TcpStream, peer: SocketAddr, slot: Arc<Slot>, live: Arc<Live>) {
    let route = slot.route();
    match route.protocol {
        Protocol::Http => {
            crate::http::serve(Stream::Clear(client), Arrival::direct(peer.ip()), slot, live).await;
        }
        Protocol::Tcp => crate::tcp::serve(client, peer, &route).await,
    }
}
