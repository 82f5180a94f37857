//! Moving to what `running` names, and keeping it so: start, drain, stop, restart, remove.

use protocol::reason::Reason;
use protocol::report::Phase;
use protocol::spec::ServiceSpec;

use super::facts::{Instance, Kept, Life, Routing};
use super::failing::{self, Judgement};
use super::preparing::{self, Prepared};
use super::step::{Decision, LedgerChange, RoutePlan, Step, Verdict, Waiting};
use super::view::{View, stops_first};
use super::{earlier, route};
use crate::Now;

/// How many instances there may and must be.
struct Budget {
    count: u32,
    max_live: usize,
    min_available: usize,
}

pub(super) fn decide(view: &View<'_>) -> Verdict {
    let (Some(running), Some(spec)) = (&view.history.running, view.running_spec()) else {
        return nothing_runs(view);
    };
    let leaving = select_leaving(view, spec);
    let route = route::plan(view, &leaving);
    if frozen(view, running) {
        return give_up(view, route, Phase::Failed);
    }
    let next = next(view, running, spec, &leaving);
    let is_wanted = view.target.as_ref().is_none_or(|t| t.template == running.template);
    let (decision, waiting) = match next {
        Next::Do(step, waiting) => (Decision::Do(step), waiting),
        Next::Wait(waiting) => (Decision::Wait { until: waiting.until }, Some(waiting)),
        Next::Settled if is_wanted => (Decision::Settled, port_trouble(view)),
        Next::Settled => return give_up(view, route, Phase::RolledBack),
    };
    let phase = phase(view, spec, is_wanted, &decision);
    let waiting = if is_wanted { waiting } else { waiting.or_else(|| given_up(view)) };
    Verdict { decision, route, phase, waiting }
}

/// Nothing to run and nothing to go back to: whatever is left goes, the ports stay and hold.
fn nothing_runs(view: &View<'_>) -> Verdict {
    let all: Vec<&Instance> = view.facts.instances.iter().filter(|i| i.is_live()).collect();
    let route = route::plan(view, &all);
    if let Some(step) = retire(view, &all) {
        return Verdict {
            decision: Decision::Do(step),
            route,
            phase: Phase::Failed,
            waiting: given_up(view),
        };
    }
    if let Some(waiting) = leaving_wait(view) {
        let decision = Decision::Wait { until: waiting.until };
        return Verdict { decision, route, phase: Phase::Failed, waiting: Some(waiting) };
    }
    give_up(view, route, Phase::Failed)
}

/// `on_failure = "pause"`: the failed template is still what `running` names.
fn frozen(view: &View<'_>, running: &Kept) -> bool {
    view.target.as_ref().is_some_and(|t| t.template == running.template && view.has_given_up(t))
}

fn give_up(view: &View<'_>, route: Option<RoutePlan>, phase: Phase) -> Verdict {
    let reason = view.history.given_up.as_ref().map_or(Reason::RolledBackOnNode, |g| g.reason);
    Verdict { decision: Decision::GaveUp(reason), route, phase, waiting: given_up(view) }
}

fn given_up(view: &View<'_>) -> Option<Waiting> {
    let given_up = view.history.given_up.as_ref()?;
    Some(Waiting { reason: given_up.reason, message: given_up.message.clone(), until: None })
}

fn port_trouble(view: &View<'_>) -> Option<Waiting> {
    let refusal = view.facts.refused.first()?;
    Some(Waiting { reason: refusal.reason, message: refusal.message.clone(), until: None })
}

fn phase(view: &View<'_>, spec: &ServiceSpec, is_wanted: bool, decision: &Decision) -> Phase {
    if !is_wanted {
        return if view.history.completed { Phase::RolledBack } else { Phase::RollingBack };
    }
    if !view.history.completed {
        return Phase::Updating;
    }
    let count = view.count(spec) as usize;
    let ready = wanted_instances(view, spec).filter(|i| i.is_live() && i.is_ready()).count();
    match decision {
        Decision::Settled => Phase::Running,
        Decision::Do(_) | Decision::Wait { .. } | Decision::GaveUp(_) if ready >= count => {
            Phase::Running
        }
        Decision::Do(_) | Decision::Wait { .. } | Decision::GaveUp(_) => Phase::Degraded,
    }
}

/// What comes next.
enum Next {
    Do(Step, Option<Waiting>),
    Wait(Waiting),
    Settled,
}

fn next(view: &View<'_>, running: &Kept, spec: &ServiceSpec, leaving: &[&Instance]) -> Next {
    let count = view.count(spec);
    let unavailable = wanted_instances(view, spec)
        .filter(|i| i.is_live() && i.is_available(spec.rollout.min_ready.0, view.now))
        .count()
        < count as usize;
    let is_wanted = view.target.as_ref().is_some_and(|t| t.template == running.template);
    let mut blameless = None;
    if is_wanted && !view.history.completed {
        match failing::judge(view, running, spec, unavailable) {
            Judgement::Failed(change) => return Next::Do(Step::Record(change), None),
            Judgement::Blameless(waiting) => blameless = Some(waiting),
            Judgement::Underway => {}
        }
    }
    if let Some(step) = dismiss(leaving) {
        return Next::Do(step, None);
    }
    let started = start(view, running, spec, leaving);
    if let Started::Do(step) = started {
        return Next::Do(step, None);
    }
    if let Some(step) = retire(view, leaving) {
        return Next::Do(step, None);
    }
    let starting = match started {
        Started::Do(_) | Started::Nothing => None,
        Started::Ahead(step) => return Next::Do(step, None),
        Started::Wait(waiting) => Some(waiting),
    };
    let until = next_moment(view, spec);
    let waiting = blameless
        .or(starting)
        .or_else(|| unavailable.then(|| readiness_wait(view, spec)))
        .or_else(|| leaving_wait(view));
    if let Some(waiting) = waiting {
        return Next::Wait(Waiting { until: earlier(waiting.until, until), ..waiting });
    }
    if !view.history.completed {
        return Next::Do(Step::Record(LedgerChange::Complete), None);
    }
    Next::Settled
}

/// Instances of `running` in the slots that count.
fn wanted_instances<'a>(
    view: &'a View<'a>,
    spec: &ServiceSpec,
) -> impl Iterator<Item = &'a Instance> {
    let count = view.count(spec);
    view.facts.instances.iter().filter(move |i| view.is_of_running(i) && i.slot < count)
}

fn is_wanted(view: &View<'_>, spec: &ServiceSpec, instance: &Instance) -> bool {
    view.is_of_running(instance) && instance.slot < view.count(spec)
}

fn budget(view: &View<'_>, spec: &ServiceSpec) -> Budget {
    let count = view.count(spec);
    let unavailable = spec.rollout.max_unavailable.floor_of(count).min(count);
    // The last ready instance never goes in a rolling update, so a count of one needs room for a second.
    let min_available = (count - unavailable).max(count.min(1));
    let surge = spec.rollout.max_surge.ceil_of(count);
    let surge = if surge == 0 && min_available == count { 1 } else { surge };
    Budget { count, max_live: (count + surge) as usize, min_available: min_available as usize }
}

/// Live instances that must go now: the dead, and as many of the unwanted as the budgets allow.
fn select_leaving<'a>(view: &'a View<'a>, spec: &ServiceSpec) -> Vec<&'a Instance> {
    let live: Vec<&Instance> = view.facts.instances.iter().filter(|i| i.is_live()).collect();
    let mut going: Vec<&Instance> = live.iter().copied().filter(|i| i.probed.dead).collect();
    let mut unwanted: Vec<&Instance> =
        live.iter().copied().filter(|i| !is_wanted(view, spec, i) && !i.probed.dead).collect();
    if stops_first(spec) {
        if every_slot_has_a_container(view, spec) || view.history.completed {
            going.extend(unwanted);
        }
        return going;
    }
    let budget = budget(view, spec);
    let min_ready_ms = spec.rollout.min_ready.0;
    let available = |i: &&&Instance| {
        if view.is_of_running(i) { i.is_available(min_ready_ms, view.now) } else { i.is_ready() }
    };
    let healthy: Vec<&&Instance> = live.iter().filter(|i| !i.probed.dead).collect();
    let available_count = healthy.iter().copied().filter(available).count();
    let new_unavailable = healthy
        .iter()
        .filter(|i| is_wanted(view, spec, i))
        .copied()
        .filter(|i| !available(i))
        .count();
    let spare = available_count.saturating_sub(budget.min_available);
    let cleanup = healthy.len().saturating_sub(budget.min_available + new_unavailable);
    unwanted.sort_by_key(|i| (i.is_ready(), i.template.clone(), std::cmp::Reverse(i.slot)));
    let (unready, ready): (Vec<_>, Vec<_>) = unwanted.into_iter().partition(|i| !i.is_ready());
    let unready_going = unready.len().min(cleanup);
    going.extend(unready.into_iter().take(unready_going));
    going.extend(ready.into_iter().take(spare.min(cleanup - unready_going)));
    going
}

fn every_slot_has_a_container(view: &View<'_>, spec: &ServiceSpec) -> bool {
    wanted_instances(view, spec).count() >= view.count(spec) as usize
}

/// What the wanted slots need.
enum Started {
    Do(Step),
    /// Can be done while something else is waited for.
    Ahead(Step),
    Wait(Waiting),
    Nothing,
}

fn start(view: &View<'_>, running: &Kept, spec: &ServiceSpec, leaving: &[&Instance]) -> Started {
    if let Some(waiting) = step_backoff(view, running) {
        return Started::Wait(waiting);
    }
    let budget = budget(view, spec);
    let in_slot =
        |slot| view.facts.instances.iter().find(|i| view.is_of_running(i) && i.slot == slot);
    let mut waiting = None;
    let mut pausing = 0;
    let (mut startable, mut missing) = (None, None);
    for slot in 0..budget.count {
        match in_slot(slot).map(|i| (i, &i.life)) {
            None => missing = missing.or(Some(slot)),
            Some((_, Life::Running { .. } | Life::Stopping { .. })) => {}
            // Without its network it can never start: it is removed, and made anew with one.
            Some((_, Life::Created | Life::Exited(_))) if !view.facts.network => {}
            Some((i, Life::Created)) => startable = startable.or(Some(i)),
            Some((i, Life::Exited(exit))) => {
                let ready_at = exit.at.plus(failing::backoff_ms(i.exits));
                if view.now >= ready_at {
                    startable = startable.or(Some(i));
                } else {
                    pausing += 1;
                    waiting = waiting.or_else(|| Some(restart_wait(i, exit.code, ready_at)));
                }
            }
        }
    }
    let live = view.facts.instances.iter().filter(|i| i.is_live()).count() - leaving.len();
    if startable.is_none() && missing.is_none() {
        return waiting.map_or(Started::Nothing, Started::Wait);
    }
    if let Some(reason) = held_back(view, spec) {
        return Started::Wait(reason);
    }
    let room = if stops_first(spec) {
        room_after_stop(view, spec)
    } else {
        live + pausing < budget.max_live
    };
    let missing = missing.map(|slot| create(view, running, slot));
    match (startable, missing) {
        (Some(instance), _) if room => {
            Started::Do(Step::Start { container: instance.container.clone() })
        }
        // What stops first has all its containers before anything old is touched.
        (_, Some(Started::Ahead(step))) if room || stops_first(spec) => Started::Do(step),
        (None, Some(started)) => started,
        (Some(_), Some(_)) | (_, None) => waiting.map_or(Started::Nothing, Started::Wait),
    }
}

/// Recreate and exclusive services: nothing starts while anything unwanted still runs; an exclusive one never beside
/// another of any kind.
fn room_after_stop(view: &View<'_>, spec: &ServiceSpec) -> bool {
    let mut up = view.facts.instances.iter().filter(|i| i.is_up());
    if spec.is_exclusive() {
        return up.next().is_none();
    }
    up.all(|i| is_wanted(view, spec, i))
}

/// The creation of the instance in `slot`, or what its image needs first.
fn create(view: &View<'_>, running: &Kept, slot: u32) -> Started {
    let (release, template) = (running.release.clone(), running.template.clone());
    let image = view.wanted.releases.get(&release).map(|r| preparing::image(view, &r.image));
    match image {
        None | Some(Prepared::Ready) => Started::Ahead(Step::Create { release, template, slot }),
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

fn step_backoff(view: &View<'_>, running: &Kept) -> Option<Waiting> {
    let failure = view.facts.failure.as_ref().filter(|f| f.template == running.template)?;
    let until = failure.at.plus(failing::backoff_ms(failure.failures));
    let (reason, message) = (failure.reason, failure.message.clone());
    (view.now < until).then_some(Waiting { reason, message, until: Some(until) })
}

fn restart_wait(instance: &Instance, code: i64, until: Now) -> Waiting {
    let message = format!("{} ended with code {code}; starts again after a pause", instance.name);
    Waiting { reason: Reason::WaitingForBackoff, message, until: Some(until) }
}

fn readiness_wait(view: &View<'_>, spec: &ServiceSpec) -> Waiting {
    let min_ready_ms = spec.rollout.min_ready.0;
    let late = wanted_instances(view, spec).find(|i| !i.is_ready());
    if let Some(instance) = late {
        let answer = instance.probed.last_failure.as_deref().unwrap_or("no answer yet");
        let message = format!("waiting for {} to be ready: {answer}", instance.name);
        let until = if view.history.completed { None } else { failing::deadline(view, spec) };
        return Waiting { reason: Reason::WaitingForReady, message, until };
    }
    let soonest = wanted_instances(view, spec).filter_map(|i| i.probed.ready_since).min();
    let until = soonest.map(|since| since.plus(min_ready_ms));
    let message = format!("ready; must stay so for {}", spec.rollout.min_ready);
    Waiting { reason: Reason::WaitingForMinReady, message, until }
}

/// Stop what has nothing left to do, kill what does not stop, remove what nothing will want again.
pub(super) fn retire(view: &View<'_>, leaving: &[&Instance]) -> Option<Step> {
    let instances = || view.facts.instances.iter();
    if let Some(step) = dismiss(leaving) {
        return Some(step);
    }
    if let Some(i) = instances().find(|i| is_overdue(view, i)) {
        return Some(Step::Kill { container: i.container.clone() });
    }
    if let Some(i) = instances().find(|i| is_drained(view, i)) {
        return Some(Step::Terminate { container: i.container.clone() });
    }
    let gone =
        instances().find(|i| !i.is_up() && i.routing == Routing::Absent && !is_kept(view, i));
    gone.map(|i| Step::Remove { container: i.container.clone() })
}

/// What must go and has nothing to finish is stopped before anything else: it only takes memory.
fn dismiss(leaving: &[&Instance]) -> Option<Step> {
    let instance = leaving.iter().find(|i| i.routing == Routing::Absent || i.probed.dead)?;
    Some(Step::Terminate { container: instance.container.clone() })
}

fn is_drained(view: &View<'_>, instance: &Instance) -> bool {
    let (Life::Running { .. }, Routing::Draining { since }) = (&instance.life, instance.routing)
    else {
        return false;
    };
    let drain = view.spec(&instance.release).map_or(0, |s| s.rollout.drain.0);
    instance.in_flight == 0 || view.now >= since.plus(drain)
}

fn is_overdue(view: &View<'_>, instance: &Instance) -> bool {
    let Life::Stopping { since } = instance.life else { return false };
    let grace = view.spec(&instance.release).map_or(0, |s| s.stop_grace.0);
    view.now >= since.plus(grace)
}

/// Whether a container that is not up stays: it has a wanted slot, or it is what to go back to.
fn is_kept(view: &View<'_>, instance: &Instance) -> bool {
    if view.assignment.is_none() || !view.facts.network {
        return false;
    }
    let count = view.running_spec().map_or(0, |spec| view.count(spec));
    if view.is_of_running(instance) {
        return instance.slot < count;
    }
    let wanted_soon =
        view.target.as_ref().is_some_and(|t| t.template == instance.template && view.is_new(t));
    let ended = matches!(instance.life, Life::Exited(_));
    ended && (view.is_of_last_good(instance) || wanted_soon) && instance.slot < count.max(1)
}

pub(super) fn leaving_wait(view: &View<'_>) -> Option<Waiting> {
    let draining = || {
        let is_draining = |i: &&Instance| {
            matches!((&i.life, i.routing), (Life::Running { .. }, Routing::Draining { .. }))
        };
        view.facts.instances.iter().filter(is_draining)
    };
    let connections: u64 = draining().map(|i| i.in_flight).sum();
    if connections > 0 {
        let until = draining().filter_map(|i| drain_end(view, i)).max();
        let noun = if connections == 1 { "connection" } else { "connections" };
        let message = format!("waiting for {connections} {noun} to end");
        return Some(Waiting { reason: Reason::WaitingForConnections, message, until });
    }
    let stopping = view.facts.instances.iter().find(|i| i.is_leaving())?;
    let until = match stopping.life {
        Life::Stopping { since } => {
            Some(since.plus(view.spec(&stopping.release).map_or(0, |s| s.stop_grace.0)))
        }
        Life::Created | Life::Running { .. } | Life::Exited(_) => None,
    };
    let message = format!("waiting for {} to stop", stopping.name);
    Some(Waiting { reason: Reason::WaitingForStop, message, until })
}

fn drain_end(view: &View<'_>, instance: &Instance) -> Option<Now> {
    let Routing::Draining { since } = instance.routing else { return None };
    Some(since.plus(view.spec(&instance.release).map_or(0, |s| s.rollout.drain.0)))
}

/// The next moment at which the answer changes though nothing is seen: the end of a window, a drain or a grace.
fn next_moment(view: &View<'_>, spec: &ServiceSpec) -> Option<Now> {
    let window =
        |i: &Instance| i.probed.ready_since.map(|since| since.plus(spec.rollout.min_ready.0));
    let grace = |i: &Instance| match i.life {
        Life::Stopping { since } => {
            Some(since.plus(view.spec(&i.release).map_or(0, |s| s.stop_grace.0)))
        }
        Life::Created | Life::Running { .. } | Life::Exited(_) => None,
    };
    let moments =
        view.facts.instances.iter().flat_map(|i| [window(i), drain_end(view, i), grace(i)]);
    moments.flatten().filter(|at| *at > view.now).min()
}
