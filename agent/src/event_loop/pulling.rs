//! Images: pulls under way, pulls that failed, and the removal of what nothing needs.

use planner::Now;
use planner::node::ImageStep;
use protocol::id::ServiceName;
use protocol::registries::registry_of;
use protocol::release::{Image, Pin};
use tracing::{info, warn};

use super::acts::Act;
use super::agent::Agent;
use super::writing::Job;
use crate::engine::{EngineError, PullError, PullUpdate};
use crate::ledger::Pulled;
use crate::observe::gather::Scope;
use crate::observe::memory::Pulling;

/// A pull that moved no byte for this long stands still, and says so.
const STALLED_AFTER_MS: u64 = 30_000;
/// Pause after the first failure of a pull; doubles to [`RETRY_CAP_MS`].
const RETRY_BASE_MS: u64 = 1_000;
const RETRY_CAP_MS: u64 = 300_000;
const RETRY_LEAST_MS: u64 = 100;
/// Images are removed within this.
const REMOVAL_MS: u64 = 10_000;
const RETRY_DOUBLINGS: u32 = 9;
/// Failures in a row of a kind that nobody knows, after which trying again is no use.
const UNKNOWN_FAILURES: u32 = 5;

const MIB: u64 = 1 << 20;

impl Agent {
    pub(super) fn begin_pull(&mut self, service: &ServiceName, image: Image, now: Now) {
        let pin = image.pin.clone();
        // One that came and that nobody has looked for since is not known to be here yet.
        let looked = self.gathering.images_number;
        let is_unseen = self.images_seen_from.get(&pin).is_some_and(|from| looked < *from);
        if is_unseen || matches!(self.memory.pulls.get(&pin), Some(Pulling::Underway { .. })) {
            return;
        }
        info!(%service, image = image.reference, "pull");
        let failures = self.memory.pulls.get(&pin).map_or(0, failures);
        let progress = format!("pulling {}", image.reference);
        self.last_pull += 1;
        let (service, number) = (service.clone(), self.last_pull);
        let login = self.logins.get(registry_of(&image.reference)).cloned();
        self.acts.push(Act::Pull { service, image: image.clone(), login, number });
        let state =
            Pulling::Underway { image, progress, moved_at: now, is_stalled: false, failures };
        self.memory.pulls.insert(pin.clone(), state);
        self.pulls.insert(pin, number);
        self.decide_by(now);
    }

    pub(super) fn pulled(&mut self, pin: Pin, number: u64, update: PullUpdate, now: Now) {
        if self.pulls.get(&pin) != Some(&number) {
            return;
        }
        let Some(Pulling::Underway { image, progress, moved_at, is_stalled, failures }) =
            self.memory.pulls.get_mut(&pin)
        else {
            return;
        };
        match update {
            PullUpdate::Progress { bytes, total } => {
                *moved_at = now;
                *is_stalled = false;
                // What came of an archive stays: the next try begins where this one ends.
                if matches!(pin, Pin::Archive(_)) {
                    *failures = 0;
                }
                *progress = format!(
                    "pulling {}: {} of {} MiB",
                    image.reference,
                    bytes / MIB,
                    total.div_ceil(MIB)
                );
                // The report shows it with the next decision; a pull is no reason for one of its own.
            }
            PullUpdate::Done => {
                let image = image.clone();
                info!(image = image.reference, "pulled");
                self.memory.pulls.remove(&pin);
                self.pulls.remove(&pin);
                self.images_seen_from.insert(pin, self.gathering.next_number());
                self.image_came(&image.pin, now);
                self.writing.push(Job::Image { image, is_here: Pulled::Here });
                self.gathering.want(Scope { images: true, ..Scope::NOTHING }, now);
            }
            PullUpdate::Failed { error, message } => {
                let failures = *failures + 1;
                warn!(image = image.reference, ?error, message, failures, "pull failed");
                let may_go = self.has_images_to_remove() && error == PullError::NoSpace;
                let pause = pause_ms(failures, &(&self.node.node, &pin, now));
                let retry_at = now.plus(if may_go { pause.max(REMOVAL_MS) } else { pause });
                let failed = failed((error, message), failures, retry_at, may_go);
                self.pulls.remove(&pin);
                self.memory.pulls.insert(pin, failed);
                self.decide_by(now);
            }
        }
    }

    pub(super) fn look_at_pulls(&mut self, now: Now) {
        for pulling in self.memory.pulls.values_mut() {
            if let Pulling::Underway { image, progress, moved_at, is_stalled, .. } = pulling
                && !*is_stalled
                && now.since(*moved_at) >= STALLED_AFTER_MS
            {
                *is_stalled = true;
                *progress =
                    format!("{}: no bytes for {} s", image.reference, STALLED_AFTER_MS / 1000);
            }
        }
        // A failure of an image that came by another way, or that nothing names any more, is forgotten.
        let looked = self.gathering.images_number;
        self.images_seen_from.retain(|_, from| looked < *from);
        let needed = self.needed_images();
        let facts = &self.facts;
        self.memory.pulls.retain(|pin, pulling| {
            let is_here = facts.images.get(pin).is_some_and(Option::is_some);
            let is_needed = needed.iter().any(|image| image.pin == *pin);
            matches!(pulling, Pulling::Underway { .. }) || (is_needed && !is_here)
        });
    }

    pub(super) fn image_step(&mut self, step: ImageStep, now: Now) {
        match step {
            ImageStep::CancelPull(pin) => {
                self.memory.pulls.remove(&pin);
                if self.pulls.remove(&pin).is_some() {
                    self.acts.push(Act::CancelPull(pin));
                }
                self.decide_by(now);
            }
            ImageStep::Remove(pin) => self.remove_image(pin),
            ImageStep::Discard(image) => self.discard_image(image),
        }
    }

    /// Whether a disk without room may get some: of images that nothing needs any more.
    fn has_images_to_remove(&self) -> bool {
        let needed = self.needed_images();
        let is_needed = |pin: &Pin| needed.iter().any(|image| image.pin == *pin);
        let pulled = self.writing.images_pulled().iter().map(|image| &image.pin);
        let left = |pin: &Pin| !is_needed(pin) && !self.removing_images.contains(pin);
        self.settings.remove_images && pulled.into_iter().any(left)
    }

    fn remove_image(&mut self, pin: Pin) {
        let pulled = self.writing.images_pulled().iter().find(|image| image.pin == pin);
        let Some(image) = pulled.cloned() else { return };
        if !self.removing_images.insert(pin) {
            return;
        }
        info!(image = image.reference, "image removed");
        self.acts.push(Act::RemoveImage(image));
    }

    /// One that is in use stays in [`Agent::removing_images`] until the agent starts anew: whoever uses it is not ours.
    pub(super) fn image_removed(&mut self, pin: &Pin, result: Result<(), EngineError>, now: Now) {
        if let Err(error) = result {
            warn!(%error, "image not removed");
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

/// At random up to a bound that doubles with each failure: boards that lost their registry together do not come back together. The
/// seed is what differs between boards and tries, so that the loop's state stays a value.
fn pause_ms(failures: u32, seed: &impl std::fmt::Debug) -> u64 {
    let doublings = failures.saturating_sub(1).min(RETRY_DOUBLINGS);
    let most = (RETRY_BASE_MS << doublings).min(RETRY_CAP_MS);
    let digits = protocol::id::sha256_hex(format!("{seed:?}").as_bytes());
    let drawn = u64::from_str_radix(&digits[..15], 16).unwrap_or(most);
    (drawn % most).max(RETRY_LEAST_MS)
}

/// `may_go`: other images are removed before it is tried again.
fn failed(
    (error, message): (PullError, String),
    failures: u32,
    retry_at: Now,
    may_go: bool,
) -> Pulling {
    let is_counted = matches!(error, PullError::Other | PullError::Another);
    let is_hopeless = is_counted && failures >= UNKNOWN_FAILURES;
    Pulling::Failed {
        reason: error.reason(),
        message,
        permanent: (error.is_permanent() && !may_go) || is_hopeless,
        retry_at,
        failures,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn boards_that_lost_their_registry_together_do_not_come_back_together() {
        for failures in [1, 5, 9, 40] {
            let most = (RETRY_BASE_MS << (failures - 1).min(RETRY_DOUBLINGS)).min(RETRY_CAP_MS);
            let pauses: Vec<u64> = (0..200).map(|board| pause_ms(failures, &board)).collect();
            assert!(pauses.iter().all(|pause| (RETRY_LEAST_MS..=most).contains(pause)));
            let early = pauses.iter().filter(|pause| **pause < most / 2).count();
            assert!((50..150).contains(&early), "{early} of 200 in the first half");
        }
    }

    #[test]
    fn a_disk_without_room_is_tried_again_only_where_something_goes_first() {
        let failed = |may_go| failed((PullError::NoSpace, String::new()), 1, Now(5), may_go);
        assert!(matches!(failed(false), Pulling::Failed { permanent: true, .. }));
        assert!(matches!(failed(true), Pulling::Failed { permanent: false, .. }));
    }
}
