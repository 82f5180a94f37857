//! Images: services share them, so they are decided for the node as a whole.

use std::collections::{BTreeMap, BTreeSet};

use protocol::id::{ReleaseId, ServiceName};
use protocol::reason::Reason;
use protocol::release::Pin;

use super::damage;
use super::facts::{ImageState, Observed, Wanted};
use super::history::History;
use super::step::ImageStep;

/// Below this share of the disk in use, images that nothing pins stay for a later undo.
const KEEP_BELOW_PERCENT: u8 = 70;

/// Cancels pulls that nothing wants, lets go of what is damaged, and removes what nothing pins while the disk is fuller than it should be.
pub(super) fn decide(
    wanted: &Wanted,
    observed: &Observed,
    history: &BTreeMap<ServiceName, History>,
) -> Vec<ImageStep> {
    let pinned = pinned(wanted, history);
    let is_pulling = |state: &ImageState| matches!(state, ImageState::Pulling { .. });
    let pulling = observed.images.iter().filter(|(_, state)| is_pulling(state));
    let mut steps: Vec<ImageStep> = pulling
        .filter(|(pin, _)| !pinned.contains(*pin))
        .map(|(pin, _)| ImageStep::CancelPull(pin.clone()))
        .collect();
    let discarded = damage::to_discard(wanted, observed).into_iter();
    steps.extend(discarded.filter(|image| pinned.contains(&image.pin)).map(ImageStep::Discard));
    let is_full = observed.disk_used_percent.is_some_and(|used| used >= KEEP_BELOW_PERCENT);
    // Something did not fit: what nothing pins goes before it is tried again.
    let did_not_fit = observed.images.iter().any(|(pin, state)| {
        let no_space = matches!(state, ImageState::Failed { reason: Reason::NoSpace, .. });
        no_space && pinned.contains(pin)
    });
    if is_full || did_not_fit {
        let unpinned = observed.images_pulled.iter().filter(|pin| !pinned.contains(*pin));
        steps.extend(unpinned.map(|pin| ImageStep::Remove(pin.clone())));
    }
    steps
}

/// Images of what is wanted, of what runs and of what to go back to.
fn pinned<'a>(
    wanted: &'a Wanted,
    history: &'a BTreeMap<ServiceName, History>,
) -> BTreeSet<&'a Pin> {
    let assigned = wanted.assignments.values().flat_map(|a| a.releases());
    let hooks = wanted.hooks.values().map(|hook| &hook.release);
    let held = wanted.held.values().map(|held| &held.kept);
    let kept = history.values().flat_map(History::kept).chain(held).map(|kept| &kept.release);
    let pin = |id: &ReleaseId| wanted.releases.get(id).map(|release| &release.image.pin);
    assigned.chain(hooks).chain(kept).filter_map(pin).collect()
}
