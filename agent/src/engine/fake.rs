//! An engine in memory that behaves like Docker, for tests and simulation.
