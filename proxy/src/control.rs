//! What is said over the control socket: one JSON document per line, a request and then its reply.
//!
//! Owns the shapes. The socket's server is in `control::server`, the agent's side in `control::client`.

pub(crate) mod client;
pub(crate) mod lines;
pub(crate) mod server;

pub use client::{Client, ClientError, Watch};

use crate::table::{BackendState, Table};
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;

/// The upper bound written for the last latency bucket.
pub const LATENCY_UNBOUNDED_MS: u64 = u64::MAX;

/// What a client may ask.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "snake_case")]
pub enum Request {
    /// Replace the table.
    Set {
        /// The whole table.
        table: Table,
    },
    /// Tell everything.
    Get,
    /// Turn this connection into a stream of [`Event`]s, until a newer proxy takes over.
    Watch,
    /// Have another program take over: what the process was started with says which.
    Renew,
    /// From a newer proxy: stop changing the table and say what is to be taken over.
    TakeOver,
    /// From a newer proxy, after `TakeOver`: pass the listeners.
    SendListeners,
    /// From a newer proxy, after `SendListeners`: it accepts now, so stop accepting.
    Accepting,
}

/// What the proxy answers.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "reply", rename_all = "snake_case")]
pub enum Reply {
    /// To [`Request::Set`].
    Applied(Applied),
    /// To [`Request::Get`].
    Snapshot(Snapshot),
    /// To [`Request::Renew`]: another process has taken over.
    Renewed,
    /// To [`Request::TakeOver`].
    HandingOver(HandingOver),
    /// To [`Request::Accepting`]: the old proxy takes no new connection; what it had counted.
    Retired {
        /// Counted by the old proxy so far; it starts again from zero.
        counters: Vec<Counter>,
    },
    /// A take-over is under way: ask again in some milliseconds.
    Busy,
    /// The request was not understood or the table was refused as a whole.
    Failed {
        /// A sentence for an operator.
        error: String,
    },
}

/// The outcome of setting a table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Applied {
    /// The version of the table that is now in force.
    pub version: u64,
    /// Addresses that could not be listened on; everything else is applied.
    pub refused: Vec<Refused>,
}

/// An address that could not be listened on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refused {
    /// The route that named it.
    pub route: String,
    /// The address.
    pub address: SocketAddr,
    /// Why.
    pub reason: RefusedReason,
}

/// Why an address could not be listened on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RefusedReason {
    /// Another program or another route listens there.
    PortTaken {
        /// For example `nginx (pid 812)`; absent when it cannot be found out.
        by: Option<String>,
    },
    /// No interface carries the address.
    AddressNotAvailable,
    /// The process may not bind it.
    PermissionDenied,
    /// The system's own words.
    Other(String),
}

/// Everything the proxy knows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    /// The table in force.
    pub table: Table,
    /// Every backend of the table, an older proxy's work included.
    pub backends: Vec<BackendStatus>,
    /// Per (route, release), an older proxy's work included.
    pub counters: Vec<Counter>,
    /// What is listened on, and for which route.
    pub listening: Vec<(String, SocketAddr)>,
    /// Requests and connections held per route at this moment.
    pub held: Vec<(String, u64)>,
    /// The process.
    pub pid: u32,
    /// When it started, in Unix milliseconds.
    pub started_ms: u64,
}

/// One backend's work.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackendStatus {
    /// The route.
    pub route: String,
    /// The backend's id within the route.
    pub backend: String,
    /// As set.
    pub state: BackendState,
    /// HTTP requests from the choice of the backend until the client has the answer or gave up.
    pub in_flight: u64,
    /// TCP connections and upgraded HTTP ones.
    pub connections: u64,
    /// Requests and TCP connections ever given to it.
    pub requests_started: u64,
    /// Connects to it that failed.
    pub connect_errors: u64,
}

/// What was counted for one release behind one route.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counter {
    /// The route.
    pub route: String,
    /// The backends' label.
    pub release: String,
    /// Requests answered, or TCP connections opened.
    pub requests: u64,
    /// Answers of 500 and above, and requests that broke at the backend.
    pub errors_5xx: u64,
    /// Connects that failed.
    pub errors_connect: u64,
    /// (upper bound in ms, count) in rising order; the last bound is [`LATENCY_UNBOUNDED_MS`].
    /// Measured from the choice of the backend to the head of its answer (tcp: to the connection).
    pub latency: Vec<(u64, u64)>,
    /// The sum of what `latency` counts, in microseconds.
    pub latency_sum_us: u64,
}

/// What a watching client is sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// Once at the start, when a draining backend became idle, when a connect failed, and when a
    /// table was set. At most every 10 ms.
    Changed(Changed),
}

/// The light snapshot of an [`Event`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Changed {
    /// The version of the table in force.
    pub version: u64,
    /// Every backend of the table.
    pub backends: Vec<BackendStatus>,
}

/// What an old proxy tells before it passes its listeners.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct HandingOver {
    /// The table in force.
    pub table: Table,
    /// The addresses, in the order in which the sockets follow.
    pub listeners: Vec<SocketAddr>,
}
