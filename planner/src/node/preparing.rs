//! Everything the wanted template needs before anything old is touched: its ports, its image, its dependencies.

use protocol::reason::Reason;
use protocol::release::{Image, Pin};

use super::facts::{ImageState, Kept};
use super::step::{Step, Waiting};
use super::view::View;

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
    let wants = |port: &protocol::id::PortName| release.spec.ports.iter().any(|p| p.name == *port);
    if let Some(refusal) = view.facts.refused.iter().find(|r| wants(&r.port)) {
        return Prepared::Failed { reason: refusal.reason, message: refusal.message.clone() };
    }
    let image = image(view, &release.image);
    if !matches!(image, Prepared::Ready) {
        return image;
    }
    if let Some(name) = view.awaited_dependency(&release.spec) {
        let message = format!("waiting for `{name}`, which it depends on, to be ready");
        return Prepared::Wait(Waiting {
            reason: Reason::WaitingForDependency,
            message,
            until: None,
        });
    }
    Prepared::Ready
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
        None => match image.pin {
            Pin::Digest(_) => {
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
