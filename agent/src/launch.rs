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

use protocol::agent_release::AgentVersion;

use crate::config::Config;
use crate::durable::{self, Readers};
use crate::update::choose::{self, Choice, ProxyStarts};
use crate::update::record::{self, Held};
use crate::update::{LAUNCHER_VARIABLE, RUNS_VARIABLE, Runs};
use crate::{clock, version};

/// Starts of the proxy from a program that has not proven itself since boot; on tmpfs.
const PROXY_FILE: &str = "proxy-starts.json";
/// systemd feeds and expects the process that it is told of (sd_watchdog_enabled(3)).
const WATCHDOG_PID: &str = "WATCHDOG_PID";

/// Which of the two is started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// The agent.
    Agent,
    /// The proxy.
    Proxy,
}

/// Becomes the agent or the proxy.
///
/// # Errors
/// Only where not even the packaged program can be run: why.
pub fn launch(unit: Unit, config: &Path, rest: &[OsString]) -> std::io::Error {
    let packaged = std::env::current_exe().unwrap_or_else(|_| "/usr/bin/pith-agent".into());
    let package = version::own();
    let chosen = match Config::load(config) {
        Ok(read) => chosen(unit, &read, &package),
        // The packaged program says what is wrong with it.
        Err(_) => (Runs::Package, None),
    };
    let (runs, program) = chosen;
    let mut arguments: Vec<OsString> = Vec::new();
    if unit == Unit::Proxy {
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
pub fn apart(unit: Unit, config: &Path, rest: &[OsString]) -> std::io::Result<u32> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("launch");
    if unit == Unit::Proxy {
        command.arg("proxy");
    }
    command.args(rest).arg("--config").arg(config);
    // What waits for the id must not wait for the process.
    command.stdin(Stdio::null()).stdout(Stdio::null());
    Ok(command.spawn()?.id())
}

fn chosen(unit: Unit, config: &Config, package: &AgentVersion) -> (Runs, Option<PathBuf>) {
    let dir = &config.state_dir;
    let record = match record::read(dir) {
        Ok(record) => record,
        Err(error) => {
            eprintln!("pith-agent: what is kept of agent releases cannot be read: {error}");
            return (Runs::Package, None);
        }
    };
    let is_usable = |held: &Held| is_usable(dir, held);
    let runs = match unit {
        Unit::Agent => written(dir, choose::agent(&record, package, &clock::boot_id(), is_usable)),
        Unit::Proxy => {
            let known = read_proxy(&config.runtime_dir.join(PROXY_FILE));
            let choice = choose::proxy(&record, package, known, is_usable);
            counted(&config.runtime_dir, choice)
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

/// On tmpfs, before anything runs by it.
fn counted(runtime_dir: &Path, (runs, starts): (Runs, Option<ProxyStarts>)) -> Runs {
    let is_kept = starts.is_none_or(|starts| write_proxy(&runtime_dir.join(PROXY_FILE), &starts));
    if is_kept { runs } else { Runs::Package }
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

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, chown};

    use protocol::agent_release::MAX_STARTS;

    use super::*;
    use crate::update::record::{Record, Slot};

    fn held() -> Held {
        Held {
            slot: Slot::A,
            digest: format!("sha256:{}", "a".repeat(64)).parse().unwrap(),
            size: 4,
            version: "9.0.0".parse().unwrap(),
            counter: 1,
            package: package(),
        }
    }

    fn package() -> AgentVersion {
        "0.1.0".parse().unwrap()
    }

    /// A board on which a program is confirmed.
    struct Board {
        dir: tempfile::TempDir,
        config: Config,
    }

    impl Board {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            let text =
                format!("state_dir = \"{0}/state\"\nruntime_dir = \"{0}\"\n", dir.path().display());
            let config = Config::parse(Path::new("agent.toml"), &text).unwrap();
            let board = Self { dir, config };
            board.keep(&Record { held: Some(held()), floor: 1, ..Record::default() });
            std::fs::write(board.program(), b"\x7fELF").unwrap();
            std::fs::set_permissions(board.program(), std::fs::Permissions::from_mode(0o500))
                .unwrap();
            board
        }

        fn state(&self) -> PathBuf {
            self.dir.path().join("state")
        }

        fn program(&self) -> PathBuf {
            record::program(&self.state(), Slot::A)
        }

        fn keep(&self, record: &Record) {
            record::write(&self.state(), record).unwrap();
        }

        fn chosen(&self, unit: Unit) -> Runs {
            chosen(unit, &self.config, &package()).0
        }
    }

    #[test]
    fn what_was_confirmed_is_started_and_what_was_changed_since_is_not() {
        let board = Board::new();
        assert_eq!(board.chosen(Unit::Agent), Runs::Slot(Slot::A));
        std::fs::set_permissions(board.program(), std::fs::Permissions::from_mode(0o722)).unwrap();
        assert_eq!(board.chosen(Unit::Agent), Runs::Package, "others may write it");
        std::fs::remove_file(board.program()).unwrap();
        std::fs::write(board.program(), b"\x7fELF longer").unwrap();
        assert_eq!(board.chosen(Unit::Agent), Runs::Package, "it has another length");
        std::fs::remove_file(board.program()).unwrap();
        std::os::unix::fs::symlink("/bin/true", board.program()).unwrap();
        assert_eq!(board.chosen(Unit::Agent), Runs::Package, "it is somewhere else");
    }

    #[test]
    fn root_starts_nothing_that_another_user_owns() {
        if !nix::unistd::geteuid().is_root() {
            // Nobody else can give files away.
            return;
        }
        let board = Board::new();
        chown(board.program(), Some(4711), None).unwrap();
        assert_eq!(board.chosen(Unit::Agent), Runs::Package);
        chown(board.program(), Some(0), None).unwrap();
        assert_eq!(board.chosen(Unit::Agent), Runs::Slot(Slot::A));
        chown(record::folder(&board.state()), Some(4711), None).unwrap();
        assert_eq!(board.chosen(Unit::Agent), Runs::Package, "nor what lies in its folder");
    }

    #[test]
    fn whatever_cannot_be_read_the_package_is_started() {
        let board = Board::new();
        let file = record::folder(&board.state()).join("state.json");
        for bytes in [&b""[..], b"{", b"[]", b"\0\0\0\0", br#"{"held":{"slot":"c"}}"#] {
            std::fs::write(&file, bytes).unwrap();
            for unit in [Unit::Agent, Unit::Proxy] {
                assert_eq!(board.chosen(unit), Runs::Package, "{bytes:?}");
            }
        }
        std::fs::remove_file(&file).unwrap();
        std::fs::create_dir(&file).unwrap();
        assert_eq!(board.chosen(Unit::Agent), Runs::Package);
    }

    #[test]
    fn a_trial_is_counted_on_the_disk_before_it_is_started() {
        let board = Board::new();
        board.keep(&Record::default().tried(held()));
        for starts in 1..=MAX_STARTS {
            assert_eq!(board.chosen(Unit::Agent), Runs::Slot(Slot::A));
            let trial = record::read(&board.state()).unwrap().trial.unwrap();
            assert_eq!((trial.starts, trial.boot_id), (starts, clock::boot_id()));
        }
        assert_eq!(board.chosen(Unit::Agent), Runs::Package);
        assert_eq!(record::read(&board.state()).unwrap().trial, None);
    }

    #[test]
    fn a_program_that_does_not_serve_as_a_proxy_is_left_after_three_starts_unless_it_has_served() {
        let board = Board::new();
        for _ in 0..MAX_STARTS {
            assert_eq!(board.chosen(Unit::Proxy), Runs::Slot(Slot::A));
        }
        assert_eq!(board.chosen(Unit::Proxy), Runs::Package);
        assert_eq!(
            board.chosen(Unit::Agent),
            Runs::Slot(Slot::A),
            "it is a good agent all the same"
        );
        std::fs::remove_file(board.dir.path().join(PROXY_FILE)).unwrap();
        assert_eq!(board.chosen(Unit::Proxy), Runs::Slot(Slot::A));
        proxy_is_proven(board.dir.path());
        for _ in 0..10 {
            assert_eq!(board.chosen(Unit::Proxy), Runs::Slot(Slot::A));
        }
    }
}
