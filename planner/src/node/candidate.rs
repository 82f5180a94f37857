//! A second release beside the one that runs: brought up whole, judged like any other, never in the other's way.

use protocol::reason::Reason;
use protocol::spec::ServiceSpec;

use super::facts::Instance;
use super::failing::{self, Judged, Judgement};
use super::history::Kept;
use super::preparing::{self, Prepared};
use super::route::PREVIEW;
use super::starting::{Slots, Started};
use super::step::{AfterGivingUp, LedgerChange, Step, Waiting};
use super::view::View;

/// Where a candidate stands.
pub(super) enum Standing {
    /// There is none.
    Absent,
    /// This comes next for it.
    Do(Step),
    /// On its way.
    Wait(Waiting),
    /// All its instances are available.
    Complete,
    /// It failed; what runs goes on alone.
    GivenUp,
}

pub(super) fn decide(view: &View<'_>) -> Standing {
    let Some(kept) = &view.candidate else { return Standing::Absent };
    if view.has_given_up(kept) {
        return Standing::GivenUp;
    }
    match preparing::prepare(view, kept) {
        Prepared::Ready => {}
        Prepared::Do(step, _) => return Standing::Do(step),
        Prepared::Wait(waiting) => return Standing::Wait(waiting),
        Prepared::Failed { reason, message } => {
            return Standing::Do(give_up(kept, reason, message, None));
        }
    }
    let Some(spec) = view.spec(&kept.release) else { return Standing::Absent };
    let is_preview = |port: &str| port.ends_with(PREVIEW);
    if let Some(refusal) = view.facts.refused.iter().find(|r| is_preview(r.port.as_str())) {
        return Standing::Do(give_up(kept, refusal.reason, refusal.message.clone(), None));
    }
    if !preparing::fits_beside(view, kept, view.candidate_count()) {
        let message =
            format!("no memory for {} more instances beside what runs", view.candidate_count());
        return Standing::Do(give_up(kept, Reason::NotEnoughMemory, message, None));
    }
    let missing = view.candidate_count() as usize - available(view, spec);
    match failing::judge(view, &judged(view, kept, spec), missing > 0) {
        Judgement::Failed { reason, message, evidence_of } => {
            return Standing::Do(give_up(kept, reason, message, evidence_of));
        }
        Judgement::Blameless(waiting) => return Standing::Wait(waiting),
        Judgement::Underway => {}
    }
    let slots = Slots::of(view, kept, view.candidate_count());
    match slots.next(view, kept, spec, true, true) {
        Started::Do(step) | Started::Ahead(step) => Standing::Do(step),
        Started::Wait(waiting) => Standing::Wait(waiting),
        Started::Nothing if missing > 0 => Standing::Wait(readiness_wait(view, spec)),
        Started::Nothing => Standing::Complete,
    }
}

fn judged<'a>(view: &'a View<'_>, kept: &'a Kept, spec: &'a ServiceSpec) -> Judged<'a> {
    Judged { kept, spec, progress_at: view.facts.candidate_progress_at }
}

fn give_up(kept: &Kept, reason: Reason, message: String, evidence_of: Option<String>) -> Step {
    let (failed, then) = (kept.clone(), AfterGivingUp::Unchanged);
    Step::Record(LedgerChange::GiveUp { failed, reason, message, evidence_of, then })
}

fn instances<'a>(view: &'a View<'_>) -> impl Iterator<Item = &'a Instance> {
    view.facts.instances.iter().filter(|i| view.is_wanted_candidate(i) && i.is_live())
}

fn available(view: &View<'_>, spec: &ServiceSpec) -> usize {
    let min_ready_ms = spec.rollout.min_ready.0;
    instances(view).filter(|i| i.is_available(min_ready_ms, view.now)).count()
}

fn readiness_wait(view: &View<'_>, spec: &ServiceSpec) -> Waiting {
    if let Some(late) = instances(view).find(|i| !i.is_ready()) {
        let answer = late.probed.last_failure.as_deref().unwrap_or("no answer yet");
        let message = format!("waiting for {} to be ready: {answer}", late.name);
        let progress = view.facts.candidate_progress_at;
        let until = progress.map(|at| at.plus(spec.rollout.progress_deadline.0));
        return Waiting { reason: Reason::WaitingForReady, message, until };
    }
    let soonest = instances(view).filter_map(|i| i.probed.ready_since).min();
    let until = soonest.map(|since| since.plus(spec.rollout.min_ready.0));
    let message = format!("ready; must stay so for {}", spec.rollout.min_ready);
    Waiting { reason: Reason::WaitingForMinReady, message, until }
}
