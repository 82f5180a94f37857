//! The example files that people copy are right.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::fs;
use std::path::{Path, PathBuf};

use coordinator::resolve::reference::Reference;
use coordinator::resolve::registries::Registries;
use coordinator::serve::ServeConfig;
use protocol::file::{ServiceFile, check_together, parse, parse_policy};

fn config() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../config")
}

fn services(folder: &str) -> Vec<ServiceFile> {
    let mut files = Vec::new();
    for entry in fs::read_dir(config().join(folder)).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|ending| ending == "toml") {
            let text = fs::read_to_string(&path).unwrap();
            let file = parse(&path.display().to_string(), &text);
            files.push(file.unwrap_or_else(|error| panic!("{error}")));
        }
    }
    files
}

#[test]
fn service_files_are_accepted_alone_and_together() {
    for (folder, count) in [("services", 2), ("game-world", 7)] {
        let files = services(folder);
        assert_eq!(files.len(), count, "{folder}");
        let all: Vec<&ServiceFile> = files.iter().collect();
        check_together(&all, &[]).unwrap_or_else(|error| panic!("{error}"));
        for file in &files {
            let _: Reference = file.image.as_deref().unwrap().parse().unwrap();
            assert!(file.warnings.is_empty(), "{}: {:?}", file.source_name(), file.warnings);
        }
    }
}

#[test]
fn the_coordinators_file_is_accepted() {
    let config = ServeConfig::load(&config().join("coordinator.toml")).unwrap();
    let _ = config.broker().unwrap();
}

#[test]
fn the_registries_file_names_what_it_reads() {
    let error = Registries::load(&config().join("registries.toml"), None).unwrap_err();
    assert!(
        error.to_string().contains("/etc/pith/ghcr.token"),
        "only its password file is missing: {error}"
    );
}

#[test]
fn the_policy_is_accepted_and_every_line_that_is_commented_out_too() {
    let text = fs::read_to_string(config().join("policy.toml")).unwrap();
    let policy = parse_policy("policy.toml", &text).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(policy, protocol::policy::NodePolicy::default(), "as it is, it allows nothing");
    let is_setting = |line: &str| line.contains(" = ") || line.starts_with('[');
    let lines = text.lines().map(|line| line.strip_prefix("# ").unwrap_or(line));
    let switched_on: Vec<&str> = lines.filter(|line| is_setting(line)).collect();
    let policy = parse_policy("policy.toml", &switched_on.join("\n"));
    let policy = policy.unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(policy.every.devices.len(), 2);
    assert_eq!(policy.services.len(), 1);
}
