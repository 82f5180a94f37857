//! No byte is left on the board's disk, and then there is room again; or the disk takes no writes at all.

use std::time::Duration;

use serde_json::Value;

use crate::board::SERVICE_PORT;
use crate::board::lab::{self, PATIENCE, Parts, SERVICE, web};
use crate::board::results::{Results, Row};
use crate::http;
use crate::wait::until_true;

/// Of a rollout that cannot begin.
const A_WHILE: Duration = Duration::from_secs(30);

pub(super) fn run(parts: &Parts, _: &Results) -> Vec<Row> {
    let (mut board, mut coordinator) = lab::serving(parts, "full");
    board.must("fallocate -l $(($(stat -f -c '%a*%S' /))) /root/full || true; dd if=/dev/zero of=/root/more bs=64k 2>/dev/null || true");
    assert_eq!(board.said("df --output=avail / | tail -n 1 | tr -d ' '"), "0");
    let outcome = coordinator.deploy(&web("v2"), &["--timeout", "30s"]);
    assert_ne!(outcome.code, 0, "nothing can be written: {outcome:?}");
    std::thread::sleep(A_WHILE);
    answers(&board);
    assert_eq!(board.said("systemctl is-active pith-agent pith-proxy"), "active\nactive");

    // Worse: the power goes while it is full.
    board.cut();
    coordinator.kill();
    board.boot();
    answers(&board);

    coordinator.start();
    board.must("rm -f /root/full /root/more; sync");
    coordinator.wait_ready();
    let _ = coordinator.rollout_end(SERVICE);
    let _ = coordinator.deploy(&web("v2"), &["--timeout", "5m"]).expect_code(0);
    let why = format!("exit {}, {}", outcome.code, last_line(&outcome.stderr, &outcome.stdout));
    vec![
        Row::held("a deploy with no byte free", why),
        Row::held("what ran answers, also after a cut and a boot with no byte free", "yes"),
        Row::held("a deploy once there is room", "succeeded"),
    ]
}

/// What ext4 does after an error of its card, at once: the file system is read-only until the board is started again.
pub(super) fn read_only(parts: &Parts, _: &Results) -> Vec<Row> {
    let (mut board, coordinator) = lab::serving(parts, "read-only");
    board.must("mount -o remount,errors=remount-ro / && sync");
    board.must("echo 1 >/sys/fs/ext4/vda/trigger_fs_error");
    board.must("! touch /root/written 2>/dev/null");
    let outcome = coordinator.deploy(&web("v2"), &["--timeout", "30s"]);
    assert_ne!(outcome.code, 0, "nothing can be written: {outcome:?}");
    let status = coordinator.json(&["rollout", "status", SERVICE]).to_string();
    assert!(status.contains("disk_failed"), "what it waits for is said: {status}");
    std::thread::sleep(A_WHILE);
    answers(&board);
    assert_eq!(board.said("systemctl is-active pith-agent pith-proxy"), "active\nactive");
    let found = board.run("pith-agent doctor -o json").stdout;
    let found: Value = serde_json::from_str(&found).expect("JSON");
    let findings = found["findings"].as_array().into_iter().flatten();
    let seen =
        findings.into_iter().find(|one| one["id"] == "read-only").cloned().unwrap_or_default();
    assert_eq!(seen["severity"], "problem", "{found:#}");

    // As its owner does who was told so.
    board.cut();
    board.boot();
    answers(&board);
    coordinator.wait_ready();
    let state = coordinator.rollout_end(SERVICE);
    assert_eq!(state, "succeeded", "what was asked for is done in the end");
    vec![
        Row::held(
            "a deploy on a disk that takes no writes",
            format!("exit {}, disk_failed", outcome.code),
        ),
        Row::held("what ran answers; agent and proxy run", "yes"),
        Row::held("doctor", seen["seen"].as_str().unwrap_or_default()),
        Row::held("the deploy, after a boot", state),
    ]
}

fn answers(board: &crate::board::Board) {
    until_true("it answers", PATIENCE, || {
        http::get(board.address(SERVICE_PORT), "/").is_ok_and(|(status, _)| status == 200)
    });
}

/// For the table: one cell.
fn last_line(stderr: &str, stdout: &str) -> String {
    let last = stdout.lines().chain(stderr.lines()).map(str::trim).rfind(|line| !line.is_empty());
    last.unwrap_or("said nothing").replace('|', "/")
}
