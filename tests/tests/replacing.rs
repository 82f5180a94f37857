//! `pith node replace`: a dead board's place goes to one that has joined, and a live one's to a blank board over ssh.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::time::Duration;

use serde_json::Value;
use tests::boards::Boards;
use tests::fleet::Outcome;
use tests::guest::{self, Guest};
use tests::http::{free_port, get};
use tests::services::Service;
use tests::skip;
use tests::wait::until_true;

const SOON: Duration = Duration::from_secs(60);

fn node(world: &Boards, name: &str) -> Value {
    let shown = world.json(&["node", "ls"]);
    let nodes = shown["nodes"].as_array().unwrap().clone();
    nodes.into_iter().find(|node| node["name"] == *name).unwrap_or_default()
}

#[test]
fn a_dead_boards_services_come_up_on_the_board_that_takes_its_place() {
    if !skip::has("docker") {
        return;
    }
    let mut world = Boards::start();
    world.add(1);
    let port = free_port();
    let web = Service::new("web", port).scheduling("replicas = 1").extra(
        "[placement]\nnodes = [\"board-1\"]\n[[volumes]]\nname = \"data\"\npath = \"/data\"",
    );
    world.deploy(&web.toml());
    assert_eq!(get(world.at(1, port), "/").unwrap().0, 200);
    let old = node(&world, "board-1")["id"].clone();
    world.kill_board(1);
    world.add(2);
    let asked = world.pith(&["node", "replace", "board-1", "board-2"]).expect_code(2);
    for words in [
        "gone with the old board: pith-",
        "-web-data of web; its only writer was there",
        "say --yes",
    ] {
        assert!(asked.stderr.contains(words), "{words}: {asked:?}");
    }
    assert_eq!(node(&world, "board-1")["id"], old, "nothing was changed");
    let done = world.pith(&["node", "replace", "board-1", "board-2", "--yes"]).expect_code(0);
    assert!(
        done.stdout.contains("board-2") && done.stdout.contains("is board-1 from now on"),
        "{done:?}"
    );
    until_true("web runs on the other board", SOON, || {
        get(world.at(2, port), "/").is_ok_and(|(status, _)| status == 200)
    });
    assert_ne!(node(&world, "board-1")["id"], old);
    assert_eq!(node(&world, "board-2"), Value::default());
    let again = world.pith(&["node", "replace", "board-2", "board-1", "--yes"]).expect_code(2);
    assert!(again.stderr.contains("no node `board-2`"), "{again:?}");
}

#[test]
fn a_blank_board_takes_the_place_of_one_that_lives_and_that_is_cut_off_when_it_joins() {
    if !guest::can_lodge() {
        return;
    }
    let mut world = Boards::start();
    world.add(1);
    let old = node(&world, "board-1")["id"].clone();
    let guest = Guest::boot();
    let deb = guest.package(env!("CARGO_PKG_VERSION"));
    let replace = |more: &[&str]| {
        let target = guest.target("root");
        let package = ["--package", deb.to_str().unwrap()];
        let args = [&["node", "replace", "board-1", target.as_str()], &package[..], more].concat();
        Outcome::of(&world.command(&args).env("PITH_SSH", guest.ssh()).output().unwrap())
    };
    // What stands against it is found before the old one is touched.
    let unreached = replace(&["--yes", "--address", "127.0.0.1:1"]).expect_code(6);
    assert!(unreached.stderr.contains("nothing was changed on it"), "{unreached:?}");
    assert_eq!((&node(&world, "board-1")["id"], world.status("board-1").as_str()), (&old, "ready"));

    let done = replace(&["--yes"]).expect_code(0);
    assert!(
        done.stdout.contains("joining as board-1") && done.stdout.contains("is ready"),
        "{done:?}"
    );
    assert!(
        done.stderr.contains("which is online")
            && done.stderr.contains("pith-agent uninstall --yes"),
        "{done:?}"
    );
    assert_ne!(node(&world, "board-1")["id"], old);
    until_true("the old one is cut off", SOON, || {
        world.log("board-1/agent.log").contains("session is refused")
            || world.log("board-1/agent.log").contains("refuses (revoked)")
    });
}
