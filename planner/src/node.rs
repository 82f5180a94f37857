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

mod facts;
mod step;

pub use facts::{
    Exit, History, ImageState, Instance, Kept, Life, Observed, Probed, Refusal, Routing, ServiceFacts,
    Wanted,
};
pub use step::{AfterGivingUp, Backend, BackendState, Decision, LedgerChange, PortPlan, RoutePlan, Step, Verdict, Waiting};

use std::collections::BTreeMap;

use protocol::id::ServiceName;

use crate::Now;

/// The next step of every service that is wanted, remembered or seen. `now` is the only clock.
///
/// The caller takes at most one step per service at a time and asks again after it; a service whose step is under way
/// is simply not looked at in the answer.
#[must_use]
pub fn decide(
    wanted: &Wanted,
    observed: &Observed,
    history: &BTreeMap<ServiceName, History>,
    now: Now,
) -> BTreeMap<ServiceName, Verdict> {
    let _ = (wanted, observed, history, now);
    BTreeMap::new()
}
