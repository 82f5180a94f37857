//! The fake broker keeps the promises that the simulations stand on.

use protocol::id::NodeId;
use protocol::topic::{Down, Subject, Up};

use super::*;

fn fleet() -> protocol::id::FleetId {
    "f".repeat(32).parse().unwrap()
}

fn node(n: u8) -> NodeId {
    format!("{n:032x}").parse().unwrap()
}

fn topic(n: u8, subject: Subject) -> Topic {
    Topic { fleet: fleet(), node: node(n), subject }
}

fn manifest(n: u8) -> Topic {
    topic(n, Subject::Down(Down::Manifest))
}

fn event_of(n: u8) -> Topic {
    topic(n, Subject::Up(Up::Event))
}

fn board(n: u8) -> Client {
    let topic = topic(n, Subject::Up(Up::Presence));
    Client {
        subscriptions: Topic::node_subscriptions(&fleet(), &node(n)),
        presence: Some(Presence { topic, online: b"on".to_vec(), offline: b"off".to_vec() }),
        ..Client::default()
    }
}

fn coordinator() -> Client {
    Client { subscriptions: Topic::coordinator_subscriptions(&fleet()), ..Client::default() }
}

/// Runs until nothing more happens or the time is over; every delivery with its time.
fn run(broker: &mut FakeBroker, until_ms: u64) -> Vec<(u64, Delivery)> {
    let mut all = Vec::new();
    while let Some(at_ms) = broker.next_wakeup().filter(|at| *at <= until_ms) {
        all.extend(broker.poll(at_ms).into_iter().map(|d| (at_ms, d)));
    }
    all
}

fn messages(deliveries: &[(u64, Delivery)], to: ClientId) -> Vec<(Topic, String, bool)> {
    let of = |(_, delivery): &(u64, Delivery)| match &delivery.event {
        Event::Message { topic, payload, retained } if delivery.client == to => {
            Some((topic.clone(), String::from_utf8(payload.to_vec()).unwrap(), *retained))
        }
        Event::Up | Event::Down { .. } | Event::Refused { .. } | Event::Message { .. } => None,
    };
    deliveries.iter().filter_map(of).collect()
}

fn texts(deliveries: &[(u64, Delivery)], to: ClientId, topic: &Topic) -> Vec<String> {
    messages(deliveries, to).into_iter().filter(|(t, ..)| t == topic).map(|(_, p, _)| p).collect()
}

fn ups(deliveries: &[(u64, Delivery)], to: ClientId) -> usize {
    deliveries.iter().filter(|(_, d)| d.client == to && d.event == Event::Up).count()
}

#[test]
fn a_board_that_comes_late_gets_the_retained_manifest() {
    let mut broker = FakeBroker::new(1, Faults::default());
    let server = broker.connect(coordinator(), 0);
    broker.publish(server, manifest(1), "m1", 0);
    run(&mut broker, 100);
    let late = broker.connect(board(1), 100);
    let seen = run(&mut broker, 200);
    assert_eq!(messages(&seen, late), [(manifest(1), "m1".into(), true)]);
    assert_eq!(ups(&seen, late), 1);
    let presence = topic(1, Subject::Up(Up::Presence));
    assert_eq!(texts(&seen, server, &presence), ["on"]);
}

#[test]
fn an_empty_payload_clears_what_was_kept() {
    let mut broker = FakeBroker::new(1, Faults::default());
    let server = broker.connect(coordinator(), 0);
    broker.publish(server, manifest(1), "m1", 0);
    run(&mut broker, 100);
    assert!(broker.retained(&manifest(1)).is_some());
    broker.publish(server, manifest(1), "", 100);
    run(&mut broker, 200);
    assert!(broker.retained(&manifest(1)).is_none());
}

#[test]
fn a_kicked_board_leaves_its_will_and_comes_back() {
    let mut broker = FakeBroker::new(3, Faults::default());
    let server = broker.connect(coordinator(), 0);
    let board_1 = broker.connect(board(1), 0);
    run(&mut broker, 100);
    broker.kick(board_1, 100);
    let seen = run(&mut broker, 60_000);
    let presence = topic(1, Subject::Up(Up::Presence));
    assert_eq!(texts(&seen, server, &presence), ["off", "on"]);
    assert_eq!(ups(&seen, board_1), 1);
}

#[test]
fn a_broker_that_lost_its_memory_gets_the_outbox_again() {
    let mut broker = FakeBroker::new(5, Faults::default());
    let server = broker.connect(coordinator(), 0);
    let board_1 = broker.connect(board(1), 0);
    run(&mut broker, 100);
    broker.stop(100);
    broker.publish(board_1, event_of(1), "e1", 101);
    broker.publish(board_1, event_of(1), "e2", 102);
    run(&mut broker, 5_000);
    assert_eq!(broker.outbox(board_1).len(), 2);
    broker.start();
    let seen = run(&mut broker, 200_000);
    // The coordinator may be back later than the board: then the events are gone, as with the real one.
    assert!(broker.outbox(board_1).is_empty());
    assert_eq!((ups(&seen, server), ups(&seen, board_1)), (1, 1));
}

#[test]
fn a_partition_is_silent_and_heals() {
    let mut broker = FakeBroker::new(7, Faults::default());
    let server = broker.connect(coordinator(), 0);
    let board_1 = broker.connect(board(1), 0);
    run(&mut broker, 100);
    broker.partition(board_1, 100);
    broker.publish(board_1, event_of(1), "lost for now", 101);
    let seen = run(&mut broker, 100_000);
    assert!(seen.is_empty() && broker.is_connected(board_1), "{seen:?}");
    broker.heal(board_1, 100_000);
    let seen = run(&mut broker, 200_000);
    assert_eq!(texts(&seen, server, &event_of(1)), ["lost for now"]);
}

#[test]
fn a_long_partition_is_noticed_and_the_will_is_told() {
    let mut broker = FakeBroker::new(7, Faults::default());
    let server = broker.connect(coordinator(), 0);
    let board_1 = broker.connect(board(1), 0);
    run(&mut broker, 100);
    broker.partition(board_1, 100);
    let seen = run(&mut broker, 400_000);
    let presence = topic(1, Subject::Up(Up::Presence));
    assert_eq!(texts(&seen, server, &presence), ["off"]);
    assert!(!broker.is_connected(board_1));
}

#[test]
fn one_lane_keeps_its_order_whatever_the_delays() {
    let faults = Faults { delay_min_ms: 1, delay_max_ms: 500, ..Faults::default() };
    for order in [Order::Kept, Order::PerTopic] {
        let mut broker = FakeBroker::new(11, Faults { order, ..faults });
        let server = broker.connect(coordinator(), 0);
        let board_1 = broker.connect(board(1), 0);
        run(&mut broker, 2_000);
        let sent: Vec<String> = (0..20).map(|n| n.to_string()).collect();
        for (at_ms, text) in (2_000..).zip(&sent) {
            broker.publish(board_1, event_of(1), text.clone(), at_ms);
        }
        let seen = run(&mut broker, 100_000);
        assert_eq!(texts(&seen, server, &event_of(1)), sent, "{order:?}");
    }
}

#[test]
fn topics_overtake_one_another_only_when_asked_for() {
    let overtakes = |order| {
        (0..20).any(|seed| {
            let faults = Faults { delay_min_ms: 1, delay_max_ms: 500, order, ..Faults::default() };
            let mut broker = FakeBroker::new(seed, faults);
            let server = broker.connect(coordinator(), 0);
            let board_1 = broker.connect(board(1), 0);
            run(&mut broker, 2_000);
            broker.publish(board_1, event_of(1), "first", 2_000);
            broker.publish(board_1, topic(1, Subject::Up(Up::Hello)), "second", 2_000);
            let seen = run(&mut broker, 10_000);
            messages(&seen, server).first().is_some_and(|(_, text, _)| text == "second")
        })
    };
    assert!(!overtakes(Order::Kept));
    assert!(overtakes(Order::PerTopic));
}

/// A rough fleet: everything goes wrong for a while, with state published all the time.
fn storm(seed: u64) -> (Vec<(u64, Delivery)>, FakeBroker, Vec<ClientId>) {
    let rough = Faults {
        drop_percent: 20,
        duplicate_percent: 20,
        delay_min_ms: 1,
        delay_max_ms: 300,
        order: Order::PerTopic,
        kick_percent: 10,
    };
    let mut broker = FakeBroker::new(seed, rough);
    let mut clients = vec![broker.connect(coordinator(), 0)];
    clients.extend((1..=3).map(|n| broker.connect(board(n), 0)));
    let mut seen = Vec::new();
    for step in 0..200u64 {
        let now_ms = step * 500;
        let n = u8::try_from(step % 3 + 1).unwrap();
        broker.publish(clients[0], manifest(n), format!("{step}"), now_ms);
        broker.publish(clients[usize::from(n)], event_of(n), format!("{step}"), now_ms);
        if step % 40 == 20 {
            broker.stop(now_ms);
        }
        if step % 40 == 25 {
            broker.start();
        }
        seen.extend(run(&mut broker, now_ms));
    }
    broker.start();
    broker.set_faults(Faults::default());
    seen.extend(run(&mut broker, 1_000_000));
    (seen, broker, clients)
}

#[test]
fn equal_seeds_give_equal_runs() {
    assert_eq!(storm(42).0, storm(42).0);
    assert_ne!(storm(42).0, storm(43).0);
}

#[test]
fn after_any_storm_all_sessions_stand_and_nothing_is_left_to_send() {
    for seed in 0..50 {
        let (_, broker, clients) = storm(seed);
        for client in clients {
            assert!(broker.is_connected(client), "seed {seed}, {client:?}");
            assert!(broker.outbox(client).is_empty(), "seed {seed}, {client:?}");
        }
        let counters = broker.counters();
        assert!(counters.lost > 0 && counters.duplicated > 0 && counters.cut > 0, "{counters:?}");
    }
}
