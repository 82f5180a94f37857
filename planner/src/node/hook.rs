//! A one-shot container of a deploy: created, started, waited for, once. What it left behind says how it went.

use protocol::manifest::HookRun;
use protocol::reason::Reason;
use protocol::release::Image;
use protocol::report::HookOutcome;

use super::damage::{self, Damage};
use super::facts::{Finding, Instance, Life};
use super::failing;
use super::history::Kept;
use super::policy;
use super::preparing::{self, Prepared};
use super::secrets;
use super::step::{AfterGivingUp, HookVerdict, LedgerChange, Step, Waiting};
use super::view::View;

/// What comes next for a hook, and where it stands.
pub(super) struct Next {
    pub(super) step: Option<Step>,
    pub(super) verdict: HookVerdict,
}

/// `instance` is its container, where there is one.
pub(super) fn decide(view: &View<'_>, run: &HookRun, instance: Option<&Instance>) -> Next {
    let kept = Kept {
        release: run.release.clone(),
        template: run.template(&view.wanted.environment),
        attempt: run.attempt,
        revision: run.revision,
        secrets: run.secrets.clone(),
    };
    if let Some(given_up) = view.history.failure_of(&kept) {
        let (reason, message) = (given_up.reason, given_up.message.clone());
        return ended(HookOutcome::Failed, Some(Waiting { reason, message, until: None }));
    }
    let release = view.wanted.releases.get(&run.release);
    let hook = release.and_then(|r| r.spec(&view.wanted.environment).hooks.get(run.kind));
    let Some((release, hook)) = release.zip(hook) else {
        return failed(kept, format!("the release has no {}", run.kind.as_str()), None);
    };
    let kind = run.kind.as_str();
    let is_to_start = instance.is_none_or(|instance| matches!(instance.life, Life::Created));
    let spec = release.spec(&view.wanted.environment);
    if let Some(message) = policy::refusal(view, spec).filter(|_| is_to_start) {
        return give_up(kept, Reason::PolicyDenied, message, None);
    }
    if let Some(waiting) = secrets::wait(view, &kept, spec).filter(|_| is_to_start) {
        return underway(None, Some(waiting));
    }
    let Some(instance) = instance else {
        return match preparing::image(view, &release.image) {
            Prepared::Do(step, waiting) => underway(Some(step), waiting),
            Prepared::Wait(waiting) => underway(None, Some(waiting)),
            Prepared::Failed { message, .. } => failed(kept, message, None),
            Prepared::Ready => create(view, kept, run),
        };
    };
    if let Some(next) = broken(view, &kept, &release.image, instance) {
        return next;
    }
    match &instance.life {
        Life::Created => match refused(view, &kept) {
            Some(Refused::Finally(message)) => failed(kept, message, None),
            Some(Refused::ForNow(waiting)) => underway(None, Some(waiting)),
            None => underway(Some(Step::Start { container: instance.container.clone() }), None),
        },
        Life::Running { since } | Life::Stopping { since } => {
            let until = since.plus(hook.timeout.0);
            let message = format!("{kind} runs");
            let waiting = Waiting { reason: Reason::WaitingForHook, message, until: Some(until) };
            let is_late = view.now >= until;
            let step = is_late.then(|| Step::Kill { container: instance.container.clone() });
            underway(step, Some(waiting))
        }
        Life::Exited(exit) if exit.code == 0 => ended(HookOutcome::Succeeded, None),
        Life::Exited(exit) => {
            let message = match exit.oom {
                true => format!("{kind} was killed for its memory"),
                false => format!("{kind} ended with code {}", exit.code),
            };
            failed(kept, message, Some(instance.container.clone()))
        }
    }
}

/// Where its program cannot have run; none: it could, or still does.
fn broken(view: &View<'_>, kept: &Kept, image: &Image, instance: &Instance) -> Option<Next> {
    if instance.is_up() {
        return None;
    }
    let evidence = Some(instance.container.clone());
    match (damage::of(view, image), &instance.finding) {
        (Some(Damage::Passing(waiting)), _) => {
            let goes = damage::must_go(view, instance);
            let step = goes.then(|| Step::Remove { container: instance.container.clone() });
            Some(underway(step, Some(waiting)))
        }
        (Some(Damage::Lasting(message)), _) => Some(failed(kept.clone(), message, evidence)),
        (None, Finding::Unrunnable { message, .. }) => {
            Some(failed(kept.clone(), message.clone(), evidence))
        }
        (None, Finding::Sought) => Some(underway(None, None)),
        (None, Finding::Nothing) => None,
    }
}

fn create(view: &View<'_>, kept: Kept, run: &HookRun) -> Next {
    match refused(view, &kept) {
        Some(Refused::Finally(message)) => failed(kept, message, None),
        Some(Refused::ForNow(waiting)) => underway(None, Some(waiting)),
        None => {
            let (release, template) = (kept.release, kept.template);
            let hook = Some(run.kind);
            underway(Some(Step::Create { release, template, slot: 0, hook }), None)
        }
    }
}

/// Why the engine did not do the last step of this container.
enum Refused {
    Finally(String),
    ForNow(Waiting),
}

fn refused(view: &View<'_>, kept: &Kept) -> Option<Refused> {
    let failure = view.facts.failure.as_ref().filter(|f| f.template == kept.template)?;
    if failure.permanent || failure.failures >= failing::STEP_FAILURES {
        return Some(Refused::Finally(failure.message.clone()));
    }
    let until = failure.at.plus(failing::backoff_ms(failure.failures));
    let (reason, message) = (failure.reason, failure.message.clone());
    let waiting = Waiting { reason, message, until: Some(until) };
    (view.now < until).then_some(Refused::ForNow(waiting))
}

fn underway(step: Option<Step>, waiting: Option<Waiting>) -> Next {
    Next { step, verdict: HookVerdict { outcome: HookOutcome::Underway, waiting } }
}

fn ended(outcome: HookOutcome, waiting: Option<Waiting>) -> Next {
    Next { step: None, verdict: HookVerdict { outcome, waiting } }
}

/// It is written down with its evidence before anyone is told.
fn failed(failed: Kept, message: String, evidence_of: Option<String>) -> Next {
    give_up(failed, Reason::HookFailed, message, evidence_of)
}

fn give_up(failed: Kept, reason: Reason, message: String, evidence_of: Option<String>) -> Next {
    let then = AfterGivingUp::Unchanged;
    let change = LedgerChange::GiveUp { failed, reason, message, evidence_of, then };
    underway(Some(Step::Record(change)), None)
}
