//! The coordinator as a whole: embedded broker, store, API and a node that speaks MQTT.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[path = "front/board.rs"]
mod board;

use std::collections::BTreeMap;

use board::{Fleet, PATIENCE};
use coordinator::client::{Client, ClientError};
use coordinator::data_dir::DataDir;
use coordinator::local::{BrokerChoice, Coordinator};
use coordinator::passphrase::Passphrases;
use coordinator::state::Policy;
use coordinator::state::requests::Deploy;
use protocol::FORMAT;
use protocol::envelope::Envelope;
use protocol::file::parse;
use protocol::id::{ServiceId, Template};
use protocol::keys::{RoleName, SecretKey};
use protocol::manifest::Manifest;
use protocol::release::{Image, Pin, Release};
use protocol::report::{EngineState, InstanceReport, InstanceState, Phase, Report, ServiceReport};
use protocol::topic::{Down, Subject, Topic, Up};

/// A board that runs at once whatever its manifest says.
struct Board {
    key: SecretKey,
    data: DataDir,
}

impl Board {
    fn topic(&self, up: Up) -> Topic {
        let fleet = self.data.open().unwrap().id;
        Topic { fleet, node: self.key.public().node_id(), subject: Subject::Up(up) }
    }

    fn hello(&self) -> Vec<u8> {
        board::hello(&self.data.open().unwrap().id, &self.key, "opi-1")
    }

    fn report(&self, manifest: &Manifest, sequence: u64) -> Vec<u8> {
        let services = manifest.services.iter().map(|assignment| ServiceReport {
            candidate: None,
            hook: None,
            held: None,
            service: assignment.service.clone(),
            revision: assignment.revision,
            attempt: assignment.attempt,
            phase: Phase::Running,
            detail: None,
            desired: assignment.count,
            updated: assignment.count,
            ready: assignment.count,
            instances: (0..assignment.count)
                .map(|slot| InstanceReport {
                    name: format!("web-{slot}"),
                    slot,
                    release: assignment.release.clone(),
                    template: Template::of(&assignment.release, &manifest.environment, 0),
                    state: InstanceState::Ready,
                    restarts: 0,
                })
                .collect(),
            given_up: None,
        });
        let report = Report {
            format: FORMAT,
            fleet: manifest.fleet.clone(),
            node: manifest.node.clone(),
            environment: manifest.environment.clone(),
            sequence,
            agent_started_ms: 1,
            seen: manifest.version,
            services: services.collect(),
            refused: BTreeMap::new(),
            engine: EngineState::Ready,
            alarms: Vec::new(),
            images: None,
            agent_update: None,
        };
        Envelope::sign(&report, &[&self.key]).to_bytes()
    }

    /// Connects and obeys until the test ends.
    fn start(self, port: std::net::SocketAddr, tls: mqtt::Tls) {
        let fleet = self.data.open().unwrap();
        let node = self.key.public().node_id();
        let address = mqtt::BrokerAddress { host: port.ip().to_string(), port: port.port() };
        let filters = Topic::node_subscriptions(&fleet.id, &node);
        let mut config = mqtt::Config::new(address, node.to_string(), filters);
        config.tls = Some(tls);
        let (handle, mut events) = mqtt::Session::start(config, 1);
        tokio::spawn(async move {
            let mut sequence = 0;
            while let Some(event) = events.recv().await {
                match event {
                    mqtt::Event::Up => {
                        handle.publish(self.topic(Up::Hello), self.hello()).unwrap();
                    }
                    mqtt::Event::Message { topic, payload, .. } => {
                        if topic.subject != Subject::Down(Down::Manifest) {
                            continue;
                        }
                        sequence += 1;
                        let envelope = Envelope::from_bytes(&payload).unwrap();
                        let manifest = envelope.verify::<Manifest>(&fleet.root).unwrap();
                        let report = self.report(&manifest, sequence);
                        handle.publish(self.topic(Up::Report), report).unwrap();
                    }
                    mqtt::Event::Down { .. } | mqtt::Event::Refused { .. } => {}
                }
            }
        });
    }
}

fn release(data: &DataDir, counter: u64, version: &str) -> Deploy {
    let file = "name = \"web\"\nper_node = 2\n".to_owned();
    let digest = protocol::id::sha256_hex(version.as_bytes());
    let release = Release {
        format: FORMAT,
        fleet: data.open().unwrap().id,
        counter,
        image: Image {
            reference: format!("r.io/web:{version}"),
            pin: Pin::Digest(format!("sha256:{digest}").parse().unwrap()),
        },
        base: parse("web.toml", &file).unwrap().spec,
        environments: std::collections::BTreeMap::new(),
    };
    let keys = data.keys_of(RoleName::Release, &data.open().unwrap().root).unwrap();
    let key = keys[0].open(&mut Passphrases::default()).unwrap();
    Deploy {
        if_revision: None,
        environment: "default".parse().unwrap(),
        release: Envelope::sign(&release, &[&key]),
        file,
        cause: None,
        by: "test".to_owned(),
    }
}

fn web() -> ServiceId {
    ServiceId { environment: "default".parse().unwrap(), name: "web".parse().unwrap() }
}

async fn until_online(client: &Client) {
    loop {
        if !client.nodes(None).await.unwrap().nodes.is_empty() {
            return;
        }
        tokio::task::yield_now().await;
    }
}

async fn until_succeeded(client: &Client, revision: u64) {
    let mut after = None;
    loop {
        let rollout = client.rollout(&web(), Some(revision), after).await.unwrap();
        if rollout.state == "succeeded" {
            return;
        }
        after = Some(rollout.version);
    }
}

async fn start(data: &DataDir) -> Coordinator {
    let listen = "127.0.0.1:0".parse().unwrap();
    let broker = BrokerChoice::Embedded { listen };
    Coordinator::start(data, broker, Policy::default()).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signed_release_reaches_a_board_and_its_report_ends_the_rollout() {
    let fleet = Fleet::start().await;
    let member = fleet.member("opi-1").await;
    let (address, tls) = (fleet.address(), member.session_tls(&fleet));
    let Fleet { data, coordinator, client, dir: _dir } = fleet;
    Board { key: member.key, data: data.clone() }.start(address, tls);
    tokio::time::timeout(PATIENCE, until_online(&client)).await.unwrap();

    let accepted = client.deploy(&release(&data, 1, "v1")).await.unwrap();
    tokio::time::timeout(PATIENCE, until_succeeded(&client, accepted.revision)).await.unwrap();
    let ps = client.services(None, None).await.unwrap();
    assert_eq!((ps.services[0].ready, ps.services[0].desired), (2, 2));

    // The database, not the broker, is what the next start knows.
    coordinator.stop().await;
    assert!(matches!(client.fleet().await, Err(ClientError::Unreachable { .. })));
    let coordinator = start(&data).await;
    let history = client.history(&web()).await.unwrap();
    assert_eq!((history.current, history.revisions.len()), (Some(1), 1));
    coordinator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_carry_their_code_and_the_socket_is_its_owners() {
    use std::os::unix::fs::PermissionsExt as _;
    let Fleet { data, coordinator, client, dir: _dir } = Fleet::start().await;
    let mode = std::fs::metadata(data.socket()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let Err(ClientError::Refused(problem)) = client.deploy(&release(&data, 1, "v1")).await else {
        panic!("nobody can run it");
    };
    assert_eq!(problem.code, "no_node_fits");
    let Err(ClientError::Refused(problem)) = client.history(&web()).await else {
        panic!("there is no such service");
    };
    assert_eq!(problem.code, "no_service");
    coordinator.stop().await;
    assert!(!data.socket().exists());
}
