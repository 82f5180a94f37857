//! The line of a service's releases: their numbers and the floor under them.

use protocol::envelope::Envelope;
use protocol::id::ServiceName;
use serde::{Deserialize, Serialize};

/// What holds of a service's releases in every environment, also once the service is removed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    /// Its name.
    pub service: ServiceName,
    /// The highest counter of any release accepted.
    pub counter: u64,
    /// Its security floor.
    pub retired: Option<Retired>,
}

/// A security floor with the envelope that proves it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Retired {
    /// The counter that every release must reach.
    pub below: u64,
    /// As signed.
    pub envelope: Envelope,
    /// Why, in a person's words.
    pub cause: Option<String>,
    /// Who.
    pub by: String,
    /// Unix milliseconds.
    pub at_ms: u64,
}

impl Line {
    /// The counter that every release must reach; 0: none was ever retired.
    #[must_use]
    pub fn floor(&self) -> u64 {
        self.retired.as_ref().map_or(0, |retired| retired.below)
    }
}
