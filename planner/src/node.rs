//! One node: from what is wanted, what is observed and what the ledger remembers to the next step of each service.
//!
//! ```text
//!            wanted T is new            image there, ports held, dependencies ready
//!  settled ------------------> preparing ----------------------------------------> Record(Begin T)
//!     ^                            | cannot be prepared                                  |
//!     |                            v                                                     v
//!     |                      Record(GiveUp T)            fails: Record(GiveUp T)     replacing
//!     |                            |                  +--------------------------------- |
//!     |                            v                  v                                  | all available,
//!     +--- Record(Complete) --- replacing, back to last-good                             | nothing old left
//!     +----------------------------------------------------------------------------------+
//! ```
//!
//! Progress lives in the containers' labels, in the proxy's table and in the ledger, never in this module, so that a
//! kill at any instruction continues after a restart.

mod candidate;
mod damage;
mod facts;
mod failing;
mod fate;
mod history;
mod holding;
mod hook;
mod images;
mod policy;
mod preparing;
mod removing;
mod replacing;
mod retired;
mod route;
mod secrets;
mod starting;
mod step;
#[cfg(test)]
mod tests;
mod view;

use std::collections::{BTreeMap, BTreeSet};

use protocol::id::ServiceName;
use protocol::manifest::HookRun;
use protocol::reason::Reason;
use protocol::report::Phase;

pub use facts::{
    Exit, Finding, ImageState, Instance, Life, Observed, Probed, Refusal, Repair, Routing,
    ServiceFacts, StepFailure, Wanted,
};
pub use history::{History, Kept};
pub use holding::{CannotHold, Held};
pub use step::{
    AfterGivingUp, Backend, BackendState, CandidateVerdict, Decision, HookVerdict, ImageStep,
    LedgerChange, OtherNode, PortPlan, Room, RoutePlan, Split, Step, Verdict, Waiting,
};

use crate::Now;
use preparing::Prepared;
use view::View;

/// What to do next on a node.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Decisions {
    /// Per service that is wanted, remembered or seen, and per service that is called here and runs elsewhere.
    pub services: BTreeMap<ServiceName, Verdict>,
    /// Actions on images; independent of each other and of the services' steps.
    pub images: Vec<ImageStep>,
}

/// The next step of every service that is wanted, remembered, seen or called. `now` is the only clock.
///
/// The caller takes at most one step per service at a time and asks again after it; a service whose step is under way
/// is simply not looked at in the answer.
#[must_use]
pub fn decide(
    wanted: &Wanted,
    observed: &Observed,
    history: &BTreeMap<ServiceName, History>,
    now: Now,
) -> Decisions {
    let history = &*retired::without(wanted, history);
    let exists = |facts: &ServiceFacts| !facts.instances.is_empty() || facts.network;
    let seen = observed.services.iter().filter(|(_, facts)| exists(facts)).map(|(name, _)| name);
    let asked = wanted.assignments.keys().chain(wanted.hooks.keys()).chain(wanted.held.keys());
    let called = wanted.peers.services.keys();
    let names: BTreeSet<&ServiceName> =
        asked.chain(history.keys()).chain(called).chain(seen).collect();
    let verdict = |name: &ServiceName| {
        let facts = observed.services.get(name).unwrap_or(&view::NO_FACTS);
        let Some(run) = holding::hook(name, wanted, facts) else {
            let view = View::new(name, wanted, observed, facts, history, now);
            return (name.clone(), decide_service(&view));
        };
        // The one-shot container is no instance: whoever decides on those does not see it.
        let template = run.template(&wanted.environment);
        let (hooks, instances) =
            facts.instances.iter().cloned().partition::<Vec<_>, _>(|i| i.template == template);
        let facts = ServiceFacts { instances, ..facts.clone() };
        let view = View::new(name, wanted, observed, &facts, history, now);
        (name.clone(), decide_with_hook(&view, run, hooks.first()))
    };
    Decisions {
        services: names.into_iter().map(verdict).collect(),
        images: images::decide(wanted, observed, history),
    }
}

fn decide_service(view: &View<'_>) -> Verdict {
    let Some(target) = &view.target else { return removing::decide(view) };
    if view.is_new(target) {
        return prepare(view, target);
    }
    replacing::decide(view)
}

/// A service with a one-shot container to run: that comes first, what runs goes on meanwhile.
fn decide_with_hook(view: &View<'_>, run: &HookRun, instance: Option<&Instance>) -> Verdict {
    let hook::Next { step, verdict: hook } = hook::decide(view, run, instance);
    let own = match &view.target {
        Some(_) => decide_service(view),
        // Nothing of it runs here yet: its network stays for the hook.
        None => Verdict {
            decision: Decision::Settled,
            route: None,
            phase: Phase::Updating,
            waiting: None,
            candidate: None,
            hook: None,
        },
    };
    let until = hook.waiting.as_ref().and_then(|waiting| waiting.until);
    let decision = match (step, own.decision) {
        (Some(step), _) | (None, Decision::Do(step)) => Decision::Do(step),
        (None, Decision::Wait { until: own }) => Decision::Wait { until: earlier(own, until) },
        (None, rest) if until.is_none() => rest,
        (None, _) => Decision::Wait { until },
    };
    Verdict { decision, hook: Some(hook), ..own }
}

/// The wanted template is not what runs: what runs goes on until everything is there for the new one.
fn prepare(view: &View<'_>, target: &Kept) -> Verdict {
    let present = replacing::decide(view);
    let mut prepared = preparing::prepare(view, target);
    let is_held = view.assignment.is_some_and(|assignment| assignment.paused);
    if is_held && matches!(prepared, Prepared::Ready) {
        let message = "paused; `pith rollout resume` begins it".to_owned();
        prepared = Prepared::Wait(Waiting { reason: Reason::Paused, message, until: None });
    }
    let (decision, waiting) = match prepared {
        Prepared::Ready => return begin(view, target),
        Prepared::Do(step, waiting) => (Decision::Do(step), waiting),
        Prepared::Wait(waiting) => {
            let decision = match present.decision {
                Decision::Do(step) => Decision::Do(step),
                Decision::Wait { until } => Decision::Wait { until: earlier(until, waiting.until) },
                Decision::Settled | Decision::GaveUp(_) => Decision::Wait { until: waiting.until },
            };
            (decision, Some(waiting))
        }
        Prepared::Failed { reason, message } => {
            let change = LedgerChange::GiveUp {
                failed: target.clone(),
                reason,
                message,
                evidence_of: None,
                then: AfterGivingUp::Unchanged,
            };
            (Decision::Do(Step::Record(change)), None)
        }
    };
    Verdict { decision, phase: Phase::Updating, waiting, ..present }
}

/// The route is that of what is begun: where its instances are up already, the switch need not wait for the disk.
fn begin(view: &View<'_>, target: &Kept) -> Verdict {
    let room = preparing::room(view, target);
    let last_good = way_back(view, target);
    let change = LedgerChange::Begin { kept: target.clone(), room, last_good };
    let history = view.history.after(&change, None);
    let verdict = replacing::decide(&view.once_begun(&history));
    Verdict {
        decision: Decision::Do(Step::Record(change)),
        phase: Phase::Updating,
        waiting: None,
        ..verdict
    }
}

/// What it goes back to when `target` fails: what runs, where it was complete and has not failed since; else what there
/// was to go back to; else what runs, where an instance of it is up, which serves or may do so by then.
fn way_back(view: &View<'_>, target: &Kept) -> Option<Kept> {
    let may_return = |kept: &&Kept| !retired::is_retired(view.wanted, view.name, kept);
    let running = view.history.running.as_ref().filter(may_return);
    let running = running.filter(|kept| kept.template != target.template);
    let is_good = |kept: &&Kept| view.history.completed && !view.has_given_up(kept);
    let is_there = |i: &Instance| view.is_of_running(i) && i.is_live();
    let there = running.filter(|_| view.facts.instances.iter().any(is_there));
    let good = running.filter(is_good).or(view.history.last_good.as_ref().filter(may_return));
    good.or(there).cloned()
}

fn earlier(a: Option<Now>, b: Option<Now>) -> Option<Now> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (one, other) => one.or(other),
    }
}
