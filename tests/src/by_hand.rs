//! A fleet put together by hand, as on real boards: `pith init`, Mosquitto, `pith serve` with a `coordinator.toml`, and for each
//! node an `agent.toml`, a token, a proxy and an agent, each a process that a test can kill and start again.

use std::collections::BTreeSet;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use serde_json::Value;

use crate::docker;
use crate::fleet::{Outcome, binaries};
use crate::mosquitto::{Mosquitto, OWNER};
use crate::wait::{until, until_true};

const SOON: Duration = Duration::from_secs(30);
/// Of the broker's clients.
const PATIENCE_S: &str = "20";
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
    /// None while the board is off.
    agent: Option<Process>,
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

impl Process {
    fn end(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.end();
    }
}

impl ByHand {
    /// A fleet whose nodes have all said hello.
    ///
    /// # Panics
    /// Where a step of the installation fails.
    #[must_use]
    pub fn start(nodes: u8) -> Self {
        Self::start_with(nodes, &[])
    }

    /// The same, and every node has this policy; only root can write one that counts.
    ///
    /// # Panics
    /// Where a step of the installation fails.
    #[must_use]
    pub fn start_allowing(nodes: u8, policy: &str) -> Self {
        Self::install_all(nodes, &[], policy)
    }

    /// The same with root keys of these people, `NAME.key` beside the data folder, of which two must sign.
    ///
    /// # Panics
    /// Where a step of the installation fails.
    #[must_use]
    pub fn start_with(nodes: u8, people: &[&str]) -> Self {
        Self::install_all(nodes, people, "")
    }

    fn install_all(nodes: u8, people: &[&str], policy: &str) -> Self {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let path = |name: &str| dir.path().join(name);
        let mut init = vec!["init".to_owned()];
        if !people.is_empty() {
            init.extend(["--root-threshold".to_owned(), "2".to_owned()]);
        }
        for name in people {
            let file = path(&format!("{name}.key")).to_string_lossy().into_owned();
            succeed(pith(dir.path(), &["keys", "new", &file]));
            init.extend(["--root-key".to_owned(), file]);
        }
        succeed(pith(dir.path(), &init.iter().map(String::as_str).collect::<Vec<_>>()));
        let mut broker = Mosquitto::new(&fleet_id(dir.path()), COORDINATOR);
        broker.login(OWNER, &password(OWNER));
        fs::write(path("password"), broker.login(COORDINATOR, &password(COORDINATOR)))
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
        for id in &ids {
            let _ = fleet.pith(&["node", "approve", id]).expect_code(0);
        }
        // It reads its passwords when it starts.
        fleet.broker.kill();
        fleet.broker.start();
        for k in 1..=nodes {
            if !policy.is_empty() {
                let file = fleet.folder(k).join("policy.toml");
                fs::write(file, policy).expect("a file can be written");
            }
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
        // As on a real board: the first trust is a copy, and nobody renews it.
        fs::copy(self.dir.path().join("data/root.json"), folder.join("root.json"))
            .expect("a file can be copied");
        let pool = POOLS.fetch_add(1, Ordering::Relaxed) % 16 * 16;
        let config = format!(
            "name = \"board-{k}\"\nstate_dir = \"{folder}/state\"\nruntime_dir = \"{folder}/run\"\n\
             listen = [\"127.0.0.{k}\"]\naddress = \"127.0.0.{k}\"\nnetwork_pool = \"10.224.{pool}.0/20\"\n\
             trust_root = \"{root}\"\nremove_images = false\npolicy = \"{folder}/policy.toml\"\n\n\
             [broker]\naddress = \"{broker}\"\ntoken_file = \"{folder}/token\"\nbackoff_ms = 200\n",
            folder = folder.display(),
            root = folder.join("root.json").display(),
            broker = self.broker.address(),
        );
        fs::write(folder.join("agent.toml"), config).expect("a file can be written");
        let refused = self.agent(k, &[]).output().expect("pith-agent can be run");
        let said = String::from_utf8_lossy(&refused.stderr).into_owned();
        let (_, id) = said.split_once("`pith node approve ").expect(&said);
        let id = id.split('`').next().unwrap_or_default().to_owned();
        fs::write(folder.join("token"), self.broker.login(&id, &password(&id)))
            .expect("a file can be written");
        id
    }

    fn start_node(&self, k: u8) -> Node {
        let log = |name: &str| self.folder(k).join(name);
        let proxy = Process::start(&mut self.agent(k, &["proxy"]), &log("proxy.log"));
        let agent = Some(Process::start(&mut self.agent(k, &[]), &log("agent.log")));
        Node { proxy, agent }
    }

    /// Kills a node's agent; its proxy and its containers stay.
    pub fn kill_agent(&mut self, k: u8) {
        self.nodes[usize::from(k) - 1].agent = None;
    }

    /// Starts it again.
    pub fn start_agent(&mut self, k: u8) {
        let log = self.folder(k).join("agent.log");
        let agent = Process::start(&mut self.agent(k, &[]), &log);
        self.nodes[usize::from(k) - 1].agent = Some(agent);
    }

    /// The process of node `k`'s agent.
    ///
    /// # Panics
    /// While the board is off.
    #[must_use]
    pub fn agent_pid(&self, k: u8) -> u32 {
        let agent = self.nodes[usize::from(k) - 1].agent.as_ref();
        agent.expect("the agent runs").0.id()
    }

    /// A file or folder beside those of the nodes; `data` is the fleet's own.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// What the broker keeps on a node's topic. Reading it costs the node its session; it comes back.
    ///
    /// # Panics
    /// When the broker keeps nothing.
    #[must_use]
    pub fn kept(&self, node: &str, part: &str) -> Vec<u8> {
        let mut command = self.client("mosquitto_sub", node, &password(node));
        let output = command.args(["-t", &self.topic(node, part), "-C", "1", "-N"]).output();
        let output = output.expect("mosquitto_sub can be run");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        output.stdout
    }

    /// Publishes to a node's topic as the coordinator, whose session it costs.
    ///
    /// # Panics
    /// When the broker does not take it.
    pub fn publish(&self, node: &str, part: &str, bytes: &[u8]) {
        let file = self.path("message");
        fs::write(&file, bytes).expect("a file can be written");
        let mut command = self.client("mosquitto_pub", COORDINATOR, &password(COORDINATOR));
        command.args(["-t", &self.topic(node, part), "-q", "1", "-f"]).arg(file);
        succeed(command);
    }

    /// The same as the owner of the broker, whom it costs nothing: one message per line.
    ///
    /// # Panics
    /// When the broker does not take it.
    pub fn inject(&self, node: &str, part: &str, lines: &[u8], kept: bool) {
        let file = self.path("message");
        fs::write(&file, lines).expect("a file can be written");
        let mut command = self.client("mosquitto_pub", OWNER, &password(OWNER));
        command.args(["-t", &self.topic(node, part), "-q", "1"]);
        // Without a message nothing is kept any more.
        command.arg(if lines.is_empty() { "-n" } else { "-l" });
        if kept {
            command.arg("-r");
        }
        command.stdin(fs::File::open(file).expect("it was written"));
        succeed(command);
    }

    /// Begins to listen to a node's topic as the owner of the broker, for so many messages.
    ///
    /// # Panics
    /// When `mosquitto_sub` cannot be run.
    #[must_use]
    pub fn overhear(&self, node: &str, part: &str, messages: usize) -> Child {
        let mut command = self.client("mosquitto_sub", OWNER, &password(OWNER));
        command.args(["-t", &self.topic(node, part), "-N", "-F", "%p\n"]);
        command.args(["-C", &messages.to_string()]).stdout(Stdio::piped());
        command.spawn().expect("mosquitto_sub can be run")
    }

    fn client(&self, program: &str, user: &str, password: &str) -> Command {
        let address = self.broker.address();
        let mut command = Command::new("timeout");
        command.args([PATIENCE_S, program, "-h", &address.ip().to_string()]);
        command.args(["-p", &address.port().to_string(), "-u", user, "-P", password]);
        command
    }

    /// The name of a node's topic.
    #[must_use]
    pub fn topic(&self, node: &str, part: &str) -> String {
        format!("pith/v1/{}/n/{node}/{part}", fleet_id(self.dir.path()))
    }

    /// Ends the broker: nodes and coordinator hear nothing of each other.
    pub fn kill_broker(&mut self) {
        self.broker.kill();
    }

    /// Starts it again; it remembers nothing.
    pub fn start_broker(&mut self) {
        self.broker.start();
    }

    /// Starts the coordinator and waits until it answers.
    pub fn start_coordinator(&mut self) {
        let config = self.dir.path().join("coordinator.toml");
        let mut command = pith(self.dir.path(), &["serve", "--config"]);
        let log = self.dir.path().join("coordinator.log");
        self.coordinator = Some(Process::start(command.arg(config), &log));
        until_true("the coordinator answers", SOON, || self.pith(&["node", "ls"]).code == 0);
    }

    /// The fleet's data folder.
    #[must_use]
    pub fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    /// What the broker's owner knows of everybody.
    #[must_use]
    pub fn password(&self, user: &str) -> String {
        password(user)
    }

    /// Kills the agent of node `k` and starts it again; its proxy goes on.
    pub fn restart_agent(&mut self, k: u8) {
        self.kill_agent(k);
        self.start_agent(k);
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
        self.pith(&[args, &["-o", "json"]].concat()).read_json(args)
    }

    /// A node as `pith node ls` shows it.
    ///
    /// # Panics
    /// Where there is none of this name.
    #[must_use]
    #[track_caller]
    pub fn node(&self, name: &str) -> Value {
        let nodes = self.json(&["node", "ls"]);
        let mut nodes = nodes["nodes"].as_array().into_iter().flatten();
        nodes.find(|node| node["name"] == name).expect("a node of this name").clone()
    }

    /// Its id.
    ///
    /// # Panics
    /// Where there is none of this name.
    #[must_use]
    #[track_caller]
    pub fn id(&self, name: &str) -> String {
        self.node(name)["id"].as_str().expect("a node has an id").to_owned()
    }

    /// Containers of this fleet that run, by id.
    #[must_use]
    pub fn running(&self) -> BTreeSet<String> {
        let containers = docker::containers(&self.label()).into_iter();
        containers.filter(|c| c.state == "running").map(|c| c.id).collect()
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

fn succeed(mut command: Command) {
    let output = command.output().expect("a program can be run");
    assert!(output.status.success(), "{command:?}: {output:?}");
}

fn password(user: &str) -> String {
    format!("the-password-of-{user}")
}

fn pith(dir: &Path, args: &[&str]) -> Command {
    crate::fleet::pith(&dir.join("data"), args)
}

fn fleet_id(dir: &Path) -> String {
    let text = fs::read_to_string(dir.join("data/fleet.json")).expect("fleet.json");
    let value: Value = serde_json::from_str(&text).expect("fleet.json is JSON");
    value["fleet"].as_str().expect("a fleet id").to_owned()
}
