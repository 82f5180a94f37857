//! A board without a clock, which thinks whatever it thinks when it starts.

use crate::board::lab::{self, Coordinator, PATIENCE, Parts, SERVICE, web};
use crate::board::results::{Results, Row};
use crate::board::{Board, SERVICE_PORT};
use crate::http;
use crate::wait::until_true;

pub(super) fn in_1970(parts: &Parts, _: &Results) -> Vec<Row> {
    boots_at(parts, "clock-1970", "1970-01-02")
}

pub(super) fn in_2099(parts: &Parts, _: &Results) -> Vec<Row> {
    boots_at(parts, "clock-2099", "2099-12-31")
}

fn boots_at(parts: &Parts, case: &str, date: &str) -> Vec<Row> {
    let (mut board, mut coordinator) = lab::joined(parts, case);
    board.boot();
    // It would set the clock to the last time that it knew.
    board.must("systemctl mask --now systemd-timesyncd");
    board.must(&format!("echo {date} >/etc/board-clock && sync"));
    board.cut();
    board.boot();
    let thinks = board.said("date +%F");
    let year = &date[..4];
    assert!(thinks.starts_with(year), "the board thinks that it is {thinks}");
    serves(&board, "v1");
    let rows = vec![
        Row::held("its date", thinks),
        Row::held("last-good served without network", "yes"),
        Row::held(
            "session up and a deploy ready when the network is there",
            deploys(&board, &mut coordinator),
        ),
    ];
    let thinks = board.said("date +%F");
    assert!(thinks.starts_with(year), "somebody set the board's clock: {thinks}");
    rows
}

fn deploys(board: &Board, coordinator: &mut Coordinator) -> String {
    coordinator.start();
    coordinator.wait_ready();
    let _ = coordinator.deploy(&web("v2"), &["--timeout", "5m"]).expect_code(0);
    serves(board, "v2");
    // A release that never becomes ready goes back by itself at this clock too.
    let outcome =
        coordinator.deploy(&web("v3").rollout("progress_deadline = \"20s\""), &["--timeout", "5m"]);
    assert_eq!(outcome.code, 3, "{outcome:?}");
    assert_eq!(coordinator.rollout_end(SERVICE), "rolled_back");
    serves(board, "v2");
    "yes; a bad one went back".to_owned()
}

fn serves(board: &Board, version: &str) {
    until_true(&format!("{version} answers"), PATIENCE, || {
        let answer = http::get(board.address(SERVICE_PORT), "/");
        answer.is_ok_and(|(status, body)| status == 200 && body.starts_with(version))
    });
}
