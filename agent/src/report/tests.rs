//! What the coordinator reads.

use super::*;
use crate::testing;
use planner::node::{Decision, Kept, Probed, ServiceFacts, Waiting};
use protocol::manifest::Assignment;

struct Said {
    wanted: Wanted,
    observed: Observed,
    verdicts: BTreeMap<ServiceName, Verdict>,
    histories: BTreeMap<ServiceName, History>,
    memory: Memory,
    holds: BTreeMap<ServiceName, Hold>,
}

fn web() -> ServiceName {
    "web".parse().unwrap()
}

fn kept(tag: &str) -> Kept {
    let release = testing::release_id(&testing::release(&testing::spec("web"), tag));
    let template = Template::of(&release, &testing::identity().environment, 0);
    Kept { release, template, attempt: 1, revision: 1, secrets: std::collections::BTreeMap::new() }
}

fn instance(kept: &Kept, slot: u32, life: Life, routing: Routing) -> Instance {
    Instance {
        container: format!("c{slot}"),
        name: format!("web-{slot}"),
        slot,
        release: kept.release.clone(),
        template: kept.template.clone(),
        address: None,
        life,
        probed: Probed { ready_since: Some(Now(1)), was_ready: true, ..Probed::default() },
        routing,
        in_flight: 0,
        exits: 0,
        finding: planner::node::Finding::Nothing,
    }
}

impl Said {
    /// v2 is wanted; v1 runs ready in slot 0 and drains in slot 1.
    fn new() -> Self {
        let (old, new) = (kept("v1"), kept("v2"));
        let assignment = Assignment {
            paused: false,
            candidate: None,
            service: web(),
            revision: 2,
            release: new.release,
            count: 2,
            attempt: 1,
            restarts: 0,
            secrets: std::collections::BTreeMap::new(),
        };
        let since = Now(5);
        let instances = vec![
            instance(&old, 0, Life::Running { since }, Routing::Active),
            instance(&old, 1, Life::Running { since }, Routing::Draining { since }),
        ];
        let facts = ServiceFacts { instances, ..ServiceFacts::default() };
        let waiting = Waiting {
            reason: Reason::WaitingForConnections,
            message: "waiting for 3 connections to end".into(),
            until: Some(Now(1_500)),
        };
        let verdict = Verdict {
            hook: None,
            candidate: None,
            decision: Decision::Wait { until: Some(Now(1_500)) },
            route: Some(planner::node::RoutePlan { ports: Vec::new() }),
            phase: Phase::Updating,
            waiting: Some(waiting),
        };
        let history = History { running: Some(old), completed: true, ..History::default() };
        Self {
            wanted: Wanted {
                hooks: BTreeMap::new(),
                environment: testing::identity().environment,
                assignments: BTreeMap::from([(web(), assignment)]),
                held: BTreeMap::new(),
                releases: BTreeMap::new(),
                floors: Default::default(),
                peers: Default::default(),
            },
            observed: Observed {
                services: BTreeMap::from([(web(), facts)]),
                ..Observed::default()
            },
            verdicts: BTreeMap::from([(web(), verdict)]),
            histories: BTreeMap::from([(web(), history)]),
            memory: Memory::default(),
            holds: BTreeMap::new(),
        }
    }

    fn report(&self, obstacle: Option<&Obstacle>, now: Now) -> Report {
        let sources = Sources {
            node: &testing::identity(),
            agent_started_ms: 7,
            seen: Version { epoch: 1, generation: 2 },
            wanted: Some(&self.wanted),
            observed: &self.observed,
            verdicts: &self.verdicts,
            histories: &self.histories,
            holds: &self.holds,
            memory: &self.memory,
            refused: &BTreeMap::new(),
            engine: EngineState::Ready,
            alarms: &[],
            images: None,
            agent_update: None,
            obstacle,
        };
        build(sources, 1, now)
    }
}

#[test]
fn counts_and_states_are_those_of_the_wanted_template() {
    let report = Said::new().report(None, Now(1_000));
    let service = &report.services[0];
    assert_eq!((service.revision, service.desired, service.updated, service.ready), (2, 2, 0, 1));
    let states: Vec<InstanceState> = service.instances.iter().map(|i| i.state).collect();
    assert_eq!(states, [InstanceState::Ready, InstanceState::Draining]);
    let detail = service.detail.as_ref().unwrap();
    assert_eq!(detail.again_in_ms, Some(500));
}

#[test]
fn only_the_countdown_is_no_news() {
    let said = Said::new();
    let (a, b) = (said.report(None, Now(1_000)), said.report(None, Now(1_200)));
    assert!(a != b && says_the_same(&a, &b));
    let mut other = Said::new();
    other.verdicts.get_mut(&web()).unwrap().phase = Phase::Running;
    assert!(!says_the_same(&a, &other.report(None, Now(1_000))));
}

#[test]
fn a_service_that_is_not_decided_yet_is_updating_under_its_new_revision() {
    let mut said = Said::new();
    said.verdicts.clear();
    let report = said.report(None, Now(1_000));
    assert_eq!((report.services[0].revision, report.services[0].phase), (2, Phase::Updating));
}

#[test]
fn what_keeps_the_node_from_moving_is_said_of_every_service() {
    let obstacle = Obstacle { reason: Reason::EngineUnavailable, message: "docker is away".into() };
    let mut said = Said::new();
    let report = said.report(Some(&obstacle), Now(1_000));
    assert_eq!(report.services[0].detail.as_ref().unwrap().message, "docker is away");
    let verdict = said.verdicts.get_mut(&web()).unwrap();
    (verdict.decision, verdict.waiting) = (Decision::Settled, None);
    let report = said.report(Some(&obstacle), Now(1_000));
    assert_eq!(report.services[0].detail.as_ref().unwrap().message, "docker is away");
    assert_eq!(said.report(None, Now(1_000)).services[0].detail, None);
}

#[test]
fn images_that_are_here_are_named_and_those_that_are_not_are_left_out() {
    let facts = ImageFacts {
        id: String::new(),
        architecture: String::new(),
        os: String::new(),
        healthcheck: false,
        size_bytes: 1,
        user: String::new(),
    };
    let images =
        BTreeMap::from([(testing::pin("web:v1"), Some(facts)), (testing::pin("web:v2"), None)]);
    assert_eq!(here(&images), [testing::pin("web:v1").short()]);
}
