//! Ends that the kernel's own count of kills for memory explains. Docker tells of containers that met a limit of their own; one that took
//! all memory of the board ends by SIGKILL like any other, and nobody would say why.

use std::collections::BTreeMap;

use planner::Now;

/// Kills for memory since boot: `oom_kill N` (mm/vmstat.c).
const COUNTER: &str = "/proc/vmstat";
/// How Docker shows that a process ended by SIGKILL.
const KILLED: i64 = 137;
/// A board without memory takes its time until Docker says that something ended.
const EXPLAINS_MS: u64 = 120_000;

/// What the counter was, and what was concluded.
#[derive(Debug, Default)]
pub(super) struct Kills {
    counter: Option<u64>,
    /// Kills that explain no end yet, until a moment.
    open: u64,
    open_until: Now,
    /// Ends that were looked at, by container and start.
    known: BTreeMap<String, bool>,
}

/// A container that ended: which and in which run, its code, and whether memory is why.
pub(super) type End<'a> = (String, i64, &'a mut bool);

impl Kills {
    /// Kills after the counter was this explain what is looked at, also the first look.
    pub(super) fn since(counter: Option<u64>) -> Self {
        Self { counter, ..Self::default() }
    }

    /// Says of each end whether memory is why. The counter was read after the ends were, so it has counted what they came of.
    pub(super) fn explain<'a>(
        &mut self,
        ends: impl Iterator<Item = End<'a>>,
        counter: Option<u64>,
        now: Now,
    ) {
        let more = counter.zip(self.counter).map_or(0, |(read, known)| read.saturating_sub(known));
        self.counter = counter.or(self.counter);
        if now >= self.open_until {
            self.open = 0;
        }
        if more > 0 {
            self.open += more;
            self.open_until = now.plus(EXPLAINS_MS);
        }
        let before = std::mem::take(&mut self.known);
        for (run, code, oom) in ends {
            if let Some(known) = before.get(&run) {
                *oom |= known;
            } else if *oom || code == KILLED && self.open > 0 {
                *oom = true;
                self.open = self.open.saturating_sub(1);
            }
            self.known.insert(run, *oom);
        }
    }
}

/// As the kernel counts now; none where it does not.
pub(super) fn counter() -> Option<u64> {
    let text = std::fs::read_to_string(COUNTER).ok()?;
    text.lines().find_map(|line| line.strip_prefix("oom_kill ")?.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A look at one end, after so many kills.
    fn look(kills: &mut Kills, run: &str, code: i64, counter: u64, now_ms: u64) -> bool {
        let mut oom = false;
        let end = (run.to_owned(), code, &mut oom);
        kills.explain([end].into_iter(), Some(counter), Now(now_ms));
        oom
    }

    #[test]
    fn a_kill_explains_one_end_by_sigkill_and_goes_on_explaining_it() {
        let mut kills = Kills::default();
        assert!(!look(&mut kills, "before us", KILLED, 7, 0), "nobody knows when that was");
        assert!(look(&mut kills, "a", KILLED, 8, 1_000));
        assert!(look(&mut kills, "a", KILLED, 8, 500_000));
        assert!(!look(&mut kills, "b", KILLED, 8, 500_000), "no kill is left for it");
        assert!(!look(&mut kills, "c", 1, 9, 500_000), "it ended by itself");
        assert!(look(&mut kills, "d", KILLED, 9, 501_000), "Docker was slow to tell");
    }

    #[test]
    fn a_kill_before_the_first_look_explains_what_that_finds() {
        let mut kills = Kills::since(Some(7));
        assert!(look(&mut kills, "a", KILLED, 8, 0));
    }

    #[test]
    fn a_kill_of_long_ago_and_one_that_docker_told_of_explain_nothing_else() {
        let mut kills = Kills::default();
        kills.explain([].into_iter(), Some(0), Now(0));
        kills.explain([].into_iter(), Some(1), Now(0));
        assert!(!look(&mut kills, "a", KILLED, 1, EXPLAINS_MS));
        let mut told = true;
        let end = ("b".to_owned(), KILLED, &mut told);
        kills.explain([end].into_iter(), Some(2), Now(EXPLAINS_MS));
        assert!(told && !look(&mut kills, "c", KILLED, 2, EXPLAINS_MS));
    }

    #[test]
    fn the_kernel_counts() {
        assert!(counter().is_some());
    }
}
