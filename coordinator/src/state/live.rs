//! The whole view of the fleet, for pages. Reads only.

use protocol::id::ServiceId;
use protocol::spec::Strategy;

use super::records::Revision;
use super::shown::{LiveRollout, LiveShown, LiveTrial};
use super::views::EventFilter;
use super::{At, Service, State};

/// A rollout that has ended is shown for this long.
const ENDED_SHOWN_MS: u64 = 5 * 60_000;
/// Events in one view.
const EVENTS: usize = 50;

impl State {
    /// The fleet as it is now, of all environments.
    #[must_use]
    pub fn show_live(&self, at: At) -> LiveShown {
        let rollouts = self.services.iter();
        let rollouts = rollouts.filter_map(|(id, service)| self.show_live_rollout(id, service, at));
        let newest = EventFilter { limit: EVENTS, ..EventFilter::default() };
        LiveShown {
            version: self.version,
            at_ms: at.unix_ms,
            fleet: self.show_fleet(),
            nodes: self.show_nodes(None, at),
            services: self.show_services(None, at.unix_ms),
            rollouts: rollouts.collect(),
            events: self.show_events(&newest).events,
        }
    }

    /// The newest rollout of a service, unless it ended long ago.
    fn show_live_rollout(&self, id: &ServiceId, service: &Service, at: At) -> Option<LiveRollout> {
        let revision = service.revisions.values().next_back()?;
        let active = service.active() == Some(revision.number);
        let ended_ms = revision.ended_ms.unwrap_or(0);
        if !active && at.unix_ms.saturating_sub(ended_ms) > ENDED_SHOWN_MS {
            return None;
        }
        let from = revision.from.and_then(|from| service.revisions.get(&from));
        Some(LiveRollout {
            rollout: self.show_rollout(id, Some(revision.number)).ok()?,
            active,
            steers: service.steers(),
            passed: revision.stage.passed(),
            from_release: from.map(|from| from.release.clone()),
            trial: self.show_trial(id, revision),
        })
    }

    fn show_trial(&self, id: &ServiceId, revision: &Revision) -> Option<LiveTrial> {
        // The first of a service has nothing to be beside.
        revision.from?;
        let release = &self.releases.get(&revision.release)?.release;
        let weights = match &release.spec(&id.environment).rollout.strategy {
            Strategy::Rolling | Strategy::Recreate => return None,
            Strategy::BlueGreen(_) => Vec::new(),
            Strategy::Canary(canary) => canary.steps.iter().map(|step| step.weight).collect(),
        };
        let (step, promoted) = (revision.stage.step, revision.stage.promoted);
        Some(LiveTrial { weights, step, promoted })
    }
}
