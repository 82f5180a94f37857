//! How it travels: one session with a broker, the same for a node and for the coordinator.
//!
//! Owns connecting, backing off, subscribing again, the outbox and the words the two sides see of it. It must not
//! look into payloads, decide anything about releases, or keep state that matters: the broker is a lossy pipe, the
//! databases on each side are the truth (DESIGN §6). The client library shows in no public item.
//!
//! ```text
//! Handle::publish -> Outbox --(session task)--> link --(poll task)--> broker
//! Receiver<Event> <-- Up, Down, Refused, Message <-- link
//! FakeBroker (feature `testing`): the same Outbox and Backoff, virtual time, seeded faults, no runtime
//! ```

pub mod backoff;
pub mod config;
pub mod event;
#[cfg(any(test, feature = "testing"))]
pub mod fake;
pub mod outbox;
mod random;
pub mod session;
pub mod tls;

pub use bytes::Bytes;
pub use config::{
    BrokerAddress, Config, Credentials, InvalidBrokerAddress, Presence, Resolve, Resolver,
    Resolving, needs_multicast_dns,
};
pub use event::{DownReason, Event, Refusal};
pub use session::{Closed, Handle, PublishError, Session, Stats};
pub use tls::{Ca, InvalidTls, OneCa, Own, Tls, VerifyAt};
