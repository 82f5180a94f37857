//! What an operator does to a rollout under way: hold it, let it go on, promote it, end it.

use planner::fleet::{FleetEvent, Rollout, RolloutState};
use protocol::id::ServiceId;

use super::requests::{Accepted, Refused, Steer, SteerRequest};
use super::{At, Service, State};

impl State {
    /// Steers the rollout of a service that is under way.
    ///
    /// # Errors
    /// Where none is, where it is another or further on than is asked for, or where this would change nothing.
    pub fn steer(
        &mut self,
        id: &ServiceId,
        request: impl Into<SteerRequest>,
        at: At,
    ) -> Result<Accepted, Refused> {
        let SteerRequest { steer, if_revision, if_passed } = request.into();
        let service = self.services.get(id).ok_or_else(|| Refused::NoService(id.clone()))?;
        let under_way = service.rollout.as_ref().filter(|rollout| !rollout.state().is_final());
        let rollout = under_way.ok_or_else(|| Refused::NotUnderWay(id.clone()))?;
        let (state, order) = (rollout.state(), rollout.order());
        let newest = order.revision;
        if let Some(expected) = if_revision.filter(|expected| *expected != newest) {
            return Err(Refused::RevisionChanged { service: id.clone(), expected, newest });
        }
        if if_passed.is_some_and(|expected| expected != rollout.stage().passed()) {
            return Err(Refused::RolloutMovedOn { service: id.clone(), revision: newest });
        }
        let (verb, event) = match steer {
            Steer::Pause => ("pause", FleetEvent::Pause),
            Steer::Resume => ("resume", FleetEvent::Resume),
            Steer::Promote { full } => ("promote", FleetEvent::Promote { full }),
            Steer::Abort => ("abort", FleetEvent::Abort),
        };
        let (revision, from_revision) = (order.revision, order.from_revision);
        if !means_something(rollout, steer) {
            let (service, state) = (id.clone(), state.to_string());
            return Err(Refused::CannotSteer { service, revision, state, verb });
        }
        let unplaced = service.revisions.get(&revision).map_or(0, |revision| revision.unplaced);
        self.check_agreed(id, [])?;
        self.tell_rollout(id, event, at);
        Ok(Accepted { service: id.clone(), revision, from_revision, unchanged: false, unplaced })
    }
}

impl Service {
    /// How its rollout can be steered now.
    pub(super) fn steers(&self) -> Vec<Steer> {
        let under_way = self.rollout.as_ref().filter(|rollout| !rollout.state().is_final());
        let Some(rollout) = under_way else { return Vec::new() };
        let all = [Steer::Promote { full: false }, Steer::Pause, Steer::Resume, Steer::Abort];
        all.into_iter().filter(|steer| means_something(rollout, *steer)).collect()
    }
}

/// Whether a rollout that is under way would be another afterwards.
fn means_something(rollout: &Rollout, steer: Steer) -> bool {
    let state = rollout.state();
    match steer {
        Steer::Pause => matches!(state, RolloutState::InProgress | RolloutState::AwaitingPromotion),
        Steer::Resume => state == RolloutState::Paused && rollout.stage().held,
        Steer::Promote { .. } => rollout.can_be_promoted(),
        Steer::Abort => state != RolloutState::RollingBack,
    }
}
