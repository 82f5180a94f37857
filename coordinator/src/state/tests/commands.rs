//! Commands: for which hello they are signed and for how long, whose answers count, and what is sent once more.

use protocol::FORMAT;
use protocol::acceptance::NodeIdentity;
use protocol::command::{Act, Command, End, LIFE_S, Logs, Part, Refused as OnNode, What, accept};
use protocol::envelope::Envelope;
use protocol::id::{CommandId, NodeId, ServiceId};
use protocol::topic::Up;

use super::super::heard::NotTaken;
use super::world::{FLEET, NONCE, World, director, id};

const NEWER: &str = "ffffffffffffffffffffffffffffffff";

fn stream() -> CommandId {
    CommandId::from_random([1; 16])
}

fn logs() -> Act {
    let service = "web".parse().unwrap();
    let (instance, since_s) = (None, None);
    Act::Logs(Logs { service, instance, lines: 9, since_s, follow: false, previous: false })
}

/// What goes out now, as the node reads it.
fn said(world: &mut World, node: &NodeId) -> Vec<Command> {
    let at = world.at;
    let commands = world.state.take_effects(at).commands;
    let environment = "default".parse().unwrap();
    let identity = NodeIdentity { fleet: FLEET.parse().unwrap(), node: node.clone(), environment };
    let read = |(to, bytes): (NodeId, Vec<u8>)| {
        assert_eq!(to, *node);
        accept(&bytes, &director().root, &identity).unwrap().into_inner()
    };
    commands.into_iter().map(read).collect()
}

fn part(world: &World, name: &str, number: u64, what: What) -> Vec<u8> {
    let node = world.node_id(name);
    let (fleet, stream) = (FLEET.parse().unwrap(), stream());
    let part = Part { format: FORMAT, fleet, node, stream, number, what };
    Envelope::sign(&part, &[&world.keys[name]]).to_bytes()
}

/// The node answers; what reaches those who wait.
fn hears(world: &mut World, name: &str, what: What) -> Result<usize, NotTaken> {
    let (node, bytes, at) = (world.node_id(name), part(world, name, 0, what), world.at);
    world.state.heard(&node, Up::Stream, &bytes, at)?;
    Ok(world.state.effects.parts.len())
}

fn refused(refused: &OnNode) -> What {
    let (code, message) = (refused.code().to_owned(), refused.to_string());
    What::End(End::Refused { code, message })
}

fn begun() -> (World, NodeId) {
    let mut world = World::with_nodes(&["node-1", "node-2"]);
    world.deploy("web", "v1").unwrap();
    let node = world.node_id("node-1");
    (world, node)
}

#[test]
fn a_command_is_signed_for_the_newest_hello_and_lives_half_a_minute_beyond_its_age() {
    let (mut world, node) = begun();
    world.passes(5_000);
    world.says_hello("node-1");
    let heard_at = world.state.nodes[&node].hello.clone().unwrap().1;
    world.passes(600_000);
    // The same hello, played again, is not younger.
    world.says_hello("node-1");
    let at = world.at;
    assert!(world.state.command(&node, &stream(), logs(), at));
    let [command] = &said(&mut world, &node)[..] else { panic!("one") };
    let age_s = at.now.since(heard_at) / 1_000;
    assert!(age_s >= 600);
    assert_eq!((&command.nonce[..], command.valid_s), (NONCE, age_s + LIFE_S));
    assert_eq!((&command.id, &command.act), (&stream(), &logs()));
}

#[test]
fn what_came_too_late_is_signed_once_more_for_the_next_hello_and_no_third_time() {
    let (mut world, node) = begun();
    let at = world.at;
    world.state.command(&node, &stream(), logs(), at);
    let _ = said(&mut world, &node);
    assert_eq!(hears(&mut world, "node-1", refused(&OnNode::UnknownNonce)), Ok(0));
    assert_eq!(said(&mut world, &node), [], "there is no newer hello yet");
    world.state.hello_was_heard(&node, NEWER, at);
    let [again] = &said(&mut world, &node)[..] else { panic!("one") };
    assert_eq!((&again.nonce[..], &again.id, again.valid_s), (NEWER, &stream(), LIFE_S));
    assert_eq!(hears(&mut world, "node-1", refused(&OnNode::Expired { late_s: 1 })), Ok(1));
    world.state.hello_was_heard(&node, NONCE, at);
    assert_eq!(said(&mut world, &node), []);

    // A hello that was heard in the meantime is not waited for.
    world.state.command(&node, &stream(), logs(), at);
    let _ = said(&mut world, &node);
    world.state.hello_was_heard(&node, NEWER, at);
    assert_eq!(hears(&mut world, "node-1", refused(&OnNode::UnknownNonce)), Ok(0));
    assert_eq!(said(&mut world, &node).len(), 1);
}

#[test]
fn only_the_node_that_was_asked_answers_and_only_until_it_is_over() {
    let (mut world, node) = begun();
    let begin = || What::Begun { instances: Vec::new() };
    assert_eq!(hears(&mut world, "node-1", begin()), Err(NotTaken::UnknownStream));
    let at = world.at;
    world.state.command(&node, &stream(), logs(), at);
    assert_eq!(hears(&mut world, "node-2", begin()), Err(NotTaken::UnknownStream));
    // Signed by another than the topic's node.
    let forged = part(&world, "node-2", 0, begin());
    let outcome = world.state.heard(&node, Up::Stream, &forged, at);
    assert!(matches!(outcome, Err(NotTaken::Rejected(_))), "{outcome:?}");
    assert_eq!(hears(&mut world, "node-1", begin()), Ok(1));
    assert_eq!(hears(&mut world, "node-1", What::End(End::Finished)), Ok(2));
    assert_eq!(hears(&mut world, "node-1", begin()), Err(NotTaken::UnknownStream));
}

fn taken(parts: u64) -> Act {
    Act::Keep { stream: stream(), taken: parts }
}

#[test]
fn a_stream_is_kept_and_ended_while_it_is_there() {
    let (mut world, node) = begun();
    let (at, keep) = (world.at, CommandId::from_random([7; 16]));
    world.state.command(&node, &stream(), logs(), at);
    let _ = said(&mut world, &node);
    world.state.feed_stream(&stream(), taken(3), &keep, at);
    world.state.end_stream(&stream(), &keep, at);
    world.state.feed_stream(&stream(), taken(4), &keep, at);
    let acts: Vec<Act> = said(&mut world, &node).into_iter().map(|command| command.act).collect();
    let stream = stream();
    assert_eq!(acts, [Act::Keep { stream: stream.clone(), taken: 3 }, Act::End { stream }]);
}

#[test]
fn nodes_that_run_it_are_asked_or_the_one_that_is_named() {
    let (mut world, _) = begun();
    let at = world.at;
    let node = "node-2".parse().unwrap();
    let restarted = world.state.restart_on(&id("web"), &node, "anna", at);
    assert_eq!(restarted.map_err(|no| no.code()), Err("busy"), "it is being rolled out");
    let names = |world: &World, service: &ServiceId, named: Option<&str>| {
        let named = named.map(|name| name.parse().unwrap());
        let targets = world.state.whom_to_ask(service, named.as_ref()).map_err(|no| no.code())?;
        Ok::<_, &str>(targets.iter().map(|one| one.name.to_string()).collect::<Vec<_>>().join(" "))
    };
    assert_eq!(names(&world, &id("web"), None), Ok("node-1".to_owned()), "the second is next");
    assert_eq!(names(&world, &id("web"), Some("node-2")), Ok("node-2".to_owned()));
    assert_eq!(names(&world, &id("web"), Some("nobody")), Err("no_node"));
    assert_eq!(names(&world, &id("other"), None), Err("no_service"));
    world.all_run();
    world.runs("node-2");
    assert_eq!(names(&world, &id("web"), None), Ok("node-1 node-2".to_owned()));
}

#[test]
fn a_restart_on_one_node_raises_its_count_alone_and_stays_with_later_revisions() {
    let mut world = World::with_nodes(&["node-1", "node-2"]);
    world.deploy("web", "v1").unwrap();
    world.runs("node-1");
    world.runs("node-2");
    let counts =
        |world: &World| ["node-1", "node-2"].map(|node| world.manifest(node).services[0].restarts);
    assert_eq!(counts(&world), [0, 0]);
    let (at, node) = (world.at, "node-2".parse().unwrap());
    world.state.restart_on(&id("web"), &node, "anna", at).unwrap();
    let _ = world.settle();
    assert_eq!(counts(&world), [0, 1]);
    assert_eq!(world.rollout("web").revision, 1, "no revision is made of it");
    let nowhere = "nobody".parse().unwrap();
    let refused = world.state.restart_on(&id("web"), &nowhere, "anna", at);
    assert_eq!(refused.map_err(|no| no.code()), Err("no_node"));
    world.deploy("web", "v2").unwrap();
    world.runs("node-1");
    world.runs("node-2");
    assert_eq!(counts(&world), [0, 1], "what was raised is never lowered");
}

#[test]
fn a_board_is_examined_by_its_name_or_id_whatever_runs_there() {
    let mut world = World::with_nodes(&["node-1", "node-2"]);
    let node = world.node_id("node-2");
    for who in ["node-2", node.as_str()] {
        let target = world.state.whom_to_examine(who).unwrap();
        assert_eq!((target.id, target.online), (node.clone(), true));
    }
    assert!(
        world.state.whom_to_examine("nobody").unwrap_err().to_string().contains("pith node ls")
    );
    let _ = said(&mut world, &node);
    let at = world.at;
    assert!(world.state.command(&node, &stream(), Act::Doctor, at));
    assert_eq!(said(&mut world, &node)[0].act, Act::Doctor);
}

#[test]
fn nodes_tell_more_while_somebody_looks_and_a_rare_look_keeps_no_frequent_one_going() {
    let mut world = World::with_nodes(&["node-1"]);
    let node = world.node_id("node-1");
    let _ = said(&mut world, &node);
    let look = |world: &mut World, every_ms: Option<u32>| {
        let at = world.at;
        let mut number = 0;
        let mut new_id = || {
            number += 1;
            Some(CommandId::from_random([number; 16]))
        };
        world.state.watch(every_ms, &mut new_id, at);
        said(world, &node).into_iter().map(|command| command.act).collect::<Vec<Act>>()
    };
    let watch = |every_ms: u32| {
        vec![Act::Watch { every_ms, for_s: if every_ms == 60_000 { 120 } else { 60 } }]
    };
    assert_eq!(look(&mut world, Some(60_000)), watch(60_000));
    world.passes(60_000);
    assert_eq!(look(&mut world, Some(60_000)), watch(60_000), "once a minute leaves no gap");
    assert_eq!(look(&mut world, None), watch(2_000), "more often than before");
    assert_eq!(look(&mut world, None), [], "it does");
    world.passes(50_000);
    assert_eq!(look(&mut world, Some(60_000)), [], "what is rarer waits");
    assert_eq!(look(&mut world, None), watch(2_000), "before it is over");
    world.passes(61_000);
    assert_eq!(look(&mut world, Some(60_000)), watch(60_000));
}

#[test]
fn a_look_goes_on_without_a_gap_where_each_node_is_asked_a_little_less_often_since_one_joined() {
    let names: Vec<String> = (0..401).map(|n| format!("n-{n}")).collect();
    let mut world = World::with_nodes(&[]);
    let mut ids = 0_u128;
    let mut watched = |world: &mut World| {
        let at = world.at;
        let mut new_id = || {
            ids += 1;
            Some(CommandId::from_random(ids.to_be_bytes()))
        };
        world.state.watch(None, &mut new_id, at);
        world.state.take_effects(at).commands.len()
    };
    for n in &names[..400] {
        world.joins_as(n, n);
    }
    assert_eq!(watched(&mut world), 400);
    world.joins_as(&names[400], &names[400]);
    assert_eq!(watched(&mut world), 1);
    world.passes(50_000);
    assert_eq!(watched(&mut world), 401, "before what they were told is over");
}

#[test]
fn the_history_says_on_how_many_of_its_nodes_an_image_still_is() {
    let mut world = World::with_nodes(&["node-1", "node-2", "node-3"]);
    world.deploy("web", "v1").unwrap();
    world.all_run();
    let release = world.state.show_history(&id("web")).unwrap().revisions[0].release.clone();
    let pin = world.state.releases[&release].release.image.pin.short().to_owned();
    for (node, images) in [("node-1", vec![pin.clone(), "0".repeat(16)]), ("node-2", Vec::new())] {
        let mut report = world.report(node, protocol::report::Phase::Running);
        report.images = Some(images);
        world.says_report(node, &report);
    }
    let shown = world.state.show_history(&id("web")).unwrap();
    let on_board = shown.revisions[0].on_board;
    assert_eq!((on_board.here, on_board.of, on_board.silent), (1, 2, 1));
}
