//! Commands as the loop hears them: what it answers, what it counts, and when it says hello for them.

use super::super::*;
use super::freshness::Line;
use crate::testing;
use protocol::command::{Act as Asked, Command, End, Exec, Input, LIFE_S, Logs, What};
use protocol::envelope::Envelope;
use protocol::keys::SecretKey;
use protocol::reason::Reason;

fn exec() -> Asked {
    let command = vec!["/bin/true".to_owned()];
    let (instance, input, terminal) = (None, false, None);
    Asked::Exec(Exec { service: "web".parse().unwrap(), instance, command, input, terminal })
}

fn command(line: &Line, byte: u8, act: Asked) -> Command {
    Command {
        format: 1,
        fleet: testing::fleet(),
        node: testing::identity().node,
        nonce: line.nonce.clone(),
        valid_s: LIFE_S,
        id: CommandId::from_random([byte; 16]),
        act,
    }
}

fn signed(command: &Command, key: &SecretKey) -> Incoming {
    Incoming::Command(Envelope::sign(command, &[key]).to_bytes())
}

fn by_director(command: &Command) -> Incoming {
    signed(command, &testing::director_key())
}

/// Codes of the refusals that were answered.
fn answers(line: &Line) -> Vec<String> {
    let code = |part: &protocol::command::Part| {
        let What::End(End::Refused { code, .. }) = &part.what else { panic!("{part:?}") };
        code.clone()
    };
    line.parts.iter().map(code).collect()
}

#[test]
fn what_the_director_signed_is_answered_also_where_it_is_refused_and_a_replay_is_not() {
    let mut line = Line::new();
    let run = command(&line, 1, exec());
    line.hear(by_director(&run));
    assert_eq!(answers(&line), ["command_exec_not_allowed"], "there is no policy");
    line.hear(by_director(&run));
    assert_eq!(answers(&line).len(), 1, "the stream of that name may be under way");
    assert_eq!(line.events, [Reason::CommandRefused; 2], "each kind is told once");
    line.hear(by_director(&run));
    assert_eq!(line.events.len(), 2);

    let service = "web".parse().unwrap();
    let (instance, since_s, follow, previous) = (None, None, true, false);
    let logs = Logs { service, instance, lines: 1, since_s, follow, previous };
    line.hear(by_director(&command(&line, 2, Asked::Logs(logs))));
    assert_eq!(answers(&line)[1..], ["command_engine_unavailable"]);
    assert_eq!(line.events.len(), 2, "how things stand is nobody's attempt");
}

#[test]
fn what_nobody_signed_or_is_anothers_is_counted_and_not_answered() {
    let mut line = Line::new();
    let run = command(&line, 1, exec());
    let stranger = SecretKey::from_seed([9; 32]);
    line.hear(signed(&run, &stranger));
    line.hear(signed(&run, &testing::node_key()));
    line.hear(by_director(&Command { node: stranger.public().node_id(), ..run.clone() }));
    line.hear(Incoming::Command(b"reboot".to_vec()));
    assert_eq!(line.parts, []);
    assert_eq!(line.events, [Reason::CommandRefused; 3]);
}

#[test]
fn a_stale_command_of_the_director_makes_the_node_say_hello_and_not_more_often_than_it_may() {
    let mut line = Line::new();
    // Hellos are rare by now.
    line.pass(400);
    let hellos = line.hellos;
    let stale = Command { nonce: String::new(), ..command(&line, 1, exec()) };
    line.hear(by_director(&stale));
    assert_eq!(answers(&line), ["command_unknown_nonce"]);
    assert_eq!(line.hellos, hellos + 1);
    for _ in 0..4 {
        line.hear(by_director(&stale));
        line.pass(1);
    }
    assert_eq!(line.hellos, hellos + 1, "whoever plays it again does not make it talk");
    // The same again, for the hello that it has just said.
    line.hear(by_director(&command(&line, 1, exec())));
    assert_eq!(answers(&line).last().map(String::as_str), Some("command_exec_not_allowed"));
}

#[test]
fn a_board_is_examined_also_where_the_engine_does_not_answer() {
    let mut line = Line::new();
    line.hear(by_director(&command(&line, 1, Asked::Doctor)));
    let begun = What::Begun { instances: Vec::new() };
    assert_eq!(line.parts.iter().map(|part| &part.what).collect::<Vec<_>>(), [&begun]);
    line.hear(by_director(&command(&line, 1, Asked::Doctor)));
    assert_eq!((line.parts.len(), line.events.len()), (1, 1), "once");
}

#[test]
fn whoever_keeps_a_stream_that_is_not_there_hears_that_it_was_forgotten() {
    let mut line = Line::new();
    let keep = Asked::Keep { stream: CommandId::from_random([9; 16]), taken: 3 };
    line.hear(by_director(&command(&line, 1, keep)));
    let forgotten = What::End(End::Forgotten);
    assert_eq!(line.parts.iter().map(|part| &part.what).collect::<Vec<_>>(), [&forgotten]);
    assert_eq!(line.parts[0].stream, CommandId::from_random([9; 16]));
    // Bytes for it are nobody's: nothing is said, and nothing is kept of them.
    let input = Input::new(CommandId::from_random([9; 16]), 0, b"ls", false);
    line.hear(by_director(&command(&line, 2, Asked::Input(input))));
    assert_eq!((line.parts.len(), line.events.len()), (1, 0));
}
