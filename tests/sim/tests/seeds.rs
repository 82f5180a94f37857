//! A few hundred fleets, with the seeds that found something first.

/// So many take about 20 seconds in a debug build.
const SEEDS: u64 = 60;

#[test]
fn whatever_goes_wrong_every_service_ends_all_old_all_new_or_says_why() {
    let fresh = 1_000_000..1_000_000 + SEEDS;
    for seed in sim::kept_seeds().into_iter().chain(fresh) {
        if let Err(failure) = sim::run(seed) {
            panic!("{failure}");
        }
    }
}
