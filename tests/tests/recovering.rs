//! A coordinator is lost with everything, and there is no backup: it is made anew from the root key and what the boards hold. Nothing that runs is
//! touched, calls between boards go on while one has followed and the other has not, and the next deploy is as any other.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::collections::BTreeSet;
use std::fs;
use std::io::Write as _;
use std::process::Stdio;
use std::time::{Duration, Instant};

use load::{Config, Load};
use serde_json::Value;
use tests::boards::Boards;
use tests::docker;
use tests::http::{free_port, get};
use tests::services::Service;
use tests::skip;
use tests::wait::{until, until_true};

/// A board that looked for a coordinator in vain for a while looks again after a minute at most.
const SOON: Duration = Duration::from_secs(90);
const CALL: &str = "/call?url=http://world-state:8080/";

fn running(boards: &Boards) -> BTreeSet<String> {
    docker::containers(&boards.label).into_iter().map(|container| container.id).collect()
}

fn lobby(boards: &Boards) -> Vec<Value> {
    let shown = boards.json(&["node", "ls"]);
    shown["lobby"].as_array().cloned().unwrap_or_default()
}

/// `web` on both boards with a secret; `gateway` on the first calls `world-state` on the second.
fn deployed(boards: &Boards) -> (u16, u16) {
    let (web, gateway) = (free_port(), free_port());
    let mut set = boards.command(&["secret", "set", "db"]);
    let mut set = set.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    set.stdin.take().unwrap().write_all(b"of-before-the-loss").unwrap();
    assert!(set.wait().unwrap().success());
    let secret = "[[secrets]]\nname = \"db\"\n";
    boards.deploy(
        &Service::new("world-state", free_port())
            .extra("[placement]\nnodes = [\"board-2\"]")
            .toml(),
    );
    let calls = Service::new("gateway", gateway)
        .scheduling("per_node = 1\nuses = [\"world-state\"]")
        .extra("[placement]\nnodes = [\"board-1\"]");
    boards.deploy(&calls.toml());
    boards.deploy(&Service::new("web", web).extra(secret).toml());
    until_true("boards call each other", SOON, || {
        get(boards.at(1, gateway), CALL).is_ok_and(|(status, _)| status == 200)
    });
    (web, gateway)
}

fn load(boards: &Boards, targets: &[(u8, u16)], path: &str) -> Load {
    Load::start(Config {
        targets: targets.iter().map(|(k, port)| boards.at(*k, *port)).collect(),
        path: path.to_owned(),
        kept_connections: 4,
        kept_rate: 10,
        new_rate: 10,
        websockets: 0,
    })
}

/// All that is left are the keys that lay elsewhere, and the trust root beside them.
fn is_lost(boards: &mut Boards) {
    fs::create_dir(boards.path("safe")).unwrap();
    for name in ["keys/root.key", "keys/release.key", "root.json"] {
        let to = boards.path("safe").join(name.rsplit('/').next().unwrap());
        fs::copy(boards.path("data").join(name), to).unwrap();
    }
    boards.kill_coordinator();
    fs::remove_dir_all(boards.path("data")).unwrap();
}

/// By what a board prints as well as by the operator's own copy.
fn is_made_anew(boards: &mut Boards) {
    let path = |name: &str| boards.path(name).to_string_lossy().into_owned();
    let printed = boards.agent(1, &["root"]).output().unwrap();
    assert!(printed.status.success(), "{printed:?}");
    fs::write(boards.path("of-board.json"), printed.stdout).unwrap();
    let (root, of_board) = (path("safe/root.json"), path("of-board.json"));
    let (root_key, release_key) = (path("safe/root.key"), path("safe/release.key"));
    let again = path("again");
    let recover = |root: &str, key: &str| {
        boards.pith(&["fleet", "recover", "--root", root, "--root-key", key, "--data", &again])
    };
    let wrong = recover(&root, &release_key).expect_code(2);
    assert!(wrong.stderr.contains("is no root key of trust root 1"), "{wrong:?}");
    let none = recover(&release_key, &root_key).expect_code(2);
    assert!(none.stderr.contains("neither a trust root"), "{none:?}");
    assert!(!boards.path("again").exists(), "nothing was made");
    let made = recover(&of_board, &root_key).expect_code(0);
    assert!(made.stdout.contains("trust root 2 is stored"), "{made:?}");
    assert!(made.stderr.contains("at an address that the nodes know"), "{made:?}");
    let there = recover(&root, &root_key).expect_code(2);
    assert!(there.stderr.contains("holds a fleet already"), "{there:?}");
    assert!(boards.path("again/tls/ca.key").exists());
    boards.move_data("again");
    boards.start_coordinator();
}

#[test]
fn a_coordinator_lost_without_a_backup_is_made_anew_and_no_container_is_touched() {
    if !skip::has("docker") {
        return;
    }
    let mut boards = Boards::start();
    [1, 2].into_iter().for_each(|k| boards.add(k));
    let (web, gateway) = deployed(&boards);
    let (before, began) = (running(&boards), Instant::now());
    assert_eq!(before.len(), 4);
    let own = load(&boards, &[(1, web), (2, web)], "/");
    let calls = load(&boards, &[(1, gateway)], CALL);

    // The second board's agent is off meanwhile; what runs there is called by the first.
    boards.kill_agent(2);
    is_lost(&mut boards);
    is_made_anew(&mut boards);
    let member = until("the first board waits in the lobby", SOON, || lobby(&boards).pop());
    assert_eq!(member["name"], "board-1");
    assert_eq!(member["runs"].as_array().map(Vec::len), Some(2), "{member}");
    let shown = boards.pith(&["node", "ls"]).expect_code(0).stdout;
    assert!(shown.contains("board-1 was told to run"), "{shown}");
    let _ = boards.pith(&["node", "approve", "board-1"]).expect_code(0);
    until_true("the first board is back", SOON, || boards.status("board-1") == "ready");
    assert_eq!(running(&boards), before, "nothing was touched");
    assert_eq!(get(boards.at(1, gateway), CALL).unwrap().0, 200, "one has followed, one has not");

    boards.start_agent(2);
    until_true("the second board waits too", SOON, || !lobby(&boards).is_empty());
    let approved = boards.pith(&["node", "approve", "--all"]).expect_code(0);
    assert!(approved.stdout.contains("board-2"), "{approved:?}");
    until_true("the second board is back", SOON, || boards.status("board-2") == "ready");
    until_true("everything is known again", SOON, || {
        let shown = boards.json(&["ps"]);
        let services = shown["services"].as_array().cloned().unwrap_or_default();
        services.len() == 3 && services.iter().all(|one| one["ready"] == one["desired"])
    });
    assert_eq!(running(&boards), before, "nothing was touched");
    for (what, load) in [("own", own), ("calls", calls)] {
        let summary = until("enough requests", SOON, || {
            Some(load.summary(began, Instant::now())).filter(|summary| summary.sent > 100)
        });
        assert_eq!(summary.failed, 0, "{what}: {summary:?}");
    }

    // The release key is the operator's to bring; numbers and secrets go on where they were.
    fs::copy(boards.path("safe/release.key"), boards.path("again/keys/release.key")).unwrap();
    let file = boards.path("service.toml").to_string_lossy().into_owned();
    let _ = boards.pith(&["deploy", "-f", &file, "--image", "pith-demo:v2"]).expect_code(0);
    for k in [1, 2] {
        let answer = until("the new release answers", SOON, || {
            get(boards.at(k, web), "/").ok().filter(|(_, body)| body.contains("v2"))
        });
        assert_eq!(answer.0, 200);
    }
    let _ = boards.pith(&["rollout", "undo", "web"]).expect_code(0);

    // A board that starts anew needs nobody.
    boards.kill_board(1);
    boards.start_board(1);
    boards.wait_ready(1);
    until_true("boards call each other", SOON, || {
        get(boards.at(1, gateway), CALL).is_ok_and(|(status, _)| status == 200)
    });
    let events = boards.json(&["events"]).to_string();
    assert!(events.contains("is back, with") && !events.contains("refused"), "{events}");
}
