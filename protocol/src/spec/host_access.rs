//! What a service asks for beyond its container: each is off unless the policy of the node that runs it allows it
//! ([`crate::policy`]), whatever was signed.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

/// What a container has of its node; empty for almost every service.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HostAccess {
    /// All rights of the node's root.
    #[serde(default, skip_serializing_if = "is_false")]
    pub privileged: bool,
    /// The node's network instead of one of its own.
    #[serde(default, skip_serializing_if = "is_false")]
    pub network: bool,
    /// Linux capabilities added, `ALL` or names without `CAP_`.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub capabilities: BTreeSet<String>,
    /// Devices of the node.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub devices: Vec<Device>,
    /// Files and folders of the node.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub paths: Vec<HostPath>,
}

/// A device in the container. Only nodes that have it take the service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Device {
    /// Its path on the node, below `/dev`; a link there is followed.
    pub path: String,
    /// Its path in the container.
    pub target: String,
    /// Of `rwm`: read, write, make its node.
    pub permissions: String,
}

/// A file or folder of the node in the container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HostPath {
    /// Absolute path on the node.
    pub host: String,
    /// Absolute path inside the container.
    pub path: String,
    /// Mounted read-only.
    pub read_only: bool,
    /// The application says that several instances may write it at once.
    pub shared: bool,
}

impl HostAccess {
    /// Whether it asks for nothing.
    #[must_use]
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }

    /// What a one-shot container has of it: no path that an instance may be the one writer of at that moment.
    #[must_use]
    pub fn for_hook(&self) -> Self {
        let mut own = self.clone();
        own.paths.retain(|path| path.read_only || path.shared);
        own
    }

    /// Whether at most one instance may run on a node: a writable path that is not shared has one writer, and two
    /// instances in the node's network would open the same ports.
    #[must_use]
    pub fn is_exclusive(&self) -> bool {
        self.network || self.paths.iter().any(|path| !path.read_only && !path.shared)
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the form serde asks for")]
fn is_false(switch: &bool) -> bool {
    !switch
}
