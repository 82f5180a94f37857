//! What to do next: pure decisions for one node ([`node`]) and for the fleet ([`fleet`]).
//!
//! Takes values and returns values. It must not read a clock, a file, the environment or randomness, and must not know
//! Docker, MQTT or tokio: whatever it needs to know is an argument, whatever it wants done is a value.

pub mod fleet;
pub mod node;

/// A moment: milliseconds of the machine's monotonic clock that also counts sleep (CLOCK_BOOTTIME).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Now(pub u64);

impl Now {
    /// This moment and `ms` more.
    #[must_use]
    pub const fn plus(self, ms: u64) -> Self {
        Self(self.0.saturating_add(ms))
    }

    /// Milliseconds since `earlier`, 0 when that is in the future.
    #[must_use]
    pub const fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}
