//! The coordinator: the fleet's intent, the server that keeps it, and the command line that changes it.
//!
//! ```text
//! pith deploy --cli--> api (socket or TLS) -> event_loop --> state (pure) --> store (SQLite), then MQTT
//!                                               ^                               |
//!                                               +---- hello, report, load ------+-- broker -- nodes
//! ```
//! Policy lives in `planner::fleet`; this crate stores what was decided, signs it and says it.

pub mod api;
pub mod archive_file;
pub mod archives;
pub mod audit;
pub mod backup;
pub mod broker;
pub mod ca;
pub mod cli;
pub mod client;
pub mod data_dir;
pub mod dev;
pub mod docker;
pub mod event_loop;
pub mod examining;
pub mod front;
pub mod install;
pub mod key_file;
pub mod link;
pub mod local;
pub mod login;
pub mod metrics;
pub mod mosquitto;
pub mod notify;
pub mod page;
pub mod passphrase;
pub mod programs;
pub mod render;
pub mod resolve;
pub mod role;
pub mod roots;
pub mod sealing;
pub mod serve;
pub mod state;
pub mod store;
pub mod streams;
pub mod watchdog;
