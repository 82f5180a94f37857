//! Images: pulls under way, pulls that failed, and the removal of what nothing needs.

use agent::engine::fake::PullOutcome;
use agent::engine::{EngineError, PullError, PullUpdate};
use agent::ledger::Pulled;
use agent::observe::gather::Scope;
use agent::observe::memory::Pulling;
use planner::Now;
use planner::node::ImageStep;
use protocol::id::ServiceName;
use protocol::release::{Image, Pin};

use super::writing::Job;
use super::{Event, Process};
use crate::board::hardware::{Hardware, Request};

/// A pull that moved no byte for this long stands still, and says so.
const STALLED_AFTER_MS: u64 = 30_000;
/// Pause after the first failure of a pull; doubles.
const RETRY_BASE_MS: u64 = 1_000;
const RETRY_CAP_MS: u64 = 300_000;
const RETRY_DOUBLINGS: u32 = 9;
/// Failures in a row of a kind that nobody knows, after which trying again is no use.
const UNKNOWN_FAILURES: u32 = 5;
/// A registry that is away is noticed after this.
const UNREACHABLE_MS: u64 = 300;

impl Process {
    pub(super) fn begin_pull(
        &mut self,
        service: &ServiceName,
        image: Image,
        board: &mut Hardware,
        now: Now,
    ) {
        let pin = image.pin.clone();
        if matches!(self.memory.pulls.get(&pin), Some(Pulling::Underway { .. })) {
            return;
        }
        board.act(|| format!("{service}: pull {}", image.reference));
        let failures = self.memory.pulls.get(&pin).map_or(0, failures);
        let outcome = match board.registry_away_until_ms > board.now_ms {
            true => {
                let error = PullError::Unreachable;
                PullOutcome::Fails { after_ms: UNREACHABLE_MS, error }
            }
            false => board.docker.pull_outcome(&image),
        };
        let progress = format!("pulling {}", image.reference);
        let (moved_at, is_stalled) = (now, false);
        let state = Pulling::Underway { image, progress, moved_at, is_stalled, failures };
        self.memory.pulls.insert(pin.clone(), state);
        let pull = self.next_event;
        self.pulls.insert(pin.clone(), pull);
        match outcome {
            PullOutcome::Comes { takes_ms, .. } => {
                self.later(now.plus(takes_ms), Event::Pull(pin, pull, PullUpdate::Done));
            }
            PullOutcome::Fails { after_ms, error } => {
                let message = format!("{error:?}");
                let failed = PullUpdate::Failed { error, message };
                self.later(now.plus(after_ms), Event::Pull(pin, pull, failed));
            }
            PullOutcome::Hangs => {}
        }
        self.decide_by(now);
    }

    pub(super) fn pulled(
        &mut self,
        pin: &Pin,
        pull: u64,
        update: PullUpdate,
        board: &mut Hardware,
        now: Now,
    ) {
        if self.pulls.get(pin) != Some(&pull) {
            return;
        }
        let Some(Pulling::Underway { image, failures, .. }) = self.memory.pulls.get(pin) else {
            return;
        };
        let (image, failures) = (image.clone(), failures + 1);
        match update {
            PullUpdate::Progress { .. } => {}
            PullUpdate::Done => {
                board.act(|| format!("pulled {}", image.reference));
                board.docker.image_comes(&image);
                self.memory.pulls.remove(pin);
                self.pulls.remove(pin);
                self.writing.push(Job::Image { image, is_here: Pulled::Here });
                self.gathering.want(Scope { images: true, ..Scope::NOTHING }, now);
            }
            PullUpdate::Failed { error, message } => {
                board.act(|| format!("pull of {} failed: {message}", image.reference));
                self.pulls.remove(pin);
                self.memory.pulls.insert(pin.clone(), failed(error, message, failures, now));
                self.decide_by(now);
            }
        }
    }

    pub(super) fn look_at_pulls(&mut self, now: Now) {
        for pulling in self.memory.pulls.values_mut() {
            if let Pulling::Underway { moved_at, is_stalled, .. } = pulling {
                *is_stalled |= now.since(*moved_at) >= STALLED_AFTER_MS;
            }
        }
        let needed = self.needed_images();
        let facts = &self.facts;
        self.memory.pulls.retain(|pin, pulling| {
            let is_here = facts.images.get(pin).is_some_and(Option::is_some);
            let is_needed = needed.iter().any(|image| image.pin == *pin);
            matches!(pulling, Pulling::Underway { .. }) || (is_needed && !is_here)
        });
    }

    pub(super) fn image_step(&mut self, step: ImageStep, board: &mut Hardware, now: Now) {
        match step {
            ImageStep::CancelPull(pin) => {
                self.pulls.remove(&pin);
                self.memory.pulls.remove(&pin);
                self.decide_by(now);
            }
            ImageStep::Remove(pin) => {
                let pulled = self.writing.images_pulled().iter().find(|image| image.pin == pin);
                let Some(image) = pulled.cloned() else { return };
                if self.removing_images.insert(pin) {
                    board.act(|| format!("remove image {}", image.reference));
                    board.send(self.run, Request::RemoveImage(image));
                }
            }
        }
    }

    pub(super) fn image_removed(&mut self, pin: &Pin, result: &Result<(), EngineError>, now: Now) {
        if result.is_err() {
            return;
        }
        self.removing_images.remove(pin);
        let pulled = self.writing.images_pulled().iter().find(|image| image.pin == *pin);
        if let Some(image) = pulled.cloned() {
            self.writing.push(Job::Image { image, is_here: Pulled::Gone });
        }
        self.gathering.want(Scope { images: true, ..Scope::NOTHING }, now);
    }
}

fn failures(pulling: &Pulling) -> u32 {
    match pulling {
        Pulling::Underway { failures, .. } | Pulling::Failed { failures, .. } => *failures,
    }
}

fn failed(error: PullError, message: String, failures: u32, now: Now) -> Pulling {
    let is_hopeless = error == PullError::Other && failures >= UNKNOWN_FAILURES;
    let doublings = failures.saturating_sub(1).min(RETRY_DOUBLINGS);
    Pulling::Failed {
        reason: error.reason(),
        message,
        permanent: error.is_permanent() || is_hopeless,
        retry_at: now.plus((RETRY_BASE_MS << doublings).min(RETRY_CAP_MS)),
        failures,
    }
}
