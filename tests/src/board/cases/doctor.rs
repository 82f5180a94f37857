//! What a board finds of itself, asked on it and from afar; what is told to mend it does.

use serde_json::Value;

use crate::board::Board;
use crate::board::SERVICE_PORT;
use crate::board::lab::{self, Coordinator, NODE, Parts};
use crate::board::results::{Results, Row};
use crate::fleet::Outcome;

/// What this board's disk, kernel and Docker are known to be.
const WELL: [&str; 10] = [
    "joined",
    "agent",
    "identity-of-this-board",
    "memory-cgroup",
    "cgroup-version",
    "engine-limits",
    "rtc",
    "disk-space",
    "listen-ports",
    "firewall-ports",
];

pub(super) fn run(parts: &Parts, _: &Results) -> Vec<Row> {
    let (board, coordinator) = lab::serving(parts, "doctor");
    // Years before the fleet was made.
    board.must("systemctl stop systemd-timesyncd; date --set=2020-01-01");
    let (code, found) = on_board(&board);
    assert_eq!((code, severity(&found, "clock")), (1, "problem"), "{found:#}");
    let mend = text(&found, "clock", "mend").to_owned();
    let command = mend.split('`').nth(1).unwrap_or_default();
    board.must(command);
    let (code, found) = on_board(&board);
    assert_eq!((code, severity(&found, "clock")), (0, "ok"), "after `{command}`: {found:#}");
    for id in WELL {
        assert_eq!(severity(&found, id), "ok", "{id}: {found:#}");
    }
    let count = found["findings"].as_array().map_or(0, Vec::len);
    let odd: Vec<&str> = found["findings"]
        .as_array()
        .into_iter()
        .flatten()
        .filter(|one| one["severity"] != "ok")
        .filter_map(|one| one["id"].as_str())
        .collect();

    let (mut code, mut afar) = from_afar(&coordinator);
    if severity(&afar, "clock") == "problem" {
        // What is asked on the board is the time that was written down last, an hour ago maybe; the agent has heard of a newer one since.
        let again = text(&afar, "clock", "mend").split('`').nth(1).unwrap_or_default().to_owned();
        board.must(&again);
        (code, afar) = from_afar(&coordinator);
    }
    assert_eq!((code, severity(&afar, "memory-cgroup")), (0, "ok"), "{afar:#}");
    assert_eq!(severity(&afar, "identity-clone"), "ok", "the coordinator's word: {afar:#}");
    assert_eq!(severity(&afar, "firewall-ports"), "unknown", "root alone reads rules: {afar:#}");

    board.must(&format!(
        "nft 'add table inet closed; add chain inet closed in {{ type filter hook input priority 0; }}; \
         add rule inet closed in tcp dport {SERVICE_PORT} drop'"
    ));
    let (code, closed) = on_board(&board);
    assert_eq!((code, severity(&closed, "firewall-ports")), (1, "problem"), "{closed:#}");
    vec![
        Row::held("a clock of 2020, mended by the command that is told", command),
        Row::held("checks on the board, not ok", format!("{count}: {}", odd.join(", "))),
        Row::held("`pith node doctor`", "the same, firewall unknown"),
        Row::held("a rule that drops a service's port", text(&closed, "firewall-ports", "seen")),
    ]
}

fn on_board(board: &Board) -> (i32, Value) {
    read(&board.run("pith-agent doctor -o json"))
}

fn from_afar(coordinator: &Coordinator) -> (i32, Value) {
    read(&coordinator.pith(&["node", "doctor", NODE, "-o", "json"]))
}

fn read(outcome: &Outcome) -> (i32, Value) {
    let found = serde_json::from_str(&outcome.stdout);
    (outcome.code, found.unwrap_or_else(|error| panic!("{error}: {outcome:?}")))
}

fn of<'a>(found: &'a Value, id: &str) -> &'a Value {
    let findings = found["findings"].as_array().into_iter().flatten();
    let mut of_it = findings.filter(|one| one["id"] == id);
    of_it.next().unwrap_or_else(|| panic!("{id} was looked at: {found:#}"))
}

fn severity<'a>(found: &'a Value, id: &str) -> &'a str {
    of(found, id)["severity"].as_str().unwrap_or_default()
}

fn text<'a>(found: &'a Value, id: &str, key: &str) -> &'a str {
    of(found, id)[key].as_str().unwrap_or_default()
}
