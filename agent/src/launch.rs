//! `pith-agent launch [proxy]`: what the units run. The packaged program chooses which program is the agent or the proxy, counts a trial
//! durably, and becomes it.
//!
//! Must not fail to start something: whatever cannot be read or written here, the packaged program runs. Must not run for root what
//! another user could have written. It is exchanged by packages alone, so it stays small: no runtime, no network, no Docker.

use std::ffi::OsString;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use protocol::agent_release::{AgentVersion, MAX_STARTS};
use protocol::id::Digest;
use serde::{Deserialize, Serialize};

use crate::config::Config;
use crate::durable::{self, Readers};
use crate::update::choose::{self, Choice};
use crate::update::record::{self, Held, Record};
use crate::update::{LAUNCHER_VARIABLE, RUNS_VARIABLE, Runs};
use crate::{clock, version};

/// Starts of the proxy from a program that has not proven itself since boot; on tmpfs.
const PROXY_FILE: &str = "proxy-starts.json";
/// systemd feeds and expects the process that it is told of (sd_watchdog_enabled(3)).
const WATCHDOG_PID: &str = "WATCHDOG_PID";

/// Which of the two is started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// The agent.
    Agent,
    /// The proxy.
    Proxy,
}

/// What is kept of the proxy's starts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct ProxyStarts {
    digest: Digest,
    starts: u32,
    /// It has served for a while.
    is_proven: bool,
}

/// Becomes the agent or the proxy.
///
/// # Errors
/// Only where not even the packaged program can be run: why.
pub fn launch(role: Role, config: &Path, rest: &[OsString]) -> std::io::Error {
    let packaged = std::env::current_exe().unwrap_or_else(|_| "/usr/bin/pith-agent".into());
    let package = version::own();
    let chosen = match Config::load(config) {
        Ok(read) => chosen(role, &read, &package),
        // The packaged program says what is wrong with it.
        Err(_) => (Runs::Package, None),
    };
    let (runs, program) = chosen;
    let mut arguments: Vec<OsString> = Vec::new();
    if role == Role::Proxy {
        arguments.push("proxy".into());
    }
    arguments.extend(rest.iter().cloned());
    arguments.extend(["--config".into(), config.into()]);
    let exec = |program: &Path, runs: Runs| {
        let mut command = Command::new(program);
        command.args(&arguments).env(LAUNCHER_VARIABLE, &packaged);
        command.env(RUNS_VARIABLE, format!("{}@{package}", runs.as_str()));
        if std::env::var_os(WATCHDOG_PID).is_some() {
            command.env(WATCHDOG_PID, std::process::id().to_string());
        }
        command.exec()
    };
    if let Some(program) = program {
        let error = exec(&program, runs);
        eprintln!("pith-agent: {} cannot be run ({error}); the packaged one is", program.display());
    }
    exec(&packaged, Runs::Package)
}

/// The same in another process, whose id is given: it is nobody's child once this one has ended, so that systemd sees it end.
///
/// # Errors
/// Where it cannot be started.
pub fn apart(role: Role, config: &Path, rest: &[OsString]) -> std::io::Result<u32> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("launch");
    if role == Role::Proxy {
        command.arg("proxy");
    }
    command.args(rest).arg("--config").arg(config);
    // What waits for the id must not wait for the process.
    command.stdin(Stdio::null()).stdout(Stdio::null());
    Ok(command.spawn()?.id())
}

fn chosen(role: Role, config: &Config, package: &AgentVersion) -> (Runs, Option<PathBuf>) {
    let dir = &config.state_dir;
    let record = match record::read(dir) {
        Ok(record) => record,
        Err(error) => {
            eprintln!("pith-agent: what is kept of agent releases cannot be read: {error}");
            return (Runs::Package, None);
        }
    };
    let is_usable = |held: &Held| is_usable(dir, held);
    let runs = match role {
        Role::Agent => written(dir, choose::agent(&record, package, &clock::boot_id(), is_usable)),
        Role::Proxy => {
            let has_failed = count_proxy(&config.runtime_dir, &record, package);
            choose::proxy(&record, package, has_failed, is_usable)
        }
    };
    match runs {
        Runs::Package => (runs, None),
        Runs::Slot(slot) => (runs, Some(record::program(dir, slot))),
    }
}

/// Durable before anything runs by it.
fn written(dir: &Path, choice: Choice) -> Runs {
    let Choice { runs, record, otherwise } = choice;
    let Some(record) = record else { return runs };
    match record::write(dir, &record) {
        Ok(()) => runs,
        Err(error) => {
            eprintln!(
                "pith-agent: the start of a new agent cannot be counted: {error}; the former one runs"
            );
            otherwise
        }
    }
}

/// Whole, in its place, and nobody's who is not this user: root never runs what the agent's user could have written.
fn is_usable(dir: &Path, held: &Held) -> bool {
    let owner = nix::unistd::geteuid().as_raw();
    let folder = record::folder(dir);
    let is_own = |path: &Path| {
        std::fs::symlink_metadata(path)
            .ok()
            .filter(|of| of.uid() == owner && of.mode() & 0o022 == 0)
    };
    let program = is_own(&record::program(dir, held.slot));
    let is_folder = is_own(&folder).is_some_and(|of| of.is_dir());
    is_folder && program.is_some_and(|of| of.is_file() && of.len() == held.size)
}

/// Counts a start of the proxy from what the agent brought; whether that was tried too often.
fn count_proxy(runtime_dir: &Path, record: &Record, package: &AgentVersion) -> bool {
    let Some(held) = record.held.as_ref().filter(|held| !choose::package_wins(package, held))
    else {
        return false;
    };
    let path = runtime_dir.join(PROXY_FILE);
    let known = read_proxy(&path).filter(|known| known.digest == held.digest);
    let fresh = ProxyStarts { digest: held.digest.clone(), starts: 0, is_proven: false };
    let mut of_it = known.unwrap_or(fresh);
    if of_it.is_proven {
        return false;
    }
    if of_it.starts >= MAX_STARTS {
        return true;
    }
    of_it.starts += 1;
    // What cannot be counted is not tried.
    !write_proxy(&path, &of_it)
}

/// The proxy of this process has served for a while.
pub fn proxy_is_proven(runtime_dir: &Path) {
    let path = runtime_dir.join(PROXY_FILE);
    if let Some(known) = read_proxy(&path).filter(|known| !known.is_proven) {
        write_proxy(&path, &ProxyStarts { is_proven: true, ..known });
    }
}

fn read_proxy(path: &Path) -> Option<ProxyStarts> {
    serde_json::from_slice(&std::fs::read(path).ok()?).ok()
}

fn write_proxy(path: &Path, starts: &ProxyStarts) -> bool {
    let bytes = serde_json::to_vec(starts).expect("plain data serialises");
    durable::write(path, &bytes, Readers::Owner).is_ok()
}
