//! Taking a service off the node: drain, stop, remove, forget. Named volumes stay. And what is left of one that never was
//! here, or is not any more, and is called here: a network for its address, and a route to the nodes that run it.

use protocol::report::Phase;

use super::facts::Instance;
use super::fate::Fates;
use super::replacing::{leaving_wait, retire};
use super::route;
use super::step::{Decision, LedgerChange, RoutePlan, Step, Verdict};
use super::view::View;

pub(super) fn decide(view: &View<'_>) -> Verdict {
    let leaving: Vec<&Instance> = view.facts.instances.iter().filter(|i| i.is_live()).collect();
    let fates = Fates { leaving, resting: Vec::new() };
    let ending = route::plan(view, &fates).and_then(without_listeners);
    let is_called = route::elsewhere(view).is_some();
    let is_here = view.is_remembered() || !view.facts.instances.is_empty();
    let verdict = |decision, waiting| Verdict {
        decision,
        route: route::plan_elsewhere(view, ending),
        phase: if is_called && !is_here { Phase::Running } else { Phase::Removing },
        waiting,
        candidate: None,
        hook: None,
    };
    if let Some(step) = retire(view, &fates.leaving) {
        return verdict(Decision::Do(step), None);
    }
    if let Some(waiting) = leaving_wait(view) {
        return verdict(Decision::Wait { until: waiting.until }, Some(waiting));
    }
    if !view.facts.instances.is_empty() {
        return verdict(Decision::Wait { until: None }, None);
    }
    if is_called && !view.facts.network {
        return verdict(Decision::Do(Step::CreateNetwork), None);
    }
    if view.facts.network && !is_called {
        return verdict(Decision::Do(Step::RemoveNetwork), None);
    }
    if view.is_remembered() {
        return verdict(Decision::Do(Step::Record(LedgerChange::Forget)), None);
    }
    verdict(Decision::Settled, None)
}

/// The ports close at once; what is in flight ends.
fn without_listeners(mut plan: RoutePlan) -> Option<RoutePlan> {
    plan.ports.retain(|port| !port.backends.is_empty());
    for port in &mut plan.ports {
        port.listen.clear();
        port.service_port = None;
    }
    (!plan.ports.is_empty()).then_some(plan)
}
