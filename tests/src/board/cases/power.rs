//! The power goes away at a random moment of a rollout or of an installation; the board comes back by itself, without network.

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime};

use serde_json::Value;

use crate::board::lab::{self, PATIENCE, Parts, SERVICE, Wanted, web};
use crate::board::results::{Results, Row};
use crate::board::{Board, SERVICE_PORT};
use crate::http;
use crate::wait::until_true;

/// In a run of this case alone, which has to end within 25 minutes; runs add up. `PITH_CUTS` says another number.
const CUTS: u64 = 6;
/// Of all runs.
const WANTED: u64 = 30;
/// A rollout of this board takes about as long.
const WITHIN_MS: u64 = 25_000;
/// Every so many cuts one is in an installation.
const INSTALL_EVERY: u64 = 5;

pub(super) fn run(parts: &Parts, results: &Results) -> Vec<Row> {
    let named = std::env::var("PITH_CUTS").ok().and_then(|n| n.parse().ok());
    let cuts = named.unwrap_or_else(|| match parts.wanted {
        Wanted::All => WANTED.saturating_sub(results.count("power cuts", 0)).max(1),
        Wanted::Some => CUTS,
    });
    let (mut board, mut coordinator) = lab::serving(parts, "power");
    let mut total = 0;
    for k in 1..=cuts {
        let installs = k % INSTALL_EVERY == 0;
        let wait = at_random(WITHIN_MS);
        if installs {
            board.put(&parts.package, "/root/pith-agent.deb");
            board.must("setsid -f dpkg -i /root/pith-agent.deb >/dev/null 2>&1");
        } else {
            let version = if k % 2 == 0 { "v1" } else { "v2" };
            let _ = coordinator.deploy(&web(version), &["--detach"]).expect_code(0);
        }
        std::thread::sleep(if installs { wait / 4 } else { wait });
        board.cut();
        coordinator.kill();
        eprintln!(
            "power: cut {k} of {cuts}, {wait:?} into {}",
            if installs { "an installation" } else { "a rollout" }
        );
        board.boot();
        if installs {
            // What was copied may be gone with the power.
            board.put(&parts.package, "/root/pith-agent.deb");
            board.must("dpkg --configure -a && dpkg -i /root/pith-agent.deb");
            board.must("systemctl enable --now pith-proxy pith-agent");
        }
        comes_back(&board);
        coordinator.start();
        coordinator.wait_ready();
        let state = coordinator.rollout_end(SERVICE);
        assert_eq!(state, "succeeded", "what was asked for is done in the end");
        alone(&board);
        total = results.count("power cuts", 1);
    }
    vec![
        Row {
            what: "cuts after which the board came back by itself, without network, as last-good, nothing doubled, ledger readable".to_owned(),
            seen: total.to_string(),
            target: format!("at least {WANTED}, all of them"),
            is_met: total >= WANTED,
        },
    ]
}

/// What holds before anybody can be asked.
fn comes_back(board: &Board) {
    until_true("what was good answers", PATIENCE, || {
        http::get(board.address(SERVICE_PORT), "/").is_ok_and(|(status, _)| status == 200)
    });
    assert_eq!(board.said("systemctl is-active pith-agent pith-proxy"), "active\nactive");
    let ps: Value = serde_json::from_str(&board.said("pith-agent ps -o json")).expect("JSON");
    assert!(ps.to_string().contains(SERVICE), "the ledger knows what runs: {ps}");
    let log = board.said("journalctl -q -b --no-pager -o cat -u pith-agent");
    assert!(!log.contains("unreadable"), "{log}");
}

/// One container per slot runs, and nothing of ours is left over beside what a node keeps for going back.
fn alone(board: &Board) {
    board.wait(
        "nothing is doubled",
        PATIENCE,
        "test $(docker ps -q --filter label=io.pith.service=web | wc -l) = 1",
    );
    let names = board.said("docker ps -a --filter label=io.pith.service=web --format '{{.Names}}'");
    let all: Vec<&str> = names.lines().collect();
    let distinct: BTreeSet<&str> = all.iter().copied().collect();
    assert!(all.len() <= 2 && distinct.len() == all.len(), "running and last-good alone: {all:?}");
}

fn at_random(below_ms: u64) -> Duration {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Duration::from_millis(u64::from(since.subsec_nanos()) % below_ms)
}
