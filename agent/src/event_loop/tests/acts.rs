//! The loop's state alone: what goes in, and which acts come out.

use std::sync::Arc;

use super::super::*;
use super::board::web;
use crate::engine::fake::FakeDocker;
use crate::observe::gather::{FromEngine, Gathered};
use crate::testing;
use planner::node::Probed;
use protocol::hello::Load;
use protocol::manifest::Version;
use proxy::{Snapshot, Table};

const NOW: Now = Now(1_000);

struct Nothing;

impl Surroundings for Nothing {
    fn probed(&self, _container: &str) -> Option<Probed> {
        None
    }

    fn memory_available(&self) -> Option<u64> {
        None
    }

    fn own_address(&self) -> Option<IpAddr> {
        None
    }

    fn load(&mut self, _root_dir: &str, _seen: Version) -> Option<Load> {
        None
    }

    fn nonce(&mut self) -> [u8; 16] {
        [0; 16]
    }
}

fn agent() -> Agent {
    let settings = Settings {
        name: "board".parse().unwrap(),
        labels: BTreeMap::new(),
        listen: Vec::new(),
        address: None,
        broker: None,
        coordinators: protocol::join::Coordinators::default(),
        own_broker: None,
        between: crate::routes::Between {
            port: None,
            certificates: None,
            floor: mqtt::VerifyAt::default(),
        },
        remove_images: true,
        vault: Vault::default(),
    };
    let beginning = Beginning {
        node: testing::identity(),
        key: testing::node_key(),
        root: testing::root(),
        settings,
        ledger: Arc::default(),
        boot_id: "boot".to_owned(),
        opened_at: NOW,
        unix_ms: 0,
        cores: 1,
    };
    Agent::new(beginning, NOW)
}

/// What a board without containers and images answers.
fn empty_board(act: &Act) -> Option<Event> {
    let Act::Gather { scope, number, began, images, .. } = act else { return None };
    let engine = FromEngine {
        info: FakeDocker::default().info().ok(),
        containers: Some(Vec::new()),
        networks: Some(Vec::new()),
        images: scope.images.then(|| images.iter().map(|i| (i.pin.clone(), None)).collect()),
    };
    let proxy = Snapshot {
        table: Table::default(),
        backends: Vec::new(),
        counters: Vec::new(),
        listening: Vec::new(),
        held: Vec::new(),
        pid: 1,
        started_ms: 0,
    };
    Some(Event::Gathered(Box::new(Gathered {
        number: *number,
        began: *began,
        engine: Ok(engine),
        proxy: Some(Ok(proxy)),
        scope: *scope,
    })))
}

/// Lets the agent go on, answering with `answer`, until an act that it does not answer is one that `is_it` looks for.
fn until<T>(
    agent: &mut Agent,
    answer: impl Fn(&Act) -> Option<Event>,
    is_it: impl Fn(Act) -> Option<T>,
) -> Option<T> {
    for _ in 0..10 {
        agent.turn(&mut Nothing, NOW);
        for act in agent.take_acts() {
            let event = match (answer(&act), act) {
                (Some(event), _) => event,
                (None, Act::Write(write)) => Event::Written { write, result: Ok(()) },
                (None, act) => match is_it(act) {
                    Some(found) => return Some(found),
                    None => continue,
                },
            };
            agent.handle(event, &Nothing, NOW);
        }
    }
    None
}

fn a_pull(act: Act) -> Option<(Pin, u64)> {
    match act {
        Act::Pull { image, number, .. } => Some((image.pin, number)),
        Act::Gather { .. }
        | Act::SetTable { .. }
        | Act::Execute { .. }
        | Act::CollectEvidence { .. }
        | Act::Write(_)
        | Act::CancelPull(_)
        | Act::RemoveImage(_)
        | Act::Measure(_)
        | Act::Probe(_)
        | Act::Count(_)
        | Act::Learn(_)
        | Act::Answer { .. }
        | Act::Stream(..)
        | Act::Say(_) => None,
    }
}

fn pulling() -> (Agent, Pin, u64) {
    let mut agent = agent();
    agent.hear(Incoming::Manifest(web(1, "v1").bytes()), NOW);
    let (pin, number) = until(&mut agent, empty_board, a_pull).expect("a pull");
    (agent, pin, number)
}

#[test]
fn nothing_is_done_about_a_manifest_before_it_is_durable() {
    let mut agent = agent();
    agent.hear(Incoming::Manifest(web(1, "v1").bytes()), NOW);
    agent.turn(&mut Nothing, NOW);
    let acts = agent.take_acts();
    assert!(matches!(acts[..], [Act::Gather { .. }, Act::Write(_), Act::Say(_)]));
    acts.iter().filter_map(empty_board).for_each(|event| agent.handle(event, &Nothing, NOW));
    agent.turn(&mut Nothing, NOW);
    let acts = agent.take_acts();
    assert!(acts.iter().all(|act| matches!(act, Act::Probe(_) | Act::Say(_))));
}

#[test]
fn an_image_that_came_is_not_pulled_again_before_anyone_has_looked() {
    let (mut agent, pin, number) = pulling();
    let done = Event::Pull { pin, number, update: PullUpdate::Done };
    agent.handle(done, &Nothing, NOW);
    assert_eq!(until(&mut agent, |_| None, a_pull), None);
}

#[test]
fn what_an_earlier_pull_still_says_is_not_about_the_one_under_way() {
    let (mut agent, pin, number) = pulling();
    let update = PullUpdate::Done;
    agent.handle(Event::Pull { pin, number: number + 1, update }, &Nothing, NOW);
    agent.turn(&mut Nothing, NOW);
    assert!(!agent.take_acts().iter().any(|act| matches!(act, Act::Write(_))));
}

#[test]
fn a_report_that_nobody_took_is_said_again() {
    let mut agent = agent();
    let report = |act: Act| match act {
        Act::Say(outgoing) if outgoing.subject == Up::Report => Some(()),
        Act::Gather { .. }
        | Act::SetTable { .. }
        | Act::Execute { .. }
        | Act::CollectEvidence { .. }
        | Act::Write(_)
        | Act::CancelPull(_)
        | Act::RemoveImage(_)
        | Act::Measure(_)
        | Act::Probe(_)
        | Act::Count(_)
        | Act::Learn(_)
        | Act::Answer { .. }
        | Act::Stream(..)
        | Act::Say(_)
        | Act::Pull { .. } => None,
    };
    until(&mut agent, empty_board, report).expect("a first report");
    agent.handle(Event::Unsaid(Up::Report), &Nothing, NOW);
    let later = NOW.plus(1_000);
    agent.turn(&mut Nothing, later);
    assert_eq!(agent.take_acts().into_iter().filter_map(report).count(), 1);
}
