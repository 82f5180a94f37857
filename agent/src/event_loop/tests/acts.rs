//! The loop's state alone: what goes in, and which acts come out.

use super::super::*;
use super::beginning::{Around, beginning, settings};
use super::board::web;
use crate::engine::fake::FakeDocker;
use crate::observe::gather::{FromEngine, Gathered};
use proxy::{Snapshot, Table};

const NOW: Now = Now(1_000);

fn agent() -> Agent {
    Agent::new(beginning(settings(), NOW), NOW)
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
        agent.turn(&mut Around::default(), NOW);
        for act in agent.take_acts() {
            let event = match (answer(&act), act) {
                (Some(event), _) => event,
                (None, Act::Write(write)) => Event::Written { write, result: Ok(()) },
                (None, act) => match is_it(act) {
                    Some(found) => return Some(found),
                    None => continue,
                },
            };
            agent.handle(event, &Around::default(), NOW);
        }
    }
    None
}

fn a_pull(act: Act) -> Option<(Pin, u64)> {
    let Act::Pull { image, number, .. } = act else { return None };
    Some((image.pin, number))
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
    agent.turn(&mut Around::default(), NOW);
    let acts = agent.take_acts();
    assert!(matches!(acts[..], [Act::Gather { .. }, Act::Write(_), Act::Say(_)]));
    acts.iter()
        .filter_map(empty_board)
        .for_each(|event| agent.handle(event, &Around::default(), NOW));
    agent.turn(&mut Around::default(), NOW);
    let acts = agent.take_acts();
    assert!(acts.iter().all(|act| matches!(act, Act::Probe(_) | Act::Say(_))));
}

#[test]
fn an_image_that_came_is_not_pulled_again_before_anyone_has_looked() {
    let (mut agent, pin, number) = pulling();
    let done = Event::Pull { pin, number, update: PullUpdate::Done };
    agent.handle(done, &Around::default(), NOW);
    assert_eq!(until(&mut agent, |_| None, a_pull), None);
}

#[test]
fn what_an_earlier_pull_still_says_is_not_about_the_one_under_way() {
    let (mut agent, pin, number) = pulling();
    let update = PullUpdate::Done;
    agent.handle(Event::Pull { pin, number: number + 1, update }, &Around::default(), NOW);
    agent.turn(&mut Around::default(), NOW);
    assert!(!agent.take_acts().iter().any(|act| matches!(act, Act::Write(_))));
}

#[test]
fn a_report_that_nobody_took_is_said_again() {
    let mut agent = agent();
    let report = |act: Act| {
        let Act::Say(outgoing) = act else { return None };
        (outgoing.subject == Up::Report).then_some(())
    };
    until(&mut agent, empty_board, report).expect("a first report");
    agent.handle(Event::Unsaid(Up::Report), &Around::default(), NOW);
    let later = NOW.plus(1_000);
    agent.turn(&mut Around::default(), later);
    assert_eq!(agent.take_acts().into_iter().filter_map(report).count(), 1);
}
