//! Everything the wanted template needs before anything old is touched: its ports, its image, its secrets, its
//! dependencies.

use protocol::reason::Reason;
use protocol::release::{Image, Pin};
use protocol::spec::{ServiceSpec, Strategy};

use super::facts::ImageState;
use super::history::Kept;
use super::step::{Room, Step, Waiting};
use super::view::{View, stops_all_first};
use super::{damage, fate, policy, secrets};

/// Bytes that stay free beside what an instance asks for.
const MEMORY_RESERVE: u64 = 16 << 20;

/// What there is to say about beginning.
pub(super) enum Prepared {
    /// Begin.
    Ready,
    /// Do this towards it.
    Do(Step, Option<Waiting>),
    /// It will be, or someone has to mend it.
    Wait(Waiting),
    /// It cannot.
    Failed {
        /// The code.
        reason: Reason,
        /// For a person.
        message: String,
    },
}

pub(super) fn prepare(view: &View<'_>, target: &Kept) -> Prepared {
    let Some(release) = view.wanted.releases.get(&target.release) else {
        // A manifest without the release is refused before it gets here; a ledger that lost it waits for the next one.
        let message = "the release is not on this node; the next manifest brings it".to_owned();
        return Prepared::Wait(Waiting { reason: Reason::PullingImage, message, until: None });
    };
    let spec = release.spec(&view.wanted.environment);
    if let Some(message) = policy::keeps_back(view, target, spec, count_of(view, target, spec)) {
        return Prepared::Failed { reason: Reason::PolicyDenied, message };
    }
    let wants = |port: &protocol::id::PortName| spec.ports.iter().any(|p| p.name == *port);
    if let Some(refusal) = view.facts.refused.iter().find(|r| wants(&r.port)) {
        return Prepared::Failed { reason: refusal.reason, message: refusal.message.clone() };
    }
    let image = image(view, &release.image);
    if !matches!(image, Prepared::Ready) {
        return image;
    }
    if let Some(waiting) = secrets::wait(view, target, spec) {
        return Prepared::Wait(waiting);
    }
    if let Some(name) = view.awaited_dependency(spec) {
        let message = format!("waiting for `{name}`, which it depends on, to be ready");
        return Prepared::Wait(Waiting {
            reason: Reason::WaitingForDependency,
            message,
            until: None,
        });
    }
    Prepared::Ready
}

/// Instances that are wanted of it, as what runs or as what runs beside it.
pub(super) fn count_of(view: &View<'_>, target: &Kept, spec: &ServiceSpec) -> u32 {
    match view.candidate.as_ref().is_some_and(|kept| kept.template == target.template) {
        true => view.candidate_count(),
        false => view.count(spec),
    }
}

/// What the memory of this moment allows for a replacement. Without a request, or where the memory is not known, there is
/// room.
pub(super) fn room(view: &View<'_>, target: &Kept) -> Room {
    let Some(spec) = view.spec(&target.release) else { return Room::default() };
    let (count, there) = (view.count(spec), up(view, target));
    let others = view.facts.instances.iter().filter(|i| i.is_up()).count() - there;
    let missing = (count as usize).saturating_sub(there);
    let surge = match &spec.rollout.strategy {
        Strategy::BlueGreen(_) => missing,
        Strategy::Rolling | Strategy::Canary(_) => {
            missing.min(spec.rollout.max_surge.ceil_of(count) as usize)
        }
        Strategy::Recreate => 0,
    };
    let stop_first = others > 0 && !spec.is_exclusive() && !fits(view, spec, surge);
    let rests = others > 0 && fate::warm_ms(spec) > 0 && !stop_first && !stops_all_first(spec);
    Room { stop_first, warm: rests && fits(view, spec, missing) }
}

/// Whether `count` instances of a candidate fit beside what runs. Once one of them is there, that was decided.
pub(super) fn fits_beside(view: &View<'_>, candidate: &Kept, count: u32) -> bool {
    let is_begun = view.facts.instances.iter().any(|i| i.template == candidate.template);
    let spec = view.spec(&candidate.release);
    is_begun || spec.is_none_or(|spec| fits(view, spec, count as usize))
}

fn up(view: &View<'_>, kept: &Kept) -> usize {
    view.facts.instances.iter().filter(|i| i.template == kept.template && i.is_up()).count()
}

fn fits(view: &View<'_>, spec: &ServiceSpec, instances: usize) -> bool {
    match (spec.resources.requests.memory, view.observed.memory_available) {
        (Some(request), Some(available)) => {
            let needed = request.0.saturating_mul(instances as u64);
            needed == 0 || needed.saturating_add(MEMORY_RESERVE) <= available
        }
        (None, _) | (_, None) => true,
    }
}

/// `Ready` when the image is there.
pub(super) fn image(view: &View<'_>, image: &Image) -> Prepared {
    let pulling = |message: &str| Waiting {
        reason: Reason::PullingImage,
        message: message.to_owned(),
        until: None,
    };
    match view.observed.images.get(&image.pin) {
        Some(ImageState::Present) => Prepared::Ready,
        Some(ImageState::Damaged { .. }) => {
            damage::of(view, image).map_or(Prepared::Ready, damage::prepared)
        }
        None => match image.pin {
            Pin::Digest(_) | Pin::Archive(_) => {
                let message = format!("pulling {}", image.reference);
                Prepared::Do(Step::Pull(image.clone()), Some(pulling(&message)))
            }
            Pin::ImageId(_) => Prepared::Failed {
                reason: Reason::ImageNotFound,
                message: format!(
                    "{} is not in this node's Docker; it was resolved to a local image, which no registry has",
                    image.reference
                ),
            },
        },
        Some(ImageState::Pulling { progress, stalled: false }) => Prepared::Wait(pulling(progress)),
        Some(ImageState::Pulling { progress, stalled: true }) => Prepared::Wait(Waiting {
            reason: Reason::RegistryUnreachable,
            message: progress.clone(),
            until: None,
        }),
        Some(ImageState::Failed { reason, message, permanent: true, .. }) => {
            Prepared::Failed { reason: *reason, message: message.clone() }
        }
        Some(ImageState::Failed { reason, message, retry_at, .. }) => {
            if view.now >= *retry_at {
                return Prepared::Do(Step::Pull(image.clone()), None);
            }
            Prepared::Wait(Waiting {
                reason: *reason,
                message: message.clone(),
                until: Some(*retry_at),
            })
        }
    }
}
