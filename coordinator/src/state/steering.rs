//! What an operator does to a rollout under way: hold it, let it go on, promote it, end it.

use planner::fleet::{FleetEvent, RolloutState};
use protocol::id::ServiceId;

use super::requests::{Accepted, Refused, Steer};
use super::{At, State};

impl State {
    /// Steers the rollout of a service that is under way.
    ///
    /// # Errors
    /// Where none is, or where this would change nothing.
    pub fn steer(&mut self, id: &ServiceId, steer: Steer, at: At) -> Result<Accepted, Refused> {
        let service = self.services.get(id).ok_or_else(|| Refused::NoService(id.clone()))?;
        let under_way = service.rollout.as_ref().filter(|rollout| !rollout.state().is_final());
        let rollout = under_way.ok_or_else(|| Refused::NotUnderWay(id.clone()))?;
        let (state, order) = (rollout.state(), rollout.order());
        let is_held = state == RolloutState::Paused;
        let (means_something, verb, event) = match steer {
            Steer::Pause => {
                let moves =
                    matches!(state, RolloutState::InProgress | RolloutState::AwaitingPromotion);
                (moves, "pause", FleetEvent::Pause)
            }
            Steer::Resume => (is_held && rollout.stage().held, "resume", FleetEvent::Resume),
            Steer::Promote { full } => {
                (rollout.can_be_promoted(), "promote", FleetEvent::Promote { full })
            }
            Steer::Abort => (state != RolloutState::RollingBack, "abort", FleetEvent::Abort),
        };
        let (revision, from_revision) = (order.revision, order.from_revision);
        if !means_something {
            let (service, state) = (id.clone(), state.to_string());
            return Err(Refused::CannotSteer { service, revision, state, verb });
        }
        let unplaced = service.revisions.get(&revision).map_or(0, |revision| revision.unplaced);
        self.check_agreed(id, [])?;
        self.tell_rollout(id, event, at);
        Ok(Accepted { service: id.clone(), revision, from_revision, unchanged: false, unplaced })
    }
}
