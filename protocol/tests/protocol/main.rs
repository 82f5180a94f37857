//! The protocol from outside: golden bytes, tampering, the order of trust roots, properties, and how mistakes in a service file read.

mod agent_release;
mod command;
mod fixture;
mod golden;
mod joining;
mod mistakes;
mod properties;
mod recovery;
mod retiring;
mod succession;
mod tampering;
mod time;
mod whereabouts;
