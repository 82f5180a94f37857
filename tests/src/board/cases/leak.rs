//! Applications that take all the memory there is, or all they may have: the kernel ends them and not the agent, that is said where
//! people look, and a neighbour goes on.

use std::time::{Duration, Instant};

use crate::board::lab::{self, Coordinator, PATIENCE, Parts, web};
use crate::board::results::{Results, Row};
use crate::board::{Board, OTHER_PORT, SERVICE_PORT};
use crate::http;
use crate::services::Service;
use crate::wait::until_true;

/// More than the board has.
const HELD_MB: &str = "700";
/// Of the one that has a limit, which is far below what the board has free.
const LIMIT: &str = "[resources]\nlimits = { memory = \"32Mi\" }\n";
const WATCHED: Duration = Duration::from_secs(120);

pub(super) fn run(parts: &Parts, _: &Results) -> Vec<Row> {
    let (board, coordinator) = lab::serving(parts, "leak");
    let pids = "systemctl show -p MainPID --value pith-agent pith-proxy";
    let before = board.said(pids);
    let mut rows = Vec::new();
    for (what, limit) in [("more than the board has", ""), ("more than its limit", LIMIT)] {
        let (name, killed) = leak(&board, &coordinator, limit);
        assert!(killed > 0, "the kernel ended nothing of {name}: {}", board.last_words());
        rows.push(Row::held(&format!("ended for its memory, {what}"), format!("{killed} times")));
    }
    let begun = Instant::now();
    let (mut asked, mut failed) = (0_u32, 0_u32);
    while begun.elapsed() < WATCHED {
        asked += 1;
        failed += u32::from(!answers(&board));
        std::thread::sleep(Duration::from_millis(500));
    }
    until_true("the neighbour answers", PATIENCE, || answers(&board));
    assert_eq!(board.said(pids), before, "neither agent nor proxy was ended");
    let ours = board.said("journalctl -q -k --no-pager | grep -c 'Killed process.*(pith' || true");
    assert_eq!(ours, "0", "nothing of ours was ended");
    let _ = coordinator.deploy(&web("v2"), &["--timeout", "5m"]).expect_code(0);
    rows.extend([
        Row::held("agent and proxy ended", ours),
        Row::held("the neighbour asked, without an answer", format!("{asked}, {failed}")),
        Row::held("a deploy of the neighbour afterwards", "succeeded"),
    ]);
    rows
}

/// Its name, and how many processes of it the kernel ended. It never becomes ready, and the reason says why.
fn leak(board: &Board, coordinator: &Coordinator, limit: &str) -> (&'static str, u32) {
    let name = if limit.is_empty() { "leaky" } else { "bounded" };
    let count = "journalctl -q -k --no-pager | grep -c 'Killed process.*(demo-app)' || true";
    let killed = || board.said(count).parse::<u32>().unwrap_or(0);
    let before = killed();
    let service = Service::new(name, OTHER_PORT)
        .image("pith-demo-arm64:v1")
        .env("HOLD_MEMORY_MB", HELD_MB)
        .rollout("progress_deadline = \"10m\"")
        .extra(limit);
    let outcome = coordinator.deploy(&service, &["--timeout", "12m"]);
    assert_ne!(outcome.code, 0, "it cannot have become ready: {outcome:?}");
    let status = coordinator.json(&["rollout", "status", name]);
    // Three ends make it `out_of_memory`; a board without memory may take longer for them than it has until it must be ready.
    let evidence = &status["failures"][0]["evidence"];
    assert_eq!(evidence["oom_killed"], true, "{status:#}\n{}", board.last_words());
    let seen = (name, killed() - before);
    let _ = coordinator.pith(&["rm", name, "--yes"]).expect_code(0);
    seen
}

fn answers(board: &Board) -> bool {
    http::get(board.address(SERVICE_PORT), "/").is_ok_and(|(status, _)| status == 200)
}
