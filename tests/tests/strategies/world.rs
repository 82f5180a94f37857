//! What these tests share: load on a fleet, its containers, and the process that is its coordinator and broker.

use std::collections::BTreeSet;
use std::process::Command;
use std::time::{Duration, Instant};

use load::{Config, Load};
use serde_json::Value;
use tests::docker;
use tests::fleet::Fleet;
use tests::http::get;

/// Longer than anything here takes on a loaded machine; nothing asserts how fast it is.
pub(crate) const SOON: Duration = Duration::from_secs(40);

/// So many requests a second on kept connections, and as many on new ones, over the first nodes.
pub(crate) fn load(fleet: &Fleet, nodes: u8, port: u16, rate: u32) -> Load {
    Load::start(Config {
        targets: (1..=nodes).map(|node| fleet.address(node, port)).collect(),
        path: "/".to_owned(),
        kept_connections: usize::from(nodes) * 4,
        kept_rate: rate,
        new_rate: rate,
        websockets: 0,
    })
}

/// Nothing failed since `from`; what is in flight is not looked at.
#[track_caller]
pub(crate) fn check_nothing_failed(load: &Load, from: Instant) {
    let summary = load.summary(from, Instant::now());
    assert!(summary.sent > 0, "the load asks");
    assert_eq!(summary.failed, 0, "of {}: {:?}", summary.sent, summary.errors);
}

/// Who answers on a node now.
pub(crate) fn version(fleet: &Fleet, node: u8, port: u16) -> Option<String> {
    let (status, body) = get(fleet.address(node, port), "/").ok()?;
    (status == 200).then(|| body.split_whitespace().next().unwrap_or_default().to_owned())
}

#[track_caller]
pub(crate) fn check_version(fleet: &Fleet, node: u8, port: u16, expected: &str) {
    assert_eq!(version(fleet, node, port).as_deref(), Some(expected), "node {node}");
}

/// Ids of the containers that run.
pub(crate) fn running(fleet: &Fleet) -> BTreeSet<String> {
    let running = docker::containers(&fleet.label()).into_iter().filter(|c| c.state == "running");
    running.map(|c| c.id).collect()
}

/// Ids of the containers of one node that run a release: what `rollout status` calls by that id.
pub(crate) fn running_of(fleet: &Fleet, node: &str, release: &str) -> Vec<String> {
    let nodes = fleet.json(&["node", "ls"]);
    let nodes = nodes["nodes"].as_array().unwrap();
    let id = nodes.iter().find(|one| one["name"] == node).unwrap()["id"].clone();
    let containers = docker::containers(&fleet.label()).into_iter();
    let is_its = |label: &str, value: &str| value.contains(label) || label.contains(value);
    containers
        .filter(|c| c.state == "running")
        .filter(|c| is_its(&c.labels["io.pith.node"], id.as_str().unwrap()))
        .filter(|c| is_its(&c.labels["io.pith.release"], release))
        .map(|c| c.id)
        .collect()
}

/// The coordinator and its broker stand still: they answer nobody, and the nodes are processes of their own.
pub(crate) struct Away<'a>(&'a Fleet);

impl<'a> Away<'a> {
    pub(crate) fn begin(fleet: &'a Fleet) -> Self {
        signal(fleet, "-STOP");
        Self(fleet)
    }
}

impl Drop for Away<'_> {
    fn drop(&mut self) {
        signal(self.0, "-CONT");
    }
}

fn signal(fleet: &Fleet, signal: &str) {
    let status = Command::new("kill").args([signal, &fleet.pid().to_string()]).status();
    assert!(status.is_ok_and(|status| status.success()), "kill {signal}");
}

/// Whether every node holds the newest manifest.
pub(crate) fn all_told(fleet: &Fleet) -> bool {
    let nodes = fleet.json(&["node", "ls"]);
    let told = |node: &Value| node["seen"]["generation"] == node["generation"];
    nodes["nodes"].as_array().unwrap().iter().all(told)
}
