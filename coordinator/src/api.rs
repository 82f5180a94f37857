//! The API: HTTP/JSON on unix sockets and, for operators with a certificate of the fleet's CA, on the coordinator's TLS port.
//!
//! ```text
//! connection -> Peer (who the kernel or TLS says it is) -> gate: places, rate, role, body, audit -> handler -> loop -> answer
//!                                                            |                                                   |
//!                                                            +-- routes.rs: one table of all requests            +-- audit
//! ```
//! `after` in a query is the `version` of an earlier answer: the answer then waits until there is something newer, at most
//! [`LONG_POLL`].

mod agents;
mod archives;
mod caller;
mod gate;
mod limits;
mod live;
mod metrics;
mod notices;
mod people;
mod problem;
mod read;
mod replacing;
mod routes;
mod secrets;
mod sockets;
mod streams;
mod target;
mod write;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware::from_fn_with_state;
use protocol::id::FleetId;
use serde::{Deserialize, Serialize};

use crate::archives::Archives;
use crate::audit::Audit;
use crate::ca::Ca;
use crate::data_dir::DataDir;
use crate::event_loop::{Clock, Fleet};
use crate::state::At;
pub use caller::{Group, Peer};
pub use limits::Limits;
use limits::{Places, Rates};
pub use notices::NotifyShown;
pub use sockets::{ServeError, Serving, serve, serve_group};
pub use streams::{ExecWanted, ForwardWanted, TypedWanted, UPGRADE_TO};

/// The longest that an answer waits for news.
pub const LONG_POLL: Duration = Duration::from_secs(25);
/// Names a request, so that its repetition is not done again.
pub const KEY_HEADER: &str = "idempotency-key";
/// Says that an answer is that of an earlier request.
pub const REPEATED_HEADER: &str = "idempotent-replayed";

/// What the API serves.
#[derive(Debug)]
pub struct Api {
    /// The fleet.
    pub fleet: Fleet,
    /// The fleet's folder: which director keys a next trust root may name.
    pub data: DataDir,
    /// The fleet's CA: who logs in gets a certificate of it.
    pub ca: Arc<Ca>,
    /// Images without a registry.
    pub archives: Arc<Archives>,
    /// What is asked is written here first.
    pub audit: Audit,
    /// What tokens say; none: this coordinator opens no port to join at.
    pub joining: Option<Joining>,
    live: live::Live,
    clock: Clock,
    rates: Rates,
    places: Places,
    answered: metrics::Answered,
}

/// What every token of this coordinator says.
#[derive(Debug, Clone)]
pub struct Joining {
    /// Of which fleet.
    pub fleet: FleetId,
    /// The hash of its CA.
    pub ca_sha256: String,
    /// Where the port listens.
    pub port: SocketAddr,
}

/// The body of every error.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// Stable.
    pub code: String,
    /// For a person.
    pub message: String,
}

impl Api {
    /// An API that nobody has asked yet.
    #[must_use]
    pub fn new(
        (fleet, data): (Fleet, DataDir),
        ca: Arc<Ca>,
        audit: Audit,
        joining: Option<Joining>,
        (limits, clock): (Limits, Clock),
    ) -> Arc<Self> {
        let archives = Arc::new(Archives::of(data.path()));
        let (rates, places) = (Rates::new(limits), Places::new(limits));
        let answered = metrics::Answered::default();
        let live = live::Live::default();
        Arc::new(Self {
            fleet,
            data,
            ca,
            archives,
            audit,
            joining,
            live,
            clock,
            rates,
            places,
            answered,
        })
    }

    fn at(&self) -> At {
        (self.clock)()
    }
}

/// All routes of the table, each behind the gate. Every request must carry a [`Peer`].
pub fn router(api: &Arc<Api>) -> Router {
    let mut paths: HashMap<&str, axum::routing::MethodRouter<Arc<Api>>> = HashMap::new();
    for route in &routes::ROUTES {
        let behind_gate =
            (route.handler)().route_layer(from_fn_with_state((Arc::clone(api), route), gate::pass));
        let known = paths.remove(route.path).unwrap_or_default();
        paths.insert(route.path, known.merge(behind_gate));
    }
    let mut router = Router::new();
    for (path, methods) in paths {
        router = router.route(path, methods);
    }
    // The gate has read bodies already, each within the bound of its route.
    router.layer(DefaultBodyLimit::disable()).with_state(Arc::clone(api))
}
