//! The one place that reads clocks. Everything else takes [`planner::Now`].

use std::time::{SystemTime, UNIX_EPOCH};

use mqtt::VerifyAt;
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

/// The time as far as the node can know it, seconds since 1970: its clock, and never before the newest time that somebody
/// signed. A clock that is ahead is not found out by this: whatever it would end must not run.
#[must_use]
pub fn unix_s(floor: &VerifyAt) -> u64 {
    not_before(floor, unix_ms() / 1_000)
}

/// A time in seconds since 1970, and never before the newest that somebody signed.
pub(crate) fn not_before(floor: &VerifyAt, system_s: u64) -> u64 {
    system_s.max(floor.unix_s())
}

/// The kernel's id of this boot; empty where there is none.
#[must_use]
pub fn boot_id() -> String {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// What happens to a clock.
    #[derive(Debug, Clone, Copy)]
    enum Happens {
        /// Somebody signed this time.
        Signed(u64),
        /// The machine's clock says this: it is set, jumps, or a battery was empty.
        Says(u64),
    }

    fn happens() -> impl Strategy<Value = Happens> {
        let moment = prop_oneof![
            Just(0),
            Just(4_070_908_800),
            1_700_000_000..1_900_000_000_u64,
            any::<u64>()
        ];
        (any::<bool>(), moment).prop_map(|(is_signed, at)| match is_signed {
            true => Happens::Signed(at),
            false => Happens::Says(at),
        })
    }

    proptest! {
        #[test]
        fn the_time_is_never_before_one_that_was_signed_and_no_clock_moves_the_floor(
            story in prop::collection::vec(happens(), 1..40),
        ) {
            let floor = VerifyAt::default();
            let (mut system, mut signed) = (0, 0);
            let mut before = (0, 0);
            for one in story {
                match one {
                    Happens::Signed(at) => {
                        floor.raise(at);
                        signed = at.max(signed);
                    }
                    Happens::Says(at) => system = at,
                }
                prop_assert_eq!(floor.unix_s(), signed, "by signed times alone, and never back");
                let now = not_before(&floor, system);
                prop_assert!(now >= signed && (now == system || now == signed));
                // Where the machine's clock does not go back, nothing does.
                let (system_before, now_before) = before;
                prop_assert!(system < system_before || now >= now_before);
                before = (system, now);
            }
        }
    }
}
