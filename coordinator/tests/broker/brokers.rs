//! The two brokers under test, started on free loopback ports, with the same fleet, nodes and rules.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use coordinator::broker::{
    self, BrokerConfig, COORDINATOR_CLIENT_ID, Credentials, MAX_PACKET_BYTES,
};
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep};

use crate::peer::Login;

pub(crate) const FLEET: &str = "000000000000000000000000000000f1";
pub(crate) const NODES: [&str; 2] =
    ["00000000000000000000000000000001", "00000000000000000000000000000002"];

const START_DEADLINE: Duration = Duration::from_secs(10);
const START_POLL: Duration = Duration::from_millis(10);
/// Another process may take the port that was free a moment ago.
const START_ATTEMPTS: usize = 5;

/// A broker under test.
pub(crate) struct Broker {
    address: SocketAddr,
    running: Running,
}

enum Running {
    Embedded(broker::Broker),
    Mosquitto { process: Mosquitto, directory: TempDir },
}

/// Killed when dropped.
struct Mosquitto(Child);

pub(crate) fn token(client_id: &str) -> String {
    format!("token-of-{client_id}")
}

pub(crate) fn up(node: usize, subject: &str) -> String {
    format!("pith/v1/{FLEET}/n/{}/up/{subject}", NODES[node])
}

pub(crate) fn down(node: usize, subject: &str) -> String {
    format!("pith/v1/{FLEET}/n/{}/down/{subject}", NODES[node])
}

impl Broker {
    pub(crate) async fn embedded() -> Self {
        let running = start_embedded(loopback(0)).await;
        Self { address: running.local_addr(), running: Running::Embedded(running) }
    }

    /// None where Mosquitto is not installed, which only CI treats as a failure.
    pub(crate) async fn mosquitto() -> Option<Self> {
        if !mosquitto_is_installed() {
            return None;
        }
        for _ in 0..START_ATTEMPTS {
            let address = loopback(free_port());
            let directory = tempfile::tempdir().expect("a temporary directory");
            write_configuration(directory.path(), address);
            if let Some(process) = start_mosquitto(directory.path(), address).await {
                return Some(Self { address, running: Running::Mosquitto { process, directory } });
            }
        }
        panic!("mosquitto did not start in {START_ATTEMPTS} attempts");
    }

    /// Ends it without a goodbye and starts it again on the same address.
    pub(crate) async fn restart(self) -> Self {
        let address = self.address;
        let running = match self.running {
            Running::Embedded(broker) => {
                broker.shutdown().await;
                Running::Embedded(start_embedded(address).await)
            }
            Running::Mosquitto { process, directory } => {
                drop(process);
                let process = start_mosquitto(directory.path(), address).await;
                let process = process.expect("mosquitto starts again");
                Running::Mosquitto { process, directory }
            }
        };
        Self { address, running }
    }

    pub(crate) async fn end(self) {
        match self.running {
            Running::Embedded(broker) => broker.shutdown().await,
            Running::Mosquitto { process, .. } => drop(process),
        }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn coordinator(&self) -> Login {
        Login::new(self.address, COORDINATOR_CLIENT_ID)
    }

    pub(crate) fn node(&self, node: usize) -> Login {
        Login::new(self.address, NODES[node])
    }
}

async fn start_embedded(listen: SocketAddr) -> broker::Broker {
    let fleet = FLEET.parse().expect("a fleet id");
    let credentials = Credentials::new(fleet, &token(COORDINATOR_CLIENT_ID)).expect("a long token");
    for node in NODES {
        let id = node.parse().expect("a node id");
        credentials.admit(&id, &token(node)).expect("a long token");
    }
    broker::start(BrokerConfig::new(listen, credentials)).await.expect("the broker starts")
}

pub(crate) fn mosquitto_is_installed() -> bool {
    let found = Command::new(mosquitto()).arg("-h").output().is_ok();
    if !found {
        assert!(std::env::var_os("CI").is_none_or(|ci| ci != "true"), "CI needs mosquitto");
        eprintln!(
            "skipped: mosquitto is not installed (apt-get install mosquitto mosquitto-clients)"
        );
    }
    found
}

/// Debian keeps it where a person's PATH does not look.
fn mosquitto() -> &'static str {
    if Path::new("/usr/sbin/mosquitto").exists() { "/usr/sbin/mosquitto" } else { "mosquitto" }
}

fn write_configuration(directory: &Path, address: SocketAddr) {
    let (passwords, rules) = (directory.join("passwords"), directory.join("acl"));
    std::fs::write(&passwords, "").expect("the password file");
    for client in [COORDINATOR_CLIENT_ID, NODES[0], NODES[1]] {
        let status = Command::new("mosquitto_passwd")
            .arg("-b")
            .args([&passwords, Path::new(client), Path::new(&token(client))])
            .status()
            .expect("mosquitto_passwd runs");
        assert!(status.success(), "mosquitto_passwd: {status}");
    }
    let acl = format!(
        "pattern read pith/v1/{FLEET}/n/%u/down/#\npattern write pith/v1/{FLEET}/n/%u/up/#\n\
         user {COORDINATOR_CLIENT_ID}\ntopic read pith/v1/{FLEET}/n/+/up/#\n\
         topic write pith/v1/{FLEET}/n/+/down/#\n"
    );
    std::fs::write(&rules, acl).expect("the acl file");
    let configuration = format!(
        "listener {} {}\nallow_anonymous false\nuse_username_as_clientid true\npassword_file {}\n\
         acl_file {}\nmax_packet_size {MAX_PACKET_BYTES}\nmax_queued_messages 4096\n\
         persistence false\nlog_type error\n{}",
        address.port(),
        address.ip(),
        passwords.display(),
        rules.display(),
        // As root it would become `mosquitto`, which may not read the files above.
        if nix::unistd::geteuid().is_root() { "user root\n" } else { "" },
    );
    std::fs::write(directory.join("mosquitto.conf"), configuration).expect("the configuration");
}

async fn start_mosquitto(directory: &Path, address: SocketAddr) -> Option<Mosquitto> {
    let child = Command::new(mosquitto())
        .arg("-c")
        .arg(directory.join("mosquitto.conf"))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("mosquitto runs");
    let mut process = Mosquitto(child);
    let deadline = Instant::now() + START_DEADLINE;
    while Instant::now() < deadline {
        if process.0.try_wait().expect("its state").is_some() {
            return None;
        }
        if TcpStream::connect(address).await.is_ok() {
            return Some(process);
        }
        sleep(START_POLL).await;
    }
    None
}

impl Drop for Mosquitto {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn loopback(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind(loopback(0)).expect("a free port");
    listener.local_addr().expect("its address").port()
}
