//! The session against a real broker: reconnecting, the outbox, presence, limits and refusals.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use mqtt::{
    BrokerAddress, Config, Credentials, DownReason, Event, Handle, Presence, PublishError, Refusal,
    Session,
};
use protocol::id::{FleetId, NodeId};
use protocol::topic::{Down, Subject, Topic, Up};
use tokio::sync::mpsc;

/// No event takes this long unless something is broken.
const LIMIT: Duration = Duration::from_secs(10);

/// Debian puts it where only root's PATH looks.
const PROGRAMS: [&str; 2] = ["mosquitto", "/usr/sbin/mosquitto"];

struct Mosquitto {
    program: &'static str,
    dir: tempfile::TempDir,
    port: u16,
    child: Child,
}

impl Mosquitto {
    /// None where it is not installed: a reported skip on a person's machine, a failure in CI.
    fn start() -> Option<Self> {
        let runs = |program: &&str| {
            let mut command = Command::new(program);
            command.arg("-h").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok()
        };
        let Some(program) = PROGRAMS.into_iter().find(|p| runs(p)) else {
            assert!(std::env::var_os("CI").is_none(), "mosquitto is needed in CI");
            eprintln!("SKIPPED: mosquitto is not installed");
            return None;
        };
        let dir = tempfile::tempdir().unwrap();
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = free.local_addr().unwrap().port();
        drop(free);
        let passwords = dir.path().join("passwords");
        let made = Command::new("mosquitto_passwd")
            .args(["-b", "-c"])
            .arg(&passwords)
            .args(["user", "secret"])
            .status();
        assert!(made.unwrap().success());
        let text = format!(
            "listener {port} 127.0.0.1\npersistence false\npassword_file {}\nuser root\n",
            passwords.display()
        );
        std::fs::write(dir.path().join("mosquitto.conf"), text).unwrap();
        let child = run(program, dir.path());
        Some(Self { program, dir, port, child })
    }

    fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    fn restart(&mut self) {
        self.child = run(self.program, self.dir.path());
    }

    fn config(&self, client_id: &str, subscriptions: Vec<String>) -> Config {
        let address = BrokerAddress { host: "127.0.0.1".into(), port: self.port };
        let mut config = Config::new(address, client_id.into(), subscriptions);
        config.credentials = Some(Credentials { user: "user".into(), secret: "secret".into() });
        config.pace.base = Duration::from_millis(50);
        config.pace.network_cap = Duration::from_millis(100);
        config
    }
}

impl Drop for Mosquitto {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn run(program: &str, dir: &Path) -> Child {
    let log = std::fs::File::create(dir.join("log")).unwrap();
    Command::new(program).arg("-c").arg(dir.join("mosquitto.conf")).stderr(log).spawn().unwrap()
}

fn fleet() -> FleetId {
    "a".repeat(32).parse().unwrap()
}

fn node() -> NodeId {
    "b".repeat(32).parse().unwrap()
}

fn up(subject: Up) -> Topic {
    Topic { fleet: fleet(), node: node(), subject: Subject::Up(subject) }
}

fn manifest() -> Topic {
    Topic { fleet: fleet(), node: node(), subject: Subject::Down(Down::Manifest) }
}

struct Side {
    handle: Handle,
    events: mpsc::Receiver<Event>,
}

impl Side {
    fn start(config: Config) -> Self {
        let (handle, events) = Session::start(config, 1);
        Self { handle, events }
    }

    fn publish(&self, topic: Topic, payload: impl Into<mqtt::Bytes>) {
        self.handle.publish(topic, payload).unwrap();
    }

    /// The first event that `wanted` accepts.
    async fn next<T>(&mut self, wanted: impl Fn(Event) -> Option<T>) -> T {
        let found = async {
            loop {
                let event = self.events.recv().await.expect("the session lives");
                if let Some(found) = wanted(event) {
                    return found;
                }
            }
        };
        tokio::time::timeout(LIMIT, found).await.expect("the event comes")
    }

    async fn is_up(&mut self) {
        self.next(|event| (event == Event::Up).then_some(())).await;
    }

    async fn is_down(&mut self) -> DownReason {
        self.next(|event| match event {
            Event::Down { reason, .. } => Some(reason),
            Event::Up | Event::Refused { .. } | Event::Message { .. } => None,
        })
        .await
    }

    /// The next message on a topic: payload, and whether it was retained.
    async fn message(&mut self, wanted: Topic) -> (String, bool) {
        self.next(|event| match event {
            Event::Message { topic, payload, retained } if topic == wanted => {
                Some((String::from_utf8_lossy(&payload).into_owned(), retained))
            }
            Event::Up | Event::Down { .. } | Event::Refused { .. } | Event::Message { .. } => None,
        })
        .await
    }
}

fn coordinator(broker: &Mosquitto) -> Side {
    Side::start(broker.config("coordinator", Topic::coordinator_subscriptions(&fleet())))
}

fn board_config(broker: &Mosquitto) -> Config {
    let filters = Topic::node_subscriptions(&fleet(), &node());
    let mut config = broker.config(node().as_str(), filters);
    let topic = up(Up::Presence);
    config.presence =
        Some(Presence { topic, online: b"online".to_vec(), offline: b"offline".to_vec() });
    config
}

fn board(broker: &Mosquitto) -> Side {
    Side::start(board_config(broker))
}

#[tokio::test]
async fn two_sessions_exchange_retained_and_passing_messages() {
    let Some(broker) = Mosquitto::start() else { return };
    let mut coordinator = coordinator(&broker);
    coordinator.is_up().await;
    coordinator.publish(manifest(), "m1");
    let mut board = board(&broker);
    board.is_up().await;
    assert_eq!(board.message(manifest()).await, ("m1".into(), true));
    coordinator.publish(manifest(), "m2");
    assert_eq!(board.message(manifest()).await, ("m2".into(), false));
    board.publish(up(Up::Event), "event");
    assert_eq!(coordinator.message(up(Up::Event)).await, ("event".into(), false));
    board.publish(up(Up::Load), "load");
    assert_eq!(coordinator.message(up(Up::Load)).await, ("load".into(), false));
}

#[tokio::test]
async fn a_broker_killed_and_restarted_without_memory_gets_everything_again() {
    let Some(mut broker) = Mosquitto::start() else { return };
    let (mut coordinator, mut board) = (coordinator(&broker), board(&broker));
    coordinator.is_up().await;
    board.is_up().await;
    broker.kill();
    board.is_down().await;
    coordinator.is_down().await;
    board.publish(up(Up::Report), "old");
    board.publish(up(Up::Report), "new");
    board.publish(up(Up::Load), "dropped while offline");
    coordinator.publish(manifest(), "again");
    broker.restart();
    assert_eq!(board.message(manifest()).await.0, "again");
    assert_eq!(coordinator.message(up(Up::Report)).await.0, "new");
    let stats = board.handle.stats();
    assert_eq!((stats.connects, stats.dropped, stats.connected), (2, 1, true));
    assert!(stats.last_received.is_some());
    // Subscribed anew, in both directions.
    coordinator.publish(manifest(), "later");
    assert_eq!(board.message(manifest()).await.0, "later");
    board.publish(up(Up::Event), "later");
    assert_eq!(coordinator.message(up(Up::Event)).await.0, "later");
}

#[tokio::test]
async fn presence_is_online_while_up_and_offline_by_will_or_by_goodbye() {
    let Some(broker) = Mosquitto::start() else { return };
    let mut coordinator = coordinator(&broker);
    coordinator.is_up().await;
    let mut board = board(&broker);
    board.is_up().await;
    assert_eq!(coordinator.message(up(Up::Presence)).await.0, "online");
    // The connection is dropped without a goodbye: the broker tells the will.
    board.handle.reconnect();
    assert_eq!(coordinator.message(up(Up::Presence)).await.0, "offline");
    assert_eq!(coordinator.message(up(Up::Presence)).await.0, "online");
    board.is_up().await;
    board.publish(up(Up::Event), "last word");
    let closed = board.handle.close(LIMIT).await;
    assert_eq!(closed.left, 0);
    assert_eq!(coordinator.message(up(Up::Event)).await.0, "last word");
    assert_eq!(coordinator.message(up(Up::Presence)).await.0, "offline");
}

#[tokio::test]
async fn a_wrong_password_is_told_and_tried_seldom() {
    let Some(broker) = Mosquitto::start() else { return };
    let mut config = broker.config("someone", Vec::new());
    config.credentials = Some(Credentials { user: "user".into(), secret: "wrong".into() });
    let mut side = Side::start(config);
    // The broker may not listen yet: only its refusal counts.
    let (reason, retry_in) = side
        .next(|event| match event {
            Event::Refused { reason, retry_in } => Some((reason, retry_in)),
            Event::Up | Event::Down { .. } | Event::Message { .. } => None,
        })
        .await;
    assert_eq!(reason, Refusal::Credentials);
    assert!(retry_in >= Duration::from_millis(50 * 8 / 2), "{retry_in:?}");
}

#[tokio::test]
async fn a_message_of_300_kib_passes() {
    let Some(broker) = Mosquitto::start() else { return };
    let (mut coordinator, mut board) = (coordinator(&broker), board(&broker));
    coordinator.is_up().await;
    board.is_up().await;
    let large = "x".repeat(300 * 1024);
    coordinator.publish(manifest(), large.clone());
    assert_eq!(board.message(manifest()).await, (large, false));
}

#[tokio::test]
async fn a_packet_above_the_limit_is_refused_before_it_is_queued() {
    let Some(broker) = Mosquitto::start() else { return };
    let mut coordinator = coordinator(&broker);
    coordinator.is_up().await;
    let result = coordinator.handle.publish(manifest(), vec![0; 512 * 1024]);
    assert!(matches!(result, Err(PublishError::TooLarge { .. })), "{result:?}");
    let fits = 512 * 1024 - 9 - manifest().to_string().len();
    coordinator.publish(manifest(), vec![b'x'; fits]);
    let mut board = board(&broker);
    assert_eq!(board.message(manifest()).await.0.len(), fits);
    assert_eq!(coordinator.handle.stats().connects, 1);
}

#[tokio::test]
async fn a_packet_from_the_broker_above_the_limit_ends_the_connection_with_that_reason() {
    let Some(broker) = Mosquitto::start() else { return };
    let mut coordinator = coordinator(&broker);
    let mut config = board_config(&broker);
    config.max_packet_bytes = 4096;
    let mut board = Side::start(config);
    coordinator.is_up().await;
    board.is_up().await;
    coordinator.publish(manifest(), "x".repeat(8192));
    assert_eq!(board.is_down().await, DownReason::PacketTooLarge { limit_bytes: 4096 });
    coordinator.publish(manifest(), "small");
    assert_eq!(board.message(manifest()).await.0, "small");
}

#[tokio::test]
async fn a_burst_above_the_window_arrives_whole_and_in_order() {
    let Some(broker) = Mosquitto::start() else { return };
    let (mut coordinator, mut board) = (coordinator(&broker), board(&broker));
    coordinator.is_up().await;
    board.is_up().await;
    let sent: Vec<String> = (0..200).map(|n| n.to_string()).collect();
    for text in &sent {
        board.publish(up(Up::Event), text.clone());
    }
    for text in &sent {
        assert_eq!(&coordinator.message(up(Up::Event)).await.0, text);
    }
    assert_eq!(board.handle.stats().dropped, 0);
}
