//! The coordinator: the fleet's intent, the server that keeps it, and the command line that changes it.
//!
//! ```text
//! pith deploy --cli--> api (unix socket) --> event_loop --> state (pure) --> store (SQLite), then MQTT
//!                                               ^                               |
//!                                               +---- hello, report, load ------+-- broker -- nodes
//! ```
//! Policy lives in `planner::fleet`; this crate stores what was decided, signs it and says it.

pub mod api;
pub mod broker;
pub mod cli;
pub mod client;
pub mod data_dir;
pub mod dev;
pub mod docker;
pub mod event_loop;
pub mod link;
pub mod local;
pub mod render;
pub mod resolve;
pub mod serve;
pub mod state;
pub mod store;
