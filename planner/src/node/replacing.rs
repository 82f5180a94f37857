//! Moving to what `running` names, and keeping it so: start, drain, stop, restart, remove.

use protocol::reason::Reason;
use protocol::report::Phase;
use protocol::spec::{OnFailure, ServiceSpec, Strategy};

use super::candidate::{self, Standing};
use super::facts::{Instance, Life, Routing};
use super::failing::{self, Judged, Judgement};
use super::fate::{self, Fates};
use super::history::Kept;
use super::starting::{Slots, Started};
use super::step::{
    AfterGivingUp, CandidateVerdict, Decision, LedgerChange, RoutePlan, Step, Verdict, Waiting,
};
use super::view::{View, stops_all_first};
use super::{damage, earlier, policy, route};
use crate::Now;

pub(super) fn decide(view: &View<'_>) -> Verdict {
    let (Some(running), Some(spec)) = (&view.history.running, view.running_spec()) else {
        return nothing_runs(view);
    };
    let fates = fate::decide(view, spec);
    let route = route::plan(view, &fates);
    if frozen(view, running) {
        return beside(view, give_up(view, route, Phase::Failed));
    }
    let next = next(view, running, spec, &fates);
    let is_wanted = view.target.as_ref().is_none_or(|t| t.template == running.template);
    let (decision, waiting) = match next {
        Next::Do(step, waiting) => (Decision::Do(step), waiting),
        Next::Wait(waiting) => (Decision::Wait { until: waiting.until }, Some(waiting)),
        Next::Settled if is_wanted => (at_rest(view, spec), settled_wait(view, spec)),
        Next::Settled => {
            let verdict = give_up(view, route, Phase::RolledBack);
            return beside(view, verdict);
        }
    };
    let phase = phase(view, spec, is_wanted, &decision);
    let waiting = if is_wanted { waiting } else { waiting.or_else(|| given_up(view)) };
    beside(view, Verdict { decision, route, phase, waiting, candidate: None, hook: None })
}

/// Adds what the candidate needs: its steps come where what runs has none.
fn beside(view: &View<'_>, verdict: Verdict) -> Verdict {
    let (phase, waiting, step) = match candidate::decide(view) {
        Standing::Absent => return verdict,
        Standing::Do(step) => (Phase::Updating, None, Some(step)),
        Standing::Wait(waiting) => (Phase::Updating, Some(waiting), None),
        Standing::Complete => (Phase::Running, None, None),
        Standing::GivenUp => (Phase::Failed, failure(view, view.candidate.as_ref()), None),
    };
    let is_degraded = phase == Phase::Updating
        && view.facts.instances.iter().any(|i| view.is_wanted_candidate(i) && i.probed.was_ready);
    let phase = if is_degraded { Phase::Degraded } else { phase };
    let until = waiting.as_ref().and_then(|waiting| waiting.until);
    let decision = match (verdict.decision, step) {
        (Decision::Do(step), _) | (_, Some(step)) => Decision::Do(step),
        (Decision::Wait { until: own }, None) => Decision::Wait { until: earlier(own, until) },
        (Decision::Settled | Decision::GaveUp(_), None)
            if phase != Phase::Running && phase != Phase::Failed =>
        {
            Decision::Wait { until }
        }
        (rest, None) => rest,
    };
    let candidate = Some(CandidateVerdict { phase, waiting });
    Verdict { decision, candidate, ..verdict }
}

/// Nothing to run and nothing to go back to: whatever is left goes, the ports stay and hold. A candidate comes up all the
/// same.
fn nothing_runs(view: &View<'_>) -> Verdict {
    let stays = |i: &Instance| view.is_wanted_candidate(i) || view.is_promoted(i);
    let live = view.facts.instances.iter().filter(|i| i.is_live());
    let leaving = live.filter(|i| i.probed.dead || !stays(i)).collect();
    let fates = Fates { leaving, resting: Vec::new() };
    let route = route::plan(view, &fates);
    let verdict = |decision, waiting| Verdict {
        decision,
        route: route.clone(),
        phase: Phase::Failed,
        waiting,
        candidate: None,
        hook: None,
    };
    if let Some(step) = retire(view, &fates.leaving) {
        return beside(view, verdict(Decision::Do(step), given_up(view)));
    }
    if let Some(waiting) = leaving_wait(view) {
        return beside(view, verdict(Decision::Wait { until: waiting.until }, Some(waiting)));
    }
    beside(view, give_up(view, route, Phase::Failed))
}

/// `on_failure = "pause"`: the failed template is still what `running` names.
fn frozen(view: &View<'_>, running: &Kept) -> bool {
    view.target.as_ref().is_some_and(|t| t.template == running.template && view.has_given_up(t))
}

fn give_up(view: &View<'_>, route: Option<RoutePlan>, phase: Phase) -> Verdict {
    let waiting = given_up(view);
    let reason = waiting.as_ref().map_or(Reason::RolledBackOnNode, |waiting| waiting.reason);
    let decision = Decision::GaveUp(reason);
    Verdict { decision, route, phase, waiting, candidate: None, hook: None }
}

/// Why the wanted template does not run.
fn given_up(view: &View<'_>) -> Option<Waiting> {
    failure(view, view.target.as_ref())
}

/// Why this template failed; where that is not known, what failed last.
fn failure(view: &View<'_>, kept: Option<&Kept>) -> Option<Waiting> {
    let of_it = kept.and_then(|kept| view.history.failure_of(kept));
    let given_up = of_it.or(view.history.failures.first())?;
    Some(Waiting { reason: given_up.reason, message: given_up.message.clone(), until: None })
}

/// Settled, but for the time at which the old release need not be warm any more.
fn at_rest(view: &View<'_>, spec: &ServiceSpec) -> Decision {
    let warm = fate::warm_until(view, spec).filter(|until| *until > view.now);
    match earlier(warm, fate::soak_until(view, spec)) {
        None => Decision::Settled,
        until => Decision::Wait { until },
    }
}

fn settled_wait(view: &View<'_>, spec: &ServiceSpec) -> Option<Waiting> {
    let refusal = view.facts.refused.first();
    if let Some(refusal) = refusal {
        let (reason, message) = (refusal.reason, refusal.message.clone());
        return Some(Waiting { reason, message, until: None });
    }
    if let Some(waiting) = policy::rest_wait(view, spec) {
        return Some(waiting);
    }
    let until = Some(fate::soak_until(view, spec)?);
    let message = "soaking: it goes back by itself if it fails".to_owned();
    Some(Waiting { reason: Reason::Soaking, message, until })
}

fn phase(view: &View<'_>, spec: &ServiceSpec, is_wanted: bool, decision: &Decision) -> Phase {
    if !is_wanted {
        return if view.history.completed { Phase::RolledBack } else { Phase::RollingBack };
    }
    if !view.history.completed {
        return Phase::Updating;
    }
    let count = view.count(spec) as usize;
    let ready = fate::live_wanted(view, spec).filter(|i| i.is_ready()).count();
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

fn next(view: &View<'_>, running: &Kept, spec: &ServiceSpec, fates: &Fates<'_>) -> Next {
    let count = view.count(spec);
    let unavailable = fate::available(view, spec) < count as usize;
    let mut blameless = None;
    match judge(view, running, spec, unavailable) {
        Judgement::Failed { reason, message, evidence_of } => {
            let then = match spec.rollout.on_failure {
                OnFailure::Rollback => AfterGivingUp::GoBack,
                OnFailure::Pause => AfterGivingUp::StandStill,
            };
            let failed = running.clone();
            let change = LedgerChange::GiveUp { failed, reason, message, evidence_of, then };
            return Next::Do(Step::Record(change), None);
        }
        Judgement::Blameless(waiting) => blameless = Some(waiting),
        Judgement::Underway => {}
    }
    if let Some(step) = dismiss(&fates.leaving) {
        return Next::Do(step, None);
    }
    let started = start(view, running, spec, fates);
    if let Started::Do(step) = started {
        return Next::Do(step, None);
    }
    if let Some(step) = retire(view, &fates.leaving) {
        return Next::Do(step, None);
    }
    let starting = match started {
        Started::Do(_) | Started::Nothing => None,
        Started::Ahead(step) => return Next::Do(step, None),
        Started::Wait(waiting) => Some(waiting),
    };
    let until = next_moment(view, spec);
    let waiting = blameless
        .or_else(|| paused_wait(view))
        .or(starting)
        .or_else(|| unavailable.then(|| readiness_wait(view, spec)))
        .or_else(|| leaving_wait(view));
    if let Some(waiting) = waiting {
        return Next::Wait(Waiting { until: earlier(waiting.until, until), ..waiting });
    }
    if !view.history.completed {
        return Next::Do(Step::Record(LedgerChange::Complete(view.now)), None);
    }
    Next::Settled
}

/// Judged while it is on its way, and within its soak time; not while an operator holds it, nor what is gone back to:
/// also where a manifest names that again, there is nothing better.
fn judge(view: &View<'_>, running: &Kept, spec: &ServiceSpec, unavailable: bool) -> Judgement {
    let is_wanted = view.target.as_ref().is_some_and(|t| t.template == running.template);
    let is_way_back =
        view.history.last_good.as_ref().is_some_and(|k| k.template == running.template);
    if !is_wanted || is_way_back || view.is_paused() {
        return Judgement::Underway;
    }
    let judged = Judged { kept: running, spec, progress_at: view.facts.progress_at };
    if !view.history.completed {
        return failing::judge(view, &judged, unavailable);
    }
    if fate::soak_until(view, spec).is_some() {
        return failing::judge_in_soak(view, &judged);
    }
    Judgement::Underway
}

fn paused_wait(view: &View<'_>) -> Option<Waiting> {
    let message = "paused; `pith rollout resume` goes on".to_owned();
    view.is_paused().then_some(Waiting { reason: Reason::Paused, message, until: None })
}

fn start(view: &View<'_>, running: &Kept, spec: &ServiceSpec, fates: &Fates<'_>) -> Started {
    let budget = fate::budget(view, spec);
    let slots = Slots::of(view, running, budget.count);
    // A hold keeps what is up and begins nothing new; what was up and crashed is healed.
    if view.is_paused() && fate::live_wanted(view, spec).count() == 0 {
        return Started::Nothing;
    }
    let stops_all_first = stops_all_first(spec);
    let counts = |i: &&Instance| !view.is_wanted_candidate(i) && !fates.is_resting(i);
    let instances = || view.facts.instances.iter().filter(counts);
    let has_room = if stops_all_first {
        room_after_stop(view, spec)
    } else if view.is_paused() {
        false
    } else if !budget.is_stop_first && matches!(spec.rollout.strategy, Strategy::BlueGreen(_)) {
        // A whole set comes up beside whatever is there: what is left of others goes with the switch only.
        fate::live_wanted(view, spec).count() + slots.pausing < budget.count as usize
    } else if budget.is_stop_first {
        instances().filter(|i| i.is_up()).count() + slots.pausing < budget.max_live
    } else {
        let live = instances().filter(|i| i.is_live() && !fates.is_leaving(i)).count();
        live + slots.pausing < budget.max_live
    };
    // What stops first has all its containers before anything old is touched.
    slots.next(view, running, spec, has_room, stops_all_first)
}

/// Recreate and exclusive services: nothing starts while anything unwanted still runs; an exclusive one never beside
/// another of any kind.
fn room_after_stop(view: &View<'_>, spec: &ServiceSpec) -> bool {
    let mut up = view.facts.instances.iter().filter(|i| i.is_up());
    if spec.is_exclusive() {
        return up.next().is_none();
    }
    up.all(|i| view.is_wanted(spec, i))
}

fn readiness_wait(view: &View<'_>, spec: &ServiceSpec) -> Waiting {
    let min_ready_ms = spec.rollout.min_ready.0;
    let wanted = || view.facts.instances.iter().filter(|i| view.is_wanted(spec, i));
    if let Some(instance) = wanted().find(|i| !i.is_ready()) {
        let answer = instance.probed.last_failure.as_deref().unwrap_or("no answer yet");
        let message = format!("waiting for {} to be ready: {answer}", instance.name);
        let until = if view.history.completed { None } else { failing::deadline(view, spec) };
        return Waiting { reason: Reason::WaitingForReady, message, until };
    }
    let soonest = wanted().filter_map(|i| i.probed.ready_since).min();
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
    if view.assignment.is_none() || !view.facts.network || damage::must_go(view, instance) {
        return false;
    }
    if view.is_wanted_candidate(instance) {
        return true;
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
    let soak = fate::soak_until(view, spec);
    let patience = |i: &Instance| soak.and_then(|_| failing::soak_patience_end(spec, i));
    let moments = view
        .facts
        .instances
        .iter()
        .flat_map(|i| [window(i), drain_end(view, i), grace(i), patience(i)]);
    let warm = fate::warm_until(view, spec);
    moments.chain([soak, warm]).flatten().filter(|at| *at > view.now).min()
}
