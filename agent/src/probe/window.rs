//! What the answers of an instance's probes mean since its last start. Pure: time is an argument.
//!
//! ```text
//!            startup passes (or there is none)
//!  starting -----------------------------------> probed: readiness <-> unready, by its thresholds
//!     | startup fails for good                      | liveness fails for good
//!     v                                             v
//!    dead <-----------------------------------------+        until the container starts anew (a new window)
//! ```
//!
//! Until its first success a startup or readiness check is asked fast: after a fortieth of the time it has been asked
//! for, at least 10 ms and at most 250 ms, never slower than its period. A start is noticed within a fortieth
//! of its length. Fast failures do not count faster than the period, so that thresholds mean what they mean in Kubernetes.

use std::sync::Arc;

use planner::Now;
use planner::node::Probed;
use protocol::spec::{Check, Health, Probe};
use protocol::units::Millis;

const FAST_FIRST_MS: u64 = 10;
const FAST_LONGEST_MS: u64 = 250;
/// The share of the time since the first asking that passes until the next.
const FAST_SHARE: u64 = 40;
/// Checks at their period that are due this soon are asked together with the one that is due, for fewer wake-ups.
const TOGETHER_MS: u64 = 250;
/// Rhythm of the check that is made where none is written: Kubernetes' defaults.
const DEFAULT_PERIOD_MS: u64 = 10_000;
const DEFAULT_TIMEOUT_MS: u64 = 1_000;
const DEFAULT_FAILURE_THRESHOLD: u32 = 3;

/// Which of an instance's probes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Holds the others back.
    Startup,
    /// Gates the route.
    Readiness,
    /// Restarts.
    Liveness,
}

/// What one asking came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// It passed.
    Passed,
    /// It failed; for people.
    Failed(String),
    /// Nothing is known (the engine that had to run it is away): counts neither way.
    Unknown,
}

/// All probes of one instance since one start.
#[derive(Debug)]
pub struct Window {
    startup: Option<Rhythm>,
    readiness: Option<Rhythm>,
    liveness: Option<Rhythm>,
    probed: Probed,
}

/// One probe's checks and where it stands.
#[derive(Debug)]
struct Rhythm {
    checks: Vec<Check>,
    probe: Probe,
    pace: Pace,
    /// When it is asked next; none while an answer is awaited.
    next: Option<Now>,
    begun: Now,
    /// When it was to be asked first.
    first: Now,
    successes: u32,
    failures: u32,
    /// A failure before this moment does not count.
    counts_from: Now,
}

/// How soon it is asked again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pace {
    /// Soon; there was no success yet.
    Fast,
    /// At its period.
    Steady,
}

impl Window {
    /// Of an instance that started at `started` and serves `targets`.
    #[must_use]
    pub fn new(health: &Arc<Health>, targets: &[u16], started: Now) -> Self {
        let fast = Pace::Fast;
        let rhythm =
            |probe: &Probe, pace| Rhythm::new(vec![probe.check.clone()], probe, pace, started);
        let by_ports = || {
            let checks: Vec<Check> =
                targets.iter().map(|port| Check::Tcp { port: *port }).collect();
            let probe = default_probe(checks.first()?.clone());
            Some(Rhythm::new(checks, &probe, fast, started))
        };
        let mut window = Self {
            startup: health.startup.as_ref().map(|probe| rhythm(probe, fast)),
            readiness: health.readiness.as_ref().map(|probe| rhythm(probe, fast)).or_else(by_ports),
            liveness: health.liveness.as_ref().map(|probe| rhythm(probe, Pace::Steady)),
            probed: Probed::default(),
        };
        if window.startup.is_none() {
            window.begin_probing(started);
        }
        window
    }

    /// What the probes say.
    #[must_use]
    pub const fn probed(&self) -> &Probed {
        &self.probed
    }

    /// When something is to be asked next; none while every answer is awaited, or nothing is ever asked.
    #[must_use]
    pub fn next_at(&self) -> Option<Now> {
        self.active().filter_map(|(_, rhythm)| rhythm.next).min()
    }

    /// The probes to ask now.
    #[must_use]
    pub fn due(&self, now: Now) -> Vec<Kind> {
        self.active().filter(|(_, rhythm)| rhythm.is_due(now)).map(|(kind, _)| kind).collect()
    }

    /// Marks a probe as asked and gives what to ask, all of which must pass within the timeout.
    pub fn begin(&mut self, kind: Kind, now: Now) -> (Vec<Check>, Millis) {
        let Some(rhythm) = self.rhythm(kind) else { return (Vec::new(), Millis(0)) };
        rhythm.next = None;
        rhythm.begun = now;
        (rhythm.checks.clone(), rhythm.probe.timeout)
    }

    /// Takes in an answer; tells whether readiness or being dead changed.
    pub fn finish(&mut self, kind: Kind, answer: Answer, now: Now) -> bool {
        let Some(rhythm) = self.rhythm(kind) else { return false };
        let judgement = rhythm.take(&answer, now);
        if let Answer::Failed(text) = answer {
            self.probed.last_failure = Some(text);
        }
        let before = (self.probed.ready_since, self.probed.dead);
        match (kind, judgement) {
            (_, Judgement::Open) => {}
            (Kind::Startup, Judgement::Passing) => {
                self.startup = None;
                self.begin_probing(now);
            }
            (Kind::Startup | Kind::Liveness, Judgement::Failing) => self.probed.dead = true,
            (Kind::Readiness, Judgement::Passing) => self.become_ready(now),
            (Kind::Readiness, Judgement::Failing) => self.become_unready(now),
            (Kind::Liveness, Judgement::Passing) => {}
        }
        before != (self.probed.ready_since, self.probed.dead)
    }

    /// Nothing holds readiness and liveness back any more.
    fn begin_probing(&mut self, now: Now) {
        for rhythm in [self.readiness.as_mut(), self.liveness.as_mut()].into_iter().flatten() {
            rhythm.next = rhythm.next.map(|next| next.max(now));
        }
        if self.readiness.is_none() {
            self.become_ready(now);
        }
    }

    fn become_ready(&mut self, now: Now) {
        self.probed.ready_since.get_or_insert(now);
        self.probed.was_ready = true;
        self.probed.unready_since = None;
    }

    fn become_unready(&mut self, now: Now) {
        self.probed.ready_since = None;
        if self.probed.was_ready {
            self.probed.unready_since.get_or_insert(now);
        }
    }

    /// The probes that are asked at all at this stage.
    fn active(&self) -> impl Iterator<Item = (Kind, &Rhythm)> {
        let later = self.startup.is_none();
        let startup = self.startup.as_ref().map(|rhythm| (Kind::Startup, rhythm));
        let readiness = self.readiness.as_ref().filter(|_| later);
        let liveness = self.liveness.as_ref().filter(|_| later);
        let rest = readiness
            .map(|rhythm| (Kind::Readiness, rhythm))
            .into_iter()
            .chain(liveness.map(|rhythm| (Kind::Liveness, rhythm)));
        // Dead stays dead until it starts anew; asking on would only cost.
        startup.into_iter().chain(rest).filter(|_| !self.probed.dead)
    }

    fn rhythm(&mut self, kind: Kind) -> Option<&mut Rhythm> {
        match kind {
            Kind::Startup => self.startup.as_mut(),
            Kind::Readiness => self.readiness.as_mut(),
            Kind::Liveness => self.liveness.as_mut(),
        }
    }
}

/// What the answers so far amount to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Judgement {
    Open,
    Passing,
    Failing,
}

impl Rhythm {
    fn new(checks: Vec<Check>, probe: &Probe, pace: Pace, started: Now) -> Self {
        let first = started.plus(probe.initial_delay.0);
        Self {
            checks,
            probe: probe.clone(),
            pace,
            next: Some(first),
            begun: first,
            first,
            successes: 0,
            failures: 0,
            counts_from: first,
        }
    }

    fn is_due(&self, now: Now) -> bool {
        let early_ms = match self.pace {
            Pace::Fast => 0,
            Pace::Steady => TOGETHER_MS.min(self.probe.period.0 / 4),
        };
        self.next.is_some_and(|next| next <= now.plus(early_ms))
    }

    fn take(&mut self, answer: &Answer, now: Now) -> Judgement {
        let interval_ms = self.interval_ms(answer);
        self.next = Some(self.begun.plus(interval_ms).max(now));
        match answer {
            Answer::Unknown => Judgement::Open,
            Answer::Passed => {
                self.failures = 0;
                self.successes = self.successes.saturating_add(1);
                match self.successes >= self.probe.success_threshold {
                    true => Judgement::Passing,
                    false => Judgement::Open,
                }
            }
            Answer::Failed(_) => {
                self.successes = 0;
                if self.begun >= self.counts_from {
                    self.failures = self.failures.saturating_add(1);
                    self.counts_from = self.begun.plus(self.steady_ms());
                }
                match self.failures >= self.probe.failure_threshold {
                    true => Judgement::Failing,
                    false => Judgement::Open,
                }
            }
        }
    }

    /// The period less what [`TOGETHER_MS`] may have moved the last asking forward.
    fn steady_ms(&self) -> u64 {
        match self.pace {
            Pace::Fast => self.probe.period.0,
            Pace::Steady => 0,
        }
    }

    /// Until it is asked again, from when it was asked.
    fn interval_ms(&mut self, answer: &Answer) -> u64 {
        let period_ms = self.probe.period.0;
        match (self.pace, answer) {
            (_, Answer::Passed) => self.pace = Pace::Steady,
            (Pace::Steady, Answer::Failed(_) | Answer::Unknown) => {}
            (Pace::Fast, Answer::Failed(_) | Answer::Unknown) => {
                let share_ms = self.begun.since(self.first) / FAST_SHARE;
                return share_ms.clamp(FAST_FIRST_MS, FAST_LONGEST_MS).min(period_ms);
            }
        }
        period_ms
    }
}

/// What is asked where no readiness is written.
fn default_probe(check: Check) -> Probe {
    Probe {
        check,
        initial_delay: Millis(0),
        period: Millis(DEFAULT_PERIOD_MS),
        timeout: Millis(DEFAULT_TIMEOUT_MS),
        success_threshold: 1,
        failure_threshold: DEFAULT_FAILURE_THRESHOLD,
    }
}

#[cfg(test)]
mod tests;
