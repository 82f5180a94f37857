//! A real Mosquitto with the files that `pith broker mosquitto` writes: the fleet works on it, and attacks do not.
//!
//! Its own clients attack it. Without Mosquitto this is reported as skipped, and fails where `CI=true`.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[path = "front/board.rs"]
mod board;

use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use board::{Board, Fleet, PATIENCE};
use coordinator::local::{BrokerChoice, External};
use coordinator::mosquitto;
use coordinator::role::Role;
use coordinator::state::views::EventFilter;
use protocol::id::FleetId;

const NOW_S: u64 = 1_900_000_000;

/// Killed when dropped.
struct Mosquitto {
    child: Child,
    address: SocketAddr,
}

impl Drop for Mosquitto {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn program() -> &'static str {
    if Path::new("/usr/sbin/mosquitto").exists() { "/usr/sbin/mosquitto" } else { "mosquitto" }
}

fn can_run() -> bool {
    let found = [program(), "mosquitto_sub", "mosquitto_pub"]
        .into_iter()
        .all(|name| Command::new(name).arg("--help").output().is_ok());
    if !found {
        assert!(std::env::var_os("CI").is_none_or(|ci| ci != "true"), "CI needs mosquitto");
        eprintln!(
            "skipped: mosquitto is not installed (apt-get install mosquitto mosquitto-clients)"
        );
    }
    found
}

fn start(folder: &Path, address: SocketAddr) -> Mosquitto {
    let conf = folder.join("mosquitto.conf");
    let own = folder.join("own.conf");
    let text = std::fs::read_to_string(conf).unwrap();
    // As root it would become `mosquitto`, which may not read the files of this test.
    let user = if nix::unistd::geteuid().is_root() { "user root\n" } else { "" };
    std::fs::write(&own, format!("{text}log_type error\n{user}")).unwrap();
    let log = std::fs::File::create(folder.join("log")).unwrap();
    let child =
        Command::new(program()).arg("-c").arg(own).stdout(Stdio::null()).stderr(log).spawn();
    let mut broker = Mosquitto { child: child.unwrap(), address };
    let deadline = Instant::now() + PATIENCE;
    while TcpStream::connect(address).is_err() {
        let log = || std::fs::read_to_string(folder.join("log")).unwrap_or_default();
        assert!(broker.child.try_wait().unwrap().is_none(), "mosquitto ended: {}", log());
        assert!(Instant::now() < deadline, "mosquitto does not listen: {}", log());
        std::thread::sleep(Duration::from_millis(10));
    }
    broker
}

/// Mosquitto's own client, as somebody who holds a board's files.
struct Peer<'a> {
    broker: &'a Mosquitto,
    folder: &'a Path,
    certificate: Option<&'a str>,
}

impl Peer<'_> {
    fn command(&self, program: &str, arguments: &[&str]) -> Command {
        let path = |name: &str| self.folder.join(name).display().to_string();
        let mut command = Command::new(program);
        let port = self.broker.address.port().to_string();
        command.args(["-h", "127.0.0.1", "-p", &port, "--cafile", &path("ca.crt"), "--insecure"]);
        if let Some(of) = self.certificate {
            command.args(["--cert", &path(&format!("{of}.crt"))]);
            command.args(["--key", &path(&format!("{of}.key"))]);
        }
        command.args(arguments);
        command
    }

    fn run(&self, program: &str, arguments: &[&str]) -> Output {
        self.command(program, arguments).output().unwrap()
    }
}

fn keep(folder: &Path, name: &str, board: &Board, certificate: &str) {
    std::fs::write(folder.join(format!("{name}.crt")), certificate).unwrap();
    std::fs::write(folder.join(format!("{name}.key")), board.tls.serialize_pem()).unwrap();
}

fn up(fleet: &FleetId, board: &Board) -> String {
    format!("pith/v1/{fleet}/n/{}/up/event", board.id())
}

fn down(fleet: &FleetId, board: &Board) -> String {
    format!("pith/v1/{fleet}/n/{}/down/manifest", board.id())
}

fn free_address() -> SocketAddr {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap()
}

/// An operator's certificate is of the same CA, and of nobody that the rules know.
async fn check_operator(fleet: &Fleet, (broker, folder): (&Mosquitto, &Path), [a, b]: [&Board; 2]) {
    let anna = fleet.log_in("anna", Role::Security).await;
    std::fs::write(folder.join("anna.crt"), &anna.certificate).unwrap();
    std::fs::write(folder.join("anna.key"), &anna.key).unwrap();
    let peer = |of| Peer { broker, folder, certificate: Some(of) };
    let id = fleet.ca().fleet().clone();
    let said = r#"{"service":null,"reason":null,"message":"in the name of anna"}"#;
    peer("anna").run("mosquitto_pub", &["-q", "1", "-t", &up(&id, a), "-m", said]);
    let topic = down(&id, b);
    peer("anna").run("mosquitto_pub", &["-q", "1", "-r", "-t", &topic, "-m", "forged"]);
    let newest = ["-t", &topic, "-C", "1", "-W", "1"];
    assert!(peer("b").run("mosquitto_sub", &newest).stdout.is_empty(), "no forged manifest");
    assert!(!events(fleet).await.contains("in the name of anna"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fleet_works_on_a_mosquitto_of_ours_and_attacks_on_it_do_not() {
    if !can_run() {
        return;
    }
    let (dir, address) = (tempfile::tempdir().unwrap(), free_address());
    let folder = dir.path();
    let external = External {
        host: "127.0.0.1".to_owned(),
        port: address.port(),
        credentials: None,
        tls: true,
        listen: Some("127.0.0.1:0".parse().unwrap()),
    };
    let fleet = Fleet::start_with(BrokerChoice::External(external)).await;
    mosquitto::write(folder, address, fleet.ca(), &[], NOW_S).unwrap();
    let broker = start(folder, address);
    let (a, b) = (fleet.member("opi-1").await, fleet.member("opi-2").await);
    for (name, board) in [("a", &a), ("b", &b)] {
        keep(folder, name, board, board.certificate.as_ref().unwrap());
    }
    let id = fleet.ca().fleet().clone();
    let peer = |of| Peer { broker: &broker, folder, certificate: Some(of) };

    // The coordinator is there with its own certificate, and hears what a node says.
    let said = r#"{"service":null,"reason":null,"message":"hello from a"}"#;
    a.says_hello(&fleet, broker.address).await;
    let sent = peer("a").run("mosquitto_pub", &["-q", "1", "-t", &up(&id, &a), "-m", said]);
    assert!(sent.status.success(), "{sent:?}");
    until_event(&fleet, "hello from a").await;

    // A node with `#` sees its own topics only.
    let everything = ["-t", "#", "-W", "2", "-v"];
    let spy =
        peer("a").command("mosquitto_sub", &everything).stdout(Stdio::piped()).spawn().unwrap();
    std::thread::sleep(Duration::from_millis(500));
    let b_says = peer("b").run("mosquitto_pub", &["-q", "1", "-t", &up(&id, &b), "-m", "b's"]);
    assert!(b_says.status.success());
    let seen = String::from_utf8(spy.wait_with_output().unwrap().stdout).unwrap();
    assert!(!seen.contains(b.id().as_str()), "{seen}");

    // What it says on another's topic reaches nobody, and what it says as the coordinator neither.
    let stolen = said.replace("hello from a", "in the name of b");
    peer("a").run("mosquitto_pub", &["-q", "1", "-t", &up(&id, &b), "-m", &stolen]);
    peer("a").run("mosquitto_pub", &["-q", "1", "-r", "-t", &down(&id, &b), "-m", "forged"]);
    let mine = ["-t", &down(&id, &b), "-C", "1", "-W", "1"];
    assert!(peer("b").run("mosquitto_sub", &mine).stdout.is_empty(), "no forged manifest");
    assert!(!events(&fleet).await.contains("in the name of b"));

    // Another's client id does not end its session: it stays connected until its own time is over.
    let topic = down(&id, &b);
    let mut victim =
        peer("b").command("mosquitto_sub", &["-t", &topic, "-W", "3"]).spawn().unwrap();
    std::thread::sleep(Duration::from_millis(500));
    peer("a").run("mosquitto_pub", &["-i", b.id().as_str(), "-t", &up(&id, &a), "-m", "x"]);
    peer("a").run("mosquitto_sub", &["-i", "coordinator", "-t", "#", "-W", "1"]);
    std::thread::sleep(Duration::from_millis(500));
    assert!(victim.try_wait().unwrap().is_none(), "the victim was cut off");
    let _ = victim.kill();
    let _ = victim.wait();

    check_operator(&fleet, (&broker, folder), [&a, &b]).await;

    // Without a certificate, or with one of another CA, nobody comes in.
    let hello = ["-t", &up(&id, &a)[..], "-m", "x", "-q", "1"];
    let nobody = Peer { broker: &broker, folder, certificate: None };
    assert!(!nobody.run("mosquitto_pub", &hello).status.success());
    let elsewhere = tempfile::tempdir().unwrap();
    let other = coordinator::data_dir::DataDir::at(elsewhere.path());
    let other = coordinator::ca::Ca::open(&other, &id).unwrap();
    keep(folder, "forged", &a, &other.node(&a.id(), &a.tls_key(), NOW_S).unwrap().pem);
    assert!(!peer("forged").run("mosquitto_pub", &hello).status.success());

    // A revoked one is in the list, and refused from the next start on; the other is not.
    fleet.client.revoke("opi-1").await.unwrap();
    let revoked = fleet.client.revoked_certificates().await.unwrap().serials;
    assert_eq!(revoked.len(), 1);
    mosquitto::write(folder, address, fleet.ca(), &revoked, NOW_S).unwrap();
    drop(broker);
    let broker = start(folder, address);
    let peer = |of| Peer { broker: &broker, folder, certificate: Some(of) };
    assert!(!peer("a").run("mosquitto_pub", &hello).status.success());
    let b_says = ["-q", "1", "-t", &up(&id, &b)[..], "-m", "x"];
    assert!(peer("b").run("mosquitto_pub", &b_says).status.success());
}

async fn events(fleet: &Fleet) -> String {
    let events = fleet.client.events(&EventFilter::default(), None).await.unwrap().events;
    events.into_iter().map(|event| event.message + "\n").collect()
}

async fn until_event(fleet: &Fleet, message: &str) {
    let deadline = Instant::now() + PATIENCE;
    while !events(fleet).await.contains(message) {
        assert!(Instant::now() < deadline, "`{message}` was not heard: {}", events(fleet).await);
    }
}
