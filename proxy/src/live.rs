//! Everything in force at this moment: the table, its routes and the listeners that lead to them.
//!
//! Owns how a table replaces another. One lock guards it; nothing awaits under it.

pub(crate) mod backend;
pub(crate) mod route;
pub(crate) mod split;

use crate::control::{
    Applied, BackendStatus, Changed, Counter, HandingOver, Refused, RefusedReason, Snapshot,
};
use crate::listen::{FLEET, Leads, Listener, Listeners};
use crate::table::{self, Caller, Table, TableError};
use crate::trust::{TrustError, Way};
use backend::Shared;
use route::Route;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};
use tokio::sync::Semaphore;

/// The state that control connections change and sessions read.
#[derive(Debug)]
pub(crate) struct Live {
    state: Mutex<State>,
    /// `changes` grows with everything a watcher waits for.
    pub(crate) shared: Shared,
    /// One permit per connection.
    pub(crate) connections: Arc<Semaphore>,
    pub(crate) connections_max: u32,
    /// Every answer closes its connection from now on.
    closing: AtomicBool,
    started_ms: u64,
}

#[derive(Debug, Default)]
struct State {
    table: Table,
    routes: Vec<Arc<Route>>,
    listeners: Listeners,
    retired: bool,
}

impl Live {
    pub(crate) fn new(connections_max: u32) -> Arc<Self> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Arc::new(Self {
            state: Mutex::default(),
            shared: Shared::default(),
            connections: Arc::new(Semaphore::new(connections_max as usize)),
            connections_max,
            closing: AtomicBool::new(false),
            started_ms: now.as_millis() as u64,
        })
    }

    /// Puts a table in force as a whole.
    ///
    /// # Errors
    /// When ids are not unique; then nothing is changed.
    pub(crate) fn set(self: &Arc<Self>, table: Table) -> Result<Applied, TableError> {
        table.check()?;
        let mut state = self.lock();
        let mut before = std::mem::take(&mut state.routes);
        let mut routes = Vec::with_capacity(table.routes.len());
        for wanted in &table.routes {
            let same =
                |route: &Arc<Route>| route.id == wanted.id && route.protocol == wanted.protocol;
            match before.iter().position(same) {
                Some(place) => {
                    let route = before.swap_remove(place);
                    route.apply(wanted);
                    routes.push(route);
                }
                None => routes.push(Arc::new(Route::new(wanted, self.shared.clone()))),
            }
        }
        let trust = table.fleet.as_ref().and_then(|fleet| fleet.trust.as_ref());
        let distrust = self.shared.between.set(trust).err();
        let mut refused =
            if state.retired { Vec::new() } else { self.listen(&mut state, &table, &routes) };
        if let Some(error) = distrust {
            refused.extend(fleet_refused(&table, &error));
        }
        before.iter().for_each(|route| route.retire());
        state.routes = routes;
        state.table = table;
        let version = state.table.version;
        drop(state);
        self.shared.changes.send_modify(|number| *number += 1);
        Ok(Applied { version, refused })
    }

    fn listen(
        self: &Arc<Self>,
        state: &mut State,
        table: &Table,
        routes: &[Arc<Route>],
    ) -> Vec<Refused> {
        // First, so that no service takes the port that joins the node to the others.
        let fleet = table.fleet.iter().flat_map(|fleet| &fleet.listen);
        let is_closed = matches!(self.shared.between.way(), Way::Closed);
        let fleet = fleet.filter(|_| !is_closed).map(|address| (*address, Leads::Fleet));
        let routes =
            table.routes.iter().zip(routes).flat_map(|(spec, route): (&table::Route, _)| {
                spec.listen.iter().map(move |address| (*address, Leads::Route(Arc::clone(route))))
            });
        state.listeners.apply(self, fleet.chain(routes).collect())
    }

    /// Listeners received from an older proxy; the next table decides which stay.
    pub(crate) fn adopt(self: &Arc<Self>, listeners: Vec<Listener>) {
        self.lock().listeners.adopt(listeners);
    }

    /// The sockets and what a newer proxy must know of them.
    pub(crate) fn hand_over(&self) -> (HandingOver, Vec<Arc<std::os::fd::OwnedFd>>) {
        let state = self.lock();
        let (listeners, sockets) = state.listeners.sockets();
        (HandingOver { table: state.table.clone(), listeners }, sockets)
    }

    /// Accepts nothing more; each kept connection is answered once more. Returns what was counted, which
    /// starts again from zero.
    pub(crate) fn retire(&self) -> Vec<Counter> {
        let mut state = self.lock();
        state.retired = true;
        self.closing.store(true, SeqCst);
        state.listeners.close();
        let routes = state.routes.iter();
        routes.flat_map(|route| counted(route, |one, id, label| one.take(id, label))).collect()
    }

    pub(crate) fn is_closing(&self) -> bool {
        self.closing.load(SeqCst)
    }

    pub(crate) fn snapshot(&self) -> Snapshot {
        let state = self.lock();
        let routes = || state.routes.iter();
        Snapshot {
            table: state.table.clone(),
            backends: statuses(&state.routes),
            counters: routes()
                .flat_map(|route| counted(route, |one, id, label| one.read(id, label)))
                .collect(),
            listening: state.listeners.listening(),
            held: routes().map(|route| (route.id.clone(), route.held())).collect(),
            pid: std::process::id(),
            started_ms: self.started_ms,
        }
    }

    pub(crate) fn changed(&self) -> Changed {
        let state = self.lock();
        Changed { version: state.table.version, backends: statuses(&state.routes) }
    }

    /// Adds what another proxy counted before it ended.
    pub(crate) fn inherit(&self, counters: &[Counter]) {
        let state = self.lock();
        for counter in counters {
            if let Some(route) = state.routes.iter().find(|route| route.id == counter.route) {
                route.counters_of(&counter.release).add(counter);
            }
        }
    }

    /// The route of that id.
    pub(crate) fn route(&self, id: &str) -> Option<Arc<Route>> {
        self.lock().routes.iter().find(|route| route.id == id).cloned()
    }

    /// The names of those whom the fleet port serves at this address.
    pub(crate) fn callers_at(&self, peer: IpAddr) -> Vec<String> {
        let state = self.lock();
        let fleet = state.table.fleet.iter();
        fleet.flat_map(|fleet| fleet.callers_at(peer)).map(str::to_owned).collect()
    }

    /// Whether the fleet port still serves this one.
    pub(crate) fn is_caller(&self, caller: &Caller) -> bool {
        let state = self.lock();
        let mut fleet = state.table.fleet.iter().flat_map(|fleet| fleet.callers_at(caller.address));
        fleet.any(|name| name == caller.name)
    }

    /// HTTP requests being answered.
    pub(crate) fn in_flight(&self) -> u64 {
        let state = self.lock();
        let backends = state.routes.iter().flat_map(|route| route.backends());
        backends.map(|backend| backend.in_flight()).sum()
    }

    /// Closes what is idle for too long; returns how many connections are kept.
    pub(crate) fn sweep_idle(&self, now: tokio::time::Instant) -> usize {
        let state = self.lock();
        let backends = state.routes.iter().flat_map(|route| route.backends());
        backends.map(|backend| backend.sweep_idle(now)).sum()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Nobody is served there, and it is tried again with the next table.
fn fleet_refused(table: &Table, error: &TrustError) -> Vec<Refused> {
    let addresses = table.fleet.iter().flat_map(|fleet| &fleet.listen);
    let refused = |address: &SocketAddr| Refused {
        route: FLEET.to_owned(),
        address: *address,
        reason: RefusedReason::Other(error.to_string()),
    };
    addresses.map(refused).collect()
}

fn statuses(routes: &[Arc<Route>]) -> Vec<BackendStatus> {
    let of_route = |route: &Arc<Route>| {
        let backends = route.backends();
        backends.iter().map(|backend| backend.status(&route.id)).collect::<Vec<_>>()
    };
    routes.iter().flat_map(of_route).collect()
}

fn counted(
    route: &Route,
    read: impl Fn(&crate::counters::Counters, &str, &str) -> Counter,
) -> Vec<Counter> {
    let counters = route.counters();
    counters.iter().map(|(label, one)| read(one, &route.id, label)).collect()
}
