//! An application that takes all the memory there is: the kernel ends it and not the agent, and its neighbour goes on.

use std::time::{Duration, Instant};

use crate::board::lab::{self, PATIENCE, Parts, web};
use crate::board::results::{Results, Row};
use crate::board::{OTHER_PORT, SERVICE_PORT};
use crate::http;
use crate::services::Service;
use crate::wait::until_true;

/// More than the board has.
const HELD_MB: &str = "700";
const WATCHED: Duration = Duration::from_secs(120);

pub(super) fn run(parts: &Parts, _: &mut Results) -> Vec<Row> {
    let (board, coordinator) = lab::serving(parts, "leak");
    let pids = "systemctl show -p MainPID --value pith-agent pith-proxy";
    let before = board.said(pids);
    let leaky = Service::new("leaky", OTHER_PORT)
        .image("pith-demo-arm64:v1")
        .env("HOLD_MEMORY_MB", HELD_MB)
        .rollout("progress_deadline = \"2m\"");
    let outcome = coordinator.deploy(&leaky, &["--timeout", "4m"]);
    assert_ne!(outcome.code, 0, "it cannot have become ready: {outcome:?}");
    let begun = Instant::now();
    let (mut asked, mut failed) = (0_u32, 0_u32);
    while begun.elapsed() < WATCHED {
        asked += 1;
        failed += u32::from(!answers(&board));
        std::thread::sleep(Duration::from_millis(500));
    }
    until_true("the neighbour answers", PATIENCE, || answers(&board));
    assert_eq!(board.said(pids), before, "neither agent nor proxy was ended");
    let kills = board.said("journalctl -q -k --no-pager | grep -c 'Killed process' || true");
    let _ = coordinator.deploy(&web("v2"), &["--timeout", "5m"]).expect_code(0);
    vec![
        Row::held("processes that the kernel ended, none of ours", kills),
        Row::held("the neighbour asked, without an answer", format!("{asked}, {failed}")),
        Row::held("a deploy of the neighbour afterwards", "succeeded"),
    ]
}

fn answers(board: &crate::board::Board) -> bool {
    http::get(board.address(SERVICE_PORT), "/").is_ok_and(|(status, _)| status == 200)
}
