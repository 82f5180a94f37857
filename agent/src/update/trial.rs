//! Whether a new agent is confirmed, or who is to blame where it is not. A value of the loop; every moment is an argument.

use planner::Now;

use super::record::{Record, Turn};
use super::{Launched, Runs};

/// What confirms an agent must hold this long.
pub const STABLE_MS: u64 = 60_000;
/// Without it for this long, somebody is to blame.
pub const BLAME_MS: u64 = 10 * 60_000;
/// The same once it was nobody: whoever has no network is not started again all the time.
pub const BLAME_LATER_MS: u64 = 60 * 60_000;

/// What this process has seen of the world, and what follows for the trial.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Watch {
    part: Part,
    began: Now,
    is_answered: bool,
    is_listed: bool,
    well_since: Option<Now>,
}

/// Which part this process has in a trial.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    /// None is under way.
    None,
    /// It is what is tried.
    New {
        /// For the second time, after the former one was well.
        is_again: bool,
        /// Of it.
        blame_ms: u64,
    },
    /// It is what runs otherwise, to compare.
    Former,
    /// It is what runs otherwise, though it is the other one's turn: that could not be written.
    Waiting,
}

/// What follows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// The new one stays.
    Confirm,
    /// Somebody else's turn; this process ends.
    Turn(Turn),
    /// The new one goes; this process ends.
    Revert(String),
    /// Tried again by starting again; this process ends.
    Restart,
}

impl Watch {
    /// Of a process that begins.
    #[must_use]
    pub fn new(launched: Option<&Launched>, now: Now) -> Self {
        let part = launched.map_or(Part::None, |of| part(&of.record, of.runs));
        Self { part, began: now, is_answered: false, is_listed: false, well_since: None }
    }

    /// The coordinator has answered a hello of this process.
    pub fn answered(&mut self, now: Now) {
        self.is_answered = true;
        self.look_well(now);
    }

    /// Docker has listed its containers for this process.
    pub fn listed(&mut self, now: Now) {
        self.is_listed = true;
        self.look_well(now);
    }

    fn look_well(&mut self, now: Now) {
        if self.is_answered && self.is_listed && self.well_since.is_none() {
            self.well_since = Some(now);
        }
    }

    /// What follows at this moment; none: nothing yet.
    #[must_use]
    pub fn verdict(&self, now: Now) -> Option<Verdict> {
        let is_time = self.wake_at().is_some_and(|at| now >= at);
        if !is_time {
            return None;
        }
        match (self.part, self.well_since) {
            (Part::None, _) => None,
            (Part::New { .. }, Some(_)) => Some(Verdict::Confirm),
            (Part::New { is_again: true, blame_ms }, None) => {
                let minutes = blame_ms / 60_000;
                let missing = self.missing();
                Some(Verdict::Revert(format!(
                    "{missing} within {minutes} minutes, twice, while the agent before it was well in between"
                )))
            }
            (Part::New { is_again: false, .. }, None) => Some(Verdict::Turn(Turn::Former)),
            (Part::Former, Some(_)) => Some(Verdict::Turn(Turn::Again)),
            (Part::Former, None) => Some(Verdict::Turn(Turn::New)),
            (Part::Waiting, _) => Some(Verdict::Restart),
        }
    }

    /// When something may follow; none: nothing ever does.
    #[must_use]
    pub fn wake_at(&self) -> Option<Now> {
        match (self.part, self.well_since) {
            (Part::None, _) => None,
            (Part::New { .. }, Some(since)) => Some(since.plus(STABLE_MS)),
            (Part::New { blame_ms, .. }, None) => Some(self.began.plus(blame_ms)),
            (Part::Former, Some(since)) => Some(since),
            (Part::Former | Part::Waiting, None) => Some(self.began.plus(BLAME_MS)),
            (Part::Waiting, Some(_)) => Some(self.began.plus(BLAME_MS)),
        }
    }

    /// What is not there.
    #[must_use]
    pub const fn missing(&self) -> &'static str {
        match (self.is_answered, self.is_listed) {
            (false, true) => "no answer of the coordinator",
            (true, false) => "no list of containers from Docker",
            (false, false) => {
                "neither an answer of the coordinator nor a list of containers from Docker"
            }
            (true, true) => "nothing",
        }
    }
}

fn part(record: &Record, runs: Runs) -> Part {
    let Some(trial) = &record.trial else { return Part::None };
    let is_new = runs == Runs::Slot(trial.held.slot);
    let blame_ms = if trial.excused > 0 { BLAME_LATER_MS } else { BLAME_MS };
    match (trial.turn, is_new) {
        (Turn::New, true) => Part::New { is_again: false, blame_ms },
        // It is known that the world is well: no reason to be patient.
        (Turn::Again, true) => Part::New { is_again: true, blame_ms: BLAME_MS },
        (Turn::Former, false) => Part::Former,
        (Turn::New | Turn::Again, false) | (Turn::Former, true) => Part::Waiting,
    }
}
