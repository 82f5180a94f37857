//! A node whose outside is in the test's hands: a fake engine, a real proxy in this process, two channels for a broker.

use std::path::PathBuf;
use std::time::Duration;

use super::super::*;
use super::beginning::settings;
use crate::archives::Archives;
use crate::download::Dialling;
use crate::engine::fake::{Behaviour, FakeEngine};
use crate::engine::{Container, ContainerState, Ours};
use crate::local::{Answer, Request, Wish};
use crate::policy::PolicyFile;
use crate::secrets::SecretFiles;
use crate::testing::{self, ManifestBuilder};
use protocol::envelope::Envelope;
use protocol::keys::Role;
use protocol::report::{Phase, Report};
use protocol::spec::ServiceSpec;
use protocol::topic::Up;
use tokio::sync::oneshot;
use tokio::task::{JoinHandle, LocalSet};

const PATIENCE: Duration = Duration::from_secs(20);

/// A node whose outside is in the test's hands.
pub(super) struct Board {
    dir: tempfile::TempDir,
    memory: tempfile::TempDir,
    pub(super) engine: FakeEngine,
    broker: Option<mpsc::Sender<Incoming>>,
    said: Option<mpsc::Receiver<Outgoing>>,
    root: Option<mpsc::Sender<Call>>,
    stop: Option<oneshot::Sender<()>>,
    agent: Option<JoinHandle<End>>,
    /// What agents are configured with from now on.
    pub(super) fleet_port: Option<std::num::NonZeroU16>,
    /// How they were started.
    pub(super) own: crate::update::Own,
    _proxy: JoinHandle<Result<(), proxy::RunError>>,
}

/// Runs a test within a local set.
pub(super) fn on_board<F: Future<Output = ()>>(test: impl FnOnce(Board) -> F) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    LocalSet::new().block_on(&runtime, async { test(Board::new().await).await });
}

impl Board {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("proxy.sock");
        let options = proxy::Options {
            control_socket: socket.clone(),
            state_file: dir.path().join("routes.json"),
            take_over: proxy::TakeOver::Fresh,
            renewal: None,
        };
        let proxy = tokio::task::spawn_local(proxy::run(options, std::future::pending()));
        let engine = FakeEngine::default();
        for tag in ["v1", "v2"] {
            let image = testing::release(&spec(), tag).image;
            engine.with(|docker| docker.add_image(&image, Behaviour::default()));
        }
        let mut board = Self {
            dir,
            memory: tempfile::tempdir_in("/dev/shm").unwrap(),
            engine,
            broker: None,
            said: None,
            root: None,
            stop: None,
            agent: None,
            fleet_port: None,
            own: crate::update::Own::alone(),
            _proxy: proxy,
        };
        board.start_agent().await;
        board
    }

    pub(super) fn state_dir(&self) -> PathBuf {
        self.dir.path().join("state")
    }

    /// In memory, as on a board.
    pub(super) fn secrets_dir(&self) -> PathBuf {
        self.memory.path().join("secrets")
    }

    pub(super) fn hosts_file(&self) -> PathBuf {
        self.dir.path().join("hosts")
    }

    /// Looks at the proxy's table until it passes.
    pub(super) async fn until_table(
        &self,
        what: &str,
        passes: impl Fn(&proxy::Table) -> bool,
    ) -> proxy::Table {
        let client = Client::new(self.dir.path().join("proxy.sock"));
        let wait = async {
            loop {
                let table = client.get().await.unwrap().table;
                if passes(&table) {
                    return table;
                }
            }
        };
        tokio::time::timeout(PATIENCE, wait).await.expect(what)
    }

    /// Looks at the hosts file until it passes.
    pub(super) async fn until_hosts(&self, what: &str, passes: impl Fn(&str) -> bool) {
        let wait = async {
            while !passes(&std::fs::read_to_string(self.hosts_file()).unwrap()) {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(PATIENCE, wait).await.expect(what);
    }

    pub(super) fn policy_file(&self) -> std::path::PathBuf {
        self.dir.path().join("policy.toml")
    }

    /// Starts an agent; the broker says that it is up.
    pub(super) async fn start_agent(&mut self) {
        let node = testing::identity();
        let (outgoing, said) = mpsc::channel(crate::link::MAX_OUTGOING);
        let (broker, incoming) = mpsc::channel(16);
        let (root, calls) = mpsc::channel(1);
        let ours = Ours { fleet: node.fleet.clone(), node: node.node.clone() };
        let parts = Parts {
            executor: Executor {
                engine: self.engine.clone(),
                ours,
                environment: node.environment.clone(),
                hosts_file: self.hosts_file(),
                pool: "10.215.0.0/16".parse().unwrap(),
                policy: PolicyFile::of_user(self.policy_file(), testing::uid()),
                secrets: SecretFiles::at(self.secrets_dir(), vault()),
            },
            archives: Archives::new(dialling(self.dir.path(), &node), None),
            node,
            key: testing::node_key(),
            root: testing::root(),
            ledger: self.ledger().await,
            proxy: Client::new(self.dir.path().join("proxy.sock")),
            registries: Registries::default(),
            settings: Settings {
                listen: vec!["127.0.0.1".parse().unwrap()],
                address: "127.0.0.1".parse().ok(),
                between: Between { port: self.fleet_port, ..settings().between },
                vault: vault(),
                own: self.own.clone(),
                ..settings()
            },
            keeper: crate::moving::Keeper::of(self.dir.path(), None),
            subject: crate::doctor::Subject {
                name: "board".parse().unwrap(),
                environment: testing::identity().environment,
                state_dir: self.dir.path().to_owned(),
                root_file: self.dir.path().join("root.json"),
                agent_socket: self.dir.path().join("agent.sock"),
                fleet_port: 0,
                listens_outside: false,
                pool: "10.215.0.0/16".parse().unwrap(),
            },
            programs: crate::update::fetch::Source {
                dialling: dialling(&self.state_dir(), &testing::identity()),
                config: self.dir.path().join("agent.toml"),
            },
            outgoing,
            incoming,
            calls,
            watchdog: crate::watchdog::Watchdog::default(),
            clock: Clock::system(),
        };
        let (stop, stopped) = oneshot::channel::<()>();
        self.agent = Some(tokio::task::spawn_local(run(parts, async {
            let _ = stopped.await;
        })));
        broker.send(Incoming::Up).await.unwrap();
        (self.broker, self.said, self.stop) = (Some(broker), Some(said), Some(stop));
        self.root = Some(root);
    }

    /// The agent ends at once, as by SIGKILL: whatever it was doing is dropped.
    pub(super) async fn kill_agent(&mut self) {
        let agent = self.agent.take().unwrap();
        agent.abort();
        let _ = agent.await;
    }

    /// The ledger, once a write that outlived its agent has ended.
    pub(super) async fn ledger(&self) -> Ledger {
        let open = async {
            loop {
                match Ledger::open(&self.state_dir(), "boot", Now(0)) {
                    Ok(ledger) => return ledger,
                    Err(LedgerError::Taken(_)) => tokio::task::yield_now().await,
                    Err(error) => panic!("{error}"),
                }
            }
        };
        tokio::time::timeout(PATIENCE, open).await.expect("the ledger is free")
    }

    pub(super) async fn manifest(&self, manifest: &ManifestBuilder) {
        self.bytes(manifest.bytes()).await;
    }

    pub(super) async fn bytes(&self, bytes: Vec<u8>) {
        self.broker.as_ref().unwrap().send(Incoming::Manifest(bytes)).await.unwrap();
    }

    /// What the agent answers root.
    pub(super) async fn ask(&self, wish: Wish) -> Answer {
        let (answer, answered) = oneshot::channel();
        let request = Request { wish, user: None };
        let call = Call { request, by: "root".to_owned(), answer };
        self.root.as_ref().unwrap().send(call).await.unwrap();
        tokio::time::timeout(PATIENCE, answered).await.expect("an answer").unwrap()
    }

    pub(super) async fn roots(&self, bytes: Vec<u8>) {
        self.broker.as_ref().unwrap().send(Incoming::Root(bytes)).await.unwrap();
    }

    pub(super) async fn agent_release(&self, bytes: Vec<u8>) {
        self.broker.as_ref().unwrap().send(Incoming::AgentRelease(bytes)).await.unwrap();
    }

    /// Reads what the node says until a report passes.
    pub(super) async fn until(&mut self, what: &str, passes: impl Fn(&Report) -> bool) -> Report {
        let mut last = None;
        let said = self.said.as_mut().unwrap();
        let wait = async {
            loop {
                let outgoing = said.recv().await.expect("the agent runs");
                if outgoing.subject != Up::Report {
                    continue;
                }
                let envelope = Envelope::from_bytes(&outgoing.payload).unwrap();
                let role = Role::single(testing::node_key().public());
                let report = envelope.open::<Report>().unwrap().verify(&role).unwrap();
                let report = report.into_inner();
                if passes(&report) {
                    return report;
                }
                last = Some(report);
            }
        };
        match tokio::time::timeout(PATIENCE, wait).await {
            Ok(report) => report,
            Err(_) => panic!("{what}: {last:#?}\n{:#?}", self.changes()),
        }
    }

    /// Reads what the node says until an event with this text.
    pub(super) async fn until_event(&mut self, text: &str) {
        let said = self.said.as_mut().unwrap();
        let wait = async {
            loop {
                let outgoing = said.recv().await.expect("the agent runs");
                let is_it = String::from_utf8_lossy(&outgoing.payload).contains(text);
                if outgoing.subject == Up::Event && is_it {
                    return;
                }
            }
        };
        tokio::time::timeout(PATIENCE, wait).await.expect(text);
    }

    pub(super) async fn until_phase(&mut self, revision: u64, phase: Phase) -> Report {
        let passes = |report: &Report| {
            let web = report.services.first();
            web.is_some_and(|web| web.revision == revision && web.phase == phase)
        };
        self.until(&format!("revision {revision} {phase:?}"), passes).await
    }

    /// Names, and whether they run.
    pub(super) fn containers(&self) -> Vec<(String, bool)> {
        let ours = Ours { fleet: testing::fleet(), node: testing::identity().node };
        let containers = self.engine.with(|docker| docker.containers(&ours)).unwrap();
        let is_up = |c: &Container| matches!(c.state, ContainerState::Running { .. });
        containers.iter().map(|c| (c.name.clone(), is_up(c))).collect()
    }

    pub(super) fn changes(&self) -> Vec<String> {
        self.engine.with(|docker| docker.changes().to_vec())
    }
}

fn vault() -> Vault {
    Vault::new(testing::opening_key())
}

/// No ports and no probes: ready once it runs.
pub(super) fn spec() -> ServiceSpec {
    let mut spec = testing::spec("web");
    spec.ports.clear();
    spec
}

pub(super) fn web(generation: u64, tag: &str) -> ManifestBuilder {
    ManifestBuilder::new(generation).of(&spec(), tag, 1, 1)
}

pub(super) fn verbs(changes: &[String]) -> Vec<&str> {
    changes.iter().filter_map(|change| change.split(' ').next()).collect()
}

/// To nowhere: the fake engine has what it is asked for.
fn dialling(state_dir: &std::path::Path, node: &NodeIdentity) -> Dialling {
    let floor = settings().between.floor;
    Dialling { state_dir: state_dir.to_owned(), node: node.clone(), own_address: None, floor }
}
