//! Waiting for what other processes do. The one place that looks again after a pause.

use std::time::{Duration, Instant};

const PAUSE: Duration = Duration::from_millis(20);

/// Looks until `check` gives a value.
///
/// # Panics
/// When nothing came within `limit`; says what was waited for.
pub fn until<T>(what: &str, limit: Duration, mut check: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(value) = check() {
            return value;
        }
        assert!(begun.elapsed() < limit, "nothing within {limit:?}: {what}");
        std::thread::sleep(PAUSE);
    }
}

/// Looks until `check` holds.
///
/// # Panics
/// When it does not hold within `limit`.
pub fn until_true(what: &str, limit: Duration, mut check: impl FnMut() -> bool) {
    until(what, limit, || check().then_some(()));
}

/// Looks again and again for the whole of `span`.
///
/// # Panics
/// When `check` does not hold once.
pub fn holds(what: &str, span: Duration, mut check: impl FnMut() -> bool) {
    let begun = Instant::now();
    while begun.elapsed() < span {
        assert!(check(), "not any more after {:?}: {what}", begun.elapsed());
        std::thread::sleep(PAUSE);
    }
}
