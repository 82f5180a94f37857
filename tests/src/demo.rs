//! The main job, shown: a fleet of three nodes takes a good version under load, refuses a bad one and goes back, without one
//! failed request.

pub mod main_job;
pub mod rollouts;
pub mod table;
pub mod watch;
