//! Open-loop load.
fn main() {}
