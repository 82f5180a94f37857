//! A small fleet with fixed keys: everything in it is the same at every run.

use std::collections::{BTreeMap, BTreeSet};

use protocol::acceptance::NodeIdentity;
use protocol::envelope::Envelope;
use protocol::hello::{Capacity, Event, Hello, Load, Presence, Traffic};
use protocol::id::{FleetId, NodeId, ReleaseId, ServiceName, Template};
use protocol::keys::{Role, RoleName, Root, SecretKey};
use protocol::manifest::{Assignment, Candidate, HookKind, HookRun, Manifest, Version};
use protocol::peers::{Elsewhere, PeerPort, Peers};
use protocol::reason::Reason;
use protocol::release::{Image, Pin, Release};
use protocol::report::{
    CandidateReport, Detail, EngineState, Evidence, GivenUp, HookOutcome, HookReport,
    InstanceReport, InstanceState, Phase, Report, ServiceReport,
};
use protocol::spec::{PortProtocol, ServiceSpec};
use protocol::units::Millis;

/// Every key of the service file written out.
pub(crate) const FULL_FILE: &str = r#"
name = "web"
image = "registry.local:5000/web:v2"
replicas = 4
env = { RUST_LOG = "info", NAME = "Grüße \"quoted\"" }
entrypoint = ["/app"]
command = ["--listen", "5000"]
user = "1000:1000"
working_dir = "/srv"
read_only = true
init = true
cap_drop = ["ALL"]
tmpfs = ["/tmp", "/run:size=16Mi"]
ulimits = { nofile = { soft = 1024, hard = 65536 } }
labels = { team = "graphics" }
stop_grace = "10s"
depends_on = ["world-state"]
uses = ["chat-service"]

[[ports]]
name = "game"
listen = 5000
target = 5000
protocol = "http"

[[ports]]
name = "raw"
listen = "127.0.0.1:5001"
target = 5001
protocol = "tcp"
proxy_protocol = true

[health.startup]
tcp = { port = 5000 }
initial_delay = "0s"
period = "1s"
timeout = "1s"
success_threshold = 1
failure_threshold = 30
[health.readiness]
http = { path = "/ready", port = 8080 }
initial_delay = "5s"
period = "3s"
timeout = "1s"
success_threshold = 1
failure_threshold = 2
[health.liveness]
exec = ["/app", "check"]
initial_delay = "5s"
period = "10s"
timeout = "1s"
success_threshold = 1
failure_threshold = 3

[resources]
requests = { memory = "64Mi", cpu = "100m" }
limits = { memory = "128Mi", cpu = "200m" }

[rollout]
strategy = "canary"
soak = "10m"
canary_nodes = { zone = "edge" }
max_surge = "25%"
max_unavailable = 0
batch = 1
min_ready = "5s"
progress_deadline = "10m"
on_failure = "rollback"
revision_history_limit = 10
drain = "30s"
hold_requests = "30s"

[placement]
nodes = { zone = "edge" }
spread = "node"

[[volumes]]
name = "data"
path = "/data"
read_only = false
shared = true

[[rollout.steps]]
weight = 10
hold = "5m"
[[rollout.steps]]
weight = 50
hold = "manual"
[rollout.analysis]
interval = "30s"
failure_limit = 3
max_error_rate = "0.5%"
max_p99 = "300ms"
min_requests = 50
[rollout.cohort]
cookie = "web-cohort"
header = "X-Cohort"
[[rollout.batches]]
nodes = ["opi-2"]
limit = 1
gate = "1m"

[hooks.pre_deploy]
command = ["/app", "migrate"]
env = { MIGRATE = "all" }
timeout = "2m"

[environments.staging]
replicas = 1
[environments.staging.rollout]
strategy = "blue-green"
preview_port = 15000
"#;

pub(crate) fn root_key() -> SecretKey {
    SecretKey::from_seed([1; 32])
}
pub(crate) fn release_key() -> SecretKey {
    SecretKey::from_seed([2; 32])
}
pub(crate) fn director_key() -> SecretKey {
    SecretKey::from_seed([3; 32])
}
pub(crate) fn node_key() -> SecretKey {
    SecretKey::from_seed([4; 32])
}
/// A key that nobody trusts.
pub(crate) fn stranger() -> SecretKey {
    SecretKey::from_seed([9; 32])
}

pub(crate) fn fleet() -> FleetId {
    FleetId::from_random([0xf1; 16])
}

pub(crate) fn node() -> NodeId {
    node_key().public().node_id()
}

pub(crate) fn service(name: &str) -> ServiceName {
    name.parse().expect("a service name")
}

pub(crate) fn identity() -> NodeIdentity {
    let environment = "default".parse().expect("an environment");
    NodeIdentity { fleet: fleet(), node: node(), environment }
}

pub(crate) fn root() -> Root {
    let roles = BTreeMap::from([
        (RoleName::Root, Role::single(root_key().public())),
        (RoleName::Release, Role::single(release_key().public())),
        (RoleName::Director, Role::single(director_key().public())),
    ]);
    Root { format: 1, fleet: fleet(), version: 1, epoch: 7, roles }
}

fn file() -> protocol::file::ServiceFile {
    protocol::file::parse("web.toml", FULL_FILE).unwrap_or_else(|error| panic!("{error}"))
}

pub(crate) fn spec() -> ServiceSpec {
    file().spec
}

pub(crate) fn release() -> Release {
    let digest = format!("sha256:{}", "ab".repeat(32)).parse().expect("a digest");
    let reference = "registry.local:5000/web:v2".to_owned();
    let image = Image { reference, pin: Pin::Digest(digest) };
    let (base, environments) = (spec(), file().environments);
    Release { format: 1, fleet: fleet(), counter: 3, image, base, environments }
}

/// The id of a release once it is signed.
pub(crate) fn id_of(release: &Release) -> ReleaseId {
    ReleaseId::of_payload(&serde_json::to_vec(release).expect("a release serialises"))
}

pub(crate) fn manifest_of(releases: &[Release]) -> Manifest {
    let assignment = |release: &Release| Assignment {
        service: release.service().clone(),
        revision: 2,
        release: id_of(release),
        count: 2,
        attempt: 1,
        restarts: 0,
        paused: false,
        candidate: Some(Candidate {
            revision: 3,
            release: id_of(release),
            count: 1,
            attempt: 1,
            restarts: 1,
            share: 1_000,
            sample_every: Millis::from_secs(10),
        }),
    };
    let hook = |release: &Release| HookRun {
        service: release.service().clone(),
        kind: HookKind::PreDeploy,
        revision: 3,
        release: id_of(release),
        attempt: 1,
    };
    Manifest {
        format: 1,
        fleet: fleet(),
        node: node(),
        environment: identity().environment,
        version: Version { epoch: 7, generation: 42 },
        issued_at: 1_790_000_000,
        services: releases.iter().map(assignment).collect(),
        removed: BTreeSet::from([service("old-service")]),
        hooks: releases.iter().map(hook).collect(),
        releases: releases.iter().map(|r| Envelope::sign(r, &[&release_key()])).collect(),
        peers: peers(),
    }
}

fn peers() -> Peers {
    let node = |name: &str| name.parse().expect("a node name");
    let port = PeerPort {
        name: "http".parse().expect("a port name"),
        number: 8080,
        protocol: PortProtocol::Http,
        proxy_protocol: false,
        hold: Millis::from_secs(30),
    };
    let called = Elsewhere { nodes: [node("opi-2"), node("opi-3")].into(), ports: vec![port] };
    let shared = Elsewhere { nodes: [node("opi-2")].into(), ports: Vec::new() };
    let address = |text: &str| text.parse().expect("an address");
    Peers {
        nodes: BTreeMap::from([
            (node("opi-2"), address("10.0.0.2:7484")),
            (node("opi-3"), address("[fd00::3]:7484")),
        ]),
        services: BTreeMap::from([(service("web"), shared), (service("world-state"), called)]),
        callers: ["10.0.0.2", "fd00::3"].map(|a| a.parse().expect("an address")).into(),
    }
}

pub(crate) fn manifest() -> Manifest {
    manifest_of(&[release()])
}

/// The bytes of a manifest as the director sends them.
pub(crate) fn signed(manifest: &Manifest) -> Vec<u8> {
    Envelope::sign(manifest, &[&director_key()]).to_bytes()
}

pub(crate) fn hello() -> Hello {
    Hello {
        format: 1,
        fleet: fleet(),
        node: node(),
        public_key: node_key().public().to_base64(),
        name: "opi-1".parse().expect("a node name"),
        environment: identity().environment,
        labels: BTreeMap::from([("zone".to_owned(), "edge".to_owned())]),
        formats: vec![1],
        agent_version: "0.1.0".to_owned(),
        nonce: "00112233445566778899aabbccddeeff".to_owned(),
        boot_id: "4b1f6a1e-0000-4000-8000-000000000001".to_owned(),
        seen: Version { epoch: 7, generation: 41 },
        capacity: Capacity { architecture: "arm64".to_owned(), cores: 4, memory_bytes: 1 << 30 },
        address: "127.0.0.2".to_owned(),
        fleet_port: Some(7484),
    }
}

pub(crate) fn report() -> Report {
    let release = id_of(&release());
    let template = Template::of(&release, &identity().environment, 0);
    let instance = InstanceReport {
        name: "pith-00000000-web-11111111-0".to_owned(),
        slot: 0,
        release: release.clone(),
        template: template.clone(),
        state: InstanceState::Ready,
        restarts: 1,
    };
    let evidence = Evidence {
        probe: Some("HTTP 503: not yet".to_owned()),
        exit_code: Some(137),
        oom_killed: true,
        log: vec!["listening".to_owned(), "killed".to_owned()],
    };
    let given_up = GivenUp {
        release,
        template,
        attempt: 1,
        reason: Reason::NotReadyInTime,
        message: "not ready within 10m".to_owned(),
        evidence: Some(evidence),
    };
    let detail = Detail {
        reason: Reason::WaitingForConnections,
        message: "waiting for 12 connections until 10:31".to_owned(),
        again_in_ms: Some(5000),
    };
    let service = ServiceReport {
        service: service("web"),
        revision: 2,
        attempt: 1,
        phase: Phase::RollingBack,
        detail: Some(detail),
        desired: 2,
        updated: 1,
        ready: 2,
        instances: vec![instance],
        given_up: Some(given_up),
        candidate: Some(CandidateReport {
            revision: 3,
            attempt: 1,
            share: 1_000,
            phase: Phase::Updating,
            detail: None,
            desired: 1,
            ready: 0,
        }),
        hook: Some(HookReport {
            kind: HookKind::PreDeploy,
            revision: 3,
            attempt: 1,
            outcome: HookOutcome::Underway,
            detail: None,
        }),
    };
    Report {
        format: 1,
        fleet: fleet(),
        node: node(),
        environment: identity().environment,
        sequence: 9,
        agent_started_ms: 1_790_000_000_123,
        seen: Version { epoch: 7, generation: 42 },
        services: vec![service],
        refused: BTreeMap::from([("bad_signature".to_owned(), 2)]),
        engine: EngineState::Ready,
    }
}

pub(crate) fn load() -> Load {
    Load {
        seen: Version { epoch: 7, generation: 42 },
        cpu: Some(0.25),
        load1: Some(0.5),
        mem_used: Some(200_000_000),
        mem_total: Some(1 << 30),
        disk_used: Some(2_000_000_000),
        disk_total: None,
        temp_c: Some(41.5),
        up_s: 3600,
        traffic: vec![Traffic {
            service: service("web"),
            release: id_of(&release()),
            requests: 1_000,
            errors: 2,
            latency_ms: vec![(10, 900), (50, 100)],
            restarts: 1,
            unready: 0,
            memory_percent: Some(40),
        }],
    }
}

pub(crate) fn presence() -> Presence {
    Presence { online: true, boot_id: hello().boot_id }
}

pub(crate) fn event() -> Event {
    Event {
        service: Some(service("web")),
        reason: Some(Reason::CrashLoop),
        message: "exited three times before it was ready".to_owned(),
    }
}
