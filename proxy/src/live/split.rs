//! Which cohort of a split route serves a request: the candidate's or the stable one.
//!
//! Owns points and the order of cohorts. Must not know backends; `route` chooses among those of a cohort.

use crate::table::{POINTS, Split};
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Prime to [`POINTS`] and next to their golden section: multiples of it visit every point once in a period, and
/// any run of them lies evenly.
const STRIDE: u64 = 6181;

/// What a request or a connection says about its cohort.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Claim {
    /// Its point, below [`POINTS`]: the candidate serves those below its share.
    Point(u32),
    /// It asks for the candidate.
    Candidate,
    /// It asks for the stable release.
    Stable,
}

/// Points for those that bring none.
#[derive(Debug)]
pub(crate) struct Points(AtomicU64);

impl Points {
    /// Starts anywhere, or the first requests of every node of a fleet would all go to the candidate.
    pub(crate) fn new() -> Self {
        Self(AtomicU64::new(RandomState::new().hash_one(()) % u64::from(POINTS)))
    }

    /// The next one; any 10,000 in a row are all different.
    pub(crate) fn draw(&self) -> Claim {
        let period = u64::from(POINTS);
        let number = self.0.fetch_add(1, Relaxed) % period;
        Claim::Point((number * STRIDE % period) as u32)
    }
}

/// A part of a route's backends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cohort {
    /// Those of the split's release.
    Candidate,
    /// The others; all of them without a split.
    Stable,
}

impl Cohort {
    /// That of a backend of this release.
    pub(crate) fn of(release: &str, split: Option<&Split>) -> Self {
        if split.is_some_and(|split| split.release == release) {
            Self::Candidate
        } else {
            Self::Stable
        }
    }
}

/// The cohorts that may serve `claim`, the second one when the first has nobody left.
pub(crate) fn cohorts(split: Option<&Split>, claim: Claim) -> &'static [Cohort] {
    let share = split.map_or(0, |split| split.share);
    if share == 0 {
        return &[Cohort::Stable];
    }
    let candidate_first = match claim {
        Claim::Point(point) => point < share,
        Claim::Candidate => true,
        Claim::Stable => false,
    };
    if candidate_first {
        &[Cohort::Candidate, Cohort::Stable]
    } else {
        &[Cohort::Stable, Cohort::Candidate]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn point(claim: Claim) -> u32 {
        match claim {
            Claim::Point(point) => point,
            Claim::Candidate | Claim::Stable => panic!("drawn ones are points"),
        }
    }

    #[test]
    fn every_share_is_exact_over_a_period_and_within_three_requests_over_any_window() {
        let points = Points::new();
        let drawn: Vec<u32> = (0..2 * POINTS).map(|_| point(points.draw())).collect();
        for share in [1, 100, 1000, 3333, 9999] {
            let below = |window: &[u32]| window.iter().filter(|point| **point < share).count();
            for start in (0..POINTS as usize).step_by(379) {
                assert_eq!(below(&drawn[start..start + POINTS as usize]), share as usize);
                for length in [10, 100, 1000] {
                    let got = below(&drawn[start..start + length]) as f64;
                    let fair = length as f64 * f64::from(share) / f64::from(POINTS);
                    assert!((got - fair).abs() <= 3.0, "{got} of {length} at {share}");
                }
            }
        }
    }
}
