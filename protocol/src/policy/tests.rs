//! What is allowed, and what a refusal says.

use super::*;
use crate::spec::{Device, HostPath};

fn policy(text: &str) -> NodePolicy {
    crate::file::parse_policy("policy.toml", text).unwrap()
}

fn device(path: &str) -> Device {
    Device { path: path.into(), target: path.into(), permissions: "rw".into() }
}

fn path(host: &str) -> HostPath {
    HostPath { host: host.into(), path: "/data".into(), read_only: false, shared: false }
}

/// What `web` is denied of `asked` under a policy: the lines that are missing.
fn check(text: &str, asked: &HostAccess, expected: &[&str]) {
    let denied = policy(text).denied(&"web".parse().unwrap(), asked);
    let lines: Vec<&str> = denied.iter().map(|one| one.line.as_str()).collect();
    assert_eq!(lines, expected, "{text}");
}

fn everything() -> HostAccess {
    HostAccess {
        privileged: true,
        network: true,
        capabilities: ["NET_ADMIN".to_owned(), "CHOWN".to_owned()].into(),
        devices: vec![device("/dev/ttyUSB0"), device("/dev/ttyACM3")],
        paths: vec![path("/mnt/data"), path("/srv/media/films")],
    }
}

#[test]
fn without_a_policy_nothing_is_allowed_and_every_line_is_named() {
    check(
        "",
        &everything(),
        &[
            "privileged = true",
            "host_network = true",
            "host_paths = [\"/mnt/data\", \"/srv/media/films\"]",
            "devices = [\"/dev/ttyACM3\", \"/dev/ttyUSB0\"]",
            "capabilities = [\"NET_ADMIN\"]",
        ],
    );
    check("", &HostAccess::default(), &[]);
}

#[test]
fn what_is_written_is_allowed_and_the_missing_line_keeps_what_it_says() {
    let text = "privileged = true\nhost_network = true\nhost_paths = [\"/mnt\", \"/srv/media\"]\n\
                devices = [\"/dev/ttyUSB0\", \"/dev/ttyACM*\"]\ncapabilities = [\"NET_ADMIN\"]\n";
    check(text, &everything(), &[]);
    check(
        "capabilities = [\"all\"]\n",
        &HostAccess { capabilities: ["SYS_ADMIN".into()].into(), ..HostAccess::default() },
        &[],
    );
    let asked = HostAccess { devices: vec![device("/dev/fuse")], ..HostAccess::default() };
    check("devices = [\"/dev/video0\"]\n", &asked, &["devices = [\"/dev/fuse\", \"/dev/video0\"]"]);
}

#[test]
fn a_table_of_a_service_takes_the_place_of_what_it_names() {
    let asked = HostAccess { privileged: true, network: true, ..HostAccess::default() };
    let wider = "[services.web]\nprivileged = true\nhost_network = true\n";
    check(wider, &asked, &[]);
    let narrower = "privileged = true\nhost_network = true\n[services.web]\nprivileged = false\n";
    check(narrower, &asked, &["[services.web] privileged = true"]);
    let other = "[services.api]\nprivileged = true\nhost_network = true\n";
    check(other, &asked, &["privileged = true", "host_network = true"]);
    let policy = policy("exec = true\n[services.web]\nexec = false\n");
    assert!(policy.allows_exec(&"api".parse().unwrap()));
    assert!(!policy.allows_exec(&"web".parse().unwrap()));
}

#[test]
fn a_path_is_below_by_whole_parts_and_never_by_dots() {
    for (path, top, expected) in [
        ("/mnt", "/mnt", true),
        ("/mnt/a", "/mnt/", true),
        ("/mnt//a/./b", "/mnt", true),
        ("/mnt-old", "/mnt", false),
        ("/mnt/../etc", "/mnt", false),
        ("/mnt/a/../../etc", "/mnt", false),
        ("/../mnt/a", "/mnt", true),
        ("/", "/mnt", false),
        ("/etc", "/", true),
    ] {
        assert_eq!(is_below(path, top), expected, "{path} below {top}");
    }
    check(
        "host_paths = [\"/mnt\"]\n",
        &HostAccess { paths: vec![path("/mnt/../etc")], ..HostAccess::default() },
        &["host_paths = [\"/etc\", \"/mnt\"]"],
    );
}

#[test]
fn a_star_stands_for_characters_of_one_name() {
    for (path, pattern, expected) in [
        ("/dev/ttyACM0", "/dev/ttyACM*", true),
        ("/dev/ttyACM", "/dev/ttyACM*", true),
        ("/dev/ttyUSB0", "/dev/ttyACM*", false),
        ("/dev/snd/pcm", "/dev/*", false),
        ("/dev/snd/pcmC0D0p", "/dev/snd/pcmC*p", true),
        ("/dev/a-b-c", "/dev/*-*-c", true),
        ("/dev/a-c", "/dev/*-*-c", false),
        ("/dev/x/../sda", "/dev/x*", false),
        ("/dev/fuse", "/dev/fuse", true),
        ("/dev/fuse2", "/dev/fuse", false),
    ] {
        assert_eq!(is_like(path, pattern), expected, "{path} like {pattern}");
    }
}

#[test]
fn a_refusal_names_what_is_asked_the_lines_and_why_the_file_counts_as_absent() {
    let asked = HostAccess {
        privileged: true,
        devices: vec![device("/dev/fuse")],
        ..HostAccess::default()
    };
    let state =
        PolicyState { trouble: Some("it belongs to user 1000".into()), ..PolicyState::default() };
    let text = state.refusal(&"web".parse().unwrap(), &asked).unwrap();
    assert_eq!(
        text,
        "the node's policy does not allow all rights of root (`privileged`) and the device /dev/fuse; its policy.toml \
         would have to say `privileged = true` and `devices = [\"/dev/fuse\"]`; the file counts as absent: it belongs to \
         user 1000"
    );
    assert_eq!(state.missing_device(&asked), Some("/dev/fuse"));
}

#[test]
fn the_default_says_nothing_on_the_wire() {
    assert_eq!(serde_json::to_string(&PolicyState::default()).unwrap(), "{}");
    let some = PolicyState {
        policy: policy("devices = [\"/dev/fuse\"]\n[services.web]\nprivileged = true\n"),
        ..PolicyState::default()
    };
    let text = serde_json::to_string(&some).unwrap();
    assert_eq!(
        text,
        r#"{"policy":{"every":{"devices":["/dev/fuse"]},"services":{"web":{"privileged":true}}}}"#
    );
    assert_eq!(serde_json::from_str::<PolicyState>(&text).unwrap(), some);
}
