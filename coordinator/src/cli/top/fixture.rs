//! A fleet as `pith top` is told of it, for its tests.

use protocol::reason::Reason;

use super::gather::Answer;
use crate::render::top::fixture::{NOW_MS, detailed, node, offline};
use crate::state::shown::{
    NodeProgressShown, NodesShown, PsShown, RolloutShown, ServiceOnNode, ServiceShown,
};

/// Two boards that run, one that is away, two services, one of them on its way.
pub(super) fn answer() -> Answer {
    let mut nodes = vec![node(1, Some(0.1)), node(2, Some(0.95)), offline(10)];
    nodes[0].load = Some(detailed(600));
    let services = vec![service("db", 1, 1), service("web", 3, 2)];
    Answer {
        nodes: NodesShown { nodes, lobby: Vec::new(), absent: Vec::new() },
        services: PsShown { version: 1, services },
        rollouts: vec![rollout()],
    }
}

fn service(name: &str, desired: u32, ready: u32) -> ServiceShown {
    let on = ServiceOnNode {
        holds_newest: true,
        node: "opi-1".parse().unwrap(),
        online: true,
        heard_ms: NOW_MS,
        desired,
        ready,
        phase: None,
        reason: None,
        message: (ready < desired).then(|| "503 not ready".to_owned()),
        settled: ready == desired,
        instances: Vec::new(),
        held: None,
        alarms: Vec::new(),
    };
    ServiceShown {
        environment: "default".parse().unwrap(),
        name: name.parse().unwrap(),
        revision: 3,
        image: format!("registry.example:5000/team/{name}:v3@sha256:00"),
        rollout: if ready < desired { "in_progress" } else { "succeeded" }.to_owned(),
        desired,
        ready,
        count_override: None,
        settled: ready == desired,
        why: String::new(),
        nodes: vec![on],
    }
}

fn rollout() -> RolloutShown {
    let progress = |name: &str, state: &str, message: Option<&str>| NodeProgressShown {
        name: name.parse().unwrap(),
        state: state.to_owned(),
        reason: message.map(|_| Reason::WaitingForReady),
        message: message.map(str::to_owned),
        updated: 1,
        ready: 1,
        desired: 2,
    };
    RolloutShown {
        version: 1,
        service: "web".parse().unwrap(),
        environment: "default".parse().unwrap(),
        revision: 3,
        from_revision: Some(2),
        state: "in_progress".to_owned(),
        reason: None,
        message: "nodes take the new revision".to_owned(),
        image: "web:v3".to_owned(),
        pinned: "web@sha256:00".to_owned(),
        release: "a".repeat(64).parse().unwrap(),
        counter: 3,
        cause: None,
        by: "anna".to_owned(),
        started_ms: NOW_MS,
        ended_ms: None,
        nodes: vec![
            progress("opi-1", "updated", None),
            progress("opi-2", "updating", Some("GET /ready: 503 not ready until 10:42:11Z")),
            progress("opi-10", "waiting", None),
        ],
        pending: Vec::new(),
        unplaced: 0,
        failures: Vec::new(),
    }
}
