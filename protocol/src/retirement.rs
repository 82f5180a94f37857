//! A retirement: the security floor of a service. Releases below it are never begun again, by nobody.
//!
//! A service's releases are shared over environments, so one floor holds for all of them. It rises only by a signature of
//! the release role and never falls: whoever has the director's key alone can still choose among signed releases, but
//! not go back below it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::id::{FleetId, ServiceName};
use crate::payload::{Payload, PayloadType};

/// The document that the release key signs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Retirement {
    /// [`crate::FORMAT`] at the time of writing.
    pub format: u32,
    /// The fleet it is for.
    pub fleet: FleetId,
    /// Whose releases.
    pub service: ServiceName,
    /// The counter that every release must reach from now on; see [`crate::release::Release::counter`].
    pub below: u64,
}

impl Payload for Retirement {
    const TYPE: PayloadType = PayloadType::Retirement;
}

/// The floor of each service that has one.
pub type Floors = BTreeMap<ServiceName, u64>;

/// Raises the floor of a service; a lower one changes nothing.
pub fn raise(floors: &mut Floors, service: &ServiceName, below: u64) {
    let floor = floors.entry(service.clone()).or_default();
    *floor = below.max(*floor);
}

/// Whether a release of a service with this counter lies below its floor.
#[must_use]
pub fn is_retired(floors: &Floors, service: &ServiceName, counter: u64) -> bool {
    floors.get(service).is_some_and(|floor| counter < *floor)
}
