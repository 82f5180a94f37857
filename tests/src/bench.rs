//! Benchmarks: ratios against a peer or a physical floor in the same run, median of at least five with least and most.
//!
//! Never a test: machines differ, ratios in one run less so.

pub mod footprint;
pub mod looking;
pub mod proxies;
pub mod rolling;
pub mod sample;
pub mod starting;
pub mod swarm;
pub mod switching;
