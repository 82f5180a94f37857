//! A fleet put together by hand, as on real boards: `pith init`, Mosquitto, `pith serve` with a `coordinator.toml`, and for each
//! node an `agent.toml`, a token, a proxy and an agent, each a process that a test can kill and start again.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use serde_json::Value;

use crate::docker;
use crate::fleet::{Outcome, binaries};
use crate::mosquitto::Mosquitto;
use crate::wait::{until, until_true};

const SOON: Duration = Duration::from_secs(30);
const COORDINATOR: &str = "coordinator";
/// Networks of one test process do not overlap; those of `pith dev` are cut from another range.
static POOLS: AtomicU8 = AtomicU8::new(0);

/// The fleet.
#[derive(Debug)]
pub struct ByHand {
    dir: tempfile::TempDir,
    /// Its broker.
    pub broker: Mosquitto,
    coordinator: Option<Process>,
    nodes: Vec<Node>,
}

#[derive(Debug)]
struct Node {
    proxy: Process,
    agent: Process,
}

/// Killed when dropped.
#[derive(Debug)]
struct Process(Child);

impl Process {
    fn start(command: &mut Command, log: &Path) -> Self {
        let log = fs::File::options().create(true).append(true).open(log).expect("a log file");
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn();
        Self(child.expect("a program of ours can be run"))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl ByHand {
    /// A fleet whose nodes have all said hello.
    ///
    /// # Panics
    /// Where a step of the installation fails.
    #[must_use]
    pub fn start(nodes: u8) -> Self {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let path = |name: &str| dir.path().join(name);
        let init = pith(dir.path(), &["init"]).output().expect("pith can be run");
        assert!(init.status.success(), "{init:?}");
        let mut broker = Mosquitto::new(&fleet_id(dir.path()), COORDINATOR);
        fs::write(path("password"), broker.login(COORDINATOR, "the-coordinators-own-password"))
            .expect("a file can be written");
        let config = format!(
            "[broker]\nexternal = \"{}\"\nuser = \"{COORDINATOR}\"\npassword_file = \"{}\"\n",
            broker.address(),
            path("password").display()
        );
        fs::write(path("coordinator.toml"), config).expect("a file can be written");
        let mut fleet = Self { dir, broker, coordinator: None, nodes: Vec::new() };
        fleet.broker.start();
        fleet.start_coordinator();
        let ids: Vec<String> = (1..=nodes).map(|k| fleet.install(k)).collect();
        // It reads its passwords when it starts.
        fleet.broker.kill();
        fleet.broker.start();
        for k in 1..=nodes {
            let node = fleet.start_node(k);
            fleet.nodes.push(node);
        }
        let is_online = |shown: &Value, id: &String| {
            let nodes = shown["nodes"].as_array();
            nodes.is_some_and(|all| all.iter().any(|n| n["id"] == **id && n["status"] != "offline"))
        };
        until_true("every node says hello", SOON, || {
            let shown = fleet.json(&["node", "ls"]);
            ids.iter().all(|id| is_online(&shown, id))
        });
        fleet
    }

    /// Writes a node's folder and gives its id, as the agent says it when its token is missing.
    fn install(&mut self, k: u8) -> String {
        let folder = self.folder(k);
        fs::create_dir_all(folder.join("run")).expect("a folder can be made");
        let pool = POOLS.fetch_add(1, Ordering::Relaxed) % 16 * 16;
        let config = format!(
            "name = \"board-{k}\"\nstate_dir = \"{folder}/state\"\nruntime_dir = \"{folder}/run\"\n\
             listen = [\"127.0.0.{k}\"]\naddress = \"127.0.0.{k}\"\nnetwork_pool = \"10.224.{pool}.0/20\"\n\
             trust_root = \"{root}\"\nremove_images = false\n\n\
             [broker]\naddress = \"{broker}\"\ntoken_file = \"{folder}/token\"\nbackoff_ms = 200\n",
            folder = folder.display(),
            root = self.dir.path().join("data/root.json").display(),
            broker = self.broker.address(),
        );
        fs::write(folder.join("agent.toml"), config).expect("a file can be written");
        let refused = self.agent(k, &[]).output().expect("pith-agent can be run");
        let said = String::from_utf8_lossy(&refused.stderr).into_owned();
        let (_, id) = said.split_once("`pith node token ").expect(&said);
        let id = id.split('`').next().unwrap_or_default().to_owned();
        let password = format!("the-password-of-{id}");
        fs::write(folder.join("token"), self.broker.login(&id, &password))
            .expect("a file can be written");
        id
    }

    fn start_node(&self, k: u8) -> Node {
        let log = |name: &str| self.folder(k).join(name);
        let proxy = Process::start(&mut self.agent(k, &["proxy"]), &log("proxy.log"));
        let agent = Process::start(&mut self.agent(k, &[]), &log("agent.log"));
        Node { proxy, agent }
    }

    /// Starts the coordinator and waits until it answers.
    pub fn start_coordinator(&mut self) {
        let config = self.dir.path().join("coordinator.toml");
        let mut command = pith(self.dir.path(), &["serve", "--config"]);
        let log = self.dir.path().join("coordinator.log");
        self.coordinator = Some(Process::start(command.arg(config), &log));
        until_true("the coordinator answers", SOON, || self.pith(&["node", "ls"]).code == 0);
    }

    /// Kills the coordinator.
    pub fn kill_coordinator(&mut self) {
        self.coordinator = None;
    }

    /// Where node `k` (from 1) listens.
    #[must_use]
    pub fn address(&self, k: u8, port: u16) -> SocketAddr {
        (Ipv4Addr::new(127, 0, 0, k), port).into()
    }

    /// What a node's agent wrote.
    #[must_use]
    pub fn agent_log(&self, k: u8) -> String {
        fs::read_to_string(self.folder(k).join("agent.log")).unwrap_or_default()
    }

    /// The label of everything that belongs to this fleet.
    #[must_use]
    pub fn label(&self) -> String {
        format!("io.pith.fleet={}", fleet_id(self.dir.path()))
    }

    /// `pith …` against this fleet, not started yet.
    #[must_use]
    pub fn command(&self, args: &[&str]) -> Command {
        pith(self.dir.path(), args)
    }

    /// Runs `pith …` to its end.
    ///
    /// # Panics
    /// When the program cannot be run.
    #[must_use]
    pub fn pith(&self, args: &[&str]) -> Outcome {
        let output = self.command(args).output().expect("pith can be run");
        Outcome {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// Runs `pith … -o json` and reads what it prints.
    ///
    /// # Panics
    /// When it prints no JSON.
    #[must_use]
    #[track_caller]
    pub fn json(&self, args: &[&str]) -> Value {
        let outcome = self.pith(&[args, &["-o", "json"]].concat());
        serde_json::from_str(&outcome.stdout)
            .unwrap_or_else(|e| panic!("{args:?}: {e}\n{outcome:?}"))
    }

    /// The state of a service's rollout, once it has one of its end states.
    ///
    /// # Panics
    /// When it does not end.
    #[must_use]
    pub fn rollout_end(&self, service: &str, limit: Duration) -> String {
        until("the rollout ends", limit, || {
            let status = self.json(&["rollout", "status", service]);
            let state = status["state"].as_str().unwrap_or_default().to_owned();
            (!["pending", "in_progress", "rolling_back"].contains(&&*state)).then_some(state)
        })
    }

    /// Writes a service file and gives its path.
    ///
    /// # Panics
    /// When it cannot be written.
    #[must_use]
    pub fn file(&self, name: &str, text: &str) -> String {
        let path = self.dir.path().join(name);
        fs::write(&path, text).expect("a file can be written");
        path.to_string_lossy().into_owned()
    }

    fn folder(&self, k: u8) -> PathBuf {
        self.dir.path().join(format!("node-{k}"))
    }

    fn agent(&self, k: u8, arguments: &[&str]) -> Command {
        let mut command = Command::new(binaries().join("pith-agent"));
        command.args(arguments).arg("--config").arg(self.folder(k).join("agent.toml"));
        command.env("NO_COLOR", "1");
        command
    }
}

impl Drop for ByHand {
    /// Agents first: they would start the containers again.
    fn drop(&mut self) {
        if std::thread::panicking() {
            for k in 1..=u8::try_from(self.nodes.len()).unwrap_or(0) {
                eprintln!("---- agent of board-{k}:\n{}", self.agent_log(k));
            }
            let log = fs::read_to_string(self.dir.path().join("coordinator.log"));
            eprintln!("---- coordinator:\n{}", log.unwrap_or_default());
        }
        let label = self.label();
        for Node { proxy, agent } in self.nodes.drain(..) {
            drop(agent);
            drop(proxy);
        }
        docker::remove_all(&label);
    }
}

fn pith(dir: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(binaries().join("pith"));
    command.args(args).env("PITH_DATA", dir.join("data")).env("NO_COLOR", "1");
    command.stdin(Stdio::null());
    command
}

fn fleet_id(dir: &Path) -> String {
    let text = fs::read_to_string(dir.join("data/fleet.json")).expect("fleet.json");
    let value: Value = serde_json::from_str(&text).expect("fleet.json is JSON");
    value["fleet"].as_str().expect("a fleet id").to_owned()
}
