//! What the end-to-end tests, the demo and the benchmarks share: a fleet of this machine's own, driven from outside
//! through the same binaries and files that a person uses.
//!
//! Nothing here reaches into a crate of the product; what cannot be seen from outside is not asserted here.

pub mod bench;
pub mod board;
pub mod boards;
pub mod browser;
pub mod by_hand;
pub mod cable;
pub mod client;
pub mod demo;
pub mod docker;
pub mod file_server;
pub mod fleet;
pub mod guest;
pub mod http;
pub mod inside;
pub mod listening;
pub mod mosquitto;
pub mod policies;
pub mod private_docker;
pub mod receiver;
pub mod registry;
pub mod services;
pub mod skip;
pub mod spoilt;
pub mod supervised;
pub mod terminal;
pub mod wait;
