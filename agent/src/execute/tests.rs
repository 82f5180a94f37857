//! What is bounded, and the last word of the policy: here nobody asked the planner.

use std::collections::BTreeMap;

use protocol::release::{Image, Pin};
use protocol::spec::ServiceSpec;
use tempfile::TempDir;

use super::*;
use crate::engine::fake::{Behaviour, FakeEngine};
use crate::secrets::Vault;
use crate::testing;

#[test]
fn evidence_is_bounded_and_printable() {
    let long = "é".repeat(MAX_EVIDENCE_TEXT_BYTES);
    let evidence = evidence(Some(long), Some((137, true)), vec![bounded("a\u{1b}[31m".into())]);
    assert!(evidence.probe.unwrap().len() <= MAX_EVIDENCE_TEXT_BYTES);
    assert_eq!(evidence.log, ["a\\u{1b}[31m"]);
    assert_eq!((evidence.exit_code, evidence.oom_killed), (Some(137), true));
}

struct Board {
    dir: TempDir,
    executor: Executor<FakeEngine>,
}

fn image() -> Image {
    let digest = format!("sha256:{}", "a".repeat(64)).parse().unwrap();
    Image { reference: "web:v1".into(), pin: Pin::Digest(digest) }
}

impl Board {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let engine = FakeEngine::default();
        engine.with(|docker| docker.add_image(&image(), Behaviour::default()));
        let node = testing::identity();
        let policy = dir.path().join("policy.toml");
        let executor = Executor {
            engine,
            ours: Ours { fleet: node.fleet, node: node.node },
            environment: node.environment,
            hosts_file: dir.path().join("hosts"),
            pool: "10.215.0.0/16".parse().unwrap(),
            policy: PolicyFile::of_user(policy, testing::uid()),
            secrets: SecretFiles::at(dir.path().join("secrets"), Vault::default()),
        };
        Self { dir, executor }
    }

    fn allow(&self, text: &str) {
        use std::os::unix::fs::PermissionsExt;
        let path = self.dir.path().join("policy.toml");
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o644)).unwrap();
    }

    async fn create(&self, spec: ServiceSpec) -> Result<Done, StepError> {
        let service = spec.name.clone();
        let release = Release {
            format: 1,
            fleet: testing::identity().fleet,
            counter: 1,
            image: image(),
            base: spec,
            environments: BTreeMap::new(),
        };
        let id: ReleaseId = "c".repeat(64).parse().unwrap();
        let creation = Creation {
            service,
            template: (Template::of(&id, &self.executor.environment, 0), 0),
            release: (id, Arc::new(release)),
            hook: None,
            network: None,
            used: BTreeSet::new(),
            last_address: None,
            copies: Vec::new(),
        };
        self.executor.execute(&Task::Create(Box::new(creation))).await
    }

    fn containers(&self) -> Vec<String> {
        let ours = &self.executor.ours;
        let list = self.executor.engine.with(|docker| docker.containers(ours)).unwrap();
        list.into_iter().map(|container| container.id).collect()
    }
}

fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    tokio::task::LocalSet::new().block_on(&runtime, test);
}

/// Asks for each thing of the node alone.
fn greedy() -> Vec<ServiceSpec> {
    let asks: [fn(&mut ServiceSpec); 5] = [
        |spec| spec.host.privileged = true,
        |spec| spec.host.network = true,
        |spec| {
            spec.host.capabilities.insert("SYS_ADMIN".into());
        },
        |spec| {
            let (path, target) = ("/dev/null".into(), "/dev/null".into());
            spec.host.devices.push(protocol::spec::Device {
                path,
                target,
                permissions: "rw".into(),
            });
        },
        |spec| {
            let (host, path) = ("/".into(), "/host".into());
            let path = protocol::spec::HostPath { host, path, read_only: true, shared: true };
            spec.host.paths.push(path);
        },
    ];
    let with = |ask: &fn(&mut ServiceSpec)| {
        let mut spec = testing::spec("web");
        ask(&mut spec);
        spec
    };
    asks.iter().map(with).collect()
}

#[test]
fn no_step_makes_a_container_that_the_policy_denies_whoever_decided_on_it() {
    run(async {
        let board = Board::new();
        for spec in greedy() {
            let asked = format!("{:?}", spec.host);
            let error = board.create(spec).await.expect_err(&asked);
            assert_eq!(error.reason(Reason::CreateFailed), Reason::PolicyDenied, "{asked}");
            assert!(error.is_permanent());
        }
        assert!(board.containers().is_empty());
        board.create(testing::spec("web")).await.unwrap();
        assert_eq!(board.containers().len(), 1);
    });
}

#[test]
fn a_container_gets_what_it_asked_for_and_the_policy_allows_and_nothing_more() {
    run(async {
        for spec in greedy() {
            let board = Board::new();
            board.allow(
                "privileged = true\nhost_network = true\nhost_paths = [\"/\"]\ndevices = [\"/dev/null\"]\n\
                 capabilities = [\"SYS_ADMIN\"]\n",
            );
            let asked = spec.host.clone();
            board.create(spec).await.unwrap();
            let id = board.containers().remove(0);
            let (service, has) = board.executor.engine.access(&id).await.unwrap().unwrap();
            assert_eq!((service.as_str(), has), ("web", asked));
        }
    });
}

#[test]
fn a_container_of_a_wider_policy_is_not_started_under_a_narrower_one() {
    run(async {
        let board = Board::new();
        board.allow("privileged = true\n");
        let mut spec = testing::spec("web");
        spec.host.privileged = true;
        board.create(spec).await.unwrap();
        let start = Task::Start { container: board.containers().remove(0), secrets: None };
        board.allow("privileged = false\n");
        let error = board.executor.execute(&start).await.unwrap_err();
        assert_eq!(error.reason(Reason::StartFailed), Reason::PolicyDenied);
        board.allow("privileged = true\n");
        board.executor.execute(&start).await.unwrap();
    });
}
