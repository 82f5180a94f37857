//! The service file. Under construction.
