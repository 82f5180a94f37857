//! A small fleet with fixed keys: everything in it is the same at every run.

mod archived;
mod held;
mod sealed;
mod unsigned;

use std::collections::{BTreeMap, BTreeSet};

use protocol::acceptance::NodeIdentity;
use protocol::envelope::Envelope;
use protocol::hello::{Capacity, Hello};
use protocol::id::{FleetId, NodeId, ReleaseId, ServiceName, Template};
use protocol::keys::{Role, RoleName, Root, SecretKey};
use protocol::manifest::{Assignment, Candidate, HookKind, HookRun, Manifest, Version};
use protocol::peers::{Elsewhere, Peer, PeerPort, Peers};
use protocol::policy::PolicyState;
use protocol::release::{Image, Pin, Release};
use protocol::report::{
    CandidateReport, Detail, EngineState, Evidence, GivenUp, HookOutcome, HookReport,
    InstanceReport, InstanceState, Phase, Report, ServiceReport,
};
use protocol::retirement::Retirement;
use protocol::spec::{PortProtocol, ServiceSpec};
use protocol::{reason::Reason, succession::Chain, units::Millis};

pub(crate) use archived::archived_release;
pub(crate) use held::report_of_a_hold;
pub(crate) use sealed::{hello_with_seal_key, manifest_with_secret};
pub(crate) use unsigned::{event, load, load_in_detail, presence};

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

/// Everything that only a node's policy allows.
pub(crate) const HOST_FILE: &str = r#"
name = "zigbee"
image = "registry.local:5000/web:v2"
privileged = true
network = "host"
cap_add = ["NET_ADMIN", "cap_sys_time"]

[[devices]]
path = "/dev/ttyUSB0"

[[devices]]
path = "/dev/serial/by-id/usb-stick"
target = "/dev/stick"
permissions = "rwm"

[[volumes]]
host = "/mnt/data/"
path = "/data"

[[volumes]]
host = "/etc/localtime"
path = "/etc/localtime"
read_only = true
shared = true
"#;

/// Every key of a node's policy written out.
pub(crate) const FULL_POLICY: &str = r#"
privileged = true
host_network = true
exec = true
host_paths = ["/mnt", "/srv/media"]
devices = ["/dev/ttyUSB0", "/dev/ttyACM*"]
capabilities = ["NET_ADMIN"]

[services.web]
privileged = false
host_network = false
exec = false
host_paths = []
devices = []
capabilities = []
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

/// A key of the second root, and of the two that come after the first.
pub(crate) fn second_root_key() -> SecretKey {
    SecretKey::from_seed([11; 32])
}
pub(crate) fn agent_release_key() -> SecretKey {
    SecretKey::from_seed([12; 32])
}

/// What follows [`root`]: two root keys of two, and a role for agents.
pub(crate) fn second_root() -> Root {
    let mut root = Root { version: 2, ..root() };
    let keys = vec![root_key().public(), second_root_key().public()];
    root.roles.insert(RoleName::Root, Role { keys, threshold: 2 });
    root.roles.insert(RoleName::AgentRelease, Role::single(agent_release_key().public()));
    root
}

pub(crate) fn chain() -> Chain {
    let keys = [&root_key(), &second_root_key()];
    Chain { roots: vec![Envelope::sign(&second_root(), &keys)] }
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

pub(crate) fn retirement() -> Retirement {
    Retirement { format: 1, fleet: fleet(), service: service("web"), below: 3 }
}

/// A manifest that raises a floor.
pub(crate) fn retiring_manifest() -> Manifest {
    let retirements = vec![Envelope::sign(&retirement(), &[&release_key()])];
    Manifest { retirements, ..manifest() }
}

/// A release that asks for all that a node has.
pub(crate) fn release_of_host() -> Release {
    let file = protocol::file::parse("zigbee.toml", HOST_FILE);
    let base = file.unwrap_or_else(|error| panic!("{error}")).spec;
    Release { base, environments: BTreeMap::new(), ..release() }
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
        secrets: BTreeMap::new(),
        paused: false,
        candidate: Some(Candidate {
            revision: 3,
            release: id_of(release),
            count: 1,
            attempt: 1,
            restarts: 1,
            secrets: BTreeMap::new(),
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
        secrets: BTreeMap::new(),
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
        retirements: Vec::new(),
        peers: peers(),
        secrets: Vec::new(),
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
    let id = |digit: &str| digit.repeat(32).parse().expect("a node id");
    let peer = |digit, address: &str| {
        let address = address.parse().expect("an address");
        Peer { id: id(digit), address }
    };
    let caller = |digit, ip: &str| (id(digit), ip.parse().expect("an address"));
    Peers {
        nodes: BTreeMap::from([
            (node("opi-2"), peer("2", "10.0.0.2:7484")),
            (node("opi-3"), peer("3", "[fd00::3]:7484")),
        ]),
        services: BTreeMap::from([(service("web"), shared), (service("world-state"), called)]),
        callers: [caller("2", "10.0.0.2"), caller("3", "fd00::3")].into(),
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
        policy: None,
        root_version: None,
        seal_key: None,
        seen_sha256: None,
        learned: None,
        metered: false,
    }
}

/// A node that lets containers have something of it.
pub(crate) fn hello_with_policy() -> Hello {
    let policy = protocol::file::parse_policy("policy.toml", FULL_POLICY).expect("a policy");
    let devices = ["/dev/ttyACM0".to_owned()].into();
    Hello { policy: Some(PolicyState { policy, devices, trouble: None }), ..hello() }
}

const fn hook_report() -> HookReport {
    let (kind, outcome) = (HookKind::PreDeploy, HookOutcome::Underway);
    HookReport { kind, revision: 3, attempt: 1, outcome, detail: None }
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
        hook: Some(hook_report()),
        held: None,
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
        alarms: Vec::new(),
        images: None,
        agent_update: None,
    }
}
