//! The fleet: which node runs how many instances ([`place`]), and in which order nodes move from one revision to
//! another ([`Rollout`]), and which nodes' proxies serve each other ([`peers`]).
//!
//! A node swaps its own instances without being stepped from afar; here it is only decided which node is next, whether
//! to go on, and what goes back.

pub mod agents;
pub mod analysis;
mod event;
mod order;
mod peers;
mod place;
mod rollout;
mod state;
mod waves;

pub use event::{
    CandidateProgress, CandidateSize, FleetAction, FleetEvent, HookProgress, NodeProgress,
    NodeReport,
};
pub use order::{Hooks, Order, Stage, Trial};
pub use peers::{MAX_NODES_PER_SERVICE, Neighbour, peers};
pub use place::{
    NoNodeFits, NodeFacts, PlaceRequest, Placed, PolicyDenied, Refusing, Unplaceable, place,
};
pub use rollout::Rollout;
pub use state::{NodeState, RolloutState};
pub use waves::{Member, Wave, canaries, candidate_count, waves};
