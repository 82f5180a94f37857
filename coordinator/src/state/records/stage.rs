//! How far a rollout is, as it is kept.

use planner::fleet::Stage;
use protocol::id::NodeName;
use serde::{Deserialize, Serialize};

/// [`Stage`] as it is kept.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct StageRecord {
    /// The hook before it has run well.
    #[serde(default)]
    pub pre_done: bool,
    /// The hook after it has run well.
    #[serde(default)]
    pub post_done: bool,
    /// The node that runs a hook.
    #[serde(default)]
    pub hook_on: Option<NodeName>,
    /// Canary steps behind it.
    pub step: usize,
    /// The trial is over.
    pub promoted: bool,
    /// Gates behind it.
    pub gates_passed: usize,
    /// Measurements that were bad.
    pub failed_measurements: u32,
    /// An operator holds it.
    pub held: bool,
}

impl StageRecord {
    /// From the planner's.
    #[must_use]
    pub fn of(stage: &Stage) -> Self {
        let Stage {
            pre_done,
            post_done,
            hook_on,
            step,
            promoted,
            gates_passed,
            failed_measurements,
            held,
        } = stage.clone();
        Self {
            pre_done,
            post_done,
            hook_on,
            step,
            promoted,
            gates_passed,
            failed_measurements,
            held,
        }
    }

    /// As the planner's.
    #[must_use]
    pub fn to_planner(&self) -> Stage {
        let Self {
            pre_done,
            post_done,
            hook_on,
            step,
            promoted,
            gates_passed,
            failed_measurements,
            held,
        } = self.clone();
        Stage {
            pre_done,
            post_done,
            hook_on,
            step,
            promoted,
            gates_passed,
            failed_measurements,
            held,
        }
    }
}
