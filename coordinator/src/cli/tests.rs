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
        "dev --nodes 3 --data /x",
        "dev --node name=edge,env=staging,label=zone=a --keep",
        "serve --config coordinator.toml --insecure-lab",
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
        "scale web 5",
        "scale web --reset",
        "rm web --yes",
        "events --follow",
        "completions bash",
    ] {
        let _ = check(line);
    }
}

#[test]
fn mistakes_are_refused_with_code_2() {
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
