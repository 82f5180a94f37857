//! The port owner: listens on the fixed ports of services and balances to weighted backends.
//!
//! Owns listeners, balancing, holding, draining and counting, as the [`Table`] that an agent sets over a unix
//! socket says. Must not know Docker, MQTT, releases' contents or health: a table is its only input.
//!
//! ```text
//! agent --control (Set, Get, Watch)--> live state <--take-over-- newer proxy
//! client --listen--> http | tcp session --choose, lease--> connect or pool --> backend
//! other node's proxy --TLS, fleet port--^                                 |--> other node's fleet port, TLS
//! ```

mod connect;
pub mod control;
mod counters;
mod fleet;
mod framing;
mod http;
mod limits;
mod listen;
mod live;
mod ports;
mod pump;
mod run;
mod state_file;
mod stream;
pub mod table;
mod takeover;
mod tcp;
mod trust;

pub use control::{
    Applied, BackendStatus, Changed, Client, ClientError, Counter, Event, Refused, RefusedReason,
    Snapshot, Watch,
};
#[cfg(any(test, feature = "testing"))]
pub use http::fed;
pub use listen::FLEET;
pub use run::{Options, Renewal, RunError, TakeOver, run};
pub use table::{
    Backend, BackendState, Caller, Fleet, Protocol, Route, Shown, Split, Table, Trust,
};
pub use takeover::TakeOverError;
