//! A Mosquitto of the test's own, with passwords and rules as an operator writes them, and no memory of its own.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::http::free_port;
use crate::wait::until_true;

/// Whoever runs the broker: reads and writes everything.
pub const OWNER: &str = "owner";
const SOON: Duration = Duration::from_secs(10);

/// The broker, stopped or running; killed when dropped.
#[derive(Debug)]
pub struct Mosquitto {
    dir: tempfile::TempDir,
    address: SocketAddr,
    /// The last user of them is the coordinator.
    rules: String,
    process: Option<Child>,
}

/// Debian keeps it where a person's PATH does not look.
#[must_use]
pub fn program() -> &'static str {
    if Path::new("/usr/sbin/mosquitto").exists() { "/usr/sbin/mosquitto" } else { "mosquitto" }
}

impl Mosquitto {
    /// One for this fleet, not started. What it keeps is lost with its process.
    ///
    /// # Panics
    /// When its files cannot be written.
    #[must_use]
    pub fn new(fleet: &str, coordinator: &str) -> Self {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()));
        let rules = format!(
            "pattern read pith/v1/{fleet}/n/%u/down/#\npattern write pith/v1/{fleet}/n/%u/up/#\n\
             user {OWNER}\ntopic readwrite pith/#\n\
             user {coordinator}\ntopic read pith/v1/{fleet}/n/+/up/#\ntopic write pith/v1/{fleet}/n/+/down/#\n"
        );
        let broker = Self { dir, address, rules, process: None };
        fs::write(broker.path("passwords"), "").expect("a file can be written");
        broker.withhold(&[]);
        let config = format!(
            "listener {} {}\nallow_anonymous false\nuse_username_as_clientid true\npassword_file {}\nacl_file {}\n\
             max_packet_size 524288\npersistence false\nlog_type error\nuser {}\n",
            address.port(),
            address.ip(),
            broker.path("passwords").display(),
            broker.path("acl").display(),
            // As root it would become `mosquitto`, which may not read the files above.
            std::env::var("USER").unwrap_or_else(|_| "root".to_owned()),
        );
        fs::write(broker.path("mosquitto.conf"), config).expect("a file can be written");
        broker
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Drops what the coordinator says on these topics, and on no other, from the next start on.
    ///
    /// # Panics
    /// When the file cannot be written.
    pub fn withhold(&self, topics: &[String]) {
        let denied = topics.iter().map(|topic| format!("topic deny {topic}\n"));
        let rules = format!("{}{}", self.rules, denied.collect::<String>());
        fs::write(self.path("acl"), rules).expect("a file can be written");
    }

    /// Lets a user in from the next start on; gives the password back.
    ///
    /// # Panics
    /// When `mosquitto_passwd` refuses.
    pub fn login<'a>(&mut self, user: &str, password: &'a str) -> &'a str {
        let mut command = Command::new("mosquitto_passwd");
        let status = command.arg("-b").arg(self.path("passwords")).args([user, password]).status();
        assert!(status.expect("mosquitto_passwd can be run").success(), "mosquitto_passwd");
        password
    }

    /// Starts it, empty, and waits until it accepts.
    ///
    /// # Panics
    /// When it does not.
    pub fn start(&mut self) {
        let mut command = Command::new(program());
        command.arg("-c").arg(self.path("mosquitto.conf"));
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        self.process = Some(child.expect("mosquitto can be run"));
        until_true("mosquitto listens", SOON, || TcpStream::connect(self.address).is_ok());
    }

    /// Kills it, as kill -9 does.
    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            let _ = process.kill();
            let _ = process.wait();
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }
}

impl Drop for Mosquitto {
    fn drop(&mut self) {
        self.kill();
    }
}
