//! What is remembered of a service, and how each change of the ledger changes it: the one rule for node, disk and tests.

use protocol::id::{ReleaseId, Template};
use protocol::report::{Evidence, GivenUp};
use protocol::secret::SecretVersions;

use super::step::{AfterGivingUp, LedgerChange, Room};
use crate::Now;

/// Failures that are remembered: more releases than anyone goes back and forth between.
const MAX_FAILURES: usize = 16;

/// What the ledger remembers of one service.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct History {
    /// What the node runs or is moving to.
    pub running: Option<Kept>,
    /// Whether `running` was once complete: all instances available, nothing old left.
    pub completed: bool,
    /// When it became so; the agent's start where that was under another boot.
    pub completed_at: Option<Now>,
    /// Decided when `running` was begun: one goes before the next starts, for want of memory.
    pub stop_first: bool,
    /// Decided when `running` was begun: there is memory to keep what ran before it warm.
    pub warm: bool,
    /// What it goes back to when `running` fails, decided when `running` was begun.
    pub last_good: Option<Kept>,
    /// Whether `last_good` was once complete; else it is only what there was.
    pub proven: bool,
    /// What failed, newest first, each template once; only the newest has its evidence. None of them is tried again under
    /// the same or a lower attempt.
    pub failures: Vec<GivenUp>,
}

/// A template with what it is made from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// The release.
    pub release: ReleaseId,
    /// The template.
    pub template: Template,
    /// The attempt it was begun under.
    pub attempt: u32,
    /// The revision it was begun under, for people.
    pub revision: u64,
    /// The version of each secret that it is made with.
    pub secrets: SecretVersions,
}

impl History {
    /// Of a service that nothing is remembered of.
    pub const NOTHING: Self = Self {
        running: None,
        completed: false,
        completed_at: None,
        stop_first: false,
        warm: false,
        last_good: None,
        proven: false,
        failures: Vec::new(),
    };

    /// What is remembered after `change`. `evidence` is what was collected of a failure.
    #[must_use]
    pub fn after(&self, change: &LedgerChange, evidence: Option<Evidence>) -> Self {
        let mut next = self.clone();
        match change {
            LedgerChange::Begin { kept, room, last_good } => {
                let was_complete = *last_good == self.running && self.completed
                    || *last_good == self.last_good && self.proven;
                next.proven = last_good.is_some() && was_complete;
                next.last_good.clone_from(last_good);
                next.move_to(Some(kept.clone()), *room);
            }
            LedgerChange::Complete(at) => {
                (next.completed, next.completed_at) = (true, Some(*at));
            }
            LedgerChange::GiveUp { failed, reason, message, then, .. } => {
                let Kept { release, template, attempt, .. } = failed.clone();
                let (reason, message) = (*reason, message.clone());
                next.fail(GivenUp { release, template, attempt, reason, message, evidence });
                if *then == AfterGivingUp::GoBack {
                    next.move_to(self.last_good.clone(), Room::default());
                }
            }
            LedgerChange::Forget => next = Self::NOTHING,
        }
        next
    }

    /// What runs and what to go back to: their releases and images stay on the node.
    pub fn kept(&self) -> impl Iterator<Item = &Kept> {
        self.running.iter().chain(&self.last_good)
    }

    /// The failure of this template, where it failed under this attempt or a later one.
    #[must_use]
    pub fn failure_of(&self, kept: &Kept) -> Option<&GivenUp> {
        self.failures.iter().find(|f| f.template == kept.template && kept.attempt <= f.attempt)
    }

    fn move_to(&mut self, kept: Option<Kept>, room: Room) {
        self.running = kept;
        (self.completed, self.completed_at) = (false, None);
        (self.stop_first, self.warm) = (room.stop_first, room.warm);
    }

    fn fail(&mut self, newest: GivenUp) {
        self.failures.retain(|failure| failure.template != newest.template);
        for failure in &mut self.failures {
            failure.evidence = None;
        }
        self.failures.insert(0, newest);
        self.failures.truncate(MAX_FAILURES);
    }
}
