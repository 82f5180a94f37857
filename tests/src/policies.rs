//! What boards of a test allow containers, and people inside them.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use crate::fleet::Fleet;
use crate::wait::until_true;

/// The agent looks at its policy every 15 seconds.
const LOOKED_AT: Duration = Duration::from_secs(40);

/// Writes the policy of the first node and waits until the coordinator knows it.
///
/// # Panics
/// Where it cannot be written, or the coordinator does not hear of it.
pub fn allow(fleet: &Fleet, text: &str) {
    let told = || fleet.json(&["node", "ls"])["nodes"][0]["policy"].clone();
    let (before, path) = (told(), fleet.data().join("nodes/node-1/policy.toml"));
    fs::write(&path, text).expect("a policy");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).expect("a policy");
    until_true("the coordinator knows the policy", LOOKED_AT, || told() != before);
}
