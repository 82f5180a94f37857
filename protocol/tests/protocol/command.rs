//! The tampering table of commands and of what nodes answer: a command counts for one node and one director.

use protocol::acceptance::verify_node_message;
use protocol::command::{
    Act, Channel, Command, End, Exec, Forward, Input, Logs, MAX_PART_BYTES, MAX_WORDS, Output,
    Part, Refused, Terminal, What, accept,
};
use protocol::envelope::{Envelope, Rejected};
use protocol::id::{CommandId, FleetId};
use protocol::keys::SecretKey;

use crate::fixture;
use crate::golden::check_signed;

fn stream() -> CommandId {
    CommandId::from_random([0xc0; 16])
}

fn command(act: Act) -> Command {
    Command {
        format: 1,
        fleet: fixture::fleet(),
        node: fixture::node(),
        nonce: "00112233445566778899aabbccddeeff".to_owned(),
        valid_s: 42,
        id: stream(),
        act,
    }
}

fn exec() -> Act {
    Act::Exec(Exec {
        service: fixture::service("web"),
        instance: Some("pith-00000000-web-11111111-0".to_owned()),
        command: vec!["/bin/ls".to_owned(), "-l".to_owned()],
        input: false,
        terminal: None,
    })
}

fn on_a_terminal() -> Act {
    Act::Exec(Exec {
        service: fixture::service("web"),
        instance: None,
        command: vec!["/bin/sh".to_owned()],
        input: true,
        terminal: Some(Terminal { rows: 24, columns: 80 }),
    })
}

fn part(number: u64, what: What) -> Part {
    let (fleet, node) = (fixture::fleet(), fixture::node());
    Part { format: 1, fleet, node, stream: stream(), number, what }
}

fn check(bytes: &[u8]) -> Result<Command, Rejected> {
    accept(bytes, &fixture::root(), &fixture::identity()).map(|command| command.into_inner())
}

#[test]
fn every_command_is_written_and_accepted_as_ever() {
    let logs = Logs {
        service: fixture::service("web"),
        instance: None,
        lines: 100,
        since_s: Some(300),
        follow: true,
        previous: false,
    };
    let port = 8_080.try_into().expect("a port");
    let forward = Forward { service: fixture::service("web"), instance: None, port };
    let resize = Terminal { rows: 50, columns: 132 };
    let acts = [
        ("command-logs", Act::Logs(logs)),
        ("command-exec", exec()),
        ("command-exec-terminal", on_a_terminal()),
        ("command-forward", Act::Forward(forward)),
        ("command-input", Act::Input(Input::new(stream(), 7, b"ls\n", false))),
        ("command-input-last", Act::Input(Input::new(stream(), 8, b"", true))),
        ("command-resize", Act::Resize { stream: stream(), terminal: resize }),
        ("command-doctor", Act::Doctor),
        ("command-watch", Act::Watch { every_ms: 2_000, for_s: 60 }),
        ("command-keep", Act::Keep { stream: stream(), taken: 3 }),
        ("command-end", Act::End { stream: stream() }),
    ];
    for (name, act) in acts {
        let command = command(act);
        let bytes = check_signed(name, &command, &fixture::director_key());
        assert_eq!(check(&bytes), Ok(command));
    }
}

#[test]
fn every_part_of_a_stream_is_written_and_read_as_ever() {
    let instance = "pith-00000000-web-11111111-0".to_owned();
    let output = Output::new(instance.clone(), Channel::Stderr, b"a line\n");
    let refused = Refused::Replayed;
    let (code, message) = (refused.code().to_owned(), refused.to_string());
    let whats = [
        ("stream-begun", What::Begun { instances: vec![instance] }),
        ("stream-output", What::Output(output)),
        ("stream-finished", What::End(End::Finished)),
        ("stream-exited", What::End(End::Exited { code: 3 })),
        ("stream-refused", What::End(End::Refused { code, message })),
        ("stream-taken", What::Taken { inputs: 8 }),
        ("stream-forgotten", What::End(End::Forgotten)),
    ];
    let key = fixture::node_key();
    for ((name, what), number) in whats.into_iter().zip(0..) {
        let part = part(number, what);
        let bytes = check_signed(name, &part, &key);
        let read = verify_node_message::<Part>(&bytes, &fixture::fleet(), &key.public());
        assert_eq!(read.expect("it verifies").into_inner(), part);
    }
}

#[test]
fn only_what_the_director_signed_for_this_node_is_accepted() {
    let director = fixture::director_key();
    let signed = |change: &dyn Fn(&mut Command), key: &SecretKey| {
        let mut command = command(exec());
        change(&mut command);
        check(&Envelope::sign(&command, &[key]).to_bytes())
    };
    let release = fixture::release_key();
    let other = release.public().node_id();
    let rows = [
        ("wrong_node", signed(&|command| command.node = other.clone(), &director)),
        ("wrong_fleet", signed(&|c| c.fleet = FleetId::from_random([1; 16]), &director)),
        ("unknown_format", signed(&|command| command.format = 2, &director)),
        ("bad_signature", signed(&|_| {}, &release)),
        ("bad_signature", signed(&|_| {}, &fixture::node_key())),
        ("wrong_payload_type", check(&fixture::signed(&fixture::manifest()))),
        ("bad_envelope", check(b"reboot")),
    ];
    for (code, outcome) in rows {
        assert_eq!(outcome.expect_err(code).code(), code);
    }
}

#[test]
fn a_part_holds_so_much_and_no_more() {
    let of = |bytes: &[u8]| Output::new("web".to_owned(), Channel::Stdout, bytes).bytes();
    assert_eq!(of(b"\xff\n"), Some(b"\xff\n".to_vec()));
    assert!(of(&[0; MAX_PART_BYTES]).is_some());
    assert_eq!(of(&[0; MAX_PART_BYTES + 1]), None);
    let broken =
        Output { bytes: "?".to_owned(), ..Output::new("web".into(), Channel::Stdout, b"") };
    assert_eq!(broken.bytes(), None);
    let of = |bytes: &[u8]| Input::new(stream(), 0, bytes, false).bytes();
    assert_eq!(of(b"\x03"), Some(b"\x03".to_vec()));
    assert_eq!(of(&[0; MAX_PART_BYTES + 1]), None);
}

#[test]
fn a_command_line_has_a_program_and_a_bound() {
    let of = |command: &[&str]| {
        let command = command.iter().map(|&word| word.to_owned()).collect();
        let service = fixture::service("web");
        Exec { service, instance: None, command, input: true, terminal: None }.check()
    };
    assert_eq!(of(&["ls", ""]), Ok(()));
    let long = "a".repeat(40_000);
    for unusable in [&[][..], &["", "-l"], &["ls"; MAX_WORDS + 1], &[long.as_str()]] {
        assert_eq!(of(unusable).expect_err("it is refused").code(), "command_unusable");
    }
}
