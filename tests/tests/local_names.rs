//! Names under `.local`, with a real responder (avahi-daemon) on a real cable between coordinator and board.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::fs;
use std::process::Command;
use std::time::Duration;

use tests::boards::{Boards, Process};
use tests::cable::Cable;
use tests::skip;
use tests::wait::until_true;

const SOON: Duration = Duration::from_secs(60);
const COORDINATOR: usize = 0;
const BOARD: usize = 1;
const NAME: &str = "coord.local:8883";

struct World {
    boards: Boards,
    cable: Cable,
    running: Vec<Process>,
}

impl World {
    fn start() -> Self {
        let mut boards = Boards::start();
        boards.kill_coordinator();
        fs::write(boards.path("coordinator.toml"), "[broker]\nlisten = \"0.0.0.0:8883\"\n")
            .unwrap();
        let world = Self { boards, cable: Cable::lay(), running: Vec::new() };
        let avahi = "[server]\nhost-name=coord\nenable-dbus=no\nallow-interfaces=eth0\n[publish]\npublish-workstation=no\n";
        fs::write(world.boards.path("avahi.conf"), avahi).unwrap();
        world
    }

    fn serve(&self) -> Process {
        let mut serve = self.boards.command(&["serve", "--config"]);
        serve.arg(self.boards.path("coordinator.toml"));
        let serving = self.run(COORDINATOR, &serve, "coordinator.log");
        until_true("the coordinator answers", SOON, || self.boards.pith(&["node", "ls"]).code == 0);
        serving
    }

    /// A responder, with folders of its own: this machine may have one that runs.
    fn respond(&self) -> Process {
        let script = "mount -t tmpfs tmpfs /run && mkdir /run/avahi-daemon && exec /usr/sbin/avahi-daemon --no-drop-root --no-chroot --no-rlimits -f \"$1\"";
        let mut avahi = Command::new("unshare");
        avahi.args(["--mount", "sh", "-c", script, "avahi"]).arg(self.boards.path("avahi.conf"));
        self.run(COORDINATOR, &avahi, "avahi.log")
    }

    fn run(&self, machine: usize, command: &Command, log: &str) -> Process {
        Process::start(self.cable.on(machine, command), &self.boards.path(log))
    }

    fn join(&self, k: u8) -> (Option<i32>, String) {
        let token = self.boards.token(&["--approve", "--address", NAME]);
        let output =
            self.cable.on(BOARD, &self.boards.agent(k, &["join", &token])).output().unwrap();
        let said = [&output.stdout[..], &output.stderr[..]].concat();
        (output.status.code(), String::from_utf8_lossy(&said).into_owned())
    }
}

fn can_lay_cables() -> bool {
    let is_root = Command::new("id").arg("-u").output().is_ok_and(|o| o.stdout == b"0\n");
    if !is_root {
        eprintln!("SKIPPED: a cable of its own needs root");
        assert!(!skip::in_ci(), "CI runs as root");
    }
    is_root
        && ["docker", "ip", "unshare", "/usr/sbin/avahi-daemon"].iter().all(|one| skip::has(one))
}

#[test]
fn a_board_joins_and_comes_back_to_a_coordinator_whose_name_is_under_local_and_whose_address_changes()
 {
    if !can_lay_cables() {
        return;
    }
    let mut world = World::start();
    let serving = world.serve();
    world.boards.install(1);
    let (code, said) = world.join(1);
    assert_eq!(code, Some(6), "{said}");
    assert!(
        said.contains("nobody answers for it by multicast DNS") && said.contains("avahi-daemon"),
        "{said}"
    );

    let responding = world.respond();
    until_true("the board joins", SOON, || world.join(1).1.contains("joined fleet"));
    for part in [&["proxy"][..], &[]] {
        let started = world.run(BOARD, &world.boards.agent(1, part), "board-1/agent.log");
        world.running.push(started);
    }
    world.boards.wait_ready(1);

    // Another address under the same name, as a home's router gives it.
    drop(serving);
    world.cable.readdress(COORDINATOR, "10.77.0.1/24", "10.77.0.9/24");
    let _serving = world.serve();
    until_true("it has come back", SOON, || world.boards.status("board-1") == "ready");
    drop(responding);
}
