//! What can be written on the command line.

use super::*;

fn parse(line: &str) -> Result<Arguments, Mistake> {
    let words = line.split_whitespace();
    Arguments::try_parse_from(std::iter::once("pith").chain(words))
}

#[track_caller]
fn check(line: &str) -> Arguments {
    parse(line).unwrap_or_else(|error| panic!("{line}: {error}"))
}

#[track_caller]
fn check_refused(line: &str, says: &str) {
    let error = parse(line).expect_err(line);
    assert_eq!(error.exit_code(), 2, "{line}");
    assert!(error.to_string().contains(says), "{line}: {error}");
}

#[test]
fn the_contract_used_by_scripts_parses() {
    for line in [
        "init --data /x",
        "push web:v1",
        "push --ls -o json",
        "push --rm 0011aabb",
        "init --root-threshold 2 --root-key a.key --root-key b.key.pub --passphrase",
        "keys ls -o json",
        "keys new a.key --passphrase",
        "keys encrypt a.key",
        "keys add agent-release a.key.pub --root-key root.key",
        "keys rotate director",
        "keys rotate root 1234abcd --to new.key --root-key a.key --root-key b.key",
        "keys revoke 1234abcd",
        "keys threshold root 2",
        "keys sign root-2.json --root-key b.key",
        "fleet reconcile -o json",
        "fleet reconcile --yes --root-key a.key --root-key b.key",
        "dev --nodes 3 --data /x",
        "dev --node name=edge,env=staging,label=zone=a --keep",
        "serve --config coordinator.toml",
        "deploy -f web.toml",
        "deploy -f web.toml --image r.io/web:v2 --cause why --wait",
        "deploy web --image r.io/web:v2",
        "deploy -f a.toml -f folder --detach",
        "deploy -f web.toml --timeout 1m30s",
        "plan -f web.toml",
        "rollout status web -o json",
        "rollout status web --watch --timeout 5m",
        "rollout history web",
        "rollout undo web",
        "rollout undo web --to-revision 3 --cause oops",
        "ps -o json",
        "node ls --env staging",
        "node token --ttl 2h --labels zone=edge,rack=2 --env staging --approve --address 10.0.0.2:8883",
        "node approve opi-1",
        "node doctor opi-1 -o json",
        "node top --sort memory --watch",
        "node top opi-1 -o json",
        "top --once --sort cpu --env staging",
        "top -o json",
        "node revoke 00000000000000000000000000000001",
        "operator invite anna --role deployer --ttl 2h --address 10.0.0.2:8883",
        "operator ls -o json",
        "operator revoke anna",
        "login pithop1_abc",
        "login -",
        "--fleet 73ef logout",
        "ps --socket /run/pith/api.sock",
        "audit --since 24h -o json",
        "audit --verify",
        "broker mosquitto --dir /etc/mosquitto/pith --listen 10.0.0.2:8883",
        "backup",
        "backup fleet.pith -o json",
        "restore fleet.pith --root-key root.key --data /x",
        "restore fleet.pith --root-key root.key --fleet 00000000000000000000000000000001",
        "scale web 5",
        "scale web --reset",
        "rm web --yes",
        "release retire web --below 3",
        "release retire web --below 3 --cause leak -o json",
        "events --follow",
        "completions bash",
        "man /tmp/man",
    ] {
        let _ = check(line);
    }
}

#[test]
fn mistakes_are_refused_with_code_2() {
    check_refused("deploy web.toml", "-f web.toml");
    check_refused("deploy", "required");
    check_refused("deploy web -f web.toml", "cannot be used with");
    check_refused("deploy -f web.toml --detach --wait", "cannot be used with");
    check_refused("deploy -f web.toml --timeout soon", "is not a duration");
    check_refused("scale web", "required");
    check_refused("scale web 3 --reset", "cannot be used with");
    check_refused("rollout undo Web", "is not a valid service name");
    check_refused("dev --nodes 0", "1..=16");
    check_refused("ps -o yaml", "possible values");
    check_refused("rolout", "rollout");
    check_refused("release retire web", "--below");
    check_refused("release retire web --below v2", "invalid");
    check_refused("release retire web --below 0", "0 is not in");
    check_refused("release retire --below 2", "required");
    check_refused("keys rotate coordinator", "not a role");
    check_refused("operator invite anna", "--role");
    check_refused("operator invite anna --role admin", "viewer, deployer, operator or security");
    check_refused("operator invite Anna --role viewer", "not a valid operator name");
    check_refused("audit --verify --since 1h", "cannot be used with");
}

#[test]
fn common_arguments_may_stand_before_or_after_the_verb() {
    for line in ["--data /x -o json ps", "ps --data /x -o json"] {
        let arguments = check(line);
        assert_eq!(arguments.data, Some(PathBuf::from("/x")));
        assert_eq!(arguments.output, Output::Json);
    }
}

#[test]
fn every_end_has_the_exit_code_of_the_design() {
    let codes = [
        Exit::Done,
        Exit::Failed,
        Exit::Usage,
        Exit::RolledBack,
        Exit::NotFinished,
        Exit::Refused,
        Exit::Unreachable,
        Exit::Changes,
        Exit::Interrupted,
    ]
    .map(Exit::code);
    assert_eq!(codes, [0, 1, 2, 3, 4, 5, 6, 10, 130]);
}

#[test]
fn the_state_of_a_rollout_decides_the_exit_code() {
    for (state, exit) in [
        ("succeeded", Exit::Done),
        ("rolled_back", Exit::RolledBack),
        ("paused", Exit::NotFinished),
        ("awaiting_promotion", Exit::NotFinished),
        ("failed", Exit::Failed),
        ("aborted", Exit::Failed),
        ("superseded", Exit::Failed),
    ] {
        assert_eq!(follow::exit_of(state), exit, "{state}");
    }
}

#[test]
fn only_one_coordinator_may_be_named() {
    let named = |data: &str, fleet: &str, socket: &str| {
        let path = |text: &str| (!text.is_empty()).then(|| PathBuf::from(text));
        let fleet = (!fleet.is_empty()).then(|| fleet.to_owned());
        Named { data: path(data), fleet, socket: path(socket) }
    };
    let place = |named: Named| Session::new(named, None, Output::Text).unwrap().place().unwrap();
    for both in [named("/x", "ab", ""), named("/x", "", "/s"), named("", "ab", "/s")] {
        let refused = Session::new(both, None, Output::Text).unwrap().place().unwrap_err();
        assert_eq!(refused.exit, Exit::Usage);
        assert!(refused.to_string().contains("exclude each other"), "{refused}");
    }
    assert!(matches!(place(named("/x", "", "")), session::Place::Folder));
    assert!(matches!(place(named("", "", "/s")), session::Place::Socket(_)));
}
