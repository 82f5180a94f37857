//! Boards that join by token, as people install them: `pith init`, `pith serve` with its own port, `pith-agent join`. Each is a
//! process that a test can kill and start again; the fleet's folder can be another one from some moment on.

use std::collections::BTreeMap;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use serde_json::Value;

use crate::docker;
use crate::fleet::{Outcome, binaries, pith};
use crate::http::free_port;
use crate::wait::until_true;

const SOON: Duration = Duration::from_secs(40);
/// On tmpfs on every Linux.
const MEMORY_DIR: &str = "/dev/shm";

/// A process that is killed when dropped.
#[derive(Debug)]
pub struct Process(Child);

impl Process {
    /// Starts `command`; what it says goes to `log`.
    ///
    /// # Panics
    /// When it cannot be run.
    #[must_use]
    pub fn start(mut command: Command, log: &Path) -> Self {
        let file = fs::File::options().create(true).append(true).open(log).expect("a log file");
        let out = file.try_clone().expect("a second handle");
        let child = command.stdin(Stdio::null()).stdout(out).stderr(file).spawn();
        Self(child.expect("a program of ours can be run"))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The fleet.
#[derive(Debug)]
pub struct Boards {
    dir: tempfile::TempDir,
    data: String,
    running: BTreeMap<u8, Vec<Process>>,
    coordinator: Option<Process>,
    /// Of everything that belongs to this fleet.
    pub label: String,
}

impl Boards {
    /// A coordinator, and no board yet.
    ///
    /// # Panics
    /// Where a step of the installation fails.
    #[must_use]
    pub fn start() -> Self {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let (data, label) = ("data".to_owned(), String::new());
        let mut boards = Self { dir, data, running: BTreeMap::new(), coordinator: None, label };
        let _ = boards.pith(&["init"]).expect_code(0);
        let text = fs::read_to_string(boards.path("data/fleet.json")).expect("fleet.json");
        let fleet: Value = serde_json::from_str(&text).expect("JSON");
        boards.label = format!("io.pith.fleet={}", fleet["fleet"].as_str().unwrap_or_default());
        let config = format!("[broker]\nlisten = \"127.0.0.1:{}\"\n", free_port());
        fs::write(boards.path("coordinator.toml"), config).expect("a file can be written");
        boards.start_coordinator();
        boards
    }

    /// Starts the coordinator and waits until it answers.
    pub fn start_coordinator(&mut self) {
        let mut serve = self.command(&["serve", "--config"]);
        serve.arg(self.path("coordinator.toml"));
        self.coordinator = Some(Process::start(serve, &self.path("coordinator.log")));
        until_true("the coordinator answers", SOON, || self.pith(&["node", "ls"]).code == 0);
    }

    /// Kills the coordinator.
    pub fn kill_coordinator(&mut self) {
        self.coordinator = None;
    }

    /// From now on the fleet's folder is another one.
    pub fn move_data(&mut self, name: &str) {
        name.clone_into(&mut self.data);
    }

    /// A file or folder beside those of the boards; `data` is the fleet's first own.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// What a process wrote.
    #[must_use]
    pub fn log(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap_or_default()
    }

    /// `pith …` against this fleet, not started yet.
    #[must_use]
    pub fn command(&self, args: &[&str]) -> Command {
        pith(&self.path(&self.data), args)
    }

    /// Runs `pith …` to its end.
    ///
    /// # Panics
    /// When the program cannot be run.
    #[must_use]
    pub fn pith(&self, args: &[&str]) -> Outcome {
        Outcome::of(&self.command(args).output().expect("pith can be run"))
    }

    /// Runs `pith … -o json`, which must be done, and reads what it prints.
    ///
    /// # Panics
    /// When it fails or prints no JSON.
    #[must_use]
    #[track_caller]
    pub fn json(&self, args: &[&str]) -> Value {
        self.pith(&[args, &["-o", "json"]].concat()).expect_code(0).read_json(args)
    }

    /// The line's token.
    #[must_use]
    pub fn token(&self, more: &[&str]) -> String {
        let shown = self.json(&[&["node", "token"], more].concat());
        shown["token"].as_str().unwrap_or_default().to_owned()
    }

    /// `agent.toml` says only what must differ on one machine.
    ///
    /// # Panics
    /// When it cannot be written.
    pub fn install(&self, k: u8) {
        let folder = self.path(&format!("board-{k}"));
        fs::create_dir_all(folder.join("run")).expect("a folder can be made");
        let config = format!(
            "name = \"board-{k}\"\nstate_dir = \"{folder}/state\"\nruntime_dir = \"{folder}/run\"\nsecrets_dir = {secrets:?}\n\
             listen = [\"127.0.0.{k}\"]\naddress = \"127.0.0.{k}\"\nnetwork_pool = \"10.225.{pool}.0/20\"\n\
             remove_images = false\n",
            folder = folder.display(),
            secrets = self.secrets_dir(k),
            pool = k * 16,
        );
        fs::write(folder.join("agent.toml"), config).expect("a file can be written");
    }

    /// `pith-agent …` of a board, not started yet.
    #[must_use]
    pub fn agent(&self, k: u8, args: &[&str]) -> Command {
        let mut command = Command::new(binaries().join("pith-agent"));
        command.args(args).arg("--config").arg(self.path(&format!("board-{k}/agent.toml")));
        command.env("NO_COLOR", "1").stdin(Stdio::null());
        command
    }

    /// `pith-agent join` to its end.
    ///
    /// # Panics
    /// When the program cannot be run.
    #[must_use]
    pub fn join(&self, k: u8, token: &str) -> Output {
        self.agent(k, &["join", token]).output().expect("pith-agent can be run")
    }

    /// Starts a board's proxy and agent.
    pub fn start_board(&mut self, k: u8) {
        let log = self.path(&format!("board-{k}/proxy.log"));
        let proxy = Process::start(self.agent(k, &["proxy"]), &log);
        self.running.entry(k).or_default().push(proxy);
        self.start_agent(k);
    }

    /// Starts a board's agent, beside its proxy.
    pub fn start_agent(&mut self, k: u8) {
        let log = self.path(&format!("board-{k}/agent.log"));
        let agent = Process::start(self.agent(k, &[]), &log);
        self.running.entry(k).or_default().push(agent);
    }

    /// Kills a board's agent alone: what runs is served on.
    pub fn kill_agent(&mut self, k: u8) {
        let of_it = self.running.entry(k).or_default();
        of_it.truncate(1);
    }

    /// Kills a board's proxy and agent; its containers stay.
    pub fn kill_board(&mut self, k: u8) {
        self.running.remove(&k);
    }

    /// Where a board keeps secrets in clear.
    #[must_use]
    pub fn secrets_dir(&self, k: u8) -> PathBuf {
        let fleet = self.label.rsplit('=').next().unwrap_or_default();
        PathBuf::from(format!("{MEMORY_DIR}/pith-test-{fleet}-{k}"))
    }

    /// Installs a board, lets it join with a token that admits it, and starts it.
    ///
    /// # Panics
    /// When it does not join, or does not come up.
    pub fn add(&mut self, k: u8) {
        self.install(k);
        let joined = self.join(k, &self.token(&["--approve"]));
        assert!(joined.status.success(), "{joined:?}");
        self.start_board(k);
        self.wait_ready(k);
    }

    /// Waits until a board is there.
    pub fn wait_ready(&self, k: u8) {
        let name = format!("board-{k}");
        until_true("the node is there", SOON, || self.status(&name) == "ready");
    }

    /// What `pith node ls` says of a node; nothing where it does not know it or does not answer.
    #[must_use]
    pub fn status(&self, name: &str) -> String {
        let shown = self.pith(&["node", "ls", "-o", "json"]).stdout;
        let shown: Value = serde_json::from_str(&shown).unwrap_or_default();
        let nodes = shown["nodes"].as_array().cloned().unwrap_or_default();
        let node = nodes.iter().find(|node| node["name"] == *name);
        node.map_or_else(String::new, |node| node["status"].as_str().unwrap_or("").to_owned())
    }

    /// Deploys the text of a service file, to its end.
    ///
    /// # Panics
    /// When that fails.
    pub fn deploy(&self, service: &str) {
        let file = self.path("service.toml");
        fs::write(&file, service).expect("a file can be written");
        let _ = self.pith(&["deploy", "-f", &file.to_string_lossy()]).expect_code(0);
    }

    /// Where a board listens.
    #[must_use]
    pub fn at(&self, k: u8, port: u16) -> SocketAddr {
        (Ipv4Addr::new(127, 0, 0, k), port).into()
    }
}

impl Drop for Boards {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for name in ["coordinator.log", "board-1/agent.log", "board-2/agent.log"] {
                eprintln!("---- {name}:\n{}", self.log(name));
            }
        }
        for k in std::mem::take(&mut self.running).into_keys() {
            let _ = fs::remove_dir_all(self.secrets_dir(k));
        }
        docker::remove_all(&self.label);
    }
}
