//! Whose a container, network or volume is, and what it is called: labels decide, names are for people and uniqueness.

use std::collections::BTreeMap;

use protocol::id::{
    EnvironmentName, FleetId, NodeId, ReleaseId, ServiceName, Template, VolumeName,
};

/// Label keys. All ours carry `FLEET`, `NODE`, `ENVIRONMENT` and `SERVICE`; containers the others too.
pub const FLEET: &str = "io.pith.fleet";
/// See [`FLEET`].
pub const NODE: &str = "io.pith.node";
/// See [`FLEET`].
pub const ENVIRONMENT: &str = "io.pith.environment";
/// See [`FLEET`].
pub const SERVICE: &str = "io.pith.service";
/// See [`FLEET`].
pub const RELEASE: &str = "io.pith.release";
/// See [`FLEET`].
pub const TEMPLATE: &str = "io.pith.template";
/// See [`FLEET`].
pub const SLOT: &str = "io.pith.slot";

const DEFAULT_ENVIRONMENT: &str = "default";

/// The node that this agent is. Several may share one engine and do not see each other's containers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ours {
    /// The fleet.
    pub fleet: FleetId,
    /// The node.
    pub node: NodeId,
}

/// What a container is, as its labels say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The service's environment.
    pub environment: EnvironmentName,
    /// The service.
    pub service: ServiceName,
    /// The release it was made from.
    pub release: ReleaseId,
    /// Its template.
    pub template: Template,
    /// Its slot within its template.
    pub slot: u32,
}

impl Ours {
    /// Whether a thing with these labels is ours.
    #[must_use]
    pub fn owns(&self, labels: &BTreeMap<String, String>) -> bool {
        labels.get(FLEET).map(String::as_str) == Some(self.fleet.as_str())
            && labels.get(NODE).map(String::as_str) == Some(self.node.as_str())
    }

    /// The labels of everything of a service.
    #[must_use]
    pub fn service_labels(
        &self,
        environment: &EnvironmentName,
        service: &ServiceName,
    ) -> BTreeMap<String, String> {
        let pairs = [
            (FLEET, self.fleet.as_str()),
            (NODE, self.node.as_str()),
            (ENVIRONMENT, environment.as_str()),
            (SERVICE, service.as_str()),
        ];
        pairs.into_iter().map(|(k, v)| (k.to_owned(), v.to_owned())).collect()
    }

    /// The labels of a container.
    #[must_use]
    pub fn container_labels(&self, identity: &Identity) -> BTreeMap<String, String> {
        let mut labels = self.service_labels(&identity.environment, &identity.service);
        labels.insert(RELEASE.to_owned(), identity.release.to_string());
        labels.insert(TEMPLATE.to_owned(), identity.template.to_string());
        labels.insert(SLOT.to_owned(), identity.slot.to_string());
        labels
    }

    /// `pith-<node8>-<service>-<template8>-<slot>`.
    #[must_use]
    pub fn container_name(&self, identity: &Identity) -> String {
        let service = self.network_name(&identity.environment, &identity.service);
        format!("{service}-{}-{}", identity.template.short(), identity.slot)
    }

    /// `pith-<node8>-<service>`, with the environment before the service unless it is `default`.
    #[must_use]
    pub fn network_name(&self, environment: &EnvironmentName, service: &ServiceName) -> String {
        let node = self.node.short();
        if environment.as_str() == DEFAULT_ENVIRONMENT {
            return format!("pith-{node}-{service}");
        }
        format!("pith-{node}-{environment}-{service}")
    }

    /// `pith-<node8>-<service>-<volume>`.
    #[must_use]
    pub fn volume_name(
        &self,
        environment: &EnvironmentName,
        service: &ServiceName,
        volume: &VolumeName,
    ) -> String {
        format!("{}-{volume}", self.network_name(environment, service))
    }
}

impl Identity {
    /// What the labels say; `None` when one is missing or cannot be read.
    #[must_use]
    pub fn of_labels(labels: &BTreeMap<String, String>) -> Option<Self> {
        Some(Self {
            environment: labels.get(ENVIRONMENT)?.parse().ok()?,
            service: labels.get(SERVICE)?.parse().ok()?,
            release: labels.get(RELEASE)?.parse().ok()?,
            template: labels.get(TEMPLATE)?.parse().ok()?,
            slot: labels.get(SLOT)?.parse().ok()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ours() -> Ours {
        Ours { fleet: "a".repeat(32).parse().unwrap(), node: "b".repeat(32).parse().unwrap() }
    }

    fn identity(environment: &str) -> Identity {
        Identity {
            environment: environment.parse().unwrap(),
            service: "web".parse().unwrap(),
            release: "c".repeat(64).parse().unwrap(),
            template: "d".repeat(64).parse().unwrap(),
            slot: 2,
        }
    }

    #[test]
    fn labels_say_what_a_container_is() {
        let identity = identity("default");
        let labels = ours().container_labels(&identity);
        assert!(ours().owns(&labels));
        assert_eq!(Identity::of_labels(&labels), Some(identity));
    }

    #[test]
    fn another_node_of_the_same_fleet_is_not_ours() {
        let labels = ours().container_labels(&identity("default"));
        let other = Ours { node: "e".repeat(32).parse().unwrap(), ..ours() };
        assert!(!other.owns(&labels));
        assert!(!ours().owns(&BTreeMap::new()));
    }

    #[test]
    fn names_carry_the_environment_only_when_it_is_not_the_default() {
        assert_eq!(ours().container_name(&identity("default")), "pith-bbbbbbbb-web-dddddddd-2");
        let staging = identity("staging");
        assert_eq!(ours().container_name(&staging), "pith-bbbbbbbb-staging-web-dddddddd-2");
        let volume = "data".parse().unwrap();
        let name = ours().volume_name(&staging.environment, &staging.service, &volume);
        assert_eq!(name, "pith-bbbbbbbb-staging-web-data");
    }
}
