//! The outbox, by itself.

use protocol::topic::{Down, Subject, Up};

use super::*;

fn topic(subject: Subject) -> Topic {
    let fleet = "0".repeat(32).parse().unwrap();
    let node = "1".repeat(32).parse().unwrap();
    Topic { fleet, node, subject }
}

fn report() -> Topic {
    topic(Subject::Up(Up::Report))
}

fn event() -> Topic {
    topic(Subject::Up(Up::Event))
}

fn load() -> Topic {
    topic(Subject::Up(Up::Load))
}

fn limits(in_flight: usize, events: usize) -> Limits {
    Limits { in_flight, events, event_bytes: 1000 }
}

fn connected(limits: Limits) -> Outbox {
    let mut outbox = Outbox::new(limits);
    outbox.connected();
    outbox
}

fn push(outbox: &mut Outbox, topic: Topic, payload: &str) -> Pushed {
    outbox.push(topic, Bytes::copy_from_slice(payload.as_bytes()))
}

/// Sends what may be sent; the payloads and their tokens.
fn send_all(outbox: &mut Outbox) -> Vec<(String, Token)> {
    let mut sent = Vec::new();
    while let Some(message) = outbox.next() {
        outbox.sent(message.token);
        let text = String::from_utf8(message.payload.to_vec()).unwrap();
        sent.push((text, message.token));
    }
    sent
}

fn texts(sent: &[(String, Token)]) -> Vec<&str> {
    sent.iter().map(|(text, _)| text.as_str()).collect()
}

#[test]
fn nothing_leaves_while_offline() {
    let mut outbox = Outbox::new(Limits::default());
    push(&mut outbox, event(), "a");
    assert_eq!(outbox.next(), None);
    outbox.connected();
    assert_eq!(texts(&send_all(&mut outbox)), ["a"]);
}

#[test]
fn state_that_waits_keeps_only_the_newest_payload_of_its_topic() {
    let mut outbox = Outbox::new(Limits::default());
    assert_eq!(push(&mut outbox, report(), "1"), Pushed::Queued);
    push(&mut outbox, topic(Subject::Down(Down::Manifest)), "m");
    assert_eq!(push(&mut outbox, report(), "2"), Pushed::Replaced);
    outbox.connected();
    assert_eq!(texts(&send_all(&mut outbox)), ["2", "m"]);
}

#[test]
fn a_message_leaves_only_when_it_is_acknowledged() {
    let mut outbox = connected(Limits::default());
    push(&mut outbox, event(), "a");
    let sent = send_all(&mut outbox);
    assert_eq!((outbox.len(), outbox.in_flight()), (1, 1));
    assert!(outbox.acked(sent[0].1));
    assert!(outbox.is_empty());
    assert!(!outbox.acked(sent[0].1), "a second acknowledgement means nothing");
}

#[test]
fn what_was_not_acknowledged_is_sent_again_first_and_in_order() {
    let mut outbox = connected(Limits::default());
    for text in ["a", "b", "c"] {
        push(&mut outbox, event(), text);
    }
    let sent = send_all(&mut outbox);
    outbox.acked(sent[1].1);
    outbox.disconnected();
    push(&mut outbox, event(), "d");
    outbox.connected();
    assert_eq!(texts(&send_all(&mut outbox)), ["a", "c", "d"]);
}

#[test]
fn older_state_is_not_sent_again_when_newer_waits() {
    let mut outbox = connected(Limits::default());
    push(&mut outbox, report(), "1");
    send_all(&mut outbox);
    push(&mut outbox, report(), "2");
    outbox.disconnected();
    outbox.connected();
    assert_eq!(texts(&send_all(&mut outbox)), ["2"]);
}

#[test]
fn of_state_in_flight_twice_only_the_newest_is_sent_again_and_can_be_replaced() {
    let mut outbox = connected(Limits::default());
    for text in ["1", "2"] {
        push(&mut outbox, report(), text);
        send_all(&mut outbox);
    }
    outbox.disconnected();
    assert_eq!(outbox.len(), 1);
    assert_eq!(push(&mut outbox, report(), "3"), Pushed::Replaced);
    outbox.connected();
    assert_eq!(texts(&send_all(&mut outbox)), ["3"]);
}

#[test]
fn samples_are_dropped_while_offline_and_counted() {
    let mut outbox = Outbox::new(Limits::default());
    assert_eq!(push(&mut outbox, load(), "x"), Pushed::DroppedOffline);
    outbox.connected();
    push(&mut outbox, load(), "y");
    outbox.disconnected();
    assert_eq!((outbox.len(), outbox.dropped()), (0, 2));
    outbox.connected();
    push(&mut outbox, load(), "z");
    assert_eq!(texts(&send_all(&mut outbox)), ["z"]);
    assert!(outbox.is_empty(), "a sample is done with when it is written");
}

#[test]
fn the_oldest_events_go_when_too_many_wait() {
    let mut outbox = Outbox::new(limits(8, 2));
    push(&mut outbox, report(), "state");
    push(&mut outbox, event(), "a");
    push(&mut outbox, event(), "b");
    assert_eq!(push(&mut outbox, event(), "c"), Pushed::DroppedOldest);
    assert_eq!(outbox.dropped(), 1);
    outbox.connected();
    assert_eq!(texts(&send_all(&mut outbox)), ["state", "b", "c"]);
}

#[test]
fn the_oldest_events_go_when_their_bytes_are_too_many() {
    let mut outbox = Outbox::new(limits(8, 100));
    for _ in 0..3 {
        push(&mut outbox, event(), &"x".repeat(400));
    }
    assert_eq!((outbox.len(), outbox.dropped()), (2, 1));
}

#[test]
fn an_event_above_all_limits_is_kept_while_it_is_the_newest() {
    let mut outbox = Outbox::new(limits(8, 100));
    push(&mut outbox, event(), &"x".repeat(2000));
    assert_eq!((outbox.len(), outbox.dropped()), (1, 0));
}

#[test]
fn a_full_window_waits_for_an_acknowledgement() {
    let mut outbox = connected(limits(2, 100));
    for text in ["a", "b", "c"] {
        push(&mut outbox, event(), text);
    }
    let sent = send_all(&mut outbox);
    assert_eq!(texts(&sent), ["a", "b"]);
    outbox.acked(sent[0].1);
    assert_eq!(texts(&send_all(&mut outbox)), ["c"]);
}
