//! Who stays, who rests and who goes: budgets of a replacement, and what stays warm for the way back.

use protocol::spec::{ServiceSpec, Strategy};

use super::facts::Instance;
use super::view::{View, stops_all_first};
use crate::Now;

/// Live instances that are not wanted as they are.
#[derive(Debug, Default)]
pub(super) struct Fates<'a> {
    /// Must go now: the dead, and as many of the unwanted as the budgets allow.
    pub(super) leaving: Vec<&'a Instance>,
    /// Ready, without requests, kept for an undo that only switches back.
    pub(super) resting: Vec<&'a Instance>,
}

/// How many instances there may and must be.
pub(super) struct Budget {
    pub(super) count: u32,
    pub(super) max_live: usize,
    min_available: usize,
    /// Nothing new is started beside what leaves.
    pub(super) is_stop_first: bool,
}

impl Fates<'_> {
    pub(super) fn is_leaving(&self, instance: &Instance) -> bool {
        self.leaving.iter().any(|i| i.container == instance.container)
    }

    pub(super) fn is_resting(&self, instance: &Instance) -> bool {
        self.resting.iter().any(|i| i.container == instance.container)
    }
}

pub(super) fn budget(view: &View<'_>, spec: &ServiceSpec) -> Budget {
    let count = view.count(spec);
    let unavailable = spec.rollout.max_unavailable.floor_of(count).min(count);
    let surge = match spec.rollout.strategy {
        Strategy::BlueGreen(_) => count,
        Strategy::Rolling | Strategy::Recreate | Strategy::Canary(_) => {
            spec.rollout.max_surge.ceil_of(count)
        }
    };
    let is_stop_first = view.history.stop_first || surge == 0;
    let (surge, min_available) = if is_stop_first {
        (0, count - unavailable.max(1).min(count))
    } else {
        // The last ready instance goes only where old ones stop first.
        (surge, (count - unavailable).max(count.min(1)))
    };
    Budget {
        count,
        max_live: (count + surge) as usize,
        min_available: min_available as usize,
        is_stop_first,
    }
}

/// Decides for every live instance that is not wanted, or is dead.
pub(super) fn decide<'a>(view: &View<'a>, spec: &ServiceSpec) -> Fates<'a> {
    let live = || view.facts.instances.iter().filter(|i| i.is_live());
    let mut fates =
        Fates { leaving: live().filter(|i| i.probed.dead).collect(), resting: Vec::new() };
    if view.is_paused() {
        return fates;
    }
    let stays = |i: &&Instance| {
        view.is_wanted(spec, i) || view.is_wanted_candidate(i) || view.is_promoted(i)
    };
    let unwanted: Vec<&Instance> = live().filter(|i| !stays(i) && !i.probed.dead).collect();
    let going = if stops_all_first(spec) {
        let may_go = view.history.completed || every_slot_has_a_container(view, spec);
        if may_go { unwanted } else { Vec::new() }
    } else if matches!(spec.rollout.strategy, Strategy::BlueGreen(_)) && !view.history.stop_first {
        let is_switched = available(view, spec) >= view.count(spec) as usize;
        if is_switched { unwanted } else { Vec::new() }
    } else {
        within_budget(view, spec, unwanted)
    };
    for instance in going {
        let rests =
            instance.is_ready() && view.is_of_last_good(instance) && warm_is_open(view, spec);
        if rests { fates.resting.push(instance) } else { fates.leaving.push(instance) }
    }
    fates
}

/// As many of the unwanted as may go now: those that serve nobody first.
fn within_budget<'a>(
    view: &View<'a>,
    spec: &ServiceSpec,
    mut unwanted: Vec<&'a Instance>,
) -> Vec<&'a Instance> {
    let budget = budget(view, spec);
    if budget.is_stop_first && !view.history.completed && !has_one_to_start(view, spec) {
        return Vec::new();
    }
    let wanted = || live_wanted(view, spec).filter(|i| !i.probed.dead);
    let new_available =
        wanted().filter(|i| i.is_available(spec.rollout.min_ready.0, view.now)).count();
    let new_unavailable = wanted().count() - new_available;
    let old_ready = unwanted.iter().filter(|i| i.is_ready()).count();
    let spare = (new_available + old_ready).saturating_sub(budget.min_available);
    let healthy = wanted().count() + unwanted.len();
    let cleanup = healthy.saturating_sub(budget.min_available + new_unavailable);
    unwanted.sort_by_key(|i| (i.is_ready(), i.template.clone(), std::cmp::Reverse(i.slot)));
    let (unready, ready): (Vec<_>, Vec<_>) = unwanted.into_iter().partition(|i| !i.is_ready());
    let unready_going = unready.len().min(cleanup);
    let ready_going = spare.min(cleanup - unready_going);
    unready.into_iter().take(unready_going).chain(ready.into_iter().take(ready_going)).collect()
}

/// Instances of what runs, in the slots that count, that are live.
pub(super) fn live_wanted<'a>(
    view: &View<'a>,
    spec: &ServiceSpec,
) -> impl Iterator<Item = &'a Instance> {
    let count = view.count(spec);
    let running = view.history.running.as_ref().map(|kept| kept.template.clone());
    view.facts
        .instances
        .iter()
        .filter(move |i| Some(&i.template) == running.as_ref() && i.slot < count && i.is_live())
}

/// Instances of what runs that have been ready for long enough.
pub(super) fn available(view: &View<'_>, spec: &ServiceSpec) -> usize {
    let min_ready_ms = spec.rollout.min_ready.0;
    live_wanted(view, spec).filter(|i| i.is_available(min_ready_ms, view.now)).count()
}

fn every_slot_has_a_container(view: &View<'_>, spec: &ServiceSpec) -> bool {
    let wanted = view.facts.instances.iter().filter(|i| view.is_wanted(spec, i));
    wanted.count() >= view.count(spec) as usize
}

/// Nothing old stops before the container that takes its place is there.
fn has_one_to_start(view: &View<'_>, spec: &ServiceSpec) -> bool {
    let wanted = || view.facts.instances.iter().filter(|i| view.is_wanted(spec, i));
    wanted().any(|i| !i.is_up()) || wanted().count() >= view.count(spec) as usize
}

/// Until when the old release rests; none: it does not, or only once the new one is complete.
pub(super) fn warm_until(view: &View<'_>, spec: &ServiceSpec) -> Option<Now> {
    let at = view.history.completed_at.filter(|_| view.history.completed && view.history.warm)?;
    Some(at.plus(warm_ms(spec)))
}

fn warm_is_open(view: &View<'_>, spec: &ServiceSpec) -> bool {
    let is_wanted = view.target.as_ref().is_some_and(|target| view.runs(target));
    view.history.warm
        && is_wanted
        && (!view.history.completed || warm_until(view, spec).is_some_and(|until| view.now < until))
}

/// For how long after success the old release rests.
pub(super) fn warm_ms(spec: &ServiceSpec) -> u64 {
    let keep_old = match &spec.rollout.strategy {
        Strategy::BlueGreen(blue_green) => blue_green.keep_old.0,
        Strategy::Rolling | Strategy::Recreate | Strategy::Canary(_) => 0,
    };
    keep_old.max(spec.rollout.soak.0)
}

/// Until when a success may still turn out to be none; none without anything better to go back to.
pub(super) fn soak_until(view: &View<'_>, spec: &ServiceSpec) -> Option<Now> {
    let (running, last_good) = (view.history.running.as_ref()?, view.history.last_good.as_ref()?);
    let at = view.history.completed_at.filter(|_| view.history.completed)?;
    let until = at.plus(spec.rollout.soak.0);
    let is_better = view.history.proven && running.template != last_good.template;
    (view.now < until && is_better).then_some(until)
}
