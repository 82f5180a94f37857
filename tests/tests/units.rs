//! The units as systemd judges them, and what the programs tell it: ready once they serve, alive as long as they answer.

use std::io::ErrorKind;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tests::fleet::binaries;
use tests::skip::has;

/// Unit, and its greatest exposure in tenths (`systemd-analyze security`).
const EXPOSURE_TENTHS: [(&str, u32); 3] =
    [("pith-agent", 20), ("pith-proxy", 20), ("pith-coordinator", 15)];
/// Of the tests here, so that words come often.
const WATCHDOG: Duration = Duration::from_millis(900);
const PATIENCE: Duration = Duration::from_secs(30);

fn unit(name: &str) -> PathBuf {
    let top = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests has a parent");
    top.join("systemd").join(format!("{name}.service"))
}

#[test]
fn units_have_the_least_privilege_that_their_programs_work_with() {
    if !has("systemd-analyze") {
        return;
    }
    for (name, limit) in EXPOSURE_TENTHS {
        let output = Command::new("systemd-analyze")
            .args(["security", "--offline=true", "--no-pager", &format!("--threshold={limit}")])
            .arg(unit(name))
            .output()
            .expect("systemd-analyze can be run");
        let told = String::from_utf8_lossy(&output.stdout);
        let open = told.lines().filter(|line| line.starts_with('✗')).collect::<Vec<_>>().join("\n");
        let last = told.lines().last().unwrap_or_default();
        assert!(
            output.status.success() && last.contains("exposure level"),
            "{name} is above {limit} tenths: {last}\n{open}\n{}",
            String::from_utf8_lossy(&output.stderr)
        );
        println!("{last}");
    }
}

#[test]
fn units_are_watched_and_never_given_up() {
    for (name, _) in EXPOSURE_TENTHS {
        let text = std::fs::read_to_string(unit(name)).expect("a unit");
        for line in ["Type=notify", "WatchdogSec=60", "Restart=always", "StartLimitIntervalSec=0"] {
            assert!(text.lines().any(|l| l == line), "{name} lacks {line}");
        }
        let score = text.lines().find_map(|line| line.strip_prefix("OOMScoreAdjust="));
        let score: i32 = score.expect("a score").parse().expect("a number");
        assert!(score < 0, "{name} must outlive applications");
    }
}

/// A program under something that listens as systemd does.
struct Watched {
    socket: UnixDatagram,
    child: Child,
    dir: tempfile::TempDir,
}

impl Watched {
    fn start(program: &str, prepare: impl FnOnce(&Path) -> Vec<String>) -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("notify");
        let socket = UnixDatagram::bind(&path).expect("a socket");
        let child = Command::new(binaries().join(program))
            .args(prepare(dir.path()))
            .env("NOTIFY_SOCKET", &path)
            .env("WATCHDOG_USEC", WATCHDOG.as_micros().to_string())
            .env_remove("WATCHDOG_PID")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("the program can be run");
        Self { socket, child, dir }
    }

    /// The next word; none within `patience`.
    fn word(&self, patience: Duration) -> Option<String> {
        self.socket.set_read_timeout(Some(patience)).expect("a timeout");
        let mut bytes = [0; 256];
        match self.socket.recv(&mut bytes) {
            Ok(length) => Some(String::from_utf8_lossy(&bytes[..length]).trim().to_owned()),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                None
            }
            Err(error) => panic!("{error}"),
        }
    }

    fn signal(&self, signal: &str) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args([signal, &pid]).status().expect("kill").success());
    }

    /// Ready once, fed again and again, and not while it does nothing.
    fn check(&self) {
        assert_eq!(self.word(PATIENCE).as_deref(), Some("READY=1"));
        for _ in 0..3 {
            assert_eq!(self.word(WATCHDOG).as_deref(), Some("WATCHDOG=1"), "in time");
        }
        self.signal("-STOP");
        let stopped = Instant::now();
        while self.word(WATCHDOG).is_some() {
            assert!(stopped.elapsed() < PATIENCE, "it is fed by somebody else");
        }
        self.signal("-CONT");
        assert_eq!(self.word(PATIENCE).as_deref(), Some("WATCHDOG=1"));
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = self.dir.path();
    }
}

#[test]
fn a_proxy_is_ready_when_it_serves_and_alive_as_long_as_it_answers() {
    let watched = Watched::start("pith-agent", |dir| {
        let config = dir.join("agent.toml");
        let text = format!("runtime_dir = \"{0}/run\"\nstate_dir = \"{0}/state\"\n", dir.display());
        std::fs::write(&config, text).expect("a file");
        vec!["proxy".to_owned(), "--config".to_owned(), config.display().to_string()]
    });
    watched.check();
}

#[test]
fn a_coordinator_is_ready_when_it_serves_and_alive_as_long_as_its_loop_answers() {
    let watched = Watched::start("pith", |dir| {
        let data = dir.join("fleet").display().to_string();
        let init = Command::new(binaries().join("pith")).args(["init", "--data", &data]).output();
        assert!(init.expect("pith can be run").status.success());
        let config = dir.join("coordinator.toml");
        std::fs::write(&config, "[broker]\nlisten = \"127.0.0.1:0\"\n").expect("a file");
        let config = config.display().to_string();
        ["serve", "--data", &data, "--config", &config].map(str::to_owned).to_vec()
    });
    watched.check();
}
