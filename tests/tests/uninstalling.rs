//! `pith-agent uninstall` on a board that runs services, without its coordinator.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::fs;
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

#[test]
fn a_board_says_what_it_has_and_then_gives_it_up_with_a_file_that_runs_it_elsewhere() {
    if !skip::has("docker") {
        return;
    }
    let mut world = Boards::start();
    world.add(1);
    let port = free_port();
    world.deploy(&Service::new("web", port).toml());
    let keeper = "name = \"keeper\"\nimage = \"pith-demo:v1\"\nreplicas = 1\nenv = { NOTE = \"a $5 note\" }\n\
        [[ports]]\ntarget = 8080\n[[volumes]]\nname = \"data\"\npath = \"/data\"\n";
    world.deploy(keeper);
    world.kill_coordinator();
    let fleet = format!("label={}", world.label);
    let (containers, networks, volumes) = (
        ["ps", "-aq", "--filter", &fleet],
        ["network", "ls", "-q", "--filter", &fleet],
        ["volume", "ls", "-q", "--filter", &fleet],
    );

    let told = uninstall(&world, &[]).expect_code(0);
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
    assert_eq!(get(world.at(1, port), "/").unwrap().0, 200);
    let file = world.path("board-1/pith-compose.yaml");
    let text = fs::read_to_string(&file).unwrap();
    assert!(
        text.contains("\"web\":")
            && text.contains("\"a $$5 note\"")
            && text.contains("external: true"),
        "{text}"
    );

    // Its agent would make everything anew; nobody's file is written over.
    let refused = uninstall(&world, &["--yes", "--compose", file.to_str().unwrap()]).expect_code(1);
    assert!(
        refused.stderr.contains("File exists") && refused.stderr.contains("--compose"),
        "{refused:?}"
    );
    let refused = uninstall(&world, &["--yes"]).expect_code(1);
    assert!(refused.stderr.contains("an agent still answers"), "{refused:?}");
    assert_eq!(get(world.at(1, port), "/").unwrap().0, 200);

    // What is another board's stays, whatever its fleet.
    let other = docker(&[
        "run",
        "-d",
        "--label",
        &world.label,
        "--label",
        "io.pith.node=00000000000000000000000000000000",
        "pith-demo:v1",
    ]);
    world.kill_board(1);
    let done = uninstall(&world, &["--yes", "-o", "json"]).expect_code(0);
    let shown: Value = serde_json::from_str(&done.stdout).unwrap();
    assert_eq!(
        (&shown["done"], &shown["volumes_removed"]),
        (&true.into(), &false.into()),
        "{shown}"
    );
    assert_eq!(docker(&containers), other[..12], "only the other board's container is left");
    assert_eq!(docker(&networks), "");
    let kept = docker(&volumes);
    assert!(kept.ends_with("-keeper-data"), "{kept}");
    assert!(shown["next"].to_string().contains("apt-get purge pith-agent"), "{shown}");

    // What was begun can be done again, and goes on.
    let again = uninstall(&world, &["--yes", "--volumes"]).expect_code(0);
    assert!(again.stdout.contains(&format!("removed volume {kept}")), "{again:?}");
    assert_eq!(docker(&volumes), "");
    let _ = docker(&["rm", "-f", &other]);
    if Command::new("docker-compose")
        .arg("version")
        .output()
        .is_ok_and(|output| output.status.success())
    {
        let read = Command::new("docker-compose")
            .arg("-f")
            .arg(&file)
            .args(["config", "-q"])
            .output()
            .unwrap();
        assert!(read.status.success(), "{text}\n{}", String::from_utf8_lossy(&read.stderr));
    }
}
