//! One node on this machine: mosquitto, `pith-agent proxy` and `pith-agent` as child processes, cleaned up at the end.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use protocol::envelope::Envelope;
use protocol::id::Digest;
use protocol::keys::Role;
use protocol::release::{Image, Pin};
use protocol::report::{Report, ServiceReport};

use super::testing::{self, ManifestBuilder};

const PATIENCE: Duration = Duration::from_secs(40);

pub(crate) struct Node {
    /// Nodes of these tests share one identity: one at a time on this machine.
    _turn: std::fs::File,
    dir: tempfile::TempDir,
    broker: Child,
    broker_port: u16,
    proxy: Option<Child>,
    agent: Option<Child>,
    pub(crate) listen: &'static str,
    /// Environment of agents to come.
    pub(crate) env: Vec<(String, String)>,
}

/// What the tests stand on; `None` and a word about it where something is missing.
pub(crate) fn missing() -> Option<&'static str> {
    let answers = |program: &str, args: &[&str]| {
        let output = Command::new(program).args(args).stdin(Stdio::null()).output();
        output.is_ok_and(|output| output.status.success())
    };
    let what = if !answers("docker", &["image", "inspect", "pith-demo:v1", "pith-demo:v2"]) {
        "the images pith-demo:v1 and v2 (tests/setup/images.sh)"
    } else if !answers("sh", &["-c", "command -v mosquitto mosquitto_pub mosquitto_sub"]) {
        "mosquitto"
    } else {
        return None;
    };
    assert!(std::env::var_os("CI").is_none(), "missing: {what}");
    eprintln!("SKIPPED: missing {what}");
    Some(what)
}

pub(crate) fn free_port(address: &str) -> u16 {
    TcpListener::bind((address, 0)).unwrap().local_addr().unwrap().port()
}

/// An image of this machine's Docker, as a release names it.
pub(crate) fn local_image(reference: &str) -> Image {
    let output = Command::new("docker")
        .args(["image", "inspect", "--format", "{{.Id}}", reference])
        .output()
        .unwrap();
    let id: Digest = String::from_utf8(output.stdout).unwrap().trim().parse().unwrap();
    Image { reference: reference.to_owned(), pin: Pin::ImageId(id) }
}

impl Node {
    pub(crate) fn start(listen: &'static str, backdrop: &str) -> Self {
        let turn =
            std::fs::File::create(std::env::temp_dir().join("pith-agent-board.lock")).unwrap();
        turn.lock().unwrap();
        let dir = tempfile::tempdir().unwrap();
        let broker_port = free_port("127.0.0.1");
        let conf =
            format!("listener {broker_port} 127.0.0.1\nallow_anonymous true\npersistence false\n");
        write(dir.path(), "mosquitto.conf", &conf, 0o644);
        let broker = Command::new("mosquitto")
            .arg("-c")
            .arg(dir.path().join("mosquitto.conf"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        std::fs::create_dir(dir.path().join("state")).unwrap();
        write(dir.path(), "state/node.key", &testing::node_key().to_base64(), 0o600);
        let root = Envelope::sign(&testing::root(), &[&testing::root_key()]).to_bytes();
        std::fs::write(dir.path().join("root.json"), root).unwrap();
        write(dir.path(), "token", "secret\n", 0o600);
        let at = |name: &str| dir.path().join(name).display().to_string();
        let config = format!(
            "name = \"board\"\nlisten = [\"{listen}\"]\nstate_dir = \"{}\"\nruntime_dir = \"{}\"\n\
             trust_root = \"{}\"\nremove_images = false\nnetwork_pool = \"10.214.0.0/16\"\n\
             [broker]\naddress = \"127.0.0.1:{broker_port}\"\ntoken_file = \"{}\"\nbackoff_ms = 50\n{backdrop}",
            at("state"),
            at("run"),
            at("root.json"),
            at("token"),
        );
        write(dir.path(), "agent.toml", &config, 0o644);
        let mut node = Self {
            _turn: turn,
            dir,
            broker,
            broker_port,
            proxy: None,
            agent: None,
            listen,
            env: Vec::new(),
        };
        node.start_proxy();
        node.start_agent();
        node
    }

    fn spawn(&self, args: &[&str], log: &str) -> Child {
        let log = std::fs::File::options()
            .create(true)
            .append(true)
            .open(self.dir.path().join(log))
            .unwrap();
        Command::new(env!("CARGO_BIN_EXE_pith-agent"))
            .args(args)
            .arg("--config")
            .arg(self.dir.path().join("agent.toml"))
            .stderr(log)
            .env("PITH_LOG", "info,agent=debug")
            .envs(self.env.iter().cloned())
            .spawn()
            .unwrap()
    }

    pub(crate) fn start_proxy(&mut self) {
        self.proxy = Some(self.spawn(&["proxy"], "proxy.log"));
    }

    pub(crate) fn start_agent(&mut self) {
        self.agent = Some(self.spawn(&[], "agent.log"));
    }

    pub(crate) fn kill_agent(&mut self) {
        end(self.agent.take());
    }

    /// Whether the agent ended, by whatever means.
    #[cfg(feature = "failpoints")]
    pub(crate) fn agent_ended(&mut self) -> bool {
        self.agent.as_mut().is_some_and(|agent| agent.try_wait().unwrap().is_some())
    }

    #[cfg(feature = "failpoints")]
    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn stop_broker(&mut self) {
        let _ = self.broker.kill();
        let _ = self.broker.wait();
    }

    /// Publishes a manifest as the coordinator does.
    pub(crate) fn publish(&self, bytes: &[u8]) {
        let path = self.dir.path().join("manifest");
        std::fs::write(&path, bytes).unwrap();
        let topic =
            format!("pith/v1/{}/n/{}/down/manifest", testing::fleet(), testing::identity().node);
        // The broker was only started: it may not listen yet.
        let begun = Instant::now();
        let publish = || {
            Command::new("mosquitto_pub")
                .args(["-p", &self.broker_port.to_string(), "-q", "1", "-r", "-t", &topic, "-f"])
                .arg(&path)
                .status()
                .unwrap()
                .success()
        };
        while !publish() {
            assert!(begun.elapsed() < Duration::from_secs(10), "the broker takes no manifest");
        }
    }

    /// The newest report, verified under the node's key.
    pub(crate) fn report(&self) -> Option<Report> {
        let topic =
            format!("pith/v1/{}/n/{}/up/report", testing::fleet(), testing::identity().node);
        let output = Command::new("mosquitto_sub")
            .args(["-p", &self.broker_port.to_string(), "-C", "1", "-W", "2", "-t", &topic])
            .output()
            .unwrap();
        let envelope = Envelope::from_bytes(output.stdout.trim_ascii_end()).ok()?;
        let role = Role::single(testing::node_key().public());
        Some(envelope.open::<Report>().ok()?.verify(&role).unwrap().into_inner())
    }

    /// Waits for a report that passes.
    #[track_caller]
    pub(crate) fn until_report(&self, what: &str, passes: impl Fn(&Report) -> bool) -> Report {
        let began = Instant::now();
        loop {
            let report = self.report();
            if let Some(report) = report.as_ref().filter(|report| passes(report)) {
                return report.clone();
            }
            if began.elapsed() > PATIENCE {
                panic!("not within {PATIENCE:?}: {what}\n{report:#?}\n{}", self.log());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    #[track_caller]
    pub(crate) fn until_service(
        &self,
        name: &str,
        what: &str,
        passes: impl Fn(&ServiceReport) -> bool,
    ) -> ServiceReport {
        let of =
            |report: &Report| report.services.iter().find(|s| s.service.as_str() == name).cloned();
        let report = self.until_report(what, |report| of(report).is_some_and(|s| passes(&s)));
        of(&report).unwrap()
    }

    /// GET / through the proxy: status and body.
    pub(crate) fn get(&self, port: u16) -> Option<(u16, String)> {
        let mut stream = TcpStream::connect((self.listen, port)).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n").ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        let status = answer.split(' ').nth(1)?.parse().ok()?;
        Some((status, answer.split_once("\r\n\r\n")?.1.to_owned()))
    }

    pub(crate) fn containers(&self) -> Vec<String> {
        docker_lines(&["ps", "-a", "--filter", &filter(), "--format", "{{.Names}} {{.State}}"])
    }

    pub(crate) fn log(&self) -> String {
        let read =
            |name: &str| std::fs::read_to_string(self.dir.path().join(name)).unwrap_or_default();
        format!("---- proxy\n{}---- agent\n{}", read("proxy.log"), read("agent.log"))
    }

    pub(crate) fn state_dir(&self) -> PathBuf {
        self.dir.path().join("state")
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        end(self.agent.take());
        end(self.proxy.take());
        self.stop_broker();
        for id in docker_lines(&["ps", "-aq", "--filter", &filter()]) {
            docker_lines(&["rm", "-f", "-v", &id]);
        }
        for id in docker_lines(&["network", "ls", "-q", "--filter", &filter()]) {
            docker_lines(&["network", "rm", &id]);
        }
        if std::thread::panicking() || std::env::var_os("PITH_SHOW_LOG").is_some() {
            eprintln!("{}", self.log());
        }
    }
}

/// Only what this test made: the keys are its own.
fn filter() -> String {
    format!("label=io.pith.fleet={}", testing::fleet())
}

fn docker_lines(args: &[&str]) -> Vec<String> {
    let output = Command::new("docker").args(args).output().unwrap();
    String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect()
}

fn end(child: Option<Child>) {
    let Some(mut child) = child else { return };
    let _ = child.kill();
    let _ = child.wait();
}

fn write(dir: &Path, name: &str, text: &str, mode: u32) {
    let path = dir.join(name);
    std::fs::write(&path, text).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
}

/// A manifest with one service of the demo image.
pub(crate) fn demo(generation: u64, tag: &str, port: u16, extra_env: &[(&str, &str)]) -> Vec<u8> {
    let mut spec = testing::spec("web");
    spec.ports[0].listen.as_mut().unwrap().port = port;
    for (key, value) in extra_env {
        spec.container.env.insert((*key).to_owned(), (*value).to_owned());
    }
    spec.health.readiness = Some(protocol::spec::Probe {
        check: protocol::spec::Check::Http { path: "/ready".into(), port: 8080 },
        initial_delay: protocol::units::Millis(0),
        period: protocol::units::Millis(1000),
        timeout: protocol::units::Millis(1000),
        success_threshold: 1,
        failure_threshold: 2,
    });
    let image = local_image(&format!("pith-demo:{tag}"));
    ManifestBuilder::new(generation).with_image(&spec, image, 2, 1).bytes()
}

/// Asks without pause until it is told to end; counts answers and failures.
pub(crate) fn load(
    listen: &'static str,
    port: u16,
    ends: Arc<AtomicBool>,
) -> std::thread::JoinHandle<(u64, u64)> {
    let count = Arc::new(AtomicU64::new(0));
    std::thread::spawn(move || {
        let mut failed = 0;
        while !ends.load(Ordering::Relaxed) {
            let ask = || -> std::io::Result<bool> {
                let mut stream = TcpStream::connect((listen, port))?;
                stream.set_read_timeout(Some(Duration::from_secs(20)))?;
                stream.write_all(b"GET / HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n")?;
                let mut answer = String::new();
                stream.read_to_string(&mut answer)?;
                Ok(answer.starts_with("HTTP/1.1 200"))
            };
            count.fetch_add(1, Ordering::Relaxed);
            if !ask().unwrap_or(false) {
                failed += 1;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        (count.load(Ordering::Relaxed), failed)
    })
}
