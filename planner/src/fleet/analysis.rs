//! A canary judged by what the nodes' proxies counted, against the stable release at the same moment.
//!
//! Counters only grow; a measurement is what they grew by within one interval, summed over the canary's nodes.

use std::collections::BTreeMap;

use protocol::id::NodeName;
use protocol::reason::Reason;
use protocol::spec::Analysis;

use crate::Now;

/// Percent of its memory limit from which an instance is about to be killed.
const MEMORY_NEAR_LIMIT_PERCENT: u8 = 90;

/// What one release of a service did on a node since some moment.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Counts {
    /// Requests.
    pub requests: u64,
    /// Of them failed.
    pub errors: u64,
    /// Answers within each upper bound in milliseconds, and above the bound before.
    pub latency_ms: BTreeMap<u64, u64>,
    /// Ends of instances.
    pub restarts: u64,
    /// Readiness lost.
    pub unready: u64,
    /// Of the fullest instance.
    pub memory_percent: Option<u8>,
}

/// Both releases on one node at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Sample {
    /// The canary.
    pub candidate: Counts,
    /// What it would replace.
    pub stable: Counts,
}

/// What a measurement says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Measured {
    /// As good as the stable release, or good enough.
    Good(String),
    /// Too few requests to say.
    Inconclusive(String),
    /// Bad, and worse than the stable release.
    Bad(Reason, String),
}

/// Measures one interval after another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Judge {
    policy: Analysis,
    begun: Now,
    base: BTreeMap<NodeName, Sample>,
    latest: BTreeMap<NodeName, Sample>,
}

impl Judge {
    /// One that begins to measure now.
    #[must_use]
    pub fn new(policy: Analysis, now: Now) -> Self {
        Self { policy, begun: now, base: BTreeMap::new(), latest: BTreeMap::new() }
    }

    /// Takes what a node counted; the first of each node is what it is measured from.
    pub fn take(&mut self, node: NodeName, sample: Sample) {
        self.base.entry(node.clone()).or_insert_with(|| sample.clone());
        self.latest.insert(node, sample);
    }

    /// When the interval is over.
    #[must_use]
    pub fn due(&self) -> Now {
        self.begun.plus(self.policy.interval.0)
    }

    /// What this interval says, where it is over; the next one begins.
    pub fn measure(&mut self, now: Now) -> Option<Measured> {
        if now < self.due() {
            return None;
        }
        let mut sum = Sample::default();
        for (node, latest) in &self.latest {
            let base = self.base.get(node).cloned().unwrap_or_default();
            sum.candidate.add(&latest.candidate.since(&base.candidate));
            sum.stable.add(&latest.stable.since(&base.stable));
        }
        let measured = judge(&self.policy, &sum);
        // Without enough requests it is measured on from where it began: a quiet service is judged too, in its time.
        if !matches!(measured, Measured::Inconclusive(_)) {
            self.base.clone_from(&self.latest);
        }
        self.begun = now;
        Some(measured)
    }
}

impl Counts {
    /// What was added since `before`; a proxy that began anew counts from nothing.
    fn since(&self, before: &Self) -> Self {
        if self.requests < before.requests || self.restarts < before.restarts {
            return self.clone();
        }
        let latency = self.latency_ms.iter().map(|(bound, count)| {
            let earlier = before.latency_ms.get(bound).copied().unwrap_or(0);
            (*bound, count.saturating_sub(earlier))
        });
        Self {
            requests: self.requests - before.requests,
            errors: self.errors.saturating_sub(before.errors),
            latency_ms: latency.collect(),
            restarts: self.restarts - before.restarts,
            unready: self.unready.saturating_sub(before.unready),
            memory_percent: self.memory_percent,
        }
    }

    fn add(&mut self, other: &Self) {
        self.requests += other.requests;
        self.errors += other.errors;
        self.restarts += other.restarts;
        self.unready += other.unready;
        self.memory_percent = self.memory_percent.max(other.memory_percent);
        for (bound, count) in &other.latency_ms {
            *self.latency_ms.entry(*bound).or_default() += count;
        }
    }

    /// Errors in ten thousand requests.
    fn error_rate(&self) -> u64 {
        (self.errors.min(self.requests) * 10_000).checked_div(self.requests).unwrap_or(0)
    }

    /// The bound within which 99 of 100 answers came.
    fn p99_ms(&self) -> u64 {
        let all: u64 = self.latency_ms.values().sum();
        let mut seen = 0;
        for (bound, count) in &self.latency_ms {
            seen += count;
            if all > 0 && seen * 100 >= all * 99 {
                return *bound;
            }
        }
        0
    }
}

fn judge(policy: &Analysis, sum: &Sample) -> Measured {
    let (candidate, stable) = (&sum.candidate, &sum.stable);
    if candidate.restarts > 0 && stable.restarts == 0 {
        let text =
            format!("its instances ended {} times, the stable ones never", candidate.restarts);
        return Measured::Bad(Reason::Unstable, text);
    }
    if candidate.unready > 0 && stable.unready == 0 {
        let text = "its instances failed their readiness, the stable ones did not".to_owned();
        return Measured::Bad(Reason::Unstable, text);
    }
    let near = |counts: &Counts| counts.memory_percent.filter(|p| *p >= MEMORY_NEAR_LIMIT_PERCENT);
    if let (Some(percent), None) = (near(candidate), near(stable)) {
        let text = format!("it uses {percent}% of its memory limit");
        return Measured::Bad(Reason::MemoryPressure, text);
    }
    let (found, wanted) = (candidate.requests, u64::from(policy.min_requests));
    if found < wanted {
        return Measured::Inconclusive(format!("{found} of {wanted} requests, too few to judge"));
    }
    let (rate, stable_rate) = (candidate.error_rate(), stable.error_rate());
    let text = format!("{} of errors, stable {}", percent(rate), percent(stable_rate));
    // A stable release that is bad itself must not condemn one that is no worse.
    if policy.max_error_rate.is_some_and(|most| rate > stable_rate + u64::from(most)) {
        return Measured::Bad(Reason::ErrorRate, text);
    }
    let (p99, stable_p99) = (candidate.p99_ms(), stable.p99_ms());
    let slow = policy.max_p99.is_some_and(|most| p99 > most.0 && p99 > stable_p99);
    if slow {
        let text = format!("p99 within {p99} ms, stable within {stable_p99} ms");
        return Measured::Bad(Reason::Latency, text);
    }
    Measured::Good(format!("{found} requests, {text}"))
}

/// `1.25%`.
fn percent(in_ten_thousand: u64) -> String {
    format!("{}.{:02}%", in_ten_thousand / 100, in_ten_thousand % 100)
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::units::Millis;

    const POLICY: Analysis = Analysis {
        interval: Millis::from_secs(10),
        failure_limit: 2,
        max_error_rate: Some(100),
        max_p99: Some(Millis(300)),
        min_requests: 100,
        dry_run: false,
    };

    fn counts(requests: u64, errors: u64, slowest_ms: u64) -> Counts {
        let latency_ms = BTreeMap::from([(20, requests * 9 / 10), (slowest_ms, requests / 10)]);
        Counts { requests, errors, latency_ms, ..Counts::default() }
    }

    fn measured(candidate: Counts, stable: Counts) -> Measured {
        let mut judge = Judge::new(POLICY, Now(0));
        let node: NodeName = "a".parse().unwrap();
        judge.take(node.clone(), Sample::default());
        judge.take(node, Sample { candidate, stable });
        assert_eq!(judge.measure(Now(9_999)), None);
        judge.measure(Now(10_000)).unwrap()
    }

    fn reason(measured: &Measured) -> &'static str {
        match measured {
            Measured::Good(_) => "good",
            Measured::Inconclusive(_) => "inconclusive",
            Measured::Bad(Reason::ErrorRate, _) => "errors",
            Measured::Bad(Reason::Latency, _) => "latency",
            Measured::Bad(Reason::Unstable, _) => "unstable",
            Measured::Bad(Reason::MemoryPressure, _) => "memory",
            Measured::Bad(..) => "other",
        }
    }

    #[test]
    fn a_canary_is_judged_against_the_stable_release_of_the_same_moment() {
        let stable = || counts(1_000, 0, 50);
        let crashed = Counts { restarts: 1, ..counts(10, 0, 50) };
        let both_crashed = Counts { restarts: 1, ..stable() };
        let full = Counts { memory_percent: Some(95), ..counts(1_000, 0, 50) };
        let cases = [
            (counts(1_000, 5, 50), stable(), "good"),
            (counts(1_000, 50, 50), stable(), "errors"),
            (counts(1_000, 300, 50), counts(1_000, 295, 50), "good"),
            (counts(99, 99, 50), stable(), "inconclusive"),
            (counts(1_000, 0, 500), stable(), "latency"),
            (counts(1_000, 0, 500), counts(1_000, 0, 500), "good"),
            (crashed.clone(), stable(), "unstable"),
            (Counts { restarts: 1, ..counts(1_000, 0, 50) }, both_crashed, "good"),
            (full, stable(), "memory"),
        ];
        for (index, (candidate, stable, expected)) in cases.into_iter().enumerate() {
            assert_eq!(reason(&measured(candidate, stable)), expected, "case {index}");
        }
    }

    #[test]
    fn a_proxy_that_begins_anew_counts_from_nothing() {
        let mut judge = Judge::new(POLICY, Now(0));
        let node: NodeName = "a".parse().unwrap();
        let sample = |requests, errors| Sample {
            candidate: counts(requests, errors, 50),
            stable: Counts::default(),
        };
        judge.take(node.clone(), sample(100_000, 0));
        judge.take(node, sample(200, 100));
        assert_eq!(reason(&judge.measure(Now(10_000)).unwrap()), "errors");
    }

    #[test]
    fn a_quiet_canary_is_judged_once_enough_requests_have_come() {
        let mut judge = Judge::new(POLICY, Now(0));
        let node: NodeName = "a".parse().unwrap();
        let sample =
            |requests| Sample { candidate: counts(requests, 0, 50), stable: Counts::default() };
        judge.take(node.clone(), sample(0));
        judge.take(node.clone(), sample(60));
        assert_eq!(reason(&judge.measure(Now(10_000)).unwrap()), "inconclusive");
        judge.take(node, sample(110));
        assert_eq!(reason(&judge.measure(Now(20_000)).unwrap()), "good");
    }
}
