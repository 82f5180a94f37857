//! A fleet on this machine: `pith dev` as a child process, driven by the `pith` command line.

use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use serde_json::Value;

use crate::inside::Inside;
use crate::services::Service;
use crate::wait::until_true;

const READY_WITHIN: Duration = Duration::from_secs(60);
/// Lines of an agent's log that are worth showing.
const AGENT_LOG_LINES: usize = 60;
const END_WITHIN: Duration = Duration::from_secs(60);

/// `pith dev` and its data.
#[derive(Debug)]
pub struct Fleet {
    dir: tempfile::TempDir,
    dev: Child,
    inside: Inside,
    env: Vec<(String, String)>,
}

/// What a command came to.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// Its exit code.
    pub code: i32,
    /// Its standard output.
    pub stdout: String,
    /// Its standard error.
    pub stderr: String,
}

impl Outcome {
    /// Of a program that has ended.
    #[must_use]
    pub fn of(output: &std::process::Output) -> Self {
        Self {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// What `-o json` printed.
    ///
    /// # Panics
    /// When it is no JSON; shows what was printed.
    #[must_use]
    #[track_caller]
    pub fn read_json(&self, args: &[&str]) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|e| panic!("{args:?}: {e}\n{self:?}"))
    }

    /// The same outcome, when the code is the expected one.
    ///
    /// # Panics
    /// When it is another; shows what was printed.
    #[must_use]
    #[track_caller]
    pub fn expect_code(self, code: i32) -> Self {
        assert_eq!(self.code, code, "stdout:\n{}\nstderr:\n{}", self.stdout, self.stderr);
        self
    }
}

/// The folder with `pith` and `pith-agent`: that of the running program, out of `deps`.
///
/// # Panics
/// When they are not there.
#[must_use]
pub fn binaries() -> PathBuf {
    if let Some(dir) = std::env::var_os("PITH_BINARIES") {
        return dir.into();
    }
    let exe = std::env::current_exe().expect("the running program has a path");
    let dir = exe.parent().expect("a file has a folder");
    let dir = if dir.ends_with("deps") { dir.parent().expect("deps has a parent") } else { dir };
    for name in ["pith", "pith-agent"] {
        assert!(
            dir.join(name).exists(),
            "{name} is not in {}; `make test` builds it first",
            dir.display()
        );
    }
    dir.to_owned()
}

/// `pith …` against the fleet of a data folder, not started yet.
#[must_use]
pub fn pith(data: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(binaries().join("pith"));
    command.args(args).env("PITH_DATA", data).env("NO_COLOR", "1").stdin(Stdio::null());
    command
}

impl Fleet {
    /// A fleet of `nodes` nodes that accepts deploys.
    #[must_use]
    pub fn start(nodes: u32) -> Self {
        Self::start_with(&["--nodes", &nodes.to_string()], &[])
    }

    /// A fleet started with these arguments of `pith dev` and environment.
    ///
    /// # Panics
    /// When it is not ready within a minute; shows what it said.
    #[must_use]
    pub fn start_with(args: &[&str], env: &[(&str, &str)]) -> Self {
        Self::start_inside(Inside::default(), args, env)
    }

    /// The same in another network; every command against it runs there too, with the same environment.
    ///
    /// # Panics
    /// When it is not ready within a minute; shows what it said.
    #[must_use]
    pub fn start_inside(inside: Inside, args: &[&str], env: &[(&str, &str)]) -> Self {
        let dir = tempfile::tempdir().expect("a temporary folder");
        Self::start_in(dir, inside, args, env)
    }

    /// A fleet of `nodes` nodes whose root keys are these people's, `NAME.key` beside the data folder, of which two must sign.
    ///
    /// # Panics
    /// When the keys or the folder cannot be made, or it is not ready within a minute; shows what it said.
    #[must_use]
    pub fn start_under(people: &[&str], nodes: u32) -> Self {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let pith = |args: &[&str]| {
            let mut command = Command::new(binaries().join("pith"));
            let output = command.args(args).arg("--data").arg(dir.path().join("data")).output();
            let output = output.expect("pith can be run");
            assert!(output.status.success(), "pith {args:?}: {output:?}");
        };
        let file = |name: &&str| dir.path().join(format!("{name}.key")).display().to_string();
        let files: Vec<String> = people.iter().map(file).collect();
        let mut init = vec!["init", "--root-threshold", "2"];
        for file in &files {
            pith(&["keys", "new", file]);
            init.extend(["--root-key", file]);
        }
        pith(&init);
        Self::start_in(dir, Inside::default(), &["--nodes", &nodes.to_string()], &[])
    }

    fn start_in(
        dir: tempfile::TempDir,
        inside: Inside,
        args: &[&str],
        env: &[(&str, &str)],
    ) -> Self {
        let log = std::fs::File::create(dir.path().join("dev.log")).expect("a log file");
        let mut dev = inside
            .command(binaries().join("pith"))
            .arg("dev")
            .args(args)
            .arg("--data")
            .arg(dir.path().join("data"))
            .envs(env.iter().copied())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .expect("pith can be run");
        let stdout = dev.stdout.take().expect("stdout is piped");
        let (ready, is_ready) = mpsc::channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if line.trim() == "ready" {
                    let _ = ready.send(());
                }
            }
        });
        let env = env.iter().map(|&(k, v)| (k.to_owned(), v.to_owned())).collect();
        let fleet = Self { dir, dev, inside, env };
        assert!(is_ready.recv_timeout(READY_WITHIN).is_ok(), "not ready:\n{}", fleet.log());
        fleet
    }

    /// The data folder.
    #[must_use]
    pub fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    /// A folder of the test's own that goes with the fleet.
    #[must_use]
    pub fn scratch(&self) -> &Path {
        self.dir.path()
    }

    /// What `pith dev` and its children wrote to stderr.
    #[must_use]
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("dev.log")).unwrap_or_default()
    }

    /// What the agent of node `k` wrote; its end, where it is long.
    #[must_use]
    pub fn agent_log(&self, node: u8) -> String {
        let file = self.data().join(format!("nodes/node-{node}/agent.log"));
        let text = std::fs::read_to_string(file).unwrap_or_default();
        let start = text.lines().count().saturating_sub(AGENT_LOG_LINES);
        text.lines().skip(start).fold(String::new(), |all, line| all + line + "\n")
    }

    /// The process of `pith dev`.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.dev.id()
    }

    /// Where node `k` (from 1) listens.
    #[must_use]
    pub fn address(&self, node: u8, port: u16) -> SocketAddr {
        (Ipv4Addr::new(127, 0, 0, node), port).into()
    }

    /// Runs `pith …` against this fleet to its end.
    ///
    /// # Panics
    /// When the program cannot be run.
    #[must_use]
    pub fn pith(&self, args: &[&str]) -> Outcome {
        Outcome::of(&self.command(args).output().expect("pith can be run"))
    }

    /// `pith …` against this fleet, not started yet.
    #[must_use]
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = self.inside.command(binaries().join("pith"));
        command.args(args).envs(self.env.iter().map(|(k, v)| (k, v)));
        command.env("PITH_DATA", self.data()).env("NO_COLOR", "1").stdin(Stdio::null());
        command
    }

    /// Runs `pith … -o json` and reads what it prints.
    ///
    /// # Panics
    /// When it fails or prints no JSON.
    #[must_use]
    #[track_caller]
    pub fn json(&self, args: &[&str]) -> Value {
        let args: Vec<&str> = args.iter().copied().chain(["-o", "json"]).collect();
        let outcome = self.pith(&args);
        serde_json::from_str(&outcome.stdout)
            .unwrap_or_else(|e| panic!("{args:?}: {e}\n{outcome:?}"))
    }

    /// Writes a service file and gives its path.
    ///
    /// # Panics
    /// When it cannot be written.
    #[must_use]
    pub fn file(&self, name: &str, text: &str) -> String {
        let path = self.dir.path().join(name);
        std::fs::write(&path, text).expect("a file can be written");
        path.to_string_lossy().into_owned()
    }

    /// Deploys a service and waits for its end.
    #[must_use]
    pub fn deploy(&self, service: &Service) -> Outcome {
        let file = self.file("service.toml", &service.toml());
        self.pith(&["deploy", "-f", &file])
    }

    /// The rollout of a service as `rollout status -o json` shows it.
    #[must_use]
    #[track_caller]
    pub fn rollout(&self, service: &str) -> Value {
        self.json(&["rollout", "status", service])
    }

    /// The process id of a node's `agent` or `proxy`.
    #[must_use]
    pub fn process(&self, node: u8, which: &str) -> Option<i32> {
        let file = self.data().join(format!("nodes/node-{node}/{which}.pid"));
        std::fs::read_to_string(file).ok()?.trim().parse().ok()
    }

    /// The label that all containers and networks of this fleet carry.
    ///
    /// # Panics
    /// When the fleet has no trust root yet.
    #[must_use]
    pub fn label(&self) -> String {
        let text = std::fs::read_to_string(self.data().join("fleet.json")).expect("fleet.json");
        let value: Value = serde_json::from_str(&text).expect("fleet.json is JSON");
        format!("io.pith.fleet={}", value["fleet"].as_str().expect("a fleet id"))
    }

    /// Ends it as Ctrl-C does and gives the exit code.
    ///
    /// # Panics
    /// When it does not end within a minute.
    #[must_use]
    pub fn stop(mut self) -> i32 {
        self.interrupt();
        let mut code = -1;
        until_true("pith dev ends", END_WITHIN, || match self.dev.try_wait() {
            Ok(Some(status)) => {
                code = status.code().unwrap_or(-1);
                true
            }
            Ok(None) | Err(_) => false,
        });
        code
    }

    fn interrupt(&self) {
        let pid = self.dev.id().to_string();
        let _ = Command::new("kill").args(["-INT", &pid]).status();
    }
}

impl Drop for Fleet {
    /// A test that fails leaves nothing behind either; what the fleet said is printed then.
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("---- pith dev said:\n{}", self.log());
            eprintln!("---- the first agent's last words:\n{}", self.agent_log(1));
        }
        if matches!(self.dev.try_wait(), Ok(Some(_))) {
            return;
        }
        self.interrupt();
        for _ in 0..END_WITHIN.as_millis() / 50 {
            if matches!(self.dev.try_wait(), Ok(Some(_))) {
                return;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        let _ = self.dev.kill();
        let _ = self.dev.wait();
    }
}
