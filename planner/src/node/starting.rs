//! Bringing up the slots of one template: create, start, start again after a pause.

use protocol::reason::Reason;
use protocol::spec::ServiceSpec;

use super::facts::{Finding, Instance, Life};
use super::history::Kept;
use super::preparing::{self, Prepared};
use super::step::{Step, Waiting};
use super::view::View;
use super::{damage, failing, policy, secrets};
use crate::Now;

/// What the slots of a template need.
pub(super) enum Started {
    Do(Step),
    /// Can be done while something else is waited for.
    Ahead(Step),
    Wait(Waiting),
    Nothing,
}

/// What there is in the slots of a template.
pub(super) struct Slots<'a> {
    /// The first that is ready to be started.
    startable: Option<&'a Instance>,
    /// The first without a container.
    missing: Option<u32>,
    /// Those that start again after a pause.
    pub(super) pausing: usize,
    /// Why the first of them waits.
    waiting: Option<Waiting>,
}

impl<'a> Slots<'a> {
    pub(super) fn of(view: &View<'a>, kept: &Kept, count: u32) -> Self {
        let mut slots = Self { startable: None, missing: None, pausing: 0, waiting: None };
        for slot in 0..count {
            let mut instances = view.facts.instances.iter();
            let instance = instances.find(|i| i.template == kept.template && i.slot == slot);
            match instance.map(|i| (i, &i.life)) {
                None => slots.missing = slots.missing.or(Some(slot)),
                Some((_, Life::Running { .. } | Life::Stopping { .. })) => {}
                // Without its network it can never start: it is removed, and made anew with one.
                Some((_, Life::Created | Life::Exited(_))) if !view.facts.network => {}
                Some((i, Life::Created)) => slots.startable = slots.startable.or(Some(i)),
                Some((i, Life::Exited(exit))) => {
                    let ready_at = exit.at.plus(failing::backoff_ms(i.exits));
                    if view.now >= ready_at {
                        slots.startable = slots.startable.or(Some(i));
                    } else {
                        slots.pausing += 1;
                        let pause = restart_wait(i, exit.code, ready_at);
                        slots.waiting.get_or_insert(pause);
                    }
                }
            }
        }
        slots
    }

    /// The next step; `has_room` says whether one more may run now, `creates_all` whether containers are made while there
    /// is none.
    pub(super) fn next(
        self,
        view: &View<'_>,
        kept: &Kept,
        spec: &ServiceSpec,
        has_room: bool,
        creates_all: bool,
    ) -> Started {
        let waiting = |waiting: Option<Waiting>| waiting.map_or(Started::Nothing, Started::Wait);
        if self.startable.is_none() && self.missing.is_none() {
            return waiting(self.waiting);
        }
        let pause = damage::wait(view, kept).or_else(|| policy::start_wait(view, spec));
        let pause = pause.or_else(|| step_backoff(view, kept));
        let pause = pause.or_else(|| secrets::wait(view, kept, spec));
        if let Some(pause) = pause.or_else(|| held_back(view, spec)) {
            return Started::Wait(pause);
        }
        let missing = self.missing.map(|slot| create(view, kept, slot));
        match (self.startable, missing) {
            (Some(instance), _) if has_room => {
                Started::Do(Step::Start { container: instance.container.clone() })
            }
            (_, Some(Started::Ahead(step))) if has_room || creates_all => Started::Do(step),
            (None, Some(started)) => started,
            (Some(_), Some(_)) | (_, None) => waiting(self.waiting),
        }
    }
}

/// The creation of the instance in `slot`, or what its image needs first.
fn create(view: &View<'_>, kept: &Kept, slot: u32) -> Started {
    let (release, template) = (kept.release.clone(), kept.template.clone());
    let image = view.wanted.releases.get(&release).map(|r| preparing::image(view, &r.image));
    match image {
        None | Some(Prepared::Ready) => {
            Started::Ahead(Step::Create { release, template, slot, hook: None })
        }
        Some(Prepared::Do(step, _)) => Started::Do(step),
        Some(Prepared::Wait(waiting)) => Started::Wait(waiting),
        Some(Prepared::Failed { reason, message }) => {
            Started::Wait(Waiting { reason, message, until: None })
        }
    }
}

/// At boot, when nothing of the service runs, what it depends on comes first.
fn held_back(view: &View<'_>, spec: &ServiceSpec) -> Option<Waiting> {
    if view.facts.instances.iter().any(Instance::is_up) {
        return None;
    }
    let name = view.awaited_dependency(spec)?;
    let message = format!("waiting for `{name}`, which it depends on, to be ready");
    Some(Waiting { reason: Reason::WaitingForDependency, message, until: None })
}

fn step_backoff(view: &View<'_>, kept: &Kept) -> Option<Waiting> {
    let failure = view.facts.failure.as_ref().filter(|f| f.template == kept.template)?;
    let until = failure.at.plus(failing::backoff_ms(failure.failures));
    let (reason, message) = (failure.reason, failure.message.clone());
    (view.now < until).then_some(Waiting { reason, message, until: Some(until) })
}

fn restart_wait(instance: &Instance, code: i64, until: Now) -> Waiting {
    let message = match &instance.finding {
        Finding::Unrunnable { message, .. } => message.clone(),
        Finding::Nothing | Finding::Sought => {
            format!("{} ended with code {code}; starts again after a pause", instance.name)
        }
    };
    Waiting { reason: Reason::WaitingForBackoff, message, until: Some(until) }
}
