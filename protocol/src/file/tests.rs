//! Service files: what is read, and what is refused where.

use super::*;
use crate::id::PortName;
use crate::spec::{Check, Listen, OnFailure, PortProtocol, Scheduling, Share, Strategy, Ulimit};
use crate::units::{Bytes, MilliCpu, Millis};

const FULL: &str = r#"
name = "graphics-gateway"
image = "registry.local:5000/graphics-gateway:v2.0.0"
replicas = 4
env = { RUST_LOG = "info" }
entrypoint = ["/app"]
command = ["--listen", "5000"]
user = "1000:1000"
working_dir = "/srv"
read_only = true
init = false
cap_drop = ["ALL", "cap_net_raw"]
tmpfs = ["/tmp", "/run:size=16Mi"]
ulimits = { nofile = 65536, nproc = { soft = 64, hard = 128 } }
labels = { team = "graphics" }
stop_grace = "20s"
depends_on = ["world-state"]
uses = ["chat-service"]

[[ports]]
name = "game"
listen = 5000
target = 5000
protocol = "http"

[[ports]]
name = "raw"
listen = "127.0.0.1:5001"
target = 5001
protocol = "tcp"
proxy_protocol = true

[health.startup]
tcp = {}
failure_threshold = 30
[health.readiness]
http = { path = "/ready", port = 8080 }
initial_delay = "5s"
period = "3s"
failure_threshold = 2
[health.liveness]
exec = ["/app", "check"]

[resources]
requests = { memory = "64Mi", cpu = "100m" }
limits = { memory = "128Mi", cpu = 0.5 }

[rollout]
strategy = "rolling"
max_surge = "25%"
max_unavailable = 1
batch = 2
min_ready = "5s"
progress_deadline = "5m"
on_failure = "pause"
revision_history_limit = 3
drain = "10s"
hold_requests = "15s"

[placement]
nodes = { zone = "edge" }
spread = "node"

[[volumes]]
name = "data"
path = "/data"
"#;

/// The messages of a text that must be refused.
fn refused(text: &str) -> String {
    parse("web.toml", text).expect_err("the file is wrong").to_string()
}

/// The one message of a text that must be refused for one thing.
fn problem(text: &str) -> Problem {
    let error = parse("web.toml", text).expect_err("the file is wrong");
    assert_eq!(error.problems.len(), 1, "{error}");
    error.problems.into_iter().next().expect("one")
}

fn read(text: &str) -> ServiceFile {
    parse("web.toml", text).unwrap_or_else(|error| panic!("{error}"))
}

#[test]
fn every_key_of_the_design_that_is_built_is_read() {
    let file = read(FULL);
    let spec = &file.spec;
    assert_eq!(file.image.as_deref(), Some("registry.local:5000/graphics-gateway:v2.0.0"));
    assert_eq!(spec.scheduling, Scheduling::Replicas(4));
    assert_eq!(spec.container.env["RUST_LOG"], "info");
    assert_eq!(spec.container.entrypoint.as_deref(), Some(&["/app".to_owned()][..]));
    assert_eq!(spec.container.user.as_deref(), Some("1000:1000"));
    assert!(spec.container.read_only && !spec.container.init);
    assert!(spec.container.cap_drop.contains("NET_RAW") && spec.container.cap_drop.contains("ALL"));
    assert_eq!(spec.container.tmpfs["/tmp"], None);
    assert_eq!(spec.container.tmpfs["/run"], Some(Bytes(16 << 20)));
    assert_eq!(spec.container.ulimits["nofile"], Ulimit { soft: 65536, hard: 65536 });
    assert_eq!(spec.container.ulimits["nproc"], Ulimit { soft: 64, hard: 128 });
    assert_eq!(spec.stop_grace, Millis::from_secs(20));
    assert_eq!(spec.ports[0].listen, Some(Listen { address: None, port: 5000 }));
    assert_eq!(spec.ports[1].protocol, PortProtocol::Tcp);
    assert!(spec.ports[1].proxy_protocol);
    let startup = spec.health.startup.as_ref().expect("written");
    assert_eq!(startup.check, Check::Tcp { port: 5000 });
    let readiness = spec.health.readiness.as_ref().expect("written");
    assert_eq!(readiness.check, Check::Http { path: "/ready".to_owned(), port: 8080 });
    assert_eq!((readiness.period, readiness.timeout), (Millis(3000), Millis(1000)));
    assert_eq!((readiness.success_threshold, readiness.failure_threshold), (1, 2));
    assert_eq!(spec.resources.limits.cpu, Some(MilliCpu(500)));
    assert_eq!(spec.rollout.max_surge, Share::Percent(25));
    assert_eq!(spec.rollout.on_failure, OnFailure::Pause);
    assert_eq!(spec.placement.labels["zone"], "edge");
    assert!(spec.is_exclusive());
    assert_eq!(file.warnings.len(), 1, "the exec probe is warned about");
    let json = serde_json::to_string(spec).expect("a spec serialises");
    assert_eq!(serde_json::from_str::<ServiceSpec>(&json).expect("and reads"), *spec);
}

#[test]
fn what_is_not_written_has_the_documented_default() {
    let spec = read("name = \"web\"\n[[ports]]\ntarget = 80\n").spec;
    assert_eq!(spec.scheduling, Scheduling::Replicas(1));
    assert!(spec.container.init);
    assert_eq!(spec.stop_grace, Millis::from_secs(10));
    assert_eq!(spec.ports[0].name, "http".parse::<PortName>().expect("a label"));
    assert_eq!(spec.ports[0].protocol, PortProtocol::Http);
    assert_eq!(spec.health, crate::spec::Health::default());
    let rollout = spec.rollout;
    assert_eq!(rollout.strategy, Strategy::Rolling);
    assert_eq!((rollout.max_surge, rollout.max_unavailable), (Share::Count(1), Share::Count(0)));
    assert_eq!((rollout.batch, rollout.min_ready), (Share::Count(1), Millis(0)));
    assert_eq!(rollout.progress_deadline, Millis::from_secs(600));
    assert_eq!((rollout.drain, rollout.hold_requests), (Millis(30_000), Millis(30_000)));
    assert_eq!((rollout.on_failure, rollout.revision_history_limit), (OnFailure::Rollback, 10));
}

#[test]
fn all_problems_are_told_at_once_in_the_order_of_the_text() {
    let error =
        parse("web.toml", "name = \"web\"\nreplcas = 4\nstop_grace = 5\n[rollout]\nbatch = true\n")
            .expect_err("three mistakes");
    let places: Vec<_> =
        error.problems.iter().map(|p| (p.line, p.column, p.key.as_str())).collect();
    assert_eq!(places, [(2, 1, "replcas"), (3, 14, "stop_grace"), (5, 9, "rollout.batch")]);
}

#[test]
fn an_unknown_key_is_shown_with_the_nearest_known_one() {
    let expected = "\
error: unknown key `replcas`
 --> web.toml:2:1
  |
2 | replcas = 4
  | ^^^^^^^ did you mean `replicas`?";
    assert_eq!(refused("name = \"web\"\nreplcas = 4\n"), expected);
}

#[test]
fn a_cycle_over_files_is_named_with_its_path() {
    let file = |name: &str, on: &str| {
        let text = format!("name = \"{name}\"\ndepends_on = [\"{on}\"]\n");
        parse(&format!("{name}.toml"), &text).unwrap_or_else(|error| panic!("{error}"))
    };
    let (a, b, c) = (file("a", "b"), file("b", "c"), file("c", "a"));
    let error = check_together(&[&a, &b, &c], &[]).expect_err("a cycle");
    assert_eq!(error.problems.len(), 1, "{error}");
    assert_eq!(error.problems[0].message, "a cycle: a -> b -> c -> a");
    assert_eq!((error.problems[0].file.as_str(), error.problems[0].line), ("a.toml", 2));
    let deployed = check_together(&[&c], &[&a.spec, &b.spec]).expect_err("a cycle");
    assert_eq!(deployed.problems[0].message, "a cycle: c -> a -> b -> c");
    let unknown = check_together(&[&a], &[]).expect_err("b is missing");
    assert!(unknown.problems[0].message.contains("which does not exist"), "{unknown}");
}

#[test]
fn a_listening_port_of_two_services_is_refused_unless_they_never_meet() {
    let file = |name: &str, listen: &str, rest: &str| {
        let text = format!("name = \"{name}\"\n[[ports]]\nlisten = {listen}\ntarget = 80\n{rest}");
        parse(&format!("{name}.toml"), &text).unwrap_or_else(|error| panic!("{error}"))
    };
    let on = |node: &str| format!("[placement]\nnodes = [\"{node}\"]\n");
    let check = |one: &ServiceFile, two: &ServiceFile| check_together(&[one, two], &[]).is_err();
    assert!(check(&file("a", "80", ""), &file("b", "80", "")));
    assert!(check(&file("a", "80", ""), &file("b", "\"127.0.0.1:80\"", "")));
    assert!(!check(&file("a", "\"127.0.0.2:80\"", ""), &file("b", "\"127.0.0.1:80\"", "")));
    assert!(!check(&file("a", "80", &on("one")), &file("b", "80", &on("two"))));
    let deployed = file("a", "80", "").spec;
    assert!(check_together(&[&file("b", "80", "")], &[&deployed]).is_err());
    assert!(check_together(&[&file("a", "80", "")], &[&deployed]).is_ok(), "its own port");
}

#[test]
fn a_broken_file_is_told_by_line_and_never_panics() {
    let broken = problem("name = \"web\"\nreplicas = \n");
    assert_eq!(broken.line, 2);
    for text in
        ["", "\u{feff}name = \"web\"", "a\0b", "[", "[[", "=", "\"", "name = 1\r\n", "é = \"ü"]
    {
        let _ = parse("web.toml", text).map_err(|error| error.to_string());
    }
    let long = format!("name = \"{}\"", "é".repeat(300));
    assert!(problem(&long).to_string().lines().all(|line| line.chars().count() <= 450));
}
