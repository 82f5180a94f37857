//! The series of services: over the fleet, and on one node.

use protocol::hello::Traffic;

use super::exposition::{Page, Value};
use super::families as of;
use crate::state::measured::{Measured, NodeMeasured};

/// Upper bounds of the histogram, in milliseconds and as they are written. They are among those that a node's proxy counts under, so that no
/// request looks faster than it was.
const BOUNDS: [(u64, &str); 14] = [
    (2, "0.002"),
    (6, "0.006"),
    (13, "0.013"),
    (28, "0.028"),
    (60, "0.06"),
    (130, "0.13"),
    (280, "0.28"),
    (600, "0.6"),
    (1_300, "1.3"),
    (2_800, "2.8"),
    (6_000, "6.0"),
    (13_000, "13.0"),
    (28_000, "28.0"),
    (60_000, "60.0"),
];

/// Adds every service, and how rollouts ended.
pub(super) fn add(page: &mut Page, fleet: &Measured) {
    for (state, count) in &fleet.rollouts {
        page.add(&of::ROLLOUTS, &[("state", state)], Value::Whole(*count));
    }
    for service in &fleet.services {
        let shown = &service.shown;
        let id = [("service", shown.name.as_str()), ("environment", shown.environment.as_str())];
        let counts =
            [("desired", shown.desired), ("ready", shown.ready), ("updated", service.updated)];
        for (state, count) in counts {
            let labels = [id[0], id[1], ("state", state)];
            page.add(&of::SERVICE_INSTANCES, &labels, Value::Whole(count.into()));
        }
        let labels = [id[0], id[1], ("state", &shown.rollout)];
        page.add(&of::ROLLOUT_STATE, &labels, Value::Whole(1));
    }
}

/// Adds what a node that is heard of says of its services: restarts of instances, and requests.
pub(super) fn add_on_node(page: &mut Page, fleet: &Measured, node: &NodeMeasured) {
    let name = &node.shown.name;
    let of_it = fleet.services.iter().filter(|s| s.shown.environment == node.shown.environment);
    for service in of_it {
        let here = service.shown.nodes.iter().filter(|on| on.node == *name);
        for instance in here.flat_map(|on| &on.instances) {
            let labels = [
                ("node", name.as_str()),
                ("service", service.shown.name.as_str()),
                ("container", instance.name.as_str()),
            ];
            page.add(&of::INSTANCE_RESTARTS, &labels, Value::Whole(instance.restarts.into()));
        }
    }
    for traffic in node.shown.load.iter().flat_map(|load| &load.traffic) {
        add_traffic(page, node, traffic);
    }
}

fn add_traffic(page: &mut Page, node: &NodeMeasured, traffic: &Traffic) {
    let labels = [
        ("service", traffic.service.as_str()),
        ("environment", node.shown.environment.as_str()),
        ("release", traffic.release.short()),
        ("node", node.shown.name.as_str()),
    ];
    page.add(&of::SERVICE_REQUESTS, &labels, Value::Whole(traffic.requests));
    page.add(&of::SERVICE_ERRORS, &labels, Value::Whole(traffic.errors));
    page.add(&of::SERVICE_LATENCY, &labels, Value::Buckets(buckets(&traffic.latency_ms)));
}

/// Counts of a proxy, each within its bound and above the one before, as all within each of ours.
fn buckets(latency_ms: &[(u64, u64)]) -> Vec<(String, u64)> {
    let within = |bound: u64| {
        let counts = latency_ms.iter().filter(|(upper, _)| *upper <= bound).map(|(_, n)| *n);
        counts.fold(0, u64::saturating_add)
    };
    let bounded = BOUNDS.iter().map(|(bound, text)| ((*text).to_owned(), within(*bound)));
    bounded.chain([("+Inf".to_owned(), within(u64::MAX))]).collect()
}
