//! The protocol from outside: golden bytes, tampering, properties, and how mistakes in a service file read.

mod fixture;
mod golden;
mod mistakes;
mod properties;
mod tampering;
