//! When what is being moved to has failed, and when others are to blame.

use protocol::reason::Reason;
use protocol::spec::ServiceSpec;

use super::damage::{self, Damage};
use super::facts::{Finding, ImageState, Instance, Life};
use super::history::Kept;
use super::step::Waiting;
use super::view::View;
use super::{policy, preparing};
use crate::Now;

/// Exits before ready that fail a release at once, and exits within its soak time.
pub(super) const EXITS_BEFORE_READY: u32 = 3;
/// Failures of one step in a row that fail a release.
pub(super) const STEP_FAILURES: u32 = 3;
/// Within its soak time, an instance that was ready may be unready for this long at most.
const UNREADY_IN_SOAK_MS: u64 = 30_000;
const BACKOFF_BASE_MS: u64 = 1_000;
const BACKOFF_CAP_MS: u64 = 300_000;

/// Pause after the `exits`-th end: 1 s, 2 s, 4 s … 5 min; none before the first.
pub(super) fn backoff_ms(exits: u32) -> u64 {
    let Some(doublings) = exits.checked_sub(1) else { return 0 };
    BACKOFF_BASE_MS
        .checked_shl(doublings.min(20))
        .map_or(BACKOFF_CAP_MS, |ms| ms.min(BACKOFF_CAP_MS))
}

/// What is judged.
pub(super) struct Judged<'a> {
    /// The template.
    pub(super) kept: &'a Kept,
    /// Its spec.
    pub(super) spec: &'a ServiceSpec,
    /// When it last moved on.
    pub(super) progress_at: Option<Now>,
}

/// What a template that is not complete yet comes to.
pub(super) enum Judgement {
    /// Go on.
    Underway,
    /// It would have failed, but it is not to blame.
    Blameless(Waiting),
    /// It failed.
    Failed {
        /// The code.
        reason: Reason,
        /// For a person.
        message: String,
        /// The instance whose evidence is kept.
        evidence_of: Option<String>,
    },
}

/// Judges a template that is on its way. `waits_on_new` says whether a new instance is what is waited for (and not, say,
/// the draining of an old one).
pub(super) fn judge(view: &View<'_>, judged: &Judged<'_>, waits_on_new: bool) -> Judgement {
    verdict(view, judged, failure(view, judged, waits_on_new))
}

/// Judges a template that was complete, within its soak time.
pub(super) fn judge_in_soak(view: &View<'_>, judged: &Judged<'_>) -> Judgement {
    verdict(view, judged, failure_in_soak(view, judged))
}

fn verdict(view: &View<'_>, judged: &Judged<'_>, failure: Option<Failure>) -> Judgement {
    let Some((reason, message, evidence_of)) = failure else { return Judgement::Underway };
    if let Some(waiting) = blameless(view, judged, reason) {
        return Judgement::Blameless(waiting);
    }
    Judgement::Failed { reason, message, evidence_of }
}

type Failure = (Reason, String, Option<String>);

fn failure(view: &View<'_>, judged: &Judged<'_>, waits_on_new: bool) -> Option<Failure> {
    let Judged { kept, spec, .. } = judged;
    let new = || view.facts.instances.iter().filter(|i| i.template == kept.template);
    match damage::of_kept(view, kept) {
        // It is fetched again and the release is not to blame, unless that takes too long: something of it still runs.
        Some(Damage::Passing(waiting)) => {
            let is_late = waits_on_new && is_late(view, judged);
            return is_late.then_some((Reason::ImageDamaged, waiting.message, None));
        }
        Some(Damage::Lasting(message)) if waits_on_new => {
            return Some((Reason::ImageDamaged, message, None));
        }
        Some(Damage::Lasting(_)) | None => {}
    }
    if let Some(unrunnable) = new().find_map(unrunnable) {
        return Some(unrunnable);
    }
    if let Some(crashed) = new().find(|i| has_crash_looped(i)) {
        return Some(crash(crashed));
    }
    if let Some(failure) = &view.facts.failure
        && kept.template == failure.template
        && (failure.permanent || failure.failures >= STEP_FAILURES)
    {
        return Some((failure.reason, failure.message.clone(), None));
    }
    let count = preparing::count_of(view, kept, spec);
    if let Some(message) = policy::keeps_back(view, kept, spec, count) {
        return Some((Reason::PolicyDenied, message, None));
    }
    if !waits_on_new || !is_late(view, judged) || is_on_its_way(view, kept) {
        return None;
    }
    let late = new().find(|i| !i.is_available(spec.rollout.min_ready.0, view.now));
    let answer = late.and_then(|i| i.probed.last_failure.as_deref());
    let message = match answer {
        Some(answer) => format!("not ready within {}: {answer}", spec.rollout.progress_deadline),
        None => format!("not ready within {}", spec.rollout.progress_deadline),
    };
    Some((Reason::NotReadyInTime, message, late.map(|i| i.container.clone())))
}

fn failure_in_soak(view: &View<'_>, judged: &Judged<'_>) -> Option<Failure> {
    let soak = judged.spec.rollout.soak;
    let new = || view.facts.instances.iter().filter(|i| i.template == judged.kept.template);
    if let Some(i) = new().find(|i| i.exits >= EXITS_BEFORE_READY) {
        let message = format!("ended {} times within its soak time of {soak}", i.exits);
        return Some((Reason::FailedInSoak, message, Some(i.container.clone())));
    }
    let patience_ms = judged.spec.rollout.progress_deadline.0.min(UNREADY_IN_SOAK_MS);
    let is_lost = |i: &&Instance| {
        i.is_live() && i.probed.unready_since.is_some_and(|s| view.now.since(s) >= patience_ms)
    };
    let lost = new().find(is_lost)?;
    let answer = lost.probed.last_failure.as_deref().unwrap_or("no answer");
    let message = format!("not ready any more within its soak time of {soak}: {answer}");
    Some((Reason::FailedInSoak, message, Some(lost.container.clone())))
}

/// When something that is unready within its soak time has been so for too long.
pub(super) fn soak_patience_end(spec: &ServiceSpec, instance: &Instance) -> Option<Now> {
    let patience_ms = spec.rollout.progress_deadline.0.min(UNREADY_IN_SOAK_MS);
    instance.probed.unready_since.map(|since| since.plus(patience_ms))
}

/// When a rollout without progress has failed.
pub(super) fn deadline(view: &View<'_>, spec: &ServiceSpec) -> Option<Now> {
    view.facts.progress_at.map(|at| at.plus(spec.rollout.progress_deadline.0))
}

fn is_late(view: &View<'_>, judged: &Judged<'_>) -> bool {
    let deadline_ms = judged.spec.rollout.progress_deadline.0;
    judged.progress_at.is_some_and(|at| view.now >= at.plus(deadline_ms))
}

/// Its image comes once more, because it was damaged or somebody removed it: a pull that moves is progress, one that does not
/// waits and says so. Where meanwhile nothing serves and there is something to go back to, it has its time only.
fn is_on_its_way(view: &View<'_>, kept: &Kept) -> bool {
    let serves = |i: &Instance| i.template != kept.template && i.is_live() && i.is_ready();
    let can_wait = view.history.last_good.is_none() || view.facts.instances.iter().any(serves);
    let release = view.wanted.releases.get(&kept.release);
    match release.and_then(|release| view.observed.images.get(&release.image.pin)) {
        Some(ImageState::Pulling { .. }) => can_wait,
        Some(ImageState::Failed { permanent, .. }) => !permanent && can_wait,
        Some(ImageState::Present | ImageState::Damaged { .. }) | None => false,
    }
}

fn unrunnable(instance: &Instance) -> Option<Failure> {
    match &instance.finding {
        Finding::Unrunnable { reason, message } => {
            Some((*reason, message.clone(), Some(instance.container.clone())))
        }
        Finding::Nothing | Finding::Sought => None,
    }
}

fn has_crash_looped(instance: &Instance) -> bool {
    matches!(instance.life, Life::Exited(_))
        && !instance.probed.was_ready
        && instance.exits >= EXITS_BEFORE_READY
}

fn crash(instance: &Instance) -> Failure {
    let evidence = Some(instance.container.clone());
    let Life::Exited(exit) = &instance.life else {
        return (Reason::CrashLoop, "ended before it was ready".to_owned(), evidence);
    };
    if exit.oom {
        let message = format!("killed for its memory {} times before it was ready", instance.exits);
        return (Reason::OutOfMemory, message, evidence);
    }
    let (exits, code) = (instance.exits, exit.code);
    let message = format!("exited {exits} times before it was ready, last with code {code}");
    (Reason::CrashLoop, message, evidence)
}

/// A failure to become ready counts only if the stable release, and everything depended on, is healthy at that moment.
fn blameless(view: &View<'_>, judged: &Judged<'_>, reason: Reason) -> Option<Waiting> {
    if !matches!(reason, Reason::NotReadyInTime | Reason::CrashLoop | Reason::FailedInSoak) {
        return None;
    }
    let wait = |message: String| Waiting { reason: Reason::StableUnhealthy, message, until: None };
    if let Some(name) = view.unready_dependency(judged.spec) {
        return Some(wait(format!(
            "`{name}`, which it depends on, is not ready: the release is not blamed"
        )));
    }
    let is_other = |i: &&Instance| {
        i.template != judged.kept.template && i.is_live() && !view.is_wanted_candidate(i)
    };
    let mut others = view.facts.instances.iter().filter(is_other).peekable();
    if others.peek().is_some() && others.all(|i| !i.is_ready()) {
        return Some(wait(
            "the release before it is not ready either: this one is not blamed".to_owned(),
        ));
    }
    None
}
