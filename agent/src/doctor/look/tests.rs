//! Trees of files, real programs, and an engine in memory.

use super::super::testing::{Bare, Tree, subject};
use super::*;
use crate::engine::fake::{Daemon, FakeDocker, FakeEngine};
use protocol::doctor::Severity;

#[test]
fn patterns_find_files_below_the_root_and_nothing_beside_it() {
    let tree = Tree::new()
        .file("/sys/class/thermal/thermal_zone0/temp", "48312\n")
        .file("/sys/class/thermal/thermal_zone12/temp", "50000\n")
        .file("/sys/class/thermal/cooling_device0/temp", "1\n")
        .file("/proc/cmdline", "root=/dev/mmcblk0p2\n");
    std::os::unix::fs::symlink("/nowhere", tree.root().join("proc/cgroups")).unwrap();
    let found = files(tree.root());
    let paths: Vec<&str> = found.keys().map(String::as_str).collect();
    let zones = ["/sys/class/thermal/thermal_zone0/temp", "/sys/class/thermal/thermal_zone12/temp"];
    assert_eq!(paths, [&["/proc/cmdline"], &zones[..]].concat());
    assert_eq!(found["/proc/cmdline"], Ok("root=/dev/mmcblk0p2\n".to_owned()));
}

#[test]
fn a_file_is_read_to_its_bound_and_a_folder_is_none() {
    let long = "x".repeat(usize::try_from(MAX_FILE_BYTES).unwrap() + 1);
    let tree = Tree::new().file("/proc/cmdline", &long).file("/etc/docker/daemon.json/x", "");
    let found = files(tree.root());
    assert_eq!(found["/proc/cmdline"].as_ref().unwrap().len(), long.len() - 1);
    assert_eq!(found["/etc/docker/daemon.json"], Err(Unread::Broken));
}

#[test]
fn programs_say_what_they_print_or_why_not() {
    assert_eq!(Installed.run("echo a b"), Ran::Printed("a b\n".to_owned()));
    assert_eq!(Installed.run("no-such-program-of-anybody"), Ran::Missing);
    let Ran::Failed(why) = Installed.run("ls /does/not/exist") else { panic!("it fails") };
    assert!(why.contains("/does/not/exist"), "{why}");
}

fn severity(found: &Examination, id: &str) -> Severity {
    let finding = found.findings.iter().find(|finding| finding.id == id);
    finding.unwrap_or_else(|| panic!("{id}: {found:#?}")).severity
}

/// A check that cannot know does not say that all is well.
#[tokio::test]
async fn an_empty_board_is_unknown_and_not_well() {
    let tree = Tree::new();
    let engine = FakeEngine::default();
    let of = || (tree.root().to_owned(), Bare);
    let found = examine(subject(tree.root()), &engine, (1_795_600_000, 0), of()).await;
    assert_eq!(found.board.as_str(), "opi-2");
    for id in [
        "memory-cgroup",
        "kernel-version",
        "time-sync",
        "power",
        "cpu-frequency",
        "temperature",
        "firewall-ports",
        "swap",
    ] {
        assert_eq!(severity(&found, id), Severity::Unknown, "{id}");
    }
    assert_eq!(severity(&found, "joined"), Severity::Note);
    assert!(!found.has_problem(), "{found:#?}");
    let mut ids: Vec<&str> = found.findings.iter().map(|finding| finding.id.as_str()).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), found.findings.len(), "one finding per check here");
    assert!(ids.iter().all(|id| id.chars().all(|c| c.is_ascii_lowercase() || c == '-')), "{ids:?}");

    engine.with(|docker: &mut FakeDocker| docker.set_daemon(Daemon::Away));
    let found = examine(subject(tree.root()), &engine, (1_795_600_000, 0), of()).await;
    assert_eq!(severity(&found, "engine"), Severity::Problem);
}
