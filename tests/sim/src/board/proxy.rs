//! A model of the proxy: the table set whole, requests that linger on what drains, counters by the split's rule, ports that
//! another program holds. No sockets.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use proxy::{
    Applied, Backend, BackendState, BackendStatus, Counter, Refused, RefusedReason, Route,
    Snapshot, Table,
};

use crate::random::Random;

/// Requests per second and route.
const RATE: u64 = 40;
/// All of them, as a split counts.
const WHOLE: u64 = 10_000;
/// Every answer takes less.
const LATENCY_MS: u64 = 50;

/// See the file's head.
#[derive(Debug, Default)]
pub struct Proxy {
    table: Table,
    /// Until when something is in flight on a backend that drains.
    lingering: BTreeMap<String, u64>,
    counters: BTreeMap<(String, String), Counter>,
    counted_at_ms: u64,
    /// Ports that another program holds.
    pub taken: BTreeSet<u16>,
    /// How long requests linger at most.
    pub lingers_ms: u64,
}

impl Proxy {
    /// The table in force.
    #[must_use]
    pub const fn table(&self) -> &Table {
        &self.table
    }

    /// The machine started anew: nothing is listened on until an agent says so.
    pub fn reboot(&mut self) {
        (self.table, self.lingering) = (Table::default(), BTreeMap::new());
        self.counters.clear();
    }

    /// Sets the table; what could not be listened on. Returns when requests on draining backends end.
    pub fn set(&mut self, table: Table, now_ms: u64, random: &mut Random) -> (Applied, Vec<u64>) {
        let was_draining: BTreeSet<String> = draining(&self.table).map(|b| b.id.clone()).collect();
        let mut ends = Vec::new();
        for backend in draining(&table).filter(|b| !was_draining.contains(&b.id)) {
            let lasts_ms = if random.chance(60) { 0 } else { random.between(0, self.lingers_ms) };
            self.lingering.insert(backend.id.clone(), now_ms + lasts_ms);
            ends.push(now_ms + lasts_ms);
        }
        let version = table.version;
        self.table = table;
        let is_taken = |address: &&SocketAddr| self.taken.contains(&address.port());
        let refused = self.table.routes.iter().flat_map(|route| {
            route.listen.iter().filter(is_taken).map(|address| Refused {
                route: route.id.clone(),
                address: *address,
                reason: RefusedReason::PortTaken { by: None },
            })
        });
        (Applied { version, refused: refused.collect() }, ends)
    }

    /// Whether a request is on this backend.
    #[must_use]
    pub fn in_flight(&self, container: &str, now_ms: u64) -> u64 {
        u64::from(self.lingering.get(container).is_some_and(|until| now_ms < *until))
    }

    /// Everything it knows.
    #[must_use]
    pub fn snapshot(&self, now_ms: u64) -> Snapshot {
        let routes = || self.table.routes.iter();
        let listening = routes().flat_map(|route| {
            let open = route.listen.iter().filter(|address| !self.taken.contains(&address.port()));
            open.map(|address| (route.id.clone(), *address))
        });
        Snapshot {
            table: self.table.clone(),
            backends: self.statuses(now_ms),
            counters: self.counters.values().cloned().collect(),
            listening: listening.collect(),
            held: Vec::new(),
            pid: 1,
            started_ms: 0,
        }
    }

    /// Of every backend.
    #[must_use]
    pub fn statuses(&self, now_ms: u64) -> Vec<BackendStatus> {
        let status = |route: &Route, backend: &Backend| BackendStatus {
            route: route.id.clone(),
            backend: backend.id.clone(),
            state: backend.state,
            in_flight: self.in_flight(&backend.id, now_ms),
            connections: 0,
            requests_started: 0,
            connect_errors: 0,
        };
        let routes = self.table.routes.iter();
        routes.flat_map(|route| route.backends.iter().map(move |b| status(route, b))).collect()
    }

    /// Clients ask all the time: counts what they asked since the last time. `errors` says how many of a hundred answers
    /// of a release are errors.
    pub fn count(&mut self, now_ms: u64, errors: impl Fn(&str) -> u64) {
        let asked = (now_ms - self.counted_at_ms.min(now_ms)) * RATE / 1000;
        self.counted_at_ms = now_ms;
        for route in &self.table.routes {
            for (release, requests) in shared(route, asked) {
                let key = (route.id.clone(), release.clone());
                let counter = self.counters.entry(key).or_insert_with(|| Counter {
                    route: route.id.clone(),
                    release: release.clone(),
                    requests: 0,
                    errors_5xx: 0,
                    errors_connect: 0,
                    latency: vec![(LATENCY_MS, 0)],
                    latency_sum_us: 0,
                });
                counter.requests += requests;
                counter.errors_5xx += requests * errors(&release) / 100;
                counter.latency[0].1 += requests;
            }
        }
    }
}

fn draining(table: &Table) -> impl Iterator<Item = &Backend> {
    let backends = table.routes.iter().flat_map(|route| &route.backends);
    backends.filter(|backend| backend.state == BackendState::Draining)
}

/// Whether a backend takes new requests.
#[must_use]
pub fn takes(backend: &Backend) -> bool {
    backend.state == BackendState::Active && backend.weight > 0
}

/// How `asked` requests fall on releases: the candidate's share first, the rest to the others; where one of both has
/// nobody the other serves, but at share 0 the candidate never does.
fn shared(route: &Route, asked: u64) -> Vec<(String, u64)> {
    let serving: BTreeSet<&String> =
        route.backends.iter().filter(|b| takes(b)).map(|b| &b.release).collect();
    let candidate = route.split.as_ref().map(|split| &split.release);
    let stable: Vec<&String> =
        serving.iter().copied().filter(|release| Some(*release) != candidate).collect();
    let share = route.split.as_ref().map_or(0, |split| u64::from(split.share));
    let has_candidate = candidate.is_some_and(|release| serving.contains(release)) && share > 0;
    let of_candidate = match (has_candidate, stable.is_empty()) {
        (true, true) => asked,
        (true, false) => asked * share / WHOLE,
        (false, _) => 0,
    };
    let each = (asked - of_candidate) / (stable.len().max(1) as u64);
    let mut parts: Vec<(String, u64)> = stable.into_iter().map(|r| (r.clone(), each)).collect();
    if let Some(release) = candidate.filter(|_| has_candidate) {
        parts.push((release.clone(), of_candidate));
    }
    parts
}
