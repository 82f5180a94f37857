//! Who is who in a simulated fleet: keys, root, names. The same in every run.

use std::collections::BTreeMap;

use coordinator::state::Director;
use protocol::FORMAT;
use protocol::acceptance::NodeIdentity;
use protocol::id::{EnvironmentName, FleetId, NodeName, ServiceId, ServiceName};
use protocol::keys::{Role, RoleName, Root, SecretKey};

const EPOCH: u64 = 1;

fn key(kind: u8, number: usize) -> SecretKey {
    let mut seed = [kind; 32];
    seed[..8].copy_from_slice(&(number as u64).to_le_bytes());
    SecretKey::from_seed(seed)
}

/// Of the node with this number.
#[must_use]
pub fn node_key(number: usize) -> SecretKey {
    key(4, number)
}

/// Signs releases.
#[must_use]
pub fn release_key() -> SecretKey {
    key(2, 0)
}

/// Signs trust roots.
#[must_use]
pub fn root_key() -> SecretKey {
    key(1, 0)
}

fn director_key() -> SecretKey {
    key(3, 0)
}

/// The fleet's id.
#[must_use]
pub fn fleet() -> FleetId {
    FleetId::from_random([0xf1; 16])
}

/// The one environment.
///
/// # Panics
/// Never: the name is valid.
#[must_use]
pub fn environment() -> EnvironmentName {
    "default".parse().expect("a valid name")
}

/// The node with this number.
#[must_use]
pub fn identity(number: usize) -> NodeIdentity {
    let node = node_key(number).public().node_id();
    NodeIdentity { fleet: fleet(), node, environment: environment() }
}

/// The name of the node with this number.
///
/// # Panics
/// Never: the name is valid.
#[must_use]
pub fn name(number: usize) -> NodeName {
    format!("node-{number}").parse().expect("a valid name")
}

/// Labels of the node with this number: every second one is of another zone.
#[must_use]
pub fn labels(number: usize) -> BTreeMap<String, String> {
    let zone = if number.is_multiple_of(2) { "a" } else { "b" };
    BTreeMap::from([("zone".to_owned(), zone.to_owned())])
}

/// A service of the environment.
#[must_use]
pub fn service(name: &ServiceName) -> ServiceId {
    ServiceId { environment: environment(), name: name.clone() }
}

/// The trust root.
#[must_use]
pub fn root() -> Root {
    let roles = BTreeMap::from([
        (RoleName::Root, Role::single(root_key().public())),
        (RoleName::Release, Role::single(release_key().public())),
        (RoleName::Director, Role::single(director_key().public())),
    ]);
    Root { format: FORMAT, fleet: fleet(), version: 1, epoch: EPOCH, roles }
}

/// The coordinator.
#[must_use]
pub fn director() -> Director {
    Director { fleet: fleet(), root: root(), chain: Default::default(), key: director_key() }
}
