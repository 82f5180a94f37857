//! Probes of running instances.
