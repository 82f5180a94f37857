//! The session against a real broker: reconnect, outbox, wills, limits and refusals.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use mqtt::{Address, Config, Event, Login, Session, Will};
use protocol::id::{FleetId, NodeId};
use protocol::topic::{Down, Subject, Topic, Up};
use tokio::time::timeout;

const LIMIT: Duration = Duration::from_secs(20);

struct Mosquitto {
    dir: tempfile::TempDir,
    address: SocketAddr,
    child: Child,
}

impl Mosquitto {
    /// None where it is not installed: a reported skip on a person's machine.
    fn start() -> Option<Self> {
        let is_installed = Command::new("mosquitto")
            .arg("-h")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .is_ok();
        if !is_installed {
            assert!(std::env::var_os("CI").is_none(), "mosquitto is needed in CI");
            eprintln!("SKIPPED: mosquitto is not installed");
            return None;
        }
        let dir = tempfile::tempdir().unwrap();
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let passwords = dir.path().join("passwords");
        let made = Command::new("mosquitto_passwd")
            .args(["-b", "-c"])
            .arg(&passwords)
            .args(["user", "secret"])
            .status();
        assert!(made.unwrap().success());
        let text = format!(
            "listener {} 127.0.0.1\npersistence false\npassword_file {}\nuser root\nmessage_size_limit 0\n",
            address.port(),
            passwords.display()
        );
        std::fs::write(dir.path().join("mosquitto.conf"), text).unwrap();
        let child = run(dir.path());
        Some(Self { dir, address, child })
    }

    fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    fn restart(&mut self) {
        self.child = run(self.dir.path());
    }

    fn config(&self, client_id: &str) -> Config {
        let address = Address { host: "127.0.0.1".into(), port: self.address.port() };
        let mut config = Config::new(address, client_id);
        config.login = Some(Login { user: "user".into(), secret: "secret".into() });
        config.backoff_base = Duration::from_millis(50);
        config
    }
}

impl Drop for Mosquitto {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn run(dir: &Path) -> Child {
    let log = std::fs::File::create(dir.join("log")).unwrap();
    Command::new("mosquitto").arg("-c").arg(dir.join("mosquitto.conf")).stderr(log).spawn().unwrap()
}

fn fleet() -> FleetId {
    "a".repeat(32).parse().unwrap()
}

fn node() -> NodeId {
    "b".repeat(32).parse().unwrap()
}

fn topic(subject: Subject) -> Topic {
    Topic { fleet: fleet(), node: node(), subject }
}

/// The first event that `wanted` accepts.
async fn next<T>(session: &mut Session, wanted: impl Fn(Event) -> Option<T>) -> T {
    let found = async {
        loop {
            let event = session.next().await.expect("the session lives");
            if let Some(found) = wanted(event) {
                return found;
            }
        }
    };
    timeout(LIMIT, found).await.expect("the event comes")
}

async fn up(session: &mut Session) {
    next(session, |event| matches!(event, Event::Up).then_some(())).await;
}

async fn message(session: &mut Session) -> (Subject, String, bool) {
    next(session, |event| match event {
        Event::Message { topic, payload, retained } => {
            Some((topic.subject, String::from_utf8_lossy(&payload).into_owned(), retained))
        }
        Event::Up | Event::Down { .. } => None,
    })
    .await
}

fn coordinator(broker: &Mosquitto) -> Session {
    let mut config = broker.config("coordinator");
    config.subscriptions = Topic::coordinator_subscriptions(&fleet());
    Session::start(config)
}

fn board(broker: &Mosquitto) -> Session {
    let mut config = broker.config(node().as_str());
    config.subscriptions = Topic::node_subscriptions(&fleet(), &node());
    config.will = Some(Will { topic: topic(Subject::Up(Up::Presence)), payload: b"gone".to_vec() });
    Session::start(config)
}

#[tokio::test]
async fn two_sessions_exchange_state_and_events() {
    let Some(broker) = Mosquitto::start() else { return };
    let mut coordinator = coordinator(&broker);
    up(&mut coordinator).await;
    coordinator.handle().publish(topic(Subject::Down(Down::Manifest)), "manifest");
    let mut board = board(&broker);
    up(&mut board).await;
    let manifest = (Subject::Down(Down::Manifest), "manifest".to_owned(), true);
    assert_eq!(message(&mut board).await, manifest);
    board.handle().publish(topic(Subject::Up(Up::Event)), "event");
    assert_eq!(
        message(&mut coordinator).await,
        (Subject::Up(Up::Event), "event".to_owned(), false)
    );
}

#[tokio::test]
async fn a_broker_that_was_killed_and_forgot_everything_is_brought_up_to_date() {
    let Some(mut broker) = Mosquitto::start() else { return };
    let (mut coordinator, mut board) = (coordinator(&broker), board(&broker));
    up(&mut coordinator).await;
    up(&mut board).await;
    broker.kill();
    next(&mut board, |event| matches!(event, Event::Down { .. }).then_some(())).await;
    next(&mut coordinator, |event| matches!(event, Event::Down { .. }).then_some(())).await;
    board.handle().publish(topic(Subject::Up(Up::Report)), "old");
    board.handle().publish(topic(Subject::Up(Up::Report)), "new");
    broker.restart();
    up(&mut coordinator).await;
    let (_, report, _) = message(&mut coordinator).await;
    assert_eq!(report, "new");
    coordinator.handle().publish(topic(Subject::Down(Down::Manifest)), "again");
    assert_eq!(message(&mut board).await.1, "again");
}

#[tokio::test]
async fn a_session_that_dies_leaves_its_will_and_one_that_closes_does_not() {
    let Some(broker) = Mosquitto::start() else { return };
    let mut coordinator = coordinator(&broker);
    up(&mut coordinator).await;
    let mut first = board(&broker);
    up(&mut first).await;
    first.handle().publish(topic(Subject::Up(Up::Event)), "last word");
    first.close(LIMIT).await;
    assert_eq!(message(&mut coordinator).await.1, "last word");
    let mut second = board(&broker);
    up(&mut second).await;
    drop(second);
    assert_eq!(message(&mut coordinator).await.1, "gone");
}

#[tokio::test]
async fn wrong_credentials_are_told_and_tried_seldom() {
    let Some(broker) = Mosquitto::start() else { return };
    let mut config = broker.config("someone");
    config.login = Some(Login { user: "user".into(), secret: "wrong".into() });
    let mut session = Session::start(config);
    // The broker may not listen yet: only its refusal counts.
    let refused = |event| matches!(event, Event::Down { refused: true, .. }).then_some(());
    next(&mut session, refused).await;
}

#[tokio::test]
async fn a_manifest_of_the_largest_permitted_size_passes() {
    let Some(broker) = Mosquitto::start() else { return };
    let (mut coordinator, mut board) = (coordinator(&broker), board(&broker));
    up(&mut coordinator).await;
    up(&mut board).await;
    let large = "x".repeat(protocol::envelope::MAX_ENVELOPE_BYTES);
    coordinator.handle().publish(topic(Subject::Down(Down::Manifest)), large.clone());
    assert_eq!(message(&mut board).await.1, large);
}
