//! What happened, counted.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// One request.
#[derive(Debug, Clone)]
pub struct Record {
    /// When the schedule wanted it.
    pub due: Instant,
    /// When its answer was complete, or it failed.
    pub done: Instant,
    /// The first word of the answer, or what went wrong.
    pub outcome: Result<String, String>,
}

impl Record {
    /// The version that answered.
    #[must_use]
    pub fn version(&self) -> Option<&str> {
        self.outcome.as_ref().ok().map(String::as_str)
    }
}

/// Requests of a span of time.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Summary {
    /// How many were due.
    pub sent: u64,
    /// How many failed.
    pub failed: u64,
    /// Half were faster.
    pub p50: Duration,
    /// 99 of 100 were faster.
    pub p99: Duration,
    /// The slowest.
    pub max: Duration,
    /// Answers by their first word.
    pub versions: BTreeMap<String, u64>,
    /// The first failures, verbatim.
    pub errors: Vec<String>,
}

/// Failures kept verbatim.
const MAX_ERRORS: usize = 5;

impl Summary {
    pub(crate) fn of<'a>(records: impl Iterator<Item = &'a Record>) -> Self {
        let mut summary = Self::default();
        let mut latencies = Vec::new();
        for record in records {
            summary.sent += 1;
            match &record.outcome {
                Ok(version) => {
                    *summary.versions.entry(version.clone()).or_default() += 1;
                    latencies.push(record.done.duration_since(record.due));
                }
                Err(error) => {
                    summary.failed += 1;
                    if summary.errors.len() < MAX_ERRORS {
                        summary.errors.push(error.clone());
                    }
                }
            }
        }
        latencies.sort_unstable();
        let at = |share: usize| {
            let index = (latencies.len() * share / 100).min(latencies.len().saturating_sub(1));
            latencies.get(index).copied().unwrap_or_default()
        };
        Self { p50: at(50), p99: at(99), max: at(100), ..summary }
    }
}
