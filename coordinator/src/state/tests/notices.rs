//! What people are told of, and what they are not.

use super::world::{World, director};
use super::*;
use crate::state::notices::NoticeKind;
use protocol::topic::Up;

/// Of which node what was told in the last step.
fn told(world: &mut World) -> Vec<(NoticeKind, String)> {
    let notices = world.state.take_effects(world.at).notices;
    notices.into_iter().map(|one| (one.kind, one.node.unwrap().to_string())).collect()
}

#[test]
fn a_node_that_is_gone_is_lost_and_one_that_was_sent_away_is_not() {
    let mut world = World::with_nodes(&["a", "b"]);
    let (a, bytes) = (world.node_id("a"), br#"{"online":false,"boot_id":"1"}"#);
    world.state.heard(&a, Up::Presence, bytes, world.at).unwrap();
    assert_eq!(told(&mut world), [(NoticeKind::NodeLost, "a".to_owned())]);
    world.state.heard(&a, Up::Presence, bytes, world.at).unwrap();
    assert_eq!(told(&mut world), [], "once");
    let _ = world.state.revoke("b", world.at).unwrap();
    assert_eq!(told(&mut world), []);
}

#[test]
fn a_node_that_went_shortly_before_the_coordinator_ended_is_told_after_its_start() {
    let mut world = World::with_nodes(&["gone", "long-gone", "sent-away", "here"]);
    world.goes_away("long-gone");
    world.passes(25 * 60 * 60 * 1000);
    for there in ["gone", "sent-away", "here"] {
        let _ = world.says_hello(there);
    }
    world.goes_away("gone");
    world.goes_away("sent-away");
    let _ = world.state.revoke("sent-away", world.at).unwrap();
    world.settle();
    let kept = world.kept_now();
    world.state = State::restore(director(), kept, world.at);
    assert_eq!(told(&mut world), [(NoticeKind::NodeLost, "gone".to_owned())]);
}
