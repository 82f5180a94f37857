//! An image whose files are damaged on this board, as a power cut leaves them: what of it goes, so that it can be fetched
//! again, and what is said where that is no help.
//!
//! ```text
//! found -> nothing of it runs -> its containers go -> the image goes, with its layers -> pulled like any other
//!   found again in this agent's life, or nothing to fetch it from: failed, with the mend
//! ```

use protocol::reason::Reason;
use protocol::release::{Image, Pin};

use super::facts::{ImageState, Instance, Observed, Repair, Wanted};
use super::history::Kept;
use super::preparing::Prepared;
use super::step::Waiting;
use super::view::View;

/// What a damaged image means for whoever needs it.
pub(super) enum Damage {
    /// It is being mended.
    Passing(Waiting),
    /// Somebody has to mend it: this is said.
    Lasting(String),
}

/// None: it is not known to be damaged.
pub(super) fn of(view: &View<'_>, image: &Image) -> Option<Damage> {
    let (what, repair) = damaged(view.observed, &image.pin)?;
    let reference = &image.reference;
    let lasting = match (repair, &image.pin) {
        (_, Pin::ImageId(id)) => format!(
            "{what}: the image is damaged on this board, and no registry has it; `docker rmi -f {id}` here, then \
             `docker load` it again"
        ),
        (Repair::InVain, Pin::Digest(_) | Pin::Archive(_)) => format!(
            "{what}, also after {reference} was fetched again: the image itself is so, or layers that it shares with \
             other images of this board are damaged (`docker images -a` here names them, `docker rmi -f` those and it), or \
             the card is failing"
        ),
        (Repair::Refused(why), Pin::Digest(_) | Pin::Archive(_)) => format!(
            "{what}: the image is damaged on this board and could not be removed to be fetched again ({why}); \
             `docker rmi -f {reference}` here, once nothing uses it"
        ),
        (Repair::Due, Pin::Digest(_) | Pin::Archive(_)) => {
            let when = match is_up(view.wanted, view.observed, &image.pin) {
                true => "as soon as no instance of it runs",
                false => "now",
            };
            let message =
                format!("{what}: the image is damaged on this board, and is fetched again {when}");
            return Some(Damage::Passing(Waiting {
                reason: Reason::ImageDamaged,
                message,
                until: None,
            }));
        }
    };
    Some(Damage::Lasting(lasting))
}

/// The same, of a template.
pub(super) fn of_kept(view: &View<'_>, kept: &Kept) -> Option<Damage> {
    of(view, &view.wanted.releases.get(&kept.release)?.image)
}

/// Nothing is made of a damaged image, nor started.
pub(super) fn wait(view: &View<'_>, kept: &Kept) -> Option<Waiting> {
    Some(match of_kept(view, kept)? {
        Damage::Passing(waiting) => waiting,
        Damage::Lasting(message) => Waiting { reason: Reason::ImageDamaged, message, until: None },
    })
}

/// The same, before anything is made of it.
pub(super) fn prepared(damage: Damage) -> Prepared {
    match damage {
        Damage::Passing(waiting) => Prepared::Wait(waiting),
        Damage::Lasting(message) => Prepared::Failed { reason: Reason::ImageDamaged, message },
    }
}

/// Whether a container holds layers of a damaged image that nothing of runs: it goes, and they with it.
pub(super) fn must_go(view: &View<'_>, instance: &Instance) -> bool {
    let Some(release) = view.wanted.releases.get(&instance.release) else { return false };
    let pin = &release.image.pin;
    damaged(view.observed, pin).is_some() && !is_up(view.wanted, view.observed, pin)
}

/// Damaged images that no container holds any more, and that can be fetched again.
pub(super) fn to_discard(wanted: &Wanted, observed: &Observed) -> Vec<Image> {
    let mut images: Vec<Image> = Vec::new();
    for image in wanted.releases.values().map(|release| &release.image) {
        let is_due = matches!(damaged(observed, &image.pin), Some((_, Repair::Due)));
        let can_be_fetched = match image.pin {
            Pin::Digest(_) | Pin::Archive(_) => true,
            Pin::ImageId(_) => false,
        };
        let is_free = instances(wanted, observed, &image.pin).next().is_none();
        if is_due && can_be_fetched && is_free && images.iter().all(|i| i.pin != image.pin) {
            images.push(image.clone());
        }
    }
    images
}

fn damaged<'a>(observed: &'a Observed, pin: &Pin) -> Option<(&'a str, &'a Repair)> {
    match observed.images.get(pin)? {
        ImageState::Damaged { what, repair } => Some((what, repair)),
        ImageState::Present | ImageState::Pulling { .. } | ImageState::Failed { .. } => None,
    }
}

fn is_up(wanted: &Wanted, observed: &Observed, pin: &Pin) -> bool {
    instances(wanted, observed, pin).any(Instance::is_up)
}

/// Containers of the node that are made of an image, whichever service they are of.
fn instances<'a>(
    wanted: &'a Wanted,
    observed: &'a Observed,
    pin: &'a Pin,
) -> impl Iterator<Item = &'a Instance> {
    let is_of_it = move |i: &&Instance| {
        wanted.releases.get(&i.release).is_some_and(|release| release.image.pin == *pin)
    };
    observed.services.values().flat_map(|facts| &facts.instances).filter(is_of_it)
}
