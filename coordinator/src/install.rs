//! `pith node install`: a board becomes a node over the system's own ssh.
//!
//! ```text
//! look.sh --facts--> Facts --plan (pure)--> acts with reasons, or an obstacle with its mend
//!   -> reach -> install -> policy -> tune -> join -> enable -> the coordinator sees it ready
//! ```
//! `plan` decides, `board` does; what runs on the board are the scripts beside this file. Nothing is changed there before the coordinator was
//! reached from there. Secrets (the token, a password of sudo) travel on standard input alone.

pub mod allowing;
pub mod board;
pub mod daemon;
pub mod facts;
pub mod obstacle;
pub mod package;
pub mod plan;
pub mod ssh;
