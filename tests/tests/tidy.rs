//! The rules of the house that no compiler checks: the arrows between crates, the size of files, and words that must not
//! appear. Each failure names the file and the mend.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// A file longer than this is two files.
const MAX_LINES: usize = 500;

/// Crate, and the crates of ours it may name.
const ARROWS: [(&str, &[&str]); 6] = [
    ("protocol", &[]),
    ("planner", &["protocol"]),
    ("mqtt", &["protocol"]),
    ("proxy", &["protocol"]),
    ("agent", &["mqtt", "planner", "protocol", "proxy"]),
    ("coordinator", &["mqtt", "planner", "protocol"]),
];

/// This file names them all.
const TIDY: &str = "tests/tests/tidy.rs";

/// Text that may stand in source files under these paths only.
const CONFINED: [(&str, &[&str], &str); 5] = [
    (
        "bollard::",
        &["agent/src/engine/docker.rs", "agent/src/engine/docker/", TIDY],
        "Docker's client lives in the engine alone",
    ),
    (
        "rumqttc::",
        &["mqtt/", "coordinator/benches/", "coordinator/tests/", TIDY],
        "the MQTT client lives in mqtt/ alone",
    ),
    (
        "clap::",
        &[
            "coordinator/src/cli.rs",
            "coordinator/src/cli/arguments.rs",
            "coordinator/src/cli/arguments/",
            "tests/",
        ],
        "arguments are read in cli.rs and cli/arguments alone",
    ),
    (
        "tokio::",
        &["mqtt/", "proxy/", "agent/", "coordinator/", "tests/"],
        "what is said and decided does no IO",
    ),
    ("#[ignore", &[TIDY], "a test that is not run is not a test"),
];

/// Text that the state of the agent's loop does without: what it hears comes in, what is to be done goes out.
const NOT_IN_THE_LOOP: [&str; 6] =
    ["tokio", "std::fs", "async ", "clock::", "failpoint::", "sampler::memory"];
/// The loop's files that may: how it is run, its shell and its tests.
const AROUND_THE_LOOP: [&str; 2] = ["agent/src/event_loop/shell", "agent/src/event_loop/tests"];

/// Crates that must never be in the graph of what runs on a board.
const NOT_ON_BOARDS: [&str; 5] = ["clap", "rusqlite", "rmqtt", "regex", "axum"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests has a parent").to_owned()
}

/// All files under the source folders with this ending, with their paths from the top.
fn files(ending: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut folders = vec![root()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a folder can be listed").flatten() {
            let path = entry.path();
            let name = entry.file_name().to_string_lossy().into_owned();
            if path.is_dir() {
                if !["target", ".git", "corpus", "artifacts"].contains(&name.as_str()) {
                    folders.push(path);
                }
            } else if name.ends_with(ending) {
                let short = path
                    .strip_prefix(root())
                    .expect("below the top")
                    .to_string_lossy()
                    .into_owned();
                found.push((short, fs::read_to_string(&path).expect("text")));
            }
        }
    }
    found.sort();
    found
}

fn manifest(crate_name: &str) -> toml::Table {
    let path = root().join(crate_name).join("Cargo.toml");
    fs::read_to_string(path).expect("a manifest").parse().expect("TOML")
}

#[test]
fn crates_depend_only_along_the_arrows() {
    let ours: BTreeSet<&str> = ARROWS.iter().map(|(name, _)| *name).collect();
    for (name, allowed) in ARROWS {
        let manifest = manifest(name);
        let dependencies = manifest["dependencies"].as_table().expect("a table");
        for dependency in dependencies.keys().filter(|d| ours.contains(d.as_str())) {
            assert!(
                allowed.contains(&dependency.as_str()),
                "{name} must not depend on {dependency}"
            );
        }
    }
}

#[test]
fn what_is_said_and_decided_depends_on_no_io() {
    for name in ["protocol", "planner"] {
        let manifest = manifest(name);
        let dependencies = manifest["dependencies"].as_table().expect("a table");
        for banned in ["tokio", "rand", "getrandom", "nix", "reqwest", "hyper"] {
            assert!(!dependencies.contains_key(banned), "{name} must not depend on {banned}");
        }
    }
}

#[test]
fn the_board_does_not_carry_the_coordinators_crates() {
    let manifest = manifest("agent");
    let dependencies = manifest["dependencies"].as_table().expect("a table");
    for banned in NOT_ON_BOARDS {
        assert!(!dependencies.contains_key(banned), "agent must not depend on {banned}");
    }
}

#[test]
fn confined_words_stay_where_they_belong() {
    for (path, text) in files(".rs") {
        for (word, places, why) in CONFINED {
            let allowed = places.iter().any(|place| path.starts_with(place));
            let line = text
                .lines()
                .position(|line| line.contains(word) && !line.trim_start().starts_with("//"));
            if let Some(line) = line.filter(|_| !allowed) {
                panic!("{path}:{}: `{word}`: {why}", line + 1);
            }
        }
    }
}

#[test]
fn the_state_of_the_agents_loop_does_no_io() {
    let is_state = |path: &str| {
        path.starts_with("agent/src/event_loop/")
            && !AROUND_THE_LOOP.iter().any(|around| path.starts_with(around))
    };
    for (path, text) in files(".rs").into_iter().filter(|(path, _)| is_state(path)) {
        for word in NOT_IN_THE_LOOP {
            assert!(!text.contains(word), "{path} names `{word}`: an act of the shell does that");
        }
    }
}

#[test]
fn files_stay_readable_in_one_sitting() {
    for (path, text) in files(".rs") {
        let lines = text.lines().count();
        assert!(lines <= MAX_LINES, "{path} has {lines} lines; split it at its second noun");
        assert!(!path.ends_with("/mod.rs"), "{path}: modules are foo.rs beside foo/");
        assert!(
            text.starts_with("//!") || text.starts_with("#!["),
            "{path} opens without saying what it owns"
        );
    }
}

#[test]
fn every_crate_obeys_the_lints_of_the_workspace() {
    for (path, text) in files("Cargo.toml") {
        if path == "Cargo.toml" || path.starts_with("fuzz/") {
            continue;
        }
        assert!(
            text.contains("[lints]\nworkspace = true"),
            "{path} does not take the workspace's lints"
        );
    }
}

#[test]
fn the_decision_records_and_the_plan_are_where_the_map_says() {
    let map = fs::read_to_string(root().join("ARCHITECTURE.md")).expect("ARCHITECTURE.md");
    for (name, _) in ARROWS {
        assert!(map.contains(&format!("`{name}/`")), "ARCHITECTURE.md does not place {name}/");
    }
}

#[test]
fn the_tests_that_security_md_names_are_there() {
    let text = fs::read_to_string(root().join("SECURITY.md")).expect("SECURITY.md");
    let all: String = files(".rs").into_iter().map(|(_, text)| text).collect();
    let rows = text.lines().filter(|line| line.starts_with("| ") && line.contains(".rs`"));
    assert!(rows.clone().count() > 15, "the table of attacks is gone");
    for row in rows {
        for word in row.split(|c: char| c.is_whitespace() || ",;`|".contains(c)) {
            if word.ends_with(".rs") {
                assert!(root().join(word).exists(), "SECURITY.md: no {word}");
            } else if word.matches('_').count() > 3 {
                assert!(all.contains(&format!("fn {word}(")), "SECURITY.md: no test {word}");
            }
        }
    }
}
