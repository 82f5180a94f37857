//! `pith-agent uninstall` on a board that runs services, without its coordinator.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;
use tests::boards::Boards;
use tests::docker::docker;
use tests::fleet::Outcome;
use tests::http::{free_port, get};
use tests::services::Service;
use tests::skip;

fn uninstall(world: &Boards, more: &[&str]) -> Outcome {
    let mut command = world.agent(1, &[&["uninstall"], more].concat());
    command.current_dir(world.path("board-1"));
    Outcome::of(&command.output().unwrap())
}

/// What Docker has of a fleet, by kind.
fn left(world: &Boards, kind: &[&str]) -> String {
    docker(&[kind, &["-q", "--filter", &format!("label={}", world.label)]].concat())
}

/// A board that has joined, with a service on a port and one with a volume, and without its coordinator.
fn board(port: u16) -> Boards {
    let mut world = Boards::start();
    world.install(1);
    let early = uninstall(&world, &[]).expect_code(1);
    assert!(early.stderr.contains("has joined no fleet"), "{early:?}");
    world.add(1);
    world.deploy(&Service::new("web", port).toml());
    let keeper = "name = \"keeper\"\nimage = \"pith-demo:v1\"\nreplicas = 1\nenv = { NOTE = \"a $5 note\" }\n\
        [[ports]]\ntarget = 8080\n[[volumes]]\nname = \"data\"\npath = \"/data\"\n";
    world.deploy(keeper);
    world.kill_coordinator();
    world
}

/// Says what there is, and changes nothing; the file that it writes.
fn only_tells(world: &Boards, port: u16) -> PathBuf {
    let told = uninstall(world, &[]).expect_code(0);
    for words in [
        "nothing was changed",
        &format!("ports that close: {port}"),
        "remove   container pith-",
        "remove   network pith-",
        "keep     volume pith-",
        "pith node revoke board-1",
        "pith-compose.yaml",
    ] {
        assert!(told.stdout.contains(words), "{words}: {told:?}");
    }
    let file = world.path("board-1/pith-compose.yaml");
    let text = fs::read_to_string(&file).unwrap();
    for words in ["\"web\":", "\"a $$5 note\"", "external: true"] {
        assert!(text.contains(words), "{words}: {text}");
    }
    // Nobody's file is written over, and an agent that runs would make everything anew.
    let named = ["--yes", "--compose", file.to_str().unwrap()];
    let refused = uninstall(world, &named).expect_code(1);
    assert!(refused.stderr.contains("name another file with --compose"), "{refused:?}");
    let refused = uninstall(world, &["--yes"]).expect_code(1);
    assert!(refused.stderr.contains("an agent still answers"), "{refused:?}");
    assert_eq!(get(world.at(1, port), "/").unwrap().0, 200);
    file
}

#[test]
fn a_board_says_what_it_has_and_then_gives_it_up_with_a_file_that_runs_it_elsewhere() {
    if !skip::has("docker") {
        return;
    }
    let port = free_port();
    let mut world = board(port);
    let file = only_tells(&world, port);

    // What is another board's stays, whatever its fleet.
    let (fleet, node) = (world.label.clone(), "io.pith.node=00000000000000000000000000000000");
    let other = docker(&["run", "-d", "--label", &fleet, "--label", node, "pith-demo:v1"]);
    world.kill_board(1);
    let done = uninstall(&world, &["--yes", "-o", "json"]).expect_code(0);
    let shown: Value = serde_json::from_str(&done.stdout).unwrap();
    let of_it = (&shown["done"], &shown["volumes_removed"]);
    assert_eq!(of_it, (&true.into(), &false.into()), "{shown}");
    assert!(shown["next"].to_string().contains("apt-get purge pith-agent"), "{shown}");
    assert_eq!(left(&world, &["ps", "-a"]), other[..12], "only the other board's is left");
    assert_eq!(left(&world, &["network", "ls"]), "");
    assert!(!world.secrets_dir(1).exists(), "secrets in clear are gone");
    let kept = left(&world, &["volume", "ls"]);
    assert!(kept.ends_with("-keeper-data"), "{kept}");

    // What was begun can be done again, and goes on.
    let again = uninstall(&world, &["--yes", "--volumes"]).expect_code(0);
    assert!(again.stdout.contains(&format!("removed volume {kept}")), "{again:?}");
    assert_eq!(left(&world, &["volume", "ls"]), "");
    let _ = docker(&["rm", "-f", &other]);
    let read = Command::new("docker-compose").arg("-f").arg(&file).args(["config", "-q"]).output();
    if let Ok(read) = read {
        assert!(read.status.success(), "{}", String::from_utf8_lossy(&read.stderr));
    }
}
