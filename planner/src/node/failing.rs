//! When what is being moved to has failed, and when others are to blame.

use protocol::reason::Reason;
use protocol::spec::{OnFailure, ServiceSpec};

use super::facts::{Instance, Kept, Life};
use super::step::{AfterGivingUp, LedgerChange, Waiting};
use super::view::View;
use crate::Now;

/// Exits before ready that fail a release at once.
pub(super) const EXITS_BEFORE_READY: u32 = 3;
/// Failures of one step in a row that fail a release.
const STEP_FAILURES: u32 = 3;
const BACKOFF_BASE_MS: u64 = 1_000;
const BACKOFF_CAP_MS: u64 = 300_000;

/// Pause after the `exits`-th end: 1 s, 2 s, 4 s … 5 min; none before the first.
pub(super) fn backoff_ms(exits: u32) -> u64 {
    let Some(doublings) = exits.checked_sub(1) else { return 0 };
    BACKOFF_BASE_MS
        .checked_shl(doublings.min(20))
        .map_or(BACKOFF_CAP_MS, |ms| ms.min(BACKOFF_CAP_MS))
}

/// What a rollout that is not complete comes to.
pub(super) enum Judgement {
    /// Go on.
    Underway,
    /// It would have failed, but it is not to blame.
    Blameless(Waiting),
    /// It failed.
    Failed(LedgerChange),
}

/// Judges `running`, which is what is wanted and not complete yet. `waits_on_new` says whether a new instance is what
/// is waited for (and not, say, the draining of an old one).
pub(super) fn judge(
    view: &View<'_>,
    running: &Kept,
    spec: &ServiceSpec,
    waits_on_new: bool,
) -> Judgement {
    let Some((reason, message, evidence_of)) = failure(view, spec, waits_on_new) else {
        return Judgement::Underway;
    };
    if let Some(waiting) = blameless(view, spec, reason) {
        return Judgement::Blameless(waiting);
    }
    let then = match spec.rollout.on_failure {
        OnFailure::Rollback => AfterGivingUp::GoBack,
        OnFailure::Pause => AfterGivingUp::StandStill,
    };
    Judgement::Failed(LedgerChange::GiveUp {
        failed: running.clone(),
        reason,
        message,
        evidence_of,
        then,
    })
}

type Failure = (Reason, String, Option<String>);

fn failure(view: &View<'_>, spec: &ServiceSpec, waits_on_new: bool) -> Option<Failure> {
    let new = || view.facts.instances.iter().filter(|i| view.is_of_running(i));
    if let Some(crashed) = new().find(|i| has_crash_looped(i)) {
        return Some(crash(crashed));
    }
    if let Some(failure) = &view.facts.failure
        && view.history.running.as_ref().is_some_and(|r| r.template == failure.template)
        && (failure.permanent || failure.failures >= STEP_FAILURES)
    {
        return Some((failure.reason, failure.message.clone(), None));
    }
    let deadline = deadline(view, spec)?;
    if view.now < deadline || !waits_on_new {
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

/// When a rollout without progress has failed.
pub(super) fn deadline(view: &View<'_>, spec: &ServiceSpec) -> Option<Now> {
    view.facts.progress_at.map(|at| at.plus(spec.rollout.progress_deadline.0))
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
fn blameless(view: &View<'_>, spec: &ServiceSpec, reason: Reason) -> Option<Waiting> {
    if !matches!(reason, Reason::NotReadyInTime | Reason::CrashLoop) {
        return None;
    }
    let wait = |message: String| Waiting { reason: Reason::StableUnhealthy, message, until: None };
    if let Some(name) = view.unready_dependency(spec) {
        return Some(wait(format!(
            "`{name}`, which it depends on, is not ready: the release is not blamed"
        )));
    }
    let mut old =
        view.facts.instances.iter().filter(|i| !view.is_of_running(i) && i.is_live()).peekable();
    if old.peek().is_some() && old.all(|i| !i.is_ready()) {
        return Some(wait(
            "the release before it is not ready either: this one is not blamed".to_owned(),
        ));
    }
    None
}
