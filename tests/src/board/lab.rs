//! What the cases start from: a coordinator on this machine, and a board that joined it and runs a first release, kept between
//! runs for as long as the package of the agent is the same.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use super::{Board, Image, SERVICE_PORT};
use crate::fleet::{Outcome, pith};
use crate::http;
use crate::services::Service;
use crate::wait::until_true;

/// The board's name.
pub const NODE: &str = "board";
/// The service that every case has.
pub const SERVICE: &str = "web";
const SOON: Duration = Duration::from_secs(30);
/// What takes a board a few seconds takes an emulated one on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(300);

/// What `make board-test` has built, and where runs leave what they made.
#[derive(Debug, Clone)]
pub struct Parts {
    /// The board's disk and kernel.
    pub image: Image,
    /// `pith-agent_VERSION_arm64.deb`.
    pub package: PathBuf,
    /// `pith-demo-arm64:v1`, `v2` and `v3`, which is never ready, for `docker load`.
    pub demo: PathBuf,
    /// The same agent, with failpoints.
    pub agent: PathBuf,
    /// Where runs keep what they make.
    pub folder: PathBuf,
    /// Whether this run is of all cases.
    pub wanted: Wanted,
}

/// Which cases a run is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// All: it takes hours, and what it shows is to be whole.
    All,
    /// Those that were named: each ends within 25 minutes.
    Some,
}

impl Parts {
    /// The program in the package, which lies beside it.
    #[must_use]
    pub fn program(&self) -> PathBuf {
        self.package.with_extension("")
    }

    /// What tells one package from another.
    ///
    /// # Panics
    /// When it cannot be read.
    #[must_use]
    pub fn package_id(&self) -> String {
        let output = Command::new("sha256sum").arg(&self.package).output();
        let output = output.expect("sha256sum can be run");
        let sum = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "no package {}: {output:?}", self.package.display());
        sum.chars().take(12).collect()
    }

    /// The disk of the board that joined, and its fleet beside it.
    #[must_use]
    pub fn base(&self) -> PathBuf {
        self.folder.join(format!("base-{}", self.package_id()))
    }

    /// An empty folder of a case.
    ///
    /// # Panics
    /// When it cannot be made.
    #[must_use]
    pub fn fresh(&self, name: &str) -> PathBuf {
        let folder = self.folder.join(name);
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).expect("a folder can be made");
        folder
    }
}

/// The fleet's folder and, while it runs, its coordinator. It listens for boards on a port that stays.
#[derive(Debug)]
pub struct Coordinator {
    folder: PathBuf,
    port: u16,
    serve: Option<Child>,
}

impl Coordinator {
    /// A new fleet.
    ///
    /// # Panics
    /// When `pith init` fails.
    #[must_use]
    pub fn init(folder: &Path) -> Self {
        let this = Self { folder: folder.to_owned(), port: http::free_port(), serve: None };
        let _ = this.pith(&["init"]).expect_code(0);
        this
    }

    /// The fleet of a folder that was copied.
    #[must_use]
    pub fn of(folder: &Path) -> Self {
        Self { folder: folder.to_owned(), port: http::free_port(), serve: None }
    }

    /// Where boards reach it.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port).into()
    }

    /// Starts it and waits until it answers.
    ///
    /// # Panics
    /// When it does not.
    pub fn start(&mut self) {
        let config = self.folder.join("coordinator.toml");
        let text =
            format!("[broker]\nlisten = \"{}\"\n[backup]\nnightly = false\n", self.address());
        fs::write(&config, text).expect("a file can be written");
        let log = fs::File::options().create(true).append(true).open(self.folder.join("serve.log"));
        let mut command = self.command(&["serve", "--config"]);
        command.arg(config).stdout(Stdio::null()).stderr(log.expect("a log file"));
        self.serve = Some(command.spawn().expect("pith can be run"));
        until_true("the coordinator answers", SOON, || self.pith(&["node", "ls"]).code == 0);
    }

    /// Kills it: the board has no network at all.
    pub fn kill(&mut self) {
        if let Some(mut serve) = self.serve.take() {
            let _ = serve.kill();
            let _ = serve.wait();
        }
    }

    /// Bytes that it has had written to the disk.
    #[must_use]
    pub fn written(&self) -> Option<u64> {
        let pid = self.serve.as_ref()?.id();
        let io = fs::read_to_string(format!("/proc/{pid}/io")).ok()?;
        io.lines().find_map(|line| line.strip_prefix("write_bytes: ")?.parse().ok())
    }

    /// `pith …`, not started yet.
    #[must_use]
    pub fn command(&self, args: &[&str]) -> Command {
        pith(&self.folder.join("data"), args)
    }

    /// Runs `pith …` to its end.
    ///
    /// # Panics
    /// When it cannot be run.
    #[must_use]
    pub fn pith(&self, args: &[&str]) -> Outcome {
        Outcome::of(&self.command(args).output().expect("pith can be run"))
    }

    /// What `pith … -o json` prints.
    ///
    /// # Panics
    /// When it prints no JSON.
    #[must_use]
    #[track_caller]
    pub fn json(&self, args: &[&str]) -> Value {
        self.pith(&[args, &["-o", "json"]].concat()).read_json(args)
    }

    /// Deploys with these arguments after the file.
    ///
    /// # Panics
    /// When the file cannot be written.
    #[must_use]
    pub fn deploy(&self, service: &Service, more: &[&str]) -> Outcome {
        let file = self.folder.join("service.toml");
        fs::write(&file, service.toml()).expect("a file can be written");
        self.pith(&[&["deploy", "-f", &file.to_string_lossy()], more].concat())
    }

    /// Waits until the board is ready, as `pith node ls` says it.
    pub fn wait_ready(&self) {
        until_true("the board is ready", PATIENCE, || self.node()["status"] == "ready");
    }

    /// The board, as `pith node ls` says it; null while it is none.
    #[must_use]
    pub fn node(&self) -> Value {
        let shown = self.json(&["node", "ls"]);
        let nodes = shown["nodes"].as_array().into_iter().flatten();
        nodes.into_iter().find(|node| node["name"] == NODE).cloned().unwrap_or_default()
    }

    /// Waits until no rollout of the service is under way; its state.
    #[must_use]
    pub fn rollout_end(&self, service: &str) -> String {
        crate::wait::until("the rollout ends", PATIENCE, || {
            let status = self.json(&["rollout", "status", service]);
            let state = status["state"].as_str().unwrap_or_default().to_owned();
            (!["", "pending", "in_progress", "rolling_back"].contains(&&*state)).then_some(state)
        })
    }
}

impl Drop for Coordinator {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The demo service at a version, with times that an emulated board can keep.
#[must_use]
pub fn web(version: &str) -> Service {
    Service::new(SERVICE, SERVICE_PORT)
        .image(&format!("pith-demo-arm64:{version}"))
        .rollout("progress_deadline = \"4m\"")
        .rollout("min_ready = \"1s\"")
}

/// A board that has joined and serves `v1`, on a disk of its own, off; and its fleet, whose coordinator is off too.
///
/// # Panics
/// When there is no base for this package: the case `install` makes it.
#[must_use]
pub fn joined(parts: &Parts, case: &str) -> (Board, Coordinator) {
    let base = parts.base();
    assert!(base.join("joined.qcow2").exists(), "no board that has joined: CASE=install makes it");
    let folder = parts.fresh(case);
    copy(&base.join("fleet"), &folder.join("fleet"));
    let coordinator = Coordinator::of(&folder.join("fleet"));
    let disk = base.join("joined.qcow2");
    (Board::over(&parts.image, &disk, &folder, coordinator.address()), coordinator)
}

/// The same, on, and the service answers.
#[must_use]
pub fn serving(parts: &Parts, case: &str) -> (Board, Coordinator) {
    let (mut board, mut coordinator) = joined(parts, case);
    coordinator.start();
    board.boot();
    coordinator.wait_ready();
    until_true("the service answers", PATIENCE, || {
        http::get(board.address(SERVICE_PORT), "/").is_ok_and(|(status, _)| status == 200)
    });
    (board, coordinator)
}

/// Keeps a board that is off, and its fleet, for the cases that come.
///
/// # Panics
/// When files cannot be moved.
pub fn keep(parts: &Parts, board: &Board, fleet: &Path) {
    let base = parts.base();
    let folders = fs::read_dir(&parts.folder).into_iter().flatten().flatten();
    for old in folders.filter(|entry| entry.file_name().to_string_lossy().starts_with("base-")) {
        let _ = fs::remove_dir_all(old.path());
    }
    fs::create_dir_all(&base).expect("a folder can be made");
    fs::rename(board.disk(), base.join("joined.qcow2")).expect("a disk can be moved");
    copy(fleet, &base.join("fleet"));
}

fn copy(from: &Path, to: &Path) {
    let status = Command::new("cp").arg("-a").args([from, to]).status();
    assert!(status.is_ok_and(|status| status.success()), "cp {from:?} {to:?}");
}
