//! What is said: ids, the service file, releases, manifests, reports, topics and signed envelopes.
//!
//! Owns every type that crosses a process, a wire or a disk, and the one verifier of signatures. It does no IO, reads
//! no clock and draws no randomness: key material and times are arguments.
//!
//! ```text
//! web.toml --file--> ServiceSpec --sign--> Release (envelope) --director--> Manifest (envelope) --MQTT--> node
//!                                                                           Report, Hello, Load <--MQTT-- node
//! ```

pub mod acceptance;
pub mod agent_release;
pub mod archive;
pub mod command;
pub mod doctor;
pub mod envelope;
pub mod file;
pub mod hello;
pub mod id;
pub mod join;
pub mod keys;
pub mod load;
pub mod manifest;
pub mod payload;
pub mod peers;
pub mod policy;
pub mod reason;
pub mod recovery;
pub mod registries;
pub mod release;
pub mod report;
pub mod retirement;
pub mod secret;
pub mod spec;
pub mod succession;
pub mod time;
pub mod topic;
pub mod units;
pub mod whereabouts;

/// The wire format this version writes and the highest it reads; an agent names it in its hello.
pub const FORMAT: u32 = 1;
