//! One service as the decisions look at it: facts, wish and memory side by side, with the questions asked of them.

use std::collections::BTreeMap;

use protocol::id::{ReleaseId, ServiceName};
use protocol::manifest::Assignment;
use protocol::spec::{ServiceSpec, Strategy};

use super::facts::{Instance, Life, Observed, Routing, ServiceFacts, Wanted};
use super::history::{History, Kept};
use super::holding;
use crate::Now;

/// A dependency that runs this long without becoming ready holds nobody back any longer.
pub(super) const DEPENDENCY_PATIENCE_MS: u64 = 60_000;

pub(super) static NO_FACTS: ServiceFacts = ServiceFacts {
    instances: Vec::new(),
    network: false,
    refused: Vec::new(),
    failure: None,
    progress_at: None,
    candidate_progress_at: None,
};
static NO_HISTORY: History = History::NOTHING;

/// One service.
pub(super) struct View<'a> {
    pub(super) name: &'a ServiceName,
    pub(super) wanted: &'a Wanted,
    pub(super) observed: &'a Observed,
    pub(super) histories: &'a BTreeMap<ServiceName, History>,
    pub(super) assignment: Option<&'a Assignment>,
    pub(super) facts: &'a ServiceFacts,
    pub(super) history: &'a History,
    /// The template that the assignment asks for.
    pub(super) target: Option<Kept>,
    /// The template that is to run beside it.
    pub(super) candidate: Option<Kept>,
    pub(super) now: Now,
}

impl<'a> View<'a> {
    pub(super) fn new(
        name: &'a ServiceName,
        wanted: &'a Wanted,
        observed: &'a Observed,
        facts: &'a ServiceFacts,
        histories: &'a BTreeMap<ServiceName, History>,
        now: Now,
    ) -> Self {
        let history = histories.get(name).unwrap_or(&NO_HISTORY);
        let held = holding::held(name, wanted, history);
        let assignment = held.map(|held| &held.assignment).or(wanted.assignments.get(name));
        let asked = |a: &Assignment| Kept {
            release: a.release.clone(),
            template: a.template(&wanted.environment),
            attempt: a.attempt,
            revision: a.revision,
            secrets: a.secrets.clone(),
        };
        let target = held.map(|held| held.kept.clone()).or_else(|| assignment.map(asked));
        let candidate = assignment.and_then(|a| a.candidate.as_ref()).map(|c| Kept {
            release: c.release.clone(),
            template: c.template(&wanted.environment),
            attempt: c.attempt,
            revision: c.revision,
            secrets: c.secrets.clone(),
        });
        // What was promoted already, or is being undone, is no candidate any more.
        let is_main = |kept: &Kept| {
            let running = history.running.as_ref();
            [running, target.as_ref()].into_iter().flatten().any(|m| m.template == kept.template)
        };
        let candidate = candidate.filter(|kept| !is_main(kept));
        Self {
            name,
            wanted,
            observed,
            histories,
            assignment,
            facts,
            history,
            target,
            candidate,
            now,
        }
    }

    /// The same service once `target` is begun: what the route of that moment is may be known before it is written down.
    pub(super) fn once_begun<'b>(&'b self, history: &'b History) -> View<'b> {
        View {
            name: self.name,
            wanted: self.wanted,
            observed: self.observed,
            histories: self.histories,
            assignment: self.assignment,
            facts: self.facts,
            history,
            target: self.target.clone(),
            candidate: self.candidate.clone(),
            now: self.now,
        }
    }

    /// Whether the ledger has an entry for it.
    pub(super) fn is_remembered(&self) -> bool {
        self.histories.contains_key(self.name)
    }

    /// Whether the wanted template is neither what runs nor given up. What failed and stands still is new again under a
    /// higher attempt.
    pub(super) fn is_new(&self, target: &Kept) -> bool {
        let stands_still = || self.history.running.as_ref().is_some_and(|k| self.has_given_up(k));
        !self.has_given_up(target) && (!self.runs(target) || stands_still())
    }

    /// Whether the node runs this template or moves to it.
    pub(super) fn runs(&self, kept: &Kept) -> bool {
        self.history.running.as_ref().is_some_and(|r| r.template == kept.template)
    }

    /// Whether this template failed under this attempt or a later one.
    pub(super) fn has_given_up(&self, kept: &Kept) -> bool {
        self.history.failure_of(kept).is_some()
    }

    pub(super) fn spec(&self, release: &ReleaseId) -> Option<&'a ServiceSpec> {
        self.wanted.releases.get(release).map(|r| r.spec(&self.wanted.environment))
    }

    /// The spec of what runs.
    pub(super) fn running_spec(&self) -> Option<&'a ServiceSpec> {
        self.history.running.as_ref().and_then(|kept| self.spec(&kept.release))
    }

    /// Instances that `spec` shall have on this node.
    pub(super) fn count(&self, spec: &ServiceSpec) -> u32 {
        let count = self.assignment.map_or(0, |a| a.count);
        if spec.is_exclusive() { count.min(1) } else { count }
    }

    pub(super) fn is_of_running(&self, instance: &Instance) -> bool {
        self.history.running.as_ref().is_some_and(|r| r.template == instance.template)
    }

    pub(super) fn is_of_last_good(&self, instance: &Instance) -> bool {
        self.history.last_good.as_ref().is_some_and(|k| k.template == instance.template)
    }

    /// Instances that the candidate shall have on this node; what is exclusive has none beside it.
    pub(super) fn candidate_count(&self) -> u32 {
        let candidate = self.assignment.and_then(|a| a.candidate.as_ref());
        let spec = candidate.and_then(|c| self.spec(&c.release));
        if spec.is_none_or(ServiceSpec::is_exclusive) {
            return 0;
        }
        candidate.map_or(0, |c| c.count)
    }

    /// Whether this instance is one of the candidate's, in a slot that counts.
    pub(super) fn is_wanted_candidate(&self, instance: &Instance) -> bool {
        let candidate = self.candidate.as_ref().filter(|kept| !self.has_given_up(kept));
        candidate.is_some_and(|kept| kept.template == instance.template)
            && instance.slot < self.candidate_count()
    }

    /// Whether this instance, a candidate's until now, is one of what is about to be begun.
    pub(super) fn is_promoted(&self, instance: &Instance) -> bool {
        let target = self.target.as_ref().filter(|target| self.is_new(target));
        target.is_some_and(|target| target.template == instance.template)
    }

    /// Whether this instance is one of what runs, in a slot that counts.
    pub(super) fn is_wanted(&self, spec: &ServiceSpec, instance: &Instance) -> bool {
        self.is_of_running(instance) && instance.slot < self.count(spec)
    }

    /// Whether an operator holds the replacement under way.
    pub(super) fn is_paused(&self) -> bool {
        self.assignment.is_some_and(|a| a.paused)
            && !self.history.completed
            && self.target.as_ref().is_some_and(|target| self.runs(target))
    }

    /// The dependency that is on its way to being ready and should be waited for.
    pub(super) fn awaited_dependency(&self, spec: &'a ServiceSpec) -> Option<&'a ServiceName> {
        spec.depends_on.iter().find(|name| self.is_on_its_way(name))
    }

    /// Whether a dependency on this node is not ready, for whatever reason.
    pub(super) fn unready_dependency(&self, spec: &'a ServiceSpec) -> Option<&'a ServiceName> {
        spec.depends_on.iter().filter(|name| self.is_here(name)).find(|name| !self.is_ready(name))
    }

    fn is_here(&self, name: &ServiceName) -> bool {
        self.wanted.assignments.contains_key(name) || self.wanted.held.contains_key(name)
    }

    fn is_ready(&self, name: &ServiceName) -> bool {
        let facts = self.observed.services.get(name);
        facts.is_some_and(|f| f.instances.iter().any(|i| i.is_live() && i.is_ready()))
    }

    fn is_on_its_way(&self, name: &ServiceName) -> bool {
        if !self.is_here(name) || self.is_ready(name) {
            return false;
        }
        let failed = |h: &History| !h.failures.is_empty() && h.running.is_none();
        if self.histories.get(name).is_some_and(failed) {
            return false;
        }
        let stuck = |i: &Instance| match i.life {
            Life::Running { since } => self.now.since(since) > DEPENDENCY_PATIENCE_MS,
            Life::Created | Life::Stopping { .. } | Life::Exited(_) => false,
        };
        let facts = self.observed.services.get(name);
        !facts.is_some_and(|f| f.instances.iter().any(|i| i.exits > 0 || stuck(i)))
    }
}

/// Whether all old ones stop before new ones start.
pub(super) fn stops_all_first(spec: &ServiceSpec) -> bool {
    spec.is_exclusive() || spec.rollout.strategy == Strategy::Recreate
}

impl Instance {
    /// Runs and is meant to go on.
    pub(super) fn is_live(&self) -> bool {
        matches!(self.life, Life::Running { .. })
            && !matches!(self.routing, Routing::Draining { .. })
    }

    /// Runs and is on its way out.
    pub(super) fn is_leaving(&self) -> bool {
        self.is_up() && !self.is_live()
    }

    /// Its process exists.
    pub(super) fn is_up(&self) -> bool {
        matches!(self.life, Life::Running { .. } | Life::Stopping { .. })
    }

    pub(super) fn is_ready(&self) -> bool {
        self.probed.ready_since.is_some()
    }

    /// Ready for at least `min_ready_ms`.
    pub(super) fn is_available(&self, min_ready_ms: u64, now: Now) -> bool {
        self.probed.ready_since.is_some_and(|since| now.since(since) >= min_ready_ms)
    }
}
