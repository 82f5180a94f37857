//! The fleet: which node runs how many instances ([`place`]), and in which order nodes move from one revision to
//! another ([`Rollout`]).
//!
//! A node swaps its own instances without being stepped from afar; here it is only decided which node is next, whether
//! to go on, and what goes back.

mod place;
mod rollout;
mod state;

pub use place::{NoNodeFits, NodeFacts, PlaceRequest, Placed, place};
pub use rollout::{FleetAction, FleetEvent, NodeProgress, Order, Rollout};
pub use state::{NodeState, RolloutState};
