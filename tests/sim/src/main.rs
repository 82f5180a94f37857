//! Runs seeds: `PITH_SEEDS` of them from `PITH_FIRST_SEED` on, or `PITH_SEED` alone with everything that happens.

use std::io::{IsTerminal as _, Write as _};
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

/// Seeds without a wish.
const SEEDS: u64 = 100_000;
/// Failures that are shown.
const MAX_SHOWN: u64 = 5;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

fn say(text: &str) {
    // Nobody listens: nothing is lost.
    let _ = writeln!(std::io::stdout().lock(), "{text}");
}

fn main() -> ExitCode {
    if let Some(seed) = number("PITH_SEED") {
        let (acts, result) = sim::replay(seed);
        acts.iter().for_each(|act| say(act));
        return match result {
            Ok(()) => ExitCode::SUCCESS,
            Err(what) => {
                say(&format!("seed {seed}: {what}"));
                ExitCode::FAILURE
            }
        };
    }
    let seeds = number("PITH_SEEDS").unwrap_or(SEEDS);
    let first = number("PITH_FIRST_SEED").unwrap_or(0);
    let threads = number("PITH_THREADS")
        .or_else(|| std::thread::available_parallelism().ok().map(|n| n.get() as u64))
        .unwrap_or(1);
    std::panic::set_hook(Box::new(|_| {}));
    let (begun, next, failed) = (started(), AtomicU64::new(0), AtomicU64::new(0));
    let kept = sim::kept_seeds();
    let of = |index: u64| match usize::try_from(index).ok().and_then(|i| kept.get(i)) {
        Some(seed) => *seed,
        None => first + index - kept.len() as u64,
    };
    let total = seeds + kept.len() as u64;
    let progress = Progress { begun, shown: AtomicU64::new(0) };
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    if index >= total || failed.load(Ordering::Relaxed) >= MAX_SHOWN {
                        return;
                    }
                    if let Err(failure) = sim::run(of(index)) {
                        failed.fetch_add(1, Ordering::Relaxed);
                        say(&format!("{failure}\n"));
                    }
                    progress.show(index + 1, total);
                }
            });
        }
    });
    let seconds = begun.elapsed().as_secs_f64();
    let (done, failed) = (next.load(Ordering::Relaxed).min(total), failed.load(Ordering::Relaxed));
    let rate = done as f64 / seconds;
    say(&format!("{done} seeds, {failed} failed, {rate:.0} a second on {threads} threads"));
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// How far it is, on standard error: for a person often, for a log every minute.
struct Progress {
    begun: Instant,
    /// Seconds after the beginning at which it was shown last.
    shown: AtomicU64,
}

impl Progress {
    fn show(&self, done: u64, total: u64) {
        let mut stderr = std::io::stderr().lock();
        let is_terminal = stderr.is_terminal();
        let pause = if is_terminal { 1 } else { 60 };
        let (seconds, shown) = (self.begun.elapsed().as_secs(), self.shown.load(Ordering::Relaxed));
        if seconds < shown + pause {
            return;
        }
        self.shown.store(seconds, Ordering::Relaxed);
        let left_min = (total - done) as f64 / done as f64 * seconds as f64 / 60.0;
        let end = if is_terminal { "\r" } else { "\n" };
        // Nobody looks: nothing is lost.
        let _ = write!(stderr, "{done} of {total} seeds, {left_min:.0} min left {end}");
    }
}

fn started() -> Instant {
    Instant::now()
}
