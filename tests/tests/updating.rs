//! Agents are exchanged under load: a good one stays, a bad one goes within three starts, and no application notices either.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use load::{Config, Load};
use serde_json::Value;
use tests::boards::Boards;
use tests::docker;
use tests::fleet::binaries;
use tests::http::free_port;
use tests::skip;
use tests::spoilt;
use tests::supervised::Supervised;
use tests::wait::until_true;

/// Stable for a minute, and what a busy machine adds.
const CONFIRMED: Duration = Duration::from_secs(150);
const SOON: Duration = Duration::from_secs(40);

/// The agent that was built, small enough to be released.
fn agent(dir: &Path, version: &str, fate: &str) -> PathBuf {
    let file = dir.join("pith-agent");
    let built = binaries().join("pith-agent");
    let stripped = Command::new("strip").arg("-o").arg(&file).arg(built).status();
    assert!(stripped.unwrap().success(), "strip is of binutils");
    spoilt::with_fate(&file, dir, version, fate)
}

struct Updating {
    boards: Boards,
    proxy: Supervised,
    agent: Supervised,
    load: Load,
    containers: String,
    began: Instant,
}

impl Updating {
    fn start() -> Self {
        let boards = Boards::start();
        boards.install(1);
        assert!(boards.join(1, &boards.token(&["--approve"])).status.success());
        let folder = boards.path("board-1");
        let config = folder.join("agent.toml");
        let launch = |role: &'static [&'static str]| {
            let config = config.clone();
            move || {
                let mut command = Command::new(binaries().join("pith-agent"));
                command.arg("launch").args(role).arg("--config").arg(&config).env("NO_COLOR", "1");
                command
            }
        };
        let proxy = Supervised::start("proxy", &folder, launch(&["proxy"]));
        let agent = Supervised::start("agent", &folder, launch(&[]));
        boards.wait_ready(1);
        let port = free_port();
        boards.deploy(&format!(
            "name = \"hello\"\nimage = \"pith-demo:v1\"\nper_node = 2\nstop_grace = \"2s\"\n\
             [[ports]]\nname = \"http\"\nlisten = {port}\ntarget = 8080\n"
        ));
        let load = Load::start(Config {
            targets: vec![boards.at(1, port)],
            path: "/".to_owned(),
            kept_connections: 4,
            kept_rate: 40,
            new_rate: 40,
            websockets: 0,
        });
        let containers = containers(&boards);
        assert!(!containers.is_empty());
        Self { boards, proxy, agent, load, containers, began: Instant::now() }
    }

    fn release(&self, version: &str, fate: &str) {
        let file = agent(&self.boards.path(""), version, fate);
        let file = file.to_string_lossy();
        let _ = self.boards.pith(&["agent", "release", "--any-linking", &file]).expect_code(0);
    }

    fn node(&self) -> Value {
        self.boards.json(&["node", "ls"])["nodes"][0].clone()
    }

    /// Nothing that runs has noticed.
    #[track_caller]
    fn check_untouched(&self) {
        assert_eq!(containers(&self.boards), self.containers);
        let summary = self.load.summary(self.began, Instant::now());
        assert!(summary.sent > 100, "{}", summary.sent);
        assert_eq!(summary.failed, 0, "{:?}", summary.errors);
    }
}

/// Ids, ordered.
fn containers(boards: &Boards) -> String {
    let all = docker::containers(&boards.label);
    let mut ids: Vec<String> = all.into_iter().map(|one| one.id).collect();
    ids.sort();
    ids.join(" ")
}

#[test]
fn a_good_agent_stays_a_bad_one_goes_within_three_starts_and_no_application_notices() {
    if !skip::has("docker") {
        return;
    }
    let of = Updating::start();
    let first_proxy = of.proxy.pid();

    of.release("0.1.1", "none");
    let done = of.boards.pith(&["agent", "rollout", "--timeout", "150s"]).expect_code(0);
    assert!(done.stdout.contains("0.1.1") && done.stdout.contains("succeeded"), "{done:?}");
    assert_eq!(of.node()["agent_version"], "0.1.1");
    assert_eq!(of.node()["agent_target"], Value::Null);
    assert!(of.agent.program().ends_with("state/agent/a"), "{:?}", of.agent.program());
    until_true("the proxy is exchanged", SOON, || of.proxy.program().ends_with("state/agent/a"));
    assert_ne!(of.proxy.pid(), first_proxy);
    assert_eq!(of.proxy.starts(), 1, "it handed over, and was not started again");
    of.check_untouched();

    for (version, fate) in [("0.1.2", "fall"), ("0.1.3", "hang")] {
        of.release(version, fate);
        let starts = of.agent.starts();
        let back = of.boards.pith(&["agent", "rollout", "--timeout", "150s"]).expect_code(3);
        assert!(back.stdout.contains("reverted"), "{back:?}");
        // One to end, three of the bad one, one of the former.
        assert!(of.agent.starts() - starts <= 4, "{}", of.agent.starts() - starts);
        let node = of.node();
        assert_eq!(node["agent_version"], "0.1.1");
        assert_eq!(node["agent_target"]["phase"], "reverted", "{node}");
        let shown = of.boards.pith(&["node", "ls"]).stdout;
        assert!(shown.contains(&format!("0.1.1 -> {version} (reverted")), "{shown}");
        of.check_untouched();
    }

    // The coordinator is away while a good one is tried: it is not to blame, and confirmed once that is back.
    let mut of = of;
    of.release("0.1.4", "none");
    let _ = of.boards.pith(&["agent", "rollout", "--detach"]).expect_code(0);
    until_true("the new one runs", SOON, || of.agent.program().ends_with("state/agent/b"));
    of.boards.kill_coordinator();
    std::thread::sleep(Duration::from_secs(5));
    of.boards.start_coordinator();
    until_true("it is confirmed", CONFIRMED, || {
        of.node()["agent_version"] == "0.1.4" && of.node()["agent_target"].is_null()
    });
    of.check_untouched();

    // Back to the one before that was well, and not to those that were taken back.
    let back = of.boards.pith(&["agent", "undo", "--timeout", "150s"]).expect_code(0);
    assert!(back.stdout.contains("agent 0.1.1: succeeded"), "{back:?}");
    assert_eq!(of.node()["agent_version"], "0.1.1");
    of.check_untouched();
}
