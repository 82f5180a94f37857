//! The proxy over real sockets on loopback.

#![expect(clippy::unwrap_used, reason = "the whole crate is tests")]

mod balancing;
mod canary;
mod fleet;
mod framing;
mod lab;
mod lifecycle;
mod retries;
mod streams;
mod tcp;
mod tiers;
mod trust;
