//! Images whose files a power cut has damaged, programs for another processor and scripts without their first line: the kernel says
//! the same of all of them, and a node tells them apart. What is damaged is in the engine's store of an image of the test's own.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use tests::docker;
use tests::fleet::Fleet;
use tests::http::{free_port, get};
use tests::registry::Registry;
use tests::services::Service;
use tests::skip;
use tests::wait::{until, until_true};

const SOON: Duration = Duration::from_secs(30);
/// A file that only a test's own image has.
const MARK: &str = "mark-of-the-test";
const PROGRAM: &str = "demo-app";
/// `e_machine` of LoongArch, and where it stands in an ELF header.
const MACHINE: [u8; 2] = 258u16.to_le_bytes();
const MACHINE_AT: usize = 18;

fn can_run() -> bool {
    ["docker", "docker-registry", "skopeo", "curl", "tar"].into_iter().all(skip::has)
}

/// The program of the demo service.
fn program(folder: &Path) -> Vec<u8> {
    let container = docker::docker(&["create", "pith-demo:v1"]);
    let file = folder.join("program");
    let _ = docker::docker(&["cp", &format!("{container}:/{PROGRAM}"), file.to_str().unwrap()]);
    let _ = docker::docker(&["rm", &container]);
    std::fs::read(file).unwrap()
}

/// A local image whose one layer no other image has.
fn own_image(folder: &Path, tag: &str, program: &[u8]) -> String {
    let name = format!("pith-damaged-{}:{tag}", std::process::id());
    let contents = folder.join(tag);
    std::fs::create_dir(&contents).unwrap();
    std::fs::write(contents.join(MARK), format!("{name} {folder:?}")).unwrap();
    std::fs::write(contents.join(PROGRAM), program).unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(contents.join(PROGRAM), mode).unwrap();
    let tar = folder.join("image.tar").display().to_string();
    let status = Command::new("tar")
        .args(["-C", contents.to_str().unwrap(), "-cf", &tar, MARK, PROGRAM])
        .status();
    assert!(status.unwrap().success());
    let (version, entrypoint) =
        (format!("ENV VERSION={tag}"), format!("ENTRYPOINT [\"/{PROGRAM}\"]"));
    let _ = docker::docker(&["import", "-c", &version, "-c", &entrypoint, &tar, &name]);
    name
}

/// The same, in a registry alone.
fn published(registry: &Registry, folder: &Path, tag: &str, program: &[u8]) -> String {
    let local = own_image(folder, tag, program);
    let image = registry.push(&local, &format!("team/hello:{tag}"));
    let _ = docker::docker(&["rmi", &local]);
    image
}

/// The program in the engine's store, of an image that is the test's own.
fn in_store(image: &str) -> PathBuf {
    let layer =
        docker::docker(&["image", "inspect", "-f", "{{.GraphDriver.Data.UpperDir}}", image]);
    let layer = PathBuf::from(layer);
    assert!(layer.join(MARK).is_file(), "{} is not the test's own", layer.display());
    layer.join(PROGRAM)
}

/// As a power cut leaves it.
fn empty(file: &Path) {
    std::fs::OpenOptions::new().write(true).truncate(true).open(file).unwrap();
}

/// As the registry names it to the engine.
fn pinned(registry: &Registry, tag: &str) -> String {
    let digest = registry.digest(&format!("team/hello:{tag}"));
    format!("{}@{digest}", registry.image("team/hello"))
}

fn version(fleet: &Fleet, port: u16) -> Option<String> {
    let (status, body) = get(fleet.address(1, port), "/").ok()?;
    (status == 200).then(|| body.split_whitespace().next().unwrap_or_default().to_owned())
}

fn running(fleet: &Fleet) -> Option<String> {
    let containers = docker::containers(&fleet.label());
    containers.into_iter().find(|c| c.state == "running").map(|c| c.id)
}

#[test]
fn a_damaged_image_is_told_and_fetched_again_at_a_deploy_and_while_it_is_the_stable_one() {
    if !can_run() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let program = program(folder.path());
    let registry = Registry::start();
    let image = published(&registry, folder.path(), "v1", &program);
    let fleet = Fleet::start(1);
    let port = free_port();
    let service = Service::new("hello", port).image(&image);

    // The power went after the pull, before the deploy.
    let first = pinned(&registry, "v1");
    let _ = docker::docker(&["pull", "-q", &first]);
    let file = in_store(&first);
    empty(&file);
    let _ = fleet.deploy(&service).expect_code(0);
    assert_eq!(version(&fleet, port).as_deref(), Some("v1"));
    let events = fleet.pith(&["events", "hello"]).expect_code(0).stdout;
    assert!(events.contains("image_damaged") && events.contains("is empty"), "{events}");
    assert_eq!(std::fs::read(in_store(&first)).unwrap(), program, "it came whole");

    // It goes while the release is the stable one; the registry comes back only later.
    let second = published(&registry, folder.path(), "v2", &program);
    let _ = fleet.deploy(&service.clone().image(&second)).expect_code(0);
    registry.stop();
    let before = running(&fleet).unwrap();
    empty(&in_store(&pinned_offline(&fleet)));
    // Its own end may be faster: its program is gone under it.
    let _ = Command::new("docker").args(["kill", &before]).output();
    until_true("the registry is asked", SOON, || fleet.agent_log(1).contains("pull failed"));
    registry.start_again();
    let served = until("it serves again", 4 * SOON, || version(&fleet, port));
    assert_eq!(served, "v2");
    assert_ne!(running(&fleet), Some(before));
}

/// What runs, as the engine knows it.
fn pinned_offline(fleet: &Fleet) -> String {
    let container = running(fleet).unwrap();
    docker::docker(&["inspect", "-f", "{{.Config.Image}}", &container])
}

#[test]
fn what_cannot_run_here_fails_at_once_and_is_called_by_its_name() {
    if !can_run() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let program = program(folder.path());
    let registry = Registry::start();
    let fleet = Fleet::start(1);
    let port = free_port();
    let service = Service::new("hello", port);
    let _ = fleet.deploy(&service).expect_code(0);
    let before = running(&fleet);

    let mut foreign = program;
    foreign[MACHINE_AT..MACHINE_AT + 2].copy_from_slice(&MACHINE);
    let cases: [(&str, &[u8], [&str; 3]); 3] = [
        ("foreign", &foreign, ["wrong_platform", "program for LoongArch", "the image says"]),
        ("text", b"echo hello\n", ["start_failed", "without a first line", "#!/bin/sh"]),
        ("hollow", b"", ["image_damaged", "is empty, also after", "the image itself is so"]),
    ];
    for (tag, bytes, says) in cases {
        let image = published(&registry, folder.path(), tag, bytes);
        let outcome = fleet.deploy(&service.clone().image(&image)).expect_code(3);
        for part in says {
            assert!(outcome.stderr.contains(part), "`{part}` is not said: {outcome:?}");
        }
        assert_eq!(fleet.rollout("hello")["state"], "rolled_back");
        assert_eq!(running(&fleet), before, "nothing old was stopped");
    }
}
