//! The text itself, letter by letter, and what a node can do to it: nothing.

use std::collections::BTreeSet;

use serde_json::{Value as Json, json};

use super::{Format, MAX_SERIES_PER_NODE, Own};
use crate::state::measured::{Measured, NodeMeasured, ServiceMeasured};

/// Of `pith_service_latency_seconds`: what a node counted within 6 ms, 9 ms and above everything.
const LATENCY: [(u64, u64); 3] = [(6, 7), (9, 2), (u64::MAX, 1)];

fn load() -> Json {
    json!({
        "seen": {"epoch": 1, "generation": 3}, "cpu": 0.25, "load1": 0.5, "mem_used": 100, "mem_total": 400,
        "disk_used": 7, "disk_total": 10, "temp_c": 51.5, "up_s": 90,
        "traffic": [{
            "service": "web", "release": "ab".repeat(32), "requests": 10, "errors": 1, "latency_ms": LATENCY,
            "restarts": 0, "unready": 0, "memory_percent": null,
        }],
        "board": {
            "kernel": "6.1.0", "engine": "27.1", "cores": [0.5], "iowait": 0.1, "steal": 0.0, "swap_used": 1, "swap_total": 2,
            "zram_stored": 3, "zram_used": 1, "pressure": {"cpu": 0.1, "memory": 0.2, "io": 0.3}, "inodes_used": 5,
            "inodes_total": 9, "disk_read": 11, "disk_written": 12, "net_in": 13, "net_out": 14, "zones": [["cpu", 51.5]],
            "mhz": 816, "mhz_max": 1512, "throttled": false,
        },
        "instances": [{
            "service": "web", "instance": "pith-1-web-0", "cpu": 0.5, "mem_used": 20, "mem_max": 64, "net_in": 1, "net_out": 2,
            "restarts": 3, "ooms": 1,
        }],
    })
}

fn node(name: &str, load: &Json) -> NodeMeasured {
    let shown = json!({
        "id": "00000000000000000000000000000001", "name": name, "environment": "default", "status": "ready", "labels": {},
        "address": "10.0.0.7", "agent_version": "0.1.0", "capacity": {"architecture": "arm64", "cores": 4, "memory_bytes": 400},
        "load": load, "heard_ms": 1_700_000_000_250_u64, "seen": {"epoch": 1, "generation": 3}, "generation": 3, "refused": {},
        "services": ["web"], "certificate_expires_at": 1_800_000_000, "alarms": [{"reason": "no_time", "message": "-"}],
    });
    NodeMeasured { online: true, shown: serde_json::from_value(shown).unwrap() }
}

fn web() -> ServiceMeasured {
    let on = json!({
        "node": "opi-1", "online": true, "heard_ms": 1, "desired": 2, "ready": 1, "phase": "running", "reason": null, "message": null,
        "settled": true,
        "instances": [{
            "name": "pith-1-web-0", "slot": 0, "release": "ab".repeat(32), "template": "cd".repeat(32), "state": "ready", "restarts": 3,
        }],
    });
    let shown = json!({
        "environment": "default", "name": "web", "revision": 2, "image": "web:v2", "rollout": "in_progress", "desired": 2,
        "ready": 1, "count_override": null, "settled": false, "why": "", "nodes": [on],
    });
    ServiceMeasured { shown: serde_json::from_value(shown).unwrap(), updated: 1 }
}

fn fleet(node: NodeMeasured) -> Measured {
    let rollouts = [("succeeded", 4), ("failed", 0)].into();
    Measured { nodes: vec![node], services: vec![web()], rollouts }
}

fn own() -> Own {
    let scraper = Some(("prometheus".to_owned(), 1_700_000_900));
    Own { certificate_until: Some(1_700_000_500), scraper, answered: [0, 9, 0, 2, 1] }
}

/// In one piece.
fn text(fleet: &Measured, own: &Own, format: Format) -> String {
    super::text(fleet, own, format).concat()
}

/// Lines that begin so.
fn told<'a>(text: &'a str, start: &str) -> Vec<&'a str> {
    text.lines().filter(|line| line.starts_with(start)).collect()
}

#[test]
fn a_fleet_is_told_letter_by_letter() {
    let said = text(&fleet(node("opi-1", &load())), &own(), Format::Text);
    assert_eq!(
        said,
        include_str!("tests/fleet.prom").replace("VERSION", env!("CARGO_PKG_VERSION"))
    );
}

#[test]
fn openmetrics_names_units_families_without_suffix_and_its_end() {
    let said = text(&fleet(node("opi-1", &load())), &own(), Format::OpenMetrics);
    let parts = [
        "# TYPE pith_build info\npith_build_info{version=",
        "# TYPE pith_api_requests counter\npith_api_requests_total{status=\"1xx\"} 0\n",
        "# TYPE pith_node_memory_used_bytes gauge\n# UNIT pith_node_memory_used_bytes bytes\npith_node_memory_used_bytes{",
        "# TYPE pith_node info\npith_node_info{node=\"opi-1\",environment=\"default\"",
        "# TYPE pith_service_latency_seconds histogram\n# UNIT pith_service_latency_seconds seconds\n",
    ];
    for part in parts {
        assert!(said.contains(part), "`{part}` is not in {said}");
    }
    assert!(said.ends_with("\n# EOF\n"));
    assert!(!said.contains("pith_service_latency_seconds_count"), "no count without a sum");
}

#[test]
fn what_a_node_has_not_said_is_no_series() {
    let silent = json!({
        "seen": {"epoch": 1, "generation": 3}, "cpu": null, "load1": null, "mem_used": null, "mem_total": null,
        "disk_used": null, "disk_total": null, "temp_c": null, "up_s": 90,
    });
    let said = text(&fleet(node("opi-1", &silent)), &own(), Format::Text);
    let named: BTreeSet<&str> =
        told(&said, "pith_node_").iter().filter_map(|l| l.split('{').next()).collect();
    let known = [
        "pith_node_alarm",
        "pith_node_cpu_cores",
        "pith_node_info",
        "pith_node_last_heard_timestamp_seconds",
        "pith_node_status",
        "pith_node_up",
        "pith_node_uptime_seconds",
    ];
    assert_eq!(named, known.into());
    assert_eq!(
        told(&said, "pith_node_info"),
        [
            "pith_node_info{node=\"opi-1\",environment=\"default\",agent_version=\"0.1.0\",architecture=\"arm64\"} 1"
        ]
    );
    let never = text(&fleet(node("opi-1", &Json::Null)), &own(), Format::Text);
    assert_eq!(told(&never, "pith_node_uptime_seconds"), [""; 0]);
}

#[test]
fn a_node_that_is_not_heard_of_keeps_no_load() {
    let away = NodeMeasured { online: false, ..node("opi-1", &load()) };
    let said = text(&fleet(away), &own(), Format::Text);
    assert_eq!(told(&said, "pith_node_up{"), ["pith_node_up{node=\"opi-1\"} 0"]);
    let of_it: Vec<&str> = said.lines().filter(|line| line.contains("node=\"opi-1\"")).collect();
    let names: Vec<&str> = of_it.iter().filter_map(|line| line.split('{').next()).collect();
    let kept = [
        "pith_node_info",
        "pith_node_up",
        "pith_node_status",
        "pith_node_last_heard_timestamp_seconds",
        "pith_metrics_dropped_series",
    ];
    assert_eq!(names, kept);
}

#[test]
fn a_node_that_lies_breaks_no_line_and_names_nothing_twice() {
    let mut lying = load();
    lying["board"]["kernel"] = json!("6.1\"} 1\npith_node_up{node=\"other\\\u{1b}[2J\u{7f}");
    lying["board"]["zones"] =
        json!([["a\u{0}", 1.0], ["a", 2.0], ["b".repeat(500), 3.0], ["hot", 1e39]]);
    let said = text(&fleet(node("opi-1", &lying)), &own(), Format::Text);
    assert!(
        said.contains("kernel=\"6.1\\\"} 1\\npith_node_up{node=\\\"other\\\\[2J\",engine="),
        "{said}"
    );
    assert!(said.chars().all(|letter| letter == '\n' || !letter.is_control()));
    assert_eq!(told(&said, "pith_node_up{"), ["pith_node_up{node=\"opi-1\"} 1"]);
    let long =
        format!("pith_node_temperature_celsius{{node=\"opi-1\",zone=\"{}\"}} 3", "b".repeat(128));
    let zones = ["pith_node_temperature_celsius{node=\"opi-1\",zone=\"a\"} 1", &long];
    assert_eq!(told(&said, "pith_node_temperature_celsius{"), zones);
    assert_eq!(
        told(&said, "pith_metrics_dropped"),
        ["pith_metrics_dropped_series{node=\"opi-1\"} 1"]
    );
}

#[test]
fn of_one_node_only_so_many_series_are_told_and_the_rest_is_counted() {
    let mut many = load();
    let zones: Vec<Json> = (0..2_000).map(|zone| json!([format!("zone-{zone}"), 1.0])).collect();
    many["board"]["zones"] = json!(zones);
    let said = text(&fleet(node("opi-1", &many)), &own(), Format::Text);
    let of_it = said.lines().filter(|line| line.contains("\"opi-1\"")).count();
    assert_eq!(of_it, MAX_SERIES_PER_NODE + 1, "and how many are missing");
    let before = text(&fleet(node("opi-1", &load())), &own(), Format::Text);
    let wanted = before.lines().filter(|line| line.contains("\"opi-1\"")).count() - 2 + 2_000;
    let dropped =
        format!("pith_metrics_dropped_series{{node=\"opi-1\"}} {}", wanted - MAX_SERIES_PER_NODE);
    assert_eq!(told(&said, "pith_metrics_dropped"), [dropped]);
}

#[test]
fn prometheus_gets_openmetrics_and_others_what_they_ask_for() {
    let prometheus = "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,\
                      text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
    for (accept, format) in [
        (prometheus, Format::OpenMetrics),
        ("", Format::Text),
        ("*/*", Format::Text),
        ("text/plain, application/openmetrics-text;q=0.3", Format::Text),
        ("application/openmetrics-text; q=0", Format::Text),
        ("application/openmetrics-text; q=many", Format::Text),
    ] {
        assert_eq!(Format::wanted(accept), format, "{accept}");
    }
}

/// Words of a text that begin with `pith_`, as metrics are written.
fn names(text: &str) -> BTreeSet<&str> {
    let is_of_a_name = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
    text.split(|letter| !is_of_a_name(letter)).filter(|word| word.starts_with("pith_")).collect()
}

/// A renamed metric would leave an alert that never fires.
#[test]
fn alerts_dashboard_and_page_name_only_what_is_told() {
    let said = text(&fleet(node("opi-1", &load())), &own(), Format::Text);
    let told: BTreeSet<&str> = names(&said);
    let files = [
        include_str!("../../../config/monitoring/alerts.yml"),
        include_str!("../../../config/monitoring/alerts_test.yml"),
        include_str!("../../../config/monitoring/grafana-dashboard.json"),
        include_str!("../../../docs/monitoring.md"),
    ];
    for file in files {
        let named = names(file);
        let unknown: Vec<&&str> = named.difference(&told).collect();
        assert!(unknown.is_empty(), "{unknown:?}");
        assert!(named.len() > 5);
    }
    // And all that is told has its line in the page.
    let page = names(include_str!("../../../docs/monitoring.md"));
    let samples: BTreeSet<&str> = said
        .lines()
        .filter(|l| l.starts_with("pith_"))
        .filter_map(|l| l.split(['{', ' ']).next())
        .collect();
    let hidden = |name: &&&str| name.ends_with("_bucket") || name.ends_with("_count");
    let missing: Vec<&&str> = samples.difference(&page).filter(|name| !hidden(name)).collect();
    assert!(missing.is_empty(), "docs/monitoring.md does not have {missing:?}");
}
