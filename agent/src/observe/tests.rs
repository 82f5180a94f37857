//! What is seen over time: starts, ends and whose fault they are.

use super::memory::{Blame, SHUTDOWN_WINDOW_MS};
use super::*;
use crate::engine::Identity;
use crate::testing;
use protocol::id::Template;

fn identity() -> Identity {
    let release = testing::release_id(&testing::release(&testing::spec("web"), "v1"));
    let environment: EnvironmentName = "default".parse().unwrap();
    let template = Template::of(&release, &environment, 0);
    Identity { environment, service: "web".parse().unwrap(), release, template, slot: 0 }
}

/// A node with one container, and a clock.
struct Board {
    facts: Facts,
    memory: Memory,
    probed: Probed,
    now: Now,
    runs: u32,
}

impl Board {
    fn with(state: ContainerState) -> Self {
        let container = Container {
            id: "c1".into(),
            name: "web-0".into(),
            identity: identity(),
            state,
            address: Some(Ipv4Addr::new(10, 213, 0, 2)),
            run: "run 0".into(),
        };
        let containers = Some(vec![container]);
        let facts = Facts { containers, ..Facts::default() };
        let memory = Memory::default();
        Self { facts, memory, probed: Probed::default(), now: Now(1_000_000), runs: 0 }
    }

    fn see(&mut self) -> usize {
        self.memory.see(&self.facts, |_| self.probed.clone(), self.now).len()
    }

    fn becomes(&mut self, state: ContainerState) -> usize {
        self.now = self.now.plus(1_000);
        let containers = self.facts.containers.as_mut().unwrap();
        containers[0].state = state;
        self.see()
    }

    /// This agent starts it and it ends before anyone looks.
    fn start_and_end(&mut self) -> usize {
        self.runs += 1;
        self.memory.started("c1");
        self.facts.containers.as_mut().unwrap()[0].run = format!("run {}", self.runs);
        self.becomes(exited())
    }

    fn instance(&self) -> Instance {
        let environment = "default".parse().unwrap();
        let probed = |_: &str| self.probed.clone();
        let mut observed =
            assemble(&self.facts, &self.memory, &environment, probed, BTreeSet::new());
        observed
            .services
            .remove(&"web".parse::<ServiceName>().unwrap())
            .unwrap()
            .instances
            .remove(0)
    }

    fn exits(&self) -> u32 {
        self.instance().exits
    }
}

fn running() -> ContainerState {
    ContainerState::Running { age_ms: 500 }
}

fn exited() -> ContainerState {
    ContainerState::Exited { age_ms: 0, code: 1, oom: false }
}

#[test]
fn an_end_counts_only_when_this_agent_saw_it_run() {
    let mut board = Board::with(exited());
    assert_eq!(board.see(), 0);
    assert_eq!(board.exits(), 0, "it had ended before");
    let mut board = Board::with(running());
    board.see();
    assert_eq!(board.becomes(exited()), 1);
    assert_eq!(board.see(), 0, "news once");
    assert_eq!(board.exits(), 1);
}

#[test]
fn an_end_between_two_looks_counts_when_this_agent_started_it() {
    let mut board = Board::with(exited());
    board.see();
    for expected in 1..=3 {
        assert_eq!(board.start_and_end(), 1);
        assert_eq!(board.exits(), expected);
    }
}

#[test]
fn an_end_that_was_asked_for_does_not_count_unless_its_probe_had_failed() {
    for (blame, exits) in [(Blame::Nobody, 0), (Blame::Itself, 1)] {
        let mut board = Board::with(running());
        board.see();
        board.memory.told_to_stop("c1", blame, board.now);
        assert!(matches!(board.instance().life, Life::Stopping { .. }));
        board.becomes(exited());
        assert_eq!(board.exits(), exits, "{blame:?}");
    }
}

#[test]
fn ends_around_an_engine_that_went_away_are_not_the_applications() {
    let mut board = Board::with(running());
    board.see();
    board.becomes(exited());
    board.memory.engine_went_away(board.now.plus(SHUTDOWN_WINDOW_MS / 2));
    assert_eq!(board.exits(), 0, "a daemon that shuts down stops its containers first");
    let mut board = Board::with(running());
    board.see();
    board.memory.engine_went_away(board.now);
    board.becomes(exited());
    assert_eq!(board.exits(), 0, "nobody saw it end");
}

#[test]
fn ends_for_memory_count_also_where_the_engine_had_none_left_to_answer() {
    let killed = || ContainerState::Exited { age_ms: 0, code: 137, oom: true };
    let mut board = Board::with(running());
    board.see();
    board.becomes(killed());
    board.memory.engine_went_away(board.now.plus(SHUTDOWN_WINDOW_MS / 2));
    assert_eq!(board.exits(), 1);
    let mut board = Board::with(running());
    board.see();
    board.memory.engine_went_away(board.now);
    board.becomes(killed());
    assert_eq!(board.exits(), 1, "it ended while the engine was away");
    let mut board = Board::with(killed());
    board.see();
    assert_eq!(board.exits(), 0, "an agent that starts counts nothing from before");
}

#[test]
fn ten_minutes_of_readiness_forgive_everything() {
    let mut board = Board::with(running());
    board.see();
    board.becomes(exited());
    board.facts.containers.as_mut().unwrap()[0].run = "again".into();
    board.becomes(running());
    board.probed = Probed { ready_since: Some(board.now), was_ready: true, ..Probed::default() };
    board.now = board.now.plus(memory::FORGIVEN_AFTER_MS - 1);
    board.see();
    assert_eq!(board.exits(), 1);
    board.now = board.now.plus(1);
    board.see();
    assert_eq!(board.exits(), 0);
}

fn routed_active() -> Snapshot {
    let backend = proxy::Backend {
        id: "c1".into(),
        address: "10.213.0.2:8080".parse().unwrap(),
        weight: 1,
        state: proxy::BackendState::Active,
        release: "r".into(),
        through: None,
        name: None,
        source: None,
        backup: false,
    };
    let route = proxy::Route {
        id: "default/web/http".into(),
        listen: Vec::new(),
        protocol: proxy::Protocol::Http,
        hold_ms: 0,
        send_proxy_v2: false,
        trusted: Vec::new(),
        backends: vec![backend],
        split: None,
    };
    Snapshot {
        table: proxy::Table { version: 1, routes: vec![route], fleet: None },
        backends: Vec::new(),
        counters: Vec::new(),
        listening: Vec::new(),
        held: Vec::new(),
        pid: 1,
        started_ms: 0,
    }
}

#[test]
fn an_agent_that_starts_anew_takes_nobody_out_of_the_route() {
    let mut board = Board::with(running());
    board.facts.proxy = Some(routed_active());
    board.see();
    assert_eq!(board.instance().probed.ready_since, Some(board.now));
    board.probed.last_failure = Some("HTTP 503".into());
    assert_eq!(board.instance().probed.ready_since, None, "its own answer counts from then on");
}

#[test]
fn what_this_agent_started_is_not_ready_before_it_answers() {
    let mut board = Board::with(ContainerState::Created);
    board.facts.containers.as_mut().unwrap()[0].run = String::new();
    board.see();
    board.memory.started("c1");
    board.facts.proxy = Some(routed_active());
    board.facts.containers.as_mut().unwrap()[0].run = "run 1".into();
    board.becomes(running());
    assert_eq!(board.instance().probed.ready_since, None);
}

#[test]
fn an_image_for_another_processor_is_there_and_of_no_use() {
    let cases = [("arm64", "arm64", true), ("arm", "arm64", true), ("amd64", "arm64", false)];
    for (image, node, runs) in cases {
        assert_eq!(runs_on(node, image), runs, "{image} on {node}");
    }
}
