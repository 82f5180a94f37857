//! How it travels: one session with a broker for both binaries.
//!
//! Owns connecting, backing off, subscribing again after every connect, and an outbox that outlives connections. Must not
//! know what a message means: payloads are bytes, topics are [`protocol::topic`]'s. The MQTT client crate shows in no
//! public item.
//!
//! ```text
//!  Connecting --CONNACK, then every SUBACK--> Up --anything breaks--> Down { retry_in } --pause over--> Connecting
//!      +------- refused, unreachable ----------------------------------^
//! ```

pub mod backoff;
pub mod outbox;
pub mod session;

pub use session::{Address, Config, Event, Handle, Login, Session, Stats, Will};
