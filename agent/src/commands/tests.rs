//! The table of commands: which are taken, which are refused and why, and where they are done.

use super::*;
use crate::engine::Identity;
use crate::testing;
use protocol::command::{Forward, LIFE_S};
use protocol::id::ReleaseId;

const BEGIN: Now = Now(1_000_000);
const NONCE: &str = "00112233445566778899aabbccddeeff";

fn id(byte: u8) -> CommandId {
    CommandId::from_random([byte; 16])
}

fn exec(instance: Option<String>, command: Vec<String>) -> Exec {
    let service = "web".parse().unwrap();
    Exec { service, instance, command, input: false, terminal: None }
}

fn typed() -> Kind {
    Kind::Run { inside: "web".parse().unwrap(), is_typed: true }
}

fn forward() -> Kind {
    Kind::Forward { inside: "web".parse().unwrap() }
}

fn command(byte: u8, nonce: &str, valid_s: u64) -> Command {
    let (fleet, node) = (testing::fleet(), testing::identity().node);
    let command = vec!["true".to_owned()];
    let act = Act::Exec(exec(None, command));
    Command { format: 1, fleet, node, nonce: nonce.to_owned(), valid_s, id: id(byte), act }
}

fn greeted() -> Commands {
    let mut commands = Commands::default();
    commands.greeted(NONCE.to_owned(), BEGIN);
    commands
}

fn after(seconds: u64) -> Now {
    BEGIN.plus(seconds * 1_000)
}

fn code(outcome: Result<(), Refused>) -> &'static str {
    outcome.map_or_else(|refused| refused.code(), |()| "taken")
}

/// Once: how old the hello is, until when the command is good, what becomes of it.
#[test]
fn a_command_is_good_for_a_while_that_the_node_counts_itself() {
    let rows = [
        (0, LIFE_S, "taken"),
        (LIFE_S, LIFE_S, "taken"),
        (LIFE_S + 1, LIFE_S, "command_expired"),
        (100_000, LIFE_S, "command_expired"),
        (900, 900 + LIFE_S, "taken"),
        (0, MAX_LIFE_S, "taken"),
        (0, MAX_LIFE_S + 1, "command_lives_too_long"),
        (0, u64::MAX, "command_lives_too_long"),
        (900, 0, "command_expired"),
    ];
    for (age_s, valid_s, expected) in rows {
        let taken = greeted().take(&command(1, NONCE, valid_s), after(age_s));
        assert_eq!(code(taken), expected, "{age_s} {valid_s}");
    }
}

#[test]
fn a_command_names_one_of_the_last_hellos_of_this_process() {
    let mut commands = greeted();
    let other = "ff".repeat(16);
    assert_eq!(code(commands.take(&command(1, &other, 30), BEGIN)), "command_unknown_nonce");
    assert_eq!(code(commands.take(&command(1, "", 30), BEGIN)), "command_unknown_nonce");
    for k in 1..NONCES {
        commands.greeted(format!("{k:032x}"), BEGIN);
    }
    assert_eq!(code(commands.take(&command(1, NONCE, 30), BEGIN)), "taken");
    commands.greeted(other, BEGIN);
    assert_eq!(code(commands.take(&command(2, NONCE, 30), BEGIN)), "command_unknown_nonce");
    // What randomness did not make, anybody could have signed for.
    let nothing = "0".repeat(32);
    commands.greeted(nothing.clone(), BEGIN);
    assert_eq!(code(commands.take(&command(2, &nothing, 30), BEGIN)), "command_unknown_nonce");
    let mut anew = Commands::default();
    anew.greeted("11".repeat(16), BEGIN);
    assert_eq!(code(anew.take(&command(2, NONCE, 30), BEGIN)), "command_unknown_nonce");
}

#[test]
fn a_command_is_taken_once_whatever_else_it_says_for_as_long_as_it_is_good() {
    for age_s in 0..=LIFE_S {
        let mut commands = greeted();
        let once = command(1, NONCE, LIFE_S);
        assert_eq!(code(commands.take(&once, after(age_s))), "taken");
        for second in age_s..=LIFE_S {
            let now = after(second).plus(999);
            assert_eq!(code(commands.take(&once, now)), "command_replayed", "{age_s} {second}");
        }
        assert_eq!(code(commands.take(&once, after(LIFE_S + 1))), "command_expired");
        assert_eq!(code(commands.take(&command(2, NONCE, LIFE_S), after(age_s))), "taken");
    }
    // The same under a newer hello, as it is sent once more, is the same.
    let mut commands = greeted();
    commands.greeted("22".repeat(16), BEGIN);
    assert_eq!(code(commands.take(&command(1, NONCE, 30), BEGIN)), "taken");
    assert_eq!(code(commands.take(&command(1, &"22".repeat(16), 30), BEGIN)), "command_replayed");
}

#[test]
fn what_keeps_a_stream_is_taken_as_often_as_it_comes_while_it_is_fresh() {
    let mut commands = greeted();
    let act = Act::Keep { stream: id(3), taken: 2 };
    let keep = Command { act, ..command(1, NONCE, LIFE_S) };
    for second in 0..=LIFE_S {
        assert_eq!(code(commands.take(&keep, after(second))), "taken");
    }
    assert_eq!(code(commands.take(&keep, after(LIFE_S + 1))), "command_expired");
    assert!(commands.done.is_empty());
}

#[test]
fn what_is_remembered_is_bounded_and_forgotten_with_its_time() {
    let mut commands = greeted();
    let mut numbered = |k: u64, now: Now| {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&k.to_be_bytes());
        let valid_s = now.since(BEGIN) / 1_000 + LIFE_S;
        let id = CommandId::from_random(bytes);
        code(commands.take(&Command { id, ..command(0, NONCE, valid_s) }, now))
    };
    for k in 0..MAX_DONE as u64 {
        assert_eq!(numbered(k, BEGIN), "taken");
    }
    assert_eq!(numbered(5_000, BEGIN), "command_too_many");
    assert_eq!(numbered(5_000, after(LIFE_S + 2)), "taken");
}

#[test]
fn streams_have_few_places_numbers_without_a_gap_and_end_where_nobody_keeps_them() {
    let mut commands = Commands::default();
    for byte in 0..4 {
        assert_eq!(commands.begin(id(byte), Kind::Told, BEGIN), Ok(()));
    }
    assert_eq!(commands.begin(id(9), typed(), BEGIN), Err(Refused::Busy));
    assert_eq!([0, 1].map(|_| commands.next_number(&id(0))), [Some(0), Some(1)]);
    assert_eq!(commands.wake_at(), Some(after(LEASE_S)));
    assert!(commands.keep(&id(0), after(LEASE_S - 1)) && !commands.keep(&id(9), BEGIN));
    assert_eq!(commands.unheard(after(LEASE_S)), [id(1), id(2), id(3)]);
    assert_eq!((commands.end(&id(0), BEGIN), commands.end(&id(0), BEGIN)), (Some(2), None));
    assert_eq!(commands.next_number(&id(0)), None);
}

fn container(service: &str, template: char, slot: u32, state: ContainerState) -> Container {
    let identity = Identity {
        environment: "default".parse().unwrap(),
        service: service.parse().unwrap(),
        release: ReleaseId::of_payload(b"a release"),
        template: template.to_string().repeat(64).parse().unwrap(),
        slot,
    };
    let name = format!("{service}-{template}-{slot}");
    Container { id: name.clone(), name, identity, state, address: None, run: String::new() }
}

const fn running(age_ms: u64) -> ContainerState {
    ContainerState::Running { age_ms }
}

const fn ended(age_ms: u64) -> ContainerState {
    ContainerState::Exited { age_ms, code: 1, oom: false }
}

fn logs(instance: Option<&str>, previous: bool, here: &[Container]) -> String {
    let instance = instance.map(str::to_owned);
    let service = "web".parse().unwrap();
    let logs = Logs { service, instance, lines: 9, since_s: None, follow: false, previous };
    match to_read(&logs, here) {
        Ok(read) => read.iter().map(|one| one.name.as_str()).collect::<Vec<_>>().join(" "),
        Err(refused) => refused.code().to_owned(),
    }
}

#[test]
fn logs_are_of_what_runs_else_of_what_ended_last_or_of_what_is_named() {
    let here = [
        container("web", 'b', 1, running(5)),
        container("web", 'b', 0, running(9)),
        container("web", 'a', 0, ended(7)),
        container("web", 'c', 0, ContainerState::Created),
        container("db", 'd', 0, running(1)),
    ];
    assert_eq!(logs(None, false, &here), "web-b-0 web-b-1");
    assert_eq!(logs(None, true, &here), "web-a-0");
    assert_eq!(logs(Some("web-a-0"), false, &here), "web-a-0");
    assert_eq!(logs(Some("db-d-0"), false, &here), "command_no_such_instance", "another's");
    let down = [container("web", 'a', 0, ended(90)), container("web", 'b', 0, ended(3))];
    assert_eq!(logs(None, false, &down), "web-b-0");
    assert_eq!(logs(None, false, &[]), "command_no_such_instance");
}

/// What a followed stream reads from a gathering on.
fn joined(commands: &mut Commands, here: &[Container], number: u64, now: Now) -> Vec<String> {
    let readings = commands.to_join(here, (number, now)).into_iter().flat_map(|(_, more)| more);
    let said = |(name, _, source): Reading| {
        let Source::Logs { since_s, follow: true, .. } = source else { panic!("{source:?}") };
        format!("{name} {since_s:?}")
    };
    readings.map(said).collect()
}

#[test]
fn a_stream_that_follows_reads_all_of_a_new_instance_and_of_one_that_runs_again_what_is_new() {
    let mut commands = Commands::default();
    commands.begin(id(1), Kind::Told, BEGIN).unwrap();
    let web = |template, state| container("web", template, 0, state);
    let before = [web('a', running(90)), web('b', ended(9)), web('c', ContainerState::Created)];
    let source = Source::Logs { lines: 0, since_s: None, follow: true };
    let readings = [("web-a-0".to_owned(), "web-a-0".to_owned(), source)];
    commands.follow(&id(1), (&"web".parse().unwrap(), &before), &readings, (3, BEGIN));
    assert!(joined(&mut commands, &before, 3, BEGIN).is_empty(), "what is there is known");

    // What was only created runs, a new one has ended already, and another service's is nobody's business.
    let next = [
        web('a', running(95)),
        web('b', ended(14)),
        web('c', running(1)),
        web('d', ended(1)),
        container("db", 'e', 0, running(1)),
    ];
    assert_eq!(joined(&mut commands, &next, 4, after(5)), ["web-c-0 None", "web-d-0 None"]);
    assert!(joined(&mut commands, &next, 5, after(5)).is_empty(), "once");

    // One that ended and runs again is seen by a look that began after its end.
    commands.read_out(&id(1), "web-a-0", (7, after(10)));
    let again = [web('a', running(1)), web('b', ended(20)), web('c', running(9))];
    assert!(joined(&mut commands, &again, 6, after(10)).is_empty());
    assert_eq!(joined(&mut commands, &again, 7, after(12)), ["web-a-0 Some(3)"]);
    let _ = commands.end(&id(1), BEGIN);
    assert!(joined(&mut commands, &[web('f', running(1))], 8, after(13)).is_empty());
}

#[test]
fn a_command_runs_in_what_is_named_or_in_the_youngest_that_runs_and_only_of_its_service() {
    let here = [
        container("web", 'a', 0, running(90)),
        container("web", 'b', 0, running(5)),
        container("web", 'c', 0, ended(1)),
        container("db", 'd', 0, running(1)),
    ];
    let run = |instance: Option<&str>, command: &[&str]| {
        let command = command.iter().map(|&word| word.to_owned()).collect();
        let instance = instance.map(str::to_owned);
        let exec = exec(instance, command);
        match to_run_in(&exec, &here) {
            Ok(found) => found.name.clone(),
            Err(refused) => refused.code().to_owned(),
        }
    };
    assert_eq!(run(None, &["ls"]), "web-b-0");
    assert_eq!(run(Some("web-a-0"), &["ls"]), "web-a-0");
    for not in ["web-c-0", "db-d-0", "other"] {
        assert_eq!(run(Some(not), &["ls"]), "command_no_such_instance", "{not}");
    }
    assert_eq!(run(None, &[]), "command_unusable");
}

#[test]
fn what_is_typed_is_passed_on_once_in_its_turn_and_not_further_ahead_than_the_window() {
    let mut commands = Commands::default();
    assert_eq!(commands.fed(&id(1), 0), Fed::Not, "there is no such stream");
    commands.begin(id(1), Kind::Told, BEGIN).unwrap();
    assert_eq!(commands.fed(&id(1), 0), Fed::Not, "it takes none");
    commands.begin(id(2), typed(), BEGIN).unwrap();
    assert_eq!(commands.fed(&id(2), 1), Fed::Not, "one before it is missing");
    for number in 0..INPUT_WINDOW {
        assert_eq!(commands.fed(&id(2), number), Fed::Next);
    }
    assert_eq!(commands.fed(&id(2), INPUT_WINDOW), Fed::Not, "none was passed on");
    assert_eq!(commands.fed(&id(2), 0), Fed::Known { taken: 0 });
    assert_eq!(commands.took(&id(2)), Some(1));
    assert_eq!(commands.fed(&id(2), 0), Fed::Known { taken: 1 }, "said again, typed once");
    assert_eq!(commands.fed(&id(2), INPUT_WINDOW), Fed::Next);
    assert_eq!(commands.took(&id(1)), None);
}

#[test]
fn connections_have_places_of_their_own() {
    let mut commands = Commands::default();
    let ids = |from: u8, count: usize| (from..).take(count).map(id);
    for one in ids(1, MAX_FORWARDS) {
        commands.begin(one, forward(), BEGIN).unwrap();
    }
    assert_eq!(commands.begin(id(100), forward(), BEGIN), Err(Refused::Busy));
    for other in ids(101, MAX_STREAMS) {
        commands.begin(other, typed(), BEGIN).unwrap();
    }
    assert_eq!(commands.begin(id(200), Kind::Told, BEGIN), Err(Refused::Busy));
    let _ = commands.end(&id(1), BEGIN);
    assert_eq!(commands.begin(id(100), forward(), BEGIN), Ok(()));
}

#[test]
fn connections_that_come_by_the_dozen_are_in_no_other_commands_way() {
    let mut commands = greeted();
    let forward =
        Forward { service: "web".parse().unwrap(), instance: None, port: 80.try_into().unwrap() };
    let one = |number: u16, act: Act| {
        let mut random = [0; 16];
        random[..2].copy_from_slice(&number.to_be_bytes());
        Command { id: CommandId::from_random(random), act, ..command(0, NONCE, LIFE_S) }
    };
    for number in 0..1_024 {
        let forward = one(number, Act::Forward(forward.clone()));
        assert_eq!(code(commands.take(&forward, BEGIN)), "taken");
    }
    let last = one(1_024, Act::Forward(forward));
    assert_eq!(code(commands.take(&last, BEGIN)), "command_too_many");
    assert_eq!(code(commands.take(&one(1_025, Act::Doctor), BEGIN)), "taken");
    assert_eq!(code(commands.take(&last, after(LIFE_S + 2))), "command_expired");
}

#[test]
fn a_stream_that_is_kept_and_is_not_there_was_forgotten_unless_it_has_just_ended() {
    let mut commands = Commands::default();
    commands.begin(id(1), Kind::Told, BEGIN).unwrap();
    assert!(!commands.has_forgotten(&id(1), BEGIN));
    let _ = commands.end(&id(1), after(1));
    assert!(!commands.has_forgotten(&id(1), after(5)), "its end is on its way");
    assert!(commands.has_forgotten(&id(1), after(6)));
    assert!(commands.has_forgotten(&id(2), BEGIN), "an agent that has started anew");
}

#[test]
fn whoever_is_inside_is_known_by_the_service() {
    let mut commands = Commands::default();
    commands.begin(id(1), typed(), BEGIN).unwrap();
    commands.begin(id(2), forward(), BEGIN).unwrap();
    commands.begin(id(3), Kind::Told, BEGIN).unwrap();
    assert_eq!(commands.not_let_in(|service| service.as_str() == "web"), []);
    assert_eq!(commands.not_let_in(|_| false), [id(1), id(2)]);
}
