//! Where nodes are told to look for the coordinator, as it is kept.

use serde::{Deserialize, Serialize};

/// None is kept before the first `pith coordinator move`: nodes know what they joined by.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WhereaboutsRecord {
    /// Of the newest change; only ever grows.
    pub number: u64,
    /// Newest first; never empty.
    pub addresses: Vec<String>,
    /// What nodes are not to try any more, newest first.
    pub forgotten: Vec<String>,
}
