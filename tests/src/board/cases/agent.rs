//! Versions of the agent under a real systemd: a good one stays, one that panics or hangs goes within three starts, and one that
//! hears no coordinator is not to blame. No application and no connection notices.

use std::path::Path;
use std::time::{Duration, Instant};

use load::{Config, Load};

use crate::board::lab::{self, Coordinator, PATIENCE, Parts};
use crate::board::results::{Results, Row};
use crate::board::{Board, COORDINATOR, SERVICE_PORT};
use crate::spoilt;
use crate::wait::{until, until_true};

/// Three starts of which none says that it is ready, each as long as the unit allows, and what an emulated board adds.
const HANGS_FOR: &str = "15m";
/// Longer than a new agent is left without an answer before the former one is asked.
const AWAY: Duration = Duration::from_secs(11 * 60);
const CONTAINERS: &str = "docker ps -q --no-trunc | sort";

pub(super) fn run(parts: &Parts, _: &Results) -> Vec<Row> {
    let (board, coordinator) = lab::serving(parts, "agent");
    let folder = parts.folder.join("agent");
    let containers = board.said(CONTAINERS);
    let (load, begun) = (quiet_load(&board), Instant::now());
    let mut rows = Vec::new();

    release(&coordinator, &spoilt::with_version(&parts.program(), &folder, "99.0.1"));
    let took = Instant::now();
    let _ = coordinator.pith(&["agent", "rollout", "--timeout", "8m"]).expect_code(0);
    rows.push(Row::held("a good agent, to confirmed", seconds(took)));
    runs_from(&board, "pith-agent", "a");
    runs_from(&board, "pith-proxy", "a");
    rows.push(Row::held("the proxy handed over, by itself and at a reload", reload(&board)));

    for (version, fate) in [("99.0.2", "fall"), ("99.0.3", "hang")] {
        let file = spoilt::with_fate(&parts.agent, &folder, version, fate);
        release(&coordinator, &file);
        let (took, starts) = (Instant::now(), restarts(&board, "pith-agent"));
        let back = coordinator.pith(&["agent", "rollout", "--timeout", HANGS_FOR]).expect_code(3);
        assert!(back.stdout.contains("reverted"), "{back:?}");
        let starts = restarts(&board, "pith-agent") - starts;
        // One to end, three of the bad one.
        assert!(starts <= 4, "{starts} starts of an agent that does `{fate}`");
        assert_eq!(coordinator.node()["agent_version"], "99.0.1");
        runs_from(&board, "pith-agent", "a");
        let what = if fate == "fall" { "one that panics" } else { "one that hangs" };
        rows.push(Row::held(&format!("{what}, reverted"), format!("after {}", seconds(took))));
    }

    assert_eq!(board.said(CONTAINERS), containers, "the same containers");
    assert_eq!(restarts(&board, "pith-proxy"), 0, "the proxy was never started again");
    let summary = load.summary(begun, Instant::now() - Duration::from_secs(2));
    assert!(summary.failed == 0, "{summary:?}");
    rows.push(Row::held("requests, failed", format!("{}, {}", summary.sent, summary.failed)));
    rows
}

/// The coordinator goes away the moment a good agent is tried, for longer than its patience.
pub(super) fn away(parts: &Parts, _: &Results) -> Vec<Row> {
    let (board, mut coordinator) = lab::serving(parts, "agent-away");
    let folder = parts.folder.join("agent-away");
    let containers = board.said(CONTAINERS);
    release(&coordinator, &spoilt::with_version(&parts.program(), &folder, "99.0.1"));
    let address = COORDINATOR.split(':').next().unwrap_or_default();
    board.must(&format!(
        "nft 'add table ip away; add chain ip away out {{ type filter hook output priority 0; }}'; \
         setsid -f sh -c 'until grep -q starts /var/lib/pith/agent/state.json; do sleep 0.1; done; \
         nft add rule ip away out ip daddr {address} drop' >/dev/null 2>&1"
    ));
    let _ = coordinator.pith(&["agent", "rollout", "--detach"]).expect_code(0);
    board.wait("the new agent runs", PATIENCE, "nft list table ip away | grep -q drop");
    coordinator.kill();
    let begun = Instant::now();
    runs_from(&board, "pith-agent", "a");
    std::thread::sleep(AWAY.saturating_sub(begun.elapsed()));
    let kept = board.said("cat /var/lib/pith/agent/state.json");
    assert!(kept.contains("\"turn\":\"former\"") && kept.contains("\"bad\":[]"), "{kept}");
    board.must("nft delete table ip away");
    coordinator.start();
    let back = Instant::now();
    until_true("it is confirmed", 2 * PATIENCE, || {
        let node = coordinator.node();
        node["agent_version"] == "99.0.1" && node["agent_target"].is_null()
    });
    runs_from(&board, "pith-agent", "a");
    assert_eq!(board.said(CONTAINERS), containers, "the same containers");
    let minutes = AWAY.as_secs() / 60;
    vec![
        Row::held("the coordinator away while a good agent is tried", format!("{minutes} min")),
        Row::held("not taken back; confirmed after its return", seconds(back)),
    ]
}

fn quiet_load(board: &Board) -> Load {
    Load::start(Config {
        targets: vec![board.address(SERVICE_PORT)],
        path: "/".to_owned(),
        kept_connections: 2,
        kept_rate: 2,
        new_rate: 1,
        websockets: 0,
    })
}

fn release(coordinator: &Coordinator, file: &Path) {
    let _ = coordinator.pith(&["agent", "release", &file.to_string_lossy()]).expect_code(0);
}

/// Waits until a unit's process is the program of a place.
fn runs_from(board: &Board, unit: &str, slot: &str) {
    board.wait(
        &format!("{unit} runs from place {slot}"),
        PATIENCE,
        &format!(
            "readlink /proc/$(systemctl show -p MainPID --value {unit})/exe | grep -qx /var/lib/pith/agent/{slot}"
        ),
    );
}

/// Has the proxy exchange itself; how many processes it was in all.
fn reload(board: &Board) -> String {
    let main = "systemctl show -p MainPID --value pith-proxy";
    let before = board.said(main);
    board.must("systemctl reload pith-proxy");
    let after = until("systemd knows the new process", PATIENCE, || {
        let now = board.said(main);
        (now != before && now != "0").then_some(now)
    });
    board.must("systemctl is-active pith-proxy");
    format!("main process {before}, then {after}")
}

/// How often systemd started a unit again.
fn restarts(board: &Board, unit: &str) -> u32 {
    board.said(&format!("systemctl show -p NRestarts --value {unit}")).parse().unwrap_or(u32::MAX)
}

fn seconds(begun: Instant) -> String {
    format!("{:.0} s", begun.elapsed().as_secs_f64())
}
