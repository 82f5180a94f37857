//! How far a rollout is, as it is kept.

use planner::fleet::Stage;
use protocol::id::NodeName;
use serde::{Deserialize, Serialize};

/// How the planner's [`Stage`] is kept: `#[serde(with = "StageRecord")]`. The planner knows no format.
#[derive(Serialize, Deserialize)]
#[serde(remote = "Stage")]
pub(super) struct StageRecord {
    #[serde(default)]
    pre_done: bool,
    #[serde(default)]
    post_done: bool,
    #[serde(default)]
    hook_on: Option<NodeName>,
    step: usize,
    promoted: bool,
    gates_passed: usize,
    failed_measurements: u32,
    held: bool,
}
