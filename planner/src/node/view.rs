//! One service as the decisions look at it: facts, wish and memory side by side, with the questions asked of them.

use std::collections::BTreeMap;

use protocol::id::{ReleaseId, ServiceName, Template};
use protocol::manifest::Assignment;
use protocol::spec::{ServiceSpec, Strategy};

use super::facts::{History, Instance, Kept, Life, Observed, Routing, ServiceFacts, Wanted};
use crate::Now;

/// A dependency that runs this long without becoming ready holds nobody back any longer.
pub(super) const DEPENDENCY_PATIENCE_MS: u64 = 60_000;

static NO_FACTS: ServiceFacts = ServiceFacts {
    instances: Vec::new(),
    network: false,
    refused: Vec::new(),
    failure: None,
    progress_at: None,
};
static NO_HISTORY: History =
    History { running: None, completed: false, last_good: None, given_up: None };

/// One service.
pub(super) struct View<'a> {
    name: &'a ServiceName,
    pub(super) wanted: &'a Wanted,
    pub(super) observed: &'a Observed,
    pub(super) histories: &'a BTreeMap<ServiceName, History>,
    pub(super) assignment: Option<&'a Assignment>,
    pub(super) facts: &'a ServiceFacts,
    pub(super) history: &'a History,
    /// The template that the assignment asks for.
    pub(super) target: Option<Kept>,
    pub(super) now: Now,
}

impl<'a> View<'a> {
    pub(super) fn new(
        name: &'a ServiceName,
        wanted: &'a Wanted,
        observed: &'a Observed,
        histories: &'a BTreeMap<ServiceName, History>,
        now: Now,
    ) -> Self {
        let assignment = wanted.assignments.get(name);
        let target = assignment.map(|a| Kept {
            release: a.release.clone(),
            template: Template::of(&a.release, &wanted.environment, a.restarts),
            attempt: a.attempt,
            revision: a.revision,
        });
        Self {
            name,
            wanted,
            observed,
            histories,
            assignment,
            facts: observed.services.get(name).unwrap_or(&NO_FACTS),
            history: histories.get(name).unwrap_or(&NO_HISTORY),
            target,
            now,
        }
    }

    /// Whether the ledger has an entry for it.
    pub(super) fn is_remembered(&self) -> bool {
        self.histories.contains_key(self.name)
    }

    /// Whether the wanted template is neither what runs nor given up.
    pub(super) fn is_new(&self, target: &Kept) -> bool {
        !self.runs(target) && !self.has_given_up(target)
    }

    /// Whether the node runs this template or moves to it.
    pub(super) fn runs(&self, kept: &Kept) -> bool {
        self.history.running.as_ref().is_some_and(|r| r.template == kept.template)
    }

    /// Whether this template failed under this attempt or a later one.
    pub(super) fn has_given_up(&self, kept: &Kept) -> bool {
        let failed = self.history.given_up.as_ref();
        failed.is_some_and(|g| g.template == kept.template && kept.attempt <= g.attempt)
    }

    pub(super) fn spec(&self, release: &ReleaseId) -> Option<&'a ServiceSpec> {
        self.wanted.releases.get(release).map(|r| &r.spec)
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

    /// The dependency that is on its way to being ready and should be waited for.
    pub(super) fn awaited_dependency(&self, spec: &'a ServiceSpec) -> Option<&'a ServiceName> {
        spec.depends_on.iter().find(|name| self.is_on_its_way(name))
    }

    /// Whether a dependency on this node is not ready, for whatever reason.
    pub(super) fn unready_dependency(&self, spec: &'a ServiceSpec) -> Option<&'a ServiceName> {
        let here = |name: &&ServiceName| self.wanted.assignments.contains_key(*name);
        spec.depends_on.iter().filter(here).find(|name| !self.is_ready(name))
    }

    fn is_ready(&self, name: &ServiceName) -> bool {
        let facts = self.observed.services.get(name);
        facts.is_some_and(|f| f.instances.iter().any(|i| i.is_live() && i.is_ready()))
    }

    fn is_on_its_way(&self, name: &ServiceName) -> bool {
        if !self.wanted.assignments.contains_key(name) || self.is_ready(name) {
            return false;
        }
        let failed = |h: &History| h.given_up.is_some() && h.running.is_none();
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

/// Whether old ones stop before new ones start.
pub(super) fn stops_first(spec: &ServiceSpec) -> bool {
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
