//! The one place that reads clocks. Everything else takes [`planner::Now`].

use std::time::{SystemTime, UNIX_EPOCH};

use nix::time::{ClockId, clock_gettime};
use planner::Now;

/// Milliseconds of CLOCK_BOOTTIME: monotonic, and it counts sleep.
#[must_use]
pub fn now() -> Now {
    let time = clock_gettime(ClockId::CLOCK_BOOTTIME).expect("Linux has CLOCK_BOOTTIME");
    let ms = time.tv_sec() * 1000 + time.tv_nsec() / 1_000_000;
    Now(u64::try_from(ms).unwrap_or(0))
}

/// Milliseconds since 1970 by a clock that nobody vouches for: for people and for ordering, never for a decision.
#[must_use]
pub fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// The kernel's id of this boot; empty where there is none.
#[must_use]
pub fn boot_id() -> String {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned()
}
