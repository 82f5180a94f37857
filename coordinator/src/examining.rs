//! Boards look at themselves: one that is asked, and each once a day, so that somebody is told what has become a problem since.
//!
//! The daily round runs only where a target of `[[notify]]` wants to hear of it; it costs a board some ten kilobytes a day. Boards with a metered
//! link are left out. What was told is kept in a file, so that a coordinator that starts anew tells nothing twice.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use protocol::command::{DOCTOR, End};
use protocol::doctor::{Examination, Finding, MAX_EXAMINATION_BYTES, Severity};
use protocol::id::{NodeId, NodeName};
use serde::{Deserialize, Serialize};

use crate::client::{Client, ClientError};
use crate::data_dir::{DataDir, write_whole};
use crate::event_loop::{Fleet, at};
use crate::state::shown::StreamShown;

/// The name of the file in the data folder.
const FILE: &str = "examined.json";
const HOUR_MS: u64 = 60 * 60 * 1000;
const DAY_MS: u64 = 24 * HOUR_MS;
/// So often it is looked who is due; one node each time, so that a fleet is not asked all at once.
const LOOK_EVERY: Duration = Duration::from_secs(20);
/// A node that does not answer is asked again later.
const ANSWERS_WITHIN: Duration = Duration::from_secs(60);
/// Findings of which a notice says more than their number.
const MAX_SAID: usize = 3;

/// Why there is no examination.
#[derive(Debug, thiserror::Error)]
pub enum NotExamined {
    /// The coordinator was not asked, or its answer broke off.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The node ended it.
    #[error("{0}: it ended without an examination")]
    Ended(NodeName, End),
    /// The node is not there, or does not know what that is.
    #[error("{0}: {1}")]
    Away(NodeName, String),
    /// Some of it is missing.
    #[error("{0}: {1} parts of its answer were lost on their way; ask again")]
    Lost(NodeName, u64),
    /// More than is read.
    #[error("the board says more than anybody reads")]
    TooLong,
    /// Something else came.
    #[error("{0}: not an examination: {1}")]
    NotOne(String, serde_json::Error),
}

/// Has a board look at itself.
///
/// # Errors
/// See [`NotExamined`].
pub async fn examine(client: &Client, who: &str) -> Result<Examination, NotExamined> {
    let mut lines = client.doctor(who).await?;
    let mut document = Vec::new();
    while let Some(line) = lines.next().await? {
        match line {
            StreamShown::Output { instance, bytes, .. } if instance == DOCTOR => {
                document.extend(BASE64.decode(bytes).unwrap_or_default());
                if document.len() > MAX_EXAMINATION_BYTES {
                    return Err(NotExamined::TooLong);
                }
            }
            StreamShown::End { end: End::Finished, .. }
            | StreamShown::Output { .. }
            | StreamShown::Alive => {}
            StreamShown::End { node, end } => return Err(NotExamined::Ended(node, end)),
            StreamShown::Away { node, why } => return Err(NotExamined::Away(node, why)),
            StreamShown::Lost { node, parts } => return Err(NotExamined::Lost(node, parts)),
        }
    }
    serde_json::from_slice(&document).map_err(|error| NotExamined::NotOne(who.to_owned(), error))
}

/// What was found on each node when it was looked at last.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
struct Examined(BTreeMap<NodeId, Found>);

#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
struct Found {
    /// Unix milliseconds.
    at_ms: u64,
    /// Ids of checks.
    problems: BTreeSet<String>,
}

impl Examined {
    /// A file that is not there, or not ours, is none.
    fn read(path: &Path) -> Self {
        let bytes = std::fs::read(path).unwrap_or_default();
        serde_json::from_slice(&bytes).unwrap_or_default()
    }

    /// The node whose turn it is; none: nobody's.
    fn due<'a>(&self, here: &'a [NodeId], now_ms: u64) -> Option<&'a NodeId> {
        let seen_ms = |node: &NodeId| self.0.get(node).map_or(0, |found| found.at_ms);
        // A time that has yet to come was written under a wrong clock.
        let is_due = |node: &&NodeId| {
            let seen_ms = seen_ms(node);
            seen_ms > now_ms || now_ms - seen_ms >= DAY_MS
        };
        here.iter().filter(is_due).min_by_key(|node| seen_ms(node))
    }

    /// It did not answer: again in an hour.
    fn miss(&mut self, node: &NodeId, now_ms: u64) {
        self.0.entry(node.clone()).or_default().at_ms = now_ms.saturating_sub(DAY_MS - HOUR_MS);
    }

    /// Keeps what was found; what is a problem now and was none before.
    fn take<'a>(&mut self, node: &NodeId, found: &'a Examination, now_ms: u64) -> Vec<&'a Finding> {
        let problems = found.findings.iter().filter(|one| one.severity == Severity::Problem);
        let problems: Vec<&Finding> = problems.collect();
        let ids = problems.iter().map(|one| one.id.clone()).collect();
        let before = self.0.insert(node.clone(), Found { at_ms: now_ms, problems: ids });
        let before = before.unwrap_or_default().problems;
        problems.into_iter().filter(|one| !before.contains(&one.id)).collect()
    }
}

/// One sentence for a person.
fn sentence(problems: &[&Finding]) -> String {
    let said = problems.iter().take(MAX_SAID).map(|one| format!("{}: {}", one.id, one.seen));
    let mut text = said.collect::<Vec<String>>().join("; ");
    let more = problems.len().saturating_sub(MAX_SAID);
    if more > 0 {
        text.push_str(&format!("; and {more} more"));
    }
    text
}

/// Has each board look at itself once a day until the coordinator ends.
pub async fn daily(fleet: Fleet, client: Client, data: DataDir) {
    let path: PathBuf = data.path().join(FILE);
    let mut examined = Examined::read(&path);
    let mut every = tokio::time::interval(LOOK_EVERY);
    every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        every.tick().await;
        let asked = fleet.ask(|state, _| (state.to_examine(), state.known_nodes()));
        let Ok((here, known)) = asked.await else { return };
        examined.0.retain(|node, _| known.contains(node));
        let Some(node) = examined.due(&here, at().unix_ms) else { continue };
        let looked = tokio::time::timeout(ANSWERS_WITHIN, examine(&client, node.as_str()));
        let now_ms = at().unix_ms;
        match looked.await {
            Ok(Ok(found)) => {
                let news = examined.take(node, &found, now_ms);
                if !news.is_empty() {
                    let (id, what) = (node.clone(), sentence(&news));
                    let told = fleet.ask(move |state, at| state.found_problems(&id, &what, at));
                    if told.await.is_err() {
                        return;
                    }
                }
            }
            Ok(Err(error)) => {
                tracing::debug!(node = %node.short(), %error, "not examined");
                examined.miss(node, now_ms);
            }
            Err(_) => examined.miss(node, now_ms),
        }
        let bytes = serde_json::to_vec(&examined).expect("plain data with string keys");
        if let Err(error) = write_whole(&path, &bytes) {
            tracing::warn!(file = %path.display(), %error, "what was found on boards is not kept: it may be told twice");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: u8) -> NodeId {
        format!("{n:032x}").parse().unwrap()
    }

    fn examination(problems: &[&str]) -> Examination {
        let problem = |id: &&str| Finding::new(id, Severity::Problem, "it is so");
        let mut findings: Vec<Finding> = problems.iter().map(problem).collect();
        findings.push(Finding::new("swap", Severity::Warning, "none"));
        Examination {
            board: "opi-1".parse().unwrap(),
            agent_version: "0.1.0".to_owned(),
            as_root: false,
            findings,
        }
    }

    fn ids<'a>(news: &[&'a Finding]) -> Vec<&'a str> {
        news.iter().map(|one| one.id.as_str()).collect()
    }

    #[test]
    fn what_has_become_a_problem_is_news_once_and_again_after_it_was_mended() {
        let mut examined = Examined::default();
        assert_eq!(ids(&examined.take(&id(1), &examination(&["clock"]), 1)), ["clock"]);
        let both = examination(&["clock", "image-pruner"]);
        assert_eq!(ids(&examined.take(&id(1), &both, 2)), ["image-pruner"]);
        assert!(examined.take(&id(1), &both, 3).is_empty());
        assert!(examined.take(&id(1), &examination(&[]), 4).is_empty());
        assert_eq!(ids(&examined.take(&id(1), &both, 5)), ["clock", "image-pruner"]);
    }

    #[test]
    fn each_has_its_turn_once_a_day_and_one_that_did_not_answer_in_an_hour() {
        let (mut examined, here) = (Examined::default(), [id(1), id(2)]);
        let now_ms = 100 * DAY_MS;
        for n in [1, 2] {
            assert_eq!(examined.due(&here, now_ms), Some(&id(n)));
            let _ = examined.take(&id(n), &examination(&[]), now_ms);
        }
        assert_eq!(examined.due(&here, now_ms + DAY_MS - 1), None);
        examined.miss(&id(2), now_ms);
        assert_eq!(examined.due(&here, now_ms + HOUR_MS - 1), None);
        assert_eq!(examined.due(&here, now_ms + HOUR_MS), Some(&id(2)));
        assert_eq!(examined.due(&here, now_ms - 1), Some(&id(1)), "a clock that was wrong");
    }

    #[test]
    fn it_is_kept_over_a_restart_and_a_file_that_is_not_ours_is_none() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(FILE);
        assert_eq!(Examined::read(&path), Examined::default());
        let mut examined = Examined::default();
        let _ = examined.take(&id(1), &examination(&["clock"]), 7);
        write_whole(&path, &serde_json::to_vec(&examined).unwrap()).unwrap();
        assert_eq!(Examined::read(&path), examined);
        std::fs::write(&path, "{").unwrap();
        assert_eq!(Examined::read(&path), Examined::default());
    }

    #[test]
    fn many_problems_are_one_sentence() {
        let found = examination(&["a", "b", "c", "d", "e"]);
        let problems: Vec<&Finding> = found.findings.iter().take(5).collect();
        assert_eq!(sentence(&problems), "a: it is so; b: it is so; c: it is so; and 2 more");
    }
}
