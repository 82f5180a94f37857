//! See `readers`: what must hold is written there.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| readers::feed("archive", bytes));
