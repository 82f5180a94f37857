//! The agent as a board runs it: real Docker, a real proxy process, a real broker, and manifests fed by hand.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod board {
    #[cfg(feature = "failpoints")]
    mod killing;
    pub(crate) mod node;
    mod swapping;
    #[path = "../../src/testing.rs"]
    #[allow(dead_code, reason = "shared with the unit tests, which use all of it")]
    pub(crate) mod testing;
}
