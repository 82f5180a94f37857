//! Services that root of the node holds: what they are held at stands where the manifest's wish would stand, so that going
//! back by hand is the same path as any other rollback, and what a manifest says meanwhile moves nothing.

use std::collections::BTreeMap;

use protocol::id::ServiceName;
use protocol::manifest::{Assignment, HookRun};

use super::facts::{ServiceFacts, Wanted};
use super::history::{History, Kept};
use super::retired::is_retired;

/// What a service is held at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// The template, which stays the wanted one until it is released.
    pub kept: Kept,
    /// The same as a manifest would say it; its `restarts` mean nothing, the template is that of `kept`.
    pub assignment: Assignment,
}

/// Why a service cannot be held, or not at what was asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CannotHold {
    /// The node knows no such service.
    #[error("no service `{0}` runs on this board; `pith-agent ps` shows those that do")]
    Unknown(ServiceName),
    /// The newest manifest takes it off the node.
    #[error("`{0}` is being removed from this board by the newest manifest")]
    BeingRemoved(ServiceName),
    /// There is no other release to go back to.
    #[error("this board keeps no release of `{0}` from before the one that it runs")]
    NothingBefore(ServiceName),
    /// The release before has failed here.
    #[error("the release of `{service}` before failed on this board: {message}")]
    Failed {
        /// Of which service.
        service: ServiceName,
        /// How.
        message: String,
    },
    /// The release before is below the floor of its service.
    #[error("the release of `{0}` before was retired: nothing goes back to it")]
    Retired(ServiceName),
}

impl Held {
    /// A service that stays at `kept` with `count` instances.
    #[must_use]
    pub fn new(service: ServiceName, kept: Kept, count: u32) -> Self {
        let Kept { release, attempt, revision, secrets, .. } = kept.clone();
        let assignment = Assignment {
            service,
            revision,
            release,
            count,
            attempt,
            restarts: 0,
            secrets,
            paused: false,
            candidate: None,
        };
        Self { kept, assignment }
    }

    /// As it is, or is on its way to be, right now.
    ///
    /// # Errors
    /// Where nothing of it runs, or it is going.
    pub fn at_present(
        service: &ServiceName,
        wanted: &Wanted,
        histories: &BTreeMap<ServiceName, History>,
    ) -> Result<Self, CannotHold> {
        let running = histories.get(service).and_then(|history| history.running.clone());
        let running = running.ok_or_else(|| CannotHold::Unknown(service.clone()))?;
        Self::at(service, running, wanted)
    }

    /// At the release that the node would go back to.
    ///
    /// # Errors
    /// Where there is none that differs from what runs, or it must not be begun.
    pub fn before(
        service: &ServiceName,
        wanted: &Wanted,
        histories: &BTreeMap<ServiceName, History>,
    ) -> Result<Self, CannotHold> {
        let history = histories.get(service);
        let history = history.ok_or_else(|| CannotHold::Unknown(service.clone()))?;
        let runs = |kept: &Kept| {
            history.running.as_ref().is_some_and(|running| running.template == kept.template)
        };
        let before = history.last_good.clone().filter(|kept| !runs(kept));
        let before = before.filter(|kept| wanted.releases.contains_key(&kept.release));
        let before = before.ok_or_else(|| CannotHold::NothingBefore(service.clone()))?;
        if let Some(failure) = history.failure_of(&before) {
            let (service, message) = (service.clone(), failure.message.clone());
            return Err(CannotHold::Failed { service, message });
        }
        if is_retired(wanted, service, &before) {
            return Err(CannotHold::Retired(service.clone()));
        }
        Self::at(service, before, wanted)
    }

    fn at(service: &ServiceName, kept: Kept, wanted: &Wanted) -> Result<Self, CannotHold> {
        let held = wanted.held.get(service).map(|held| &held.assignment);
        let assignment = held.or(wanted.assignments.get(service));
        let count = assignment.map(|assignment| assignment.count);
        let count = count.ok_or_else(|| CannotHold::BeingRemoved(service.clone()))?;
        Ok(Self::new(service.clone(), kept, count))
    }

    /// Whether the newest manifest names what it is held at, so that nothing waits for it.
    #[must_use]
    pub fn is_as_wanted(&self, wanted: &Wanted) -> bool {
        let assignment = wanted.assignments.get(&self.assignment.service);
        assignment.is_some_and(|a| {
            a.count == self.assignment.count
                && a.template(&wanted.environment) == self.kept.template
        })
    }
}

/// What holds this service; what may not be begun any more holds nothing.
pub(super) fn held<'a>(
    service: &ServiceName,
    wanted: &'a Wanted,
    history: &History,
) -> Option<&'a Held> {
    let held = wanted.held.get(service)?;
    let runs = history.running.as_ref().is_some_and(|r| r.template == held.kept.template);
    (runs || !is_retired(wanted, service, &held.kept)).then_some(held)
}

/// The one-shot container that is to run. A service that is held begins none; one that has begun ends by itself.
pub(super) fn hook<'a>(
    service: &ServiceName,
    wanted: &'a Wanted,
    facts: &ServiceFacts,
) -> Option<&'a HookRun> {
    let run = wanted.hooks.get(service)?;
    let template = run.template(&wanted.environment);
    let has_begun = || facts.instances.iter().any(|i| i.template == template);
    (!wanted.held.contains_key(service) || has_begun()).then_some(run)
}
