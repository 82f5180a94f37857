//! Boards that join by token, as people install them: `pith init`, `pith serve`, `pith-agent join`, one revoked at the end.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::process::Output;
use std::time::{Duration, Instant};

use tests::boards::{Boards, Process};
use tests::http::{free_port, get};
use tests::services::Service;
use tests::skip;
use tests::wait::{until, until_true};

const SOON: Duration = Duration::from_secs(40);
/// What a revoked node has left.
const CUT_WITHIN: Duration = Duration::from_secs(5);

fn said(output: &Output) -> String {
    let all = [&output.stdout[..], &output.stderr[..]].concat();
    String::from_utf8_lossy(&all).into_owned()
}

#[test]
fn two_boards_join_run_what_is_deployed_talk_over_tls_and_a_revoked_one_is_cut() {
    if !skip::has("docker") {
        return;
    }
    let mut world = Boards::start();
    [1, 2].into_iter().for_each(|k| world.install(k));
    let early = world.agent(1, &[]).output().unwrap();
    assert!(said(&early).contains("pith-agent join TOKEN"), "{}", said(&early));

    // The first waits in the lobby; the second is approved by its token.
    let token = world.token(&[]);
    let waiting = Process::start(world.agent(1, &["join", &token]), &world.path("join.log"));
    until_true("it waits in the lobby", SOON, || {
        world.log("join.log").contains("pith node approve board-1")
    });
    let _ = world.pith(&["node", "approve", "board-1"]).expect_code(0);
    until_true("it has joined", SOON, || world.log("join.log").contains("joined fleet"));
    drop(waiting);
    let approved = world.token(&["--approve"]);
    assert!(said(&world.join(2, &approved)).contains("joined fleet"));
    let again = world.join(2, &approved);
    assert!(again.status.success() && said(&again).contains("already"), "{}", said(&again));
    world.install(3);
    let used = world.join(3, &approved);
    assert_eq!(used.status.code(), Some(5), "{}", said(&used));
    assert!(said(&used).contains("token_used"), "{}", said(&used));

    [1, 2].into_iter().for_each(|k| world.start_board(k));
    for name in ["board-1", "board-2"] {
        until_true("the node is there", SOON, || world.status(name) == "ready");
    }
    let (web, gateway) = (free_port(), free_port());
    world.deploy(&Service::new("web", web).extra("[placement]\nnodes = [\"board-2\"]").toml());
    let caller = Service::new("gateway", gateway)
        .scheduling("per_node = 1\nuses = [\"web\"]")
        .extra("[placement]\nnodes = [\"board-1\"]");
    world.deploy(&caller.toml());
    // Board 1 asks board 2 over the fleet port, whose first byte to a stranger is none.
    let call = "/call?url=http://web:8080/";
    let answer = until("board 1 reaches board 2", SOON, || {
        get(world.at(1, gateway), call).ok().filter(|(status, _)| *status == 200)
    });
    assert!(answer.1.contains("v1"), "{answer:?}");
    let table = world.log("board-2/run/routes.json");
    assert!(table.contains("certificates") && table.contains(".node."), "{table}");

    // Revoked: the session is cut, it is refused from then on, and what it runs runs on.
    let began = Instant::now();
    let _ = world.pith(&["node", "revoke", "board-2"]).expect_code(0);
    until_true("it is cut", CUT_WITHIN, || {
        world.log("board-2/agent.log").contains("session is down")
    });
    assert!(began.elapsed() < CUT_WITHIN);
    until_true("it is refused", SOON, || {
        world.log("board-2/agent.log").contains("session is refused")
            || world.log("board-2/agent.log").contains("refuses (revoked)")
    });
    assert_eq!(get(world.at(2, web), "/").unwrap().0, 200, "what runs on the board goes on");
}
