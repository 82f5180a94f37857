//! The fleet as a real Prometheus reads it, with the files that people copy and the certificate of a viewer, as docs/monitoring.md
//! has it; and promtool's word on the text, the files and the alerts.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::Value;
use tests::fleet::{Fleet, Outcome, pith};
use tests::http::{free_port, get};
use tests::services::Service;
use tests::skip;
use tests::wait::{until, until_true};

const SOON: Duration = Duration::from_secs(60);
const REQUESTS: u32 = 5;

fn shipped(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../config/monitoring").join(name)
}

fn promtool(args: &[&str], input: &str) -> Outcome {
    let mut child = Command::new("promtool")
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    Outcome::of(&child.wait_with_output().unwrap())
}

/// The answer to GET `/metrics` on the coordinator's socket, as whoever runs it.
fn scraped(fleet: &Fleet, accept: &str) -> String {
    let mut stream = UnixStream::connect(fleet.data().join("pith.sock")).unwrap();
    let head = format!("GET /metrics HTTP/1.0\r\nhost: pith\r\naccept: {accept}\r\n\r\n");
    stream.write_all(head.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.0 200"), "{answer}");
    answer.split_once("\r\n\r\n").unwrap().1.to_owned()
}

/// A Prometheus of the shipped files; ended when dropped.
struct Prometheus {
    child: Child,
    address: SocketAddr,
}

impl Prometheus {
    /// Who logs in with `XDG_CONFIG_HOME` in `folder`, and the two things filled in that docs/monitoring.md names.
    fn start(fleet: &Fleet, folder: &Path) -> Self {
        let shown = fleet.json(&["operator", "invite", "prometheus", "--role", "viewer"]);
        let token = shown["token"].as_str().unwrap();
        let login = pith(folder, &["login", token])
            .env_remove("PITH_DATA")
            .env("XDG_CONFIG_HOME", folder)
            .output();
        let _ = Outcome::of(&login.unwrap()).expect_code(0);
        let label = fleet.label();
        let id = label.split_once('=').unwrap().1;
        let profile = fs::read_to_string(folder.join("pith").join(id).join("operator.json"));
        let profile: Value = serde_json::from_str(&profile.unwrap()).unwrap();
        let coordinator = profile["addresses"][0].as_str().unwrap();
        let config = fs::read_to_string(shipped("prometheus.yml")).unwrap();
        let config = config
            .replace("coordinator.example:8883", coordinator)
            .replace("/var/lib/prometheus", &folder.display().to_string())
            .replace("FLEET", id)
            .replace("20s", "1s");
        fs::write(folder.join("prometheus.yml"), config).unwrap();
        fs::copy(shipped("alerts.yml"), folder.join("alerts.yml")).unwrap();
        let config = folder.join("prometheus.yml").display().to_string();
        let _ = promtool(&["check", "config", &config], "").expect_code(0);
        let address: SocketAddr = ([127, 0, 0, 1], free_port()).into();
        let child = Command::new("prometheus")
            .arg(format!("--config.file={config}"))
            .arg(format!("--storage.tsdb.path={}", folder.join("tsdb").display()))
            .arg(format!("--web.listen-address={address}"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(fs::File::create(folder.join("prometheus.log")).unwrap())
            .spawn()
            .unwrap();
        Self { child, address }
    }

    /// What a query gives now; none while Prometheus does not answer.
    fn query(&self, expression: &str) -> Option<Value> {
        let mut encoded = String::new();
        for byte in expression.bytes() {
            encoded += &format!("%{byte:02x}");
        }
        let (_, body) = get(self.address, &format!("/api/v1/query?query={encoded}")).ok()?;
        // Its answer may be in chunks: what is between the first and the last brace of each is the document.
        let document = unchunked(&body);
        let answer: Value = serde_json::from_str(&document).ok()?;
        assert_eq!(answer["status"], "success", "{expression}: {answer}");
        Some(answer["data"]["result"].clone())
    }

    /// The first value of a query; none: no series.
    fn value(&self, expression: &str) -> Option<String> {
        let result = self.query(expression)?;
        result[0]["value"][1].as_str().map(str::to_owned)
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A body without the sizes of its chunks, where it has some.
fn unchunked(body: &str) -> String {
    if body.starts_with('{') {
        return body.to_owned();
    }
    let (mut rest, mut whole) = (body, String::new());
    while let Some((size, after)) = rest.split_once("\r\n") {
        let size = usize::from_str_radix(size.trim(), 16).unwrap_or(0);
        let Some(chunk) = after.get(..size).filter(|_| size > 0) else { break };
        whole += chunk;
        rest = after[size..].trim_start_matches("\r\n");
    }
    whole
}

#[test]
fn alerts_fire_when_they_should_and_the_files_are_what_prometheus_reads() {
    if !skip::has("promtool") {
        return;
    }
    let path = |name: &str| shipped(name).display().to_string();
    let _ = promtool(&["check", "rules", &path("alerts.yml")], "").expect_code(0);
    let _ = promtool(&["test", "rules", &path("alerts_test.yml")], "").expect_code(0);
    let syntax = ["check", "config", "--syntax-only", &path("prometheus.yml")];
    let _ = promtool(&syntax, "").expect_code(0);
    // An alert that names no command leaves people alone at night.
    let alerts = fs::read_to_string(shipped("alerts.yml")).unwrap();
    let summaries: Vec<&str> = alerts.lines().filter(|line| line.contains("summary: ")).collect();
    assert_eq!(summaries.len(), alerts.matches("- alert: ").count());
    assert!(summaries.iter().all(|one| one.contains("Next: `pith ")), "{summaries:?}");
}

#[test]
fn prometheus_reads_the_fleet_with_a_viewers_certificate() {
    if !["docker", "prometheus", "promtool"].into_iter().all(skip::has) {
        return;
    }
    let fleet = Fleet::start(2);
    let port = free_port();
    let _ = fleet.deploy(&Service::new("web", port)).expect_code(0);
    for _ in 0..REQUESTS {
        assert_eq!(get(fleet.address(1, port), "/").unwrap().0, 200);
    }
    let folder = fleet.scratch().join("prometheus");
    fs::create_dir(&folder).unwrap();
    let prometheus = Prometheus::start(&fleet, &folder);

    let is = |expression: &str, wanted: &str| {
        until_true(&format!("{expression} is {wanted}"), SOON, || {
            prometheus.value(expression).as_deref() == Some(wanted)
        });
    };
    is("up{job=\"pith\"}", "1");
    is("sum(pith_node_up)", "2");
    is("pith_service_instances{service=\"web\",environment=\"default\",state=\"ready\"}", "2");
    is("pith_rollout_state{service=\"web\",state=\"succeeded\"}", "1");
    is("pith_rollouts_total{state=\"succeeded\"}", "1");
    is("count(pith_instance_restarts_total{service=\"web\"})", "2");
    let asked = "sum(pith_service_requests_total{service=\"web\",node=\"node-1\"})";
    is(asked, &REQUESTS.to_string());
    is(
        "count(pith_certificate_expiry_timestamp_seconds{holder=~\"scraper|coordinator\"} > time())",
        "2",
    );
    let used = until("memory is told", SOON, || {
        prometheus.value("pith_node_memory_used_bytes{node=\"node-1\"}")
    });
    assert!(used.parse::<f64>().unwrap() > 1e6, "{used}");

    // Both formats, as promtool reads them.
    let text = scraped(&fleet, "text/plain");
    let checked = promtool(&["check", "metrics"], &text);
    assert_eq!((checked.code, checked.stderr.as_str()), (0, ""), "{checked:?}\n{text}");
    assert!(scraped(&fleet, "application/openmetrics-text").ends_with("# EOF\n"));

    every_panel_can_be_asked(&prometheus);
    is("sum(pith_metrics_dropped_series)", "0");
    let _ = fleet.pith(&["operator", "revoke", "prometheus"]).expect_code(0);
    is("up{job=\"pith\"}", "0");
    assert_eq!(fleet.stop(), 0);
}

/// Every question of the dashboard is one that Prometheus understands, with the variables that Grafana fills in.
fn every_panel_can_be_asked(prometheus: &Prometheus) {
    let dashboard = fs::read_to_string(shipped("grafana-dashboard.json")).unwrap();
    let dashboard: Value = serde_json::from_str(&dashboard).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let mut asked = 0;
    for target in panels.iter().flat_map(|panel| panel["targets"].as_array().into_iter().flatten())
    {
        let expression = target["expr"].as_str().unwrap().replace("$node", ".*");
        let expression = expression.replace("$service", ".*");
        assert_eq!(target["datasource"]["uid"], "${datasource}");
        assert!(prometheus.query(&expression).is_some(), "{expression}");
        asked += 1;
    }
    assert!(asked > 20, "{asked}");
}
