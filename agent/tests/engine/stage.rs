//! A node of its own on this machine's Docker, and what cleans up after it.

use std::collections::BTreeMap;
use std::future::Future;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use agent::engine::docker::Docker;
use agent::engine::{
    Container, ContainerSpec, ContainerState, Engine as _, EngineError, Identity, Network,
    NetworkSpec, Ours,
};
use agent::network::{SERVICE_PREFIX, choose_subnet};
use protocol::release::{Image, Pin};
use protocol::spec;
use tokio::task::LocalSet;

/// Nothing here takes longer, unless it fails.
const PATIENCE: Duration = Duration::from_secs(90);
const PAUSE: Duration = Duration::from_millis(20);
/// Apart from the pools of agents and of the other tests.
const POOL: &str = "10.214.0.0/16";

static NODES: AtomicU32 = AtomicU32::new(0);

/// One node.
pub(crate) struct Stage {
    pub(crate) docker: Docker,
    pub(crate) ours: Ours,
    pub(crate) folder: tempfile::TempDir,
}

/// Runs a test on a node of its own; without Docker it is skipped, and fails in CI.
pub(crate) fn on_stage<F: Future<Output = ()>>(test: impl FnOnce(Stage) -> F) {
    if !has("docker", &["image", "inspect", "pith-demo:v1"], "tests/setup/images.sh") {
        return;
    }
    let number = NODES.fetch_add(1, Ordering::Relaxed);
    // The first eight digits are in every name: they differ between tests and between runs at once.
    let node = format!("{number:02x}{:06x}{}", std::process::id(), "e".repeat(24));
    let ours = Ours { fleet: "f".repeat(32).parse().unwrap(), node: node.parse().unwrap() };
    let cleanup = Cleanup { label: format!("io.pith.node={node}") };
    let folder = tempfile::tempdir().unwrap();
    let stage = Stage { docker: Docker::at("unix:///var/run/docker.sock"), ours, folder };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    LocalSet::new().block_on(&runtime, async {
        tokio::time::timeout(PATIENCE, test(stage)).await.expect("in time");
    });
    drop(cleanup);
}

/// Whether a command works here; a missing one is a reported skip on a person's machine and a failure in CI.
pub(crate) fn has(program: &str, arguments: &[&str], mend: &str) -> bool {
    let output = Command::new(program).args(arguments).output();
    let works = output.is_ok_and(|output| output.status.success());
    let in_ci = std::env::var_os("CI").is_some_and(|value| !value.is_empty());
    assert!(works || !in_ci, "`{program} {arguments:?}` is needed in CI: {mend}");
    if !works {
        eprintln!("SKIPPED: `{program} {arguments:?}` does not work here: {mend}");
    }
    works
}

/// Runs a command and gives its standard output.
pub(crate) fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().expect(program);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?}: {stderr}");
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

struct Cleanup {
    label: String,
}

impl Drop for Cleanup {
    fn drop(&mut self) {
        let filter = format!("label={}", self.label);
        let listings: [(&[&str], &[&str]); 3] = [
            (&["ps", "-aq"], &["rm", "-f"]),
            (&["network", "ls", "-q"], &["network", "rm"]),
            (&["volume", "ls", "-q"], &["volume", "rm"]),
        ];
        for (list, remove) in listings {
            let listed = Command::new("docker").args(list).args(["--filter", &filter]).output();
            let listed = listed.map(|o| String::from_utf8_lossy(&o.stdout).into_owned());
            for id in listed.unwrap_or_default().split_whitespace() {
                let _ = Command::new("docker").args(remove).arg(id).output();
            }
        }
    }
}

impl Stage {
    /// The network of service `web`.
    pub(crate) async fn network(&self) -> Network {
        loop {
            let taken = self.docker.all_subnets().await.unwrap();
            let subnet = choose_subnet(POOL.parse().unwrap(), SERVICE_PREFIX, &taken).unwrap();
            let spec = NetworkSpec {
                ours: self.ours.clone(),
                environment: "default".parse().unwrap(),
                service: "web".parse().unwrap(),
                subnet,
            };
            match self.docker.create_network(&spec).await {
                Ok(network) => return network,
                // Another test was faster.
                Err(EngineError::AddressTaken(_)) => {}
                Err(error) => panic!("{error}"),
            }
        }
    }

    /// An instance of `pith-demo:v1` in the network, at its `2 + slot`th address.
    pub(crate) fn spec(&self, network: &Network, slot: u32, env: &[(&str, &str)]) -> ContainerSpec {
        let hosts_file = self.folder.path().join("hosts");
        std::fs::write(&hosts_file, "127.0.0.1 localhost\n").unwrap();
        let pairs = env.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        ContainerSpec {
            ours: self.ours.clone(),
            identity: Identity {
                environment: "default".parse().unwrap(),
                service: "web".parse().unwrap(),
                release: "c".repeat(64).parse().unwrap(),
                template: "d".repeat(64).parse().unwrap(),
                slot,
            },
            image: local_image("pith-demo:v1"),
            process: spec::Container {
                env: pairs.collect::<BTreeMap<_, _>>(),
                init: true,
                ..spec::Container::default()
            },
            resources: spec::Resources::default(),
            mounts: Vec::new(),
            address: (u32::from(network.gateway) + 1 + slot).into(),
            hosts_file,
            access: agent::policy::Admitted::default(),
            secrets: Vec::new(),
        }
    }

    /// Creates and starts one.
    pub(crate) async fn running(&self, env: &[(&str, &str)]) -> String {
        let network = self.network().await;
        let id = self.docker.create(&self.spec(&network, 0, env)).await.unwrap();
        self.docker.start(&id).await.unwrap();
        id
    }

    pub(crate) async fn container(&self, id: &str) -> Option<Container> {
        let containers = self.docker.containers(&self.ours).await.unwrap();
        containers.into_iter().find(|container| container.id == id)
    }

    /// Waits until a container has written this.
    pub(crate) async fn says(&self, id: &str, text: &str) {
        while !self.docker.logs_tail(id, 100).await.unwrap().concat().contains(text) {
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Waits until it has ended; its code and whether it was killed for its memory.
    pub(crate) async fn exit(&self, id: &str) -> (i64, bool) {
        loop {
            let container = self.container(id).await.unwrap();
            if let ContainerState::Exited { code, oom, .. } = container.state {
                return (code, oom);
            }
            tokio::time::sleep(PAUSE).await;
        }
    }
}

/// An image that only this Docker has.
pub(crate) fn local_image(reference: &str) -> Image {
    let id = run("docker", &["image", "inspect", "--format", "{{.Id}}", reference]);
    Image { reference: reference.to_owned(), pin: Pin::ImageId(id.parse().unwrap()) }
}
