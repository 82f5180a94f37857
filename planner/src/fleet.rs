//! The fleet. Under construction.
