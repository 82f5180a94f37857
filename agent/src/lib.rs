//! The board: verifies what it is told, decides with `planner`, swaps containers, reports.
//!
//! ```text
//! broker --> inbox (verify) --> ledger (durable) --> event_loop: observe -> planner::node::decide -> execute | routes
//!                                                        |                                             |        |
//! broker <-- report <------------------------------------+                                          engine   proxy
//! ```
//!
//! One task owns the state; everything that waits runs in a local task and comes back as an event.

pub mod alarm;
pub mod archives;
pub mod bundle;
pub mod cli;
pub mod clock;
pub mod commands;
pub mod config;
pub mod doctor;
pub mod download;
pub mod durable;
pub mod engine;
pub mod event_loop;
pub mod exchange;
pub mod execute;
pub mod failpoint;
pub mod identity;
pub mod inbox;
pub mod join;
pub mod launch;
pub mod ledger;
pub mod link;
pub mod load;
pub mod local;
pub mod moving;
pub mod network;
pub mod observe;
pub mod policy;
pub mod probe;
pub mod recovery;
pub mod registries;
pub mod renew;
pub mod report;
pub mod resolve;
pub mod routes;
pub mod run;
pub mod sampler;
pub mod secrets;
pub mod streaming;
#[cfg(test)]
mod testing;
pub mod tls;
pub mod traffic;
pub mod trust;
mod typing;
pub mod uninstall;
pub mod update;
pub mod version;
pub mod watchdog;
pub mod wire;
