//! What a service is, complete and checked: every default is filled in, so that a release means the same for every
//! reader. Made only by [`crate::file`]; carried inside a signed [`crate::release::Release`].

mod host_access;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::id::{NodeName, PortName, SecretName, ServiceName, VolumeName};
use crate::manifest::HookKind;
use crate::units::{Bytes, MilliCpu, Millis};

pub use host_access::{Device, HostAccess, HostPath};

/// A service as one node must run it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServiceSpec {
    /// The service's name.
    pub name: ServiceName,
    /// How many instances, counted over the fleet or per node.
    pub scheduling: Scheduling,
    /// The container's process.
    pub container: Container,
    /// Time between SIGTERM and SIGKILL.
    pub stop_grace: Millis,
    /// Services that must be ready first, at deploy and at boot; acyclic within a set of files.
    pub depends_on: BTreeSet<ServiceName>,
    /// Services it calls, without an order.
    pub uses: BTreeSet<ServiceName>,
    /// Ports it serves.
    pub ports: Vec<Port>,
    /// Probes.
    pub health: Health,
    /// What it asks for and may use at most.
    pub resources: Resources,
    /// How a new release replaces the old one.
    pub rollout: RolloutPolicy,
    /// Where it may run.
    pub placement: Placement,
    /// Named volumes.
    pub volumes: Vec<Volume>,
    /// Secrets that it finds as files.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub secrets: Vec<SecretFile>,
    /// What it has of the node; the node's own policy has to allow it.
    #[serde(default, skip_serializing_if = "HostAccess::is_none")]
    pub host: HostAccess,
    /// One-shot containers around a deploy.
    pub hooks: Hooks,
}

/// How many instances.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scheduling {
    /// This many over the whole fleet, spread evenly.
    Replicas(u32),
    /// This many on every node that fits.
    PerNode(u32),
}

/// The process inside the container.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Container {
    /// Environment variables.
    pub env: BTreeMap<String, String>,
    /// Environment variables whose values are secrets: whoever may inspect the container reads them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub secret_env: BTreeMap<String, SecretName>,
    /// Replaces the image's entrypoint.
    pub entrypoint: Option<Vec<String>>,
    /// Replaces the image's command.
    pub command: Option<Vec<String>>,
    /// `uid[:gid]` or names known to the image.
    pub user: Option<String>,
    /// Working directory.
    pub working_dir: Option<String>,
    /// Whether the root file system is read-only.
    pub read_only: bool,
    /// Whether PID 1 is an init that reaps and forwards signals.
    pub init: bool,
    /// Linux capabilities taken away, `ALL` or names without `CAP_`.
    pub cap_drop: BTreeSet<String>,
    /// Writable memory file systems: absolute path to size.
    pub tmpfs: BTreeMap<String, Option<Bytes>>,
    /// Resource limits of the process, by ulimit name.
    pub ulimits: BTreeMap<String, Ulimit>,
    /// Extra container labels; never in our own namespace.
    pub labels: BTreeMap<String, String>,
}

/// A secret as a file in memory, owned by the container's user.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SecretFile {
    /// Which secret of the environment.
    pub name: SecretName,
    /// Absolute path inside the container.
    pub path: String,
    /// Permission bits.
    pub mode: u32,
}

/// A soft and a hard limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ulimit {
    /// What the process starts with.
    pub soft: i64,
    /// What it may raise it to.
    pub hard: i64,
}

/// A port of a service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Port {
    /// Its name within the service.
    pub name: PortName,
    /// The fixed port on every node that runs the service; none: reachable by name from containers only.
    pub listen: Option<Listen>,
    /// The port inside the container.
    pub target: u16,
    /// How the proxy treats what passes.
    pub protocol: PortProtocol,
    /// tcp only: tell the backend the client's address by PROXY protocol v2.
    pub proxy_protocol: bool,
}

/// Where a port is open on the node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Listen {
    /// One address of the node; none: all of them, IPv4 and IPv6.
    pub address: Option<IpAddr>,
    /// The port.
    pub port: u16,
}

/// What a port speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PortProtocol {
    /// HTTP/1.1 with WebSocket, SSE and streams: balanced per request.
    Http,
    /// Any stream: balanced per connection.
    Tcp,
}

/// The probes of an instance.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Health {
    /// Holds the other two back until it has passed once.
    pub startup: Option<Probe>,
    /// Gates the route. None: a TCP connect to every target port.
    pub readiness: Option<Probe>,
    /// Restarts the instance.
    pub liveness: Option<Probe>,
}

/// One check and its rhythm; defaults are Kubernetes'.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Probe {
    /// What is asked.
    pub check: Check,
    /// Wait after the start of the container.
    pub initial_delay: Millis,
    /// Between two checks.
    pub period: Millis,
    /// For one answer.
    pub timeout: Millis,
    /// Consecutive successes that make it pass.
    pub success_threshold: u32,
    /// Consecutive failures that make it fail.
    pub failure_threshold: u32,
}

/// What a probe asks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Check {
    /// GET; 200 to 399 passes.
    Http {
        /// Path and query.
        path: String,
        /// Port inside the container.
        port: u16,
    },
    /// A connection is accepted.
    Tcp {
        /// Port inside the container.
        port: u16,
    },
    /// A command inside the container exits 0.
    Exec {
        /// The command and its arguments.
        command: Vec<String>,
    },
}

/// Requests place, limits bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Resources {
    /// What it needs.
    pub requests: Amounts,
    /// What it may use.
    pub limits: Amounts,
}

/// Memory and processor time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Amounts {
    /// Bytes.
    pub memory: Option<Bytes>,
    /// Thousandths of a core.
    pub cpu: Option<MilliCpu>,
}

/// How a new release replaces the old one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RolloutPolicy {
    /// In which manner.
    pub strategy: Strategy,
    /// Instances above a node's count while rolling.
    pub max_surge: Share,
    /// Instances below a node's count while rolling.
    pub max_unavailable: Share,
    /// Groups of nodes that move before the others, one group after another.
    pub batches: Vec<Batch>,
    /// Nodes at once.
    pub batch: Share,
    /// Of a batch's reachable nodes so many must run the new release before the next batch moves.
    pub success_threshold: Share,
    /// Of the rollout's nodes at most so many may go back; one more ends it.
    pub error_threshold: Share,
    /// Ready this long before an instance counts as available.
    pub min_ready: Millis,
    /// Without progress for this long, the release has failed; counted from the image being on the node.
    pub progress_deadline: Millis,
    /// What failing does.
    pub on_failure: OnFailure,
    /// After success the old release stays warm for this long where memory allows, and failing within it goes back.
    pub soak: Millis,
    /// Revisions the coordinator remembers.
    pub revision_history_limit: u32,
    /// An old instance may finish what it has for at most this long.
    pub drain: Millis,
    /// Requests wait this long for a ready instance.
    pub hold_requests: Millis,
}

/// The manner of replacing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Strategy {
    /// New ones beside old ones within the budgets.
    Rolling,
    /// All old ones stop, then the new ones start; the route holds requests meanwhile.
    Recreate,
    /// All new ones beside all old ones, then the route switches at once.
    BlueGreen(BlueGreen),
    /// A few new ones get a share of the requests, and are judged, before the rest is replaced.
    Canary(Canary),
}

/// How a blue-green deploy switches.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BlueGreen {
    /// The old set stays warm this long after the switch.
    pub keep_old: Millis,
    /// On each node the new set answers here before the switch; the service's first port with a fixed one.
    pub preview_port: Option<u16>,
    /// Switch as soon as the new set is complete, without `pith rollout promote`.
    pub auto_promote: bool,
}

/// How a canary grows and what judges it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Canary {
    /// Which nodes take it first; a step's weight is of their requests.
    pub nodes: CanaryNodes,
    /// One after another; after the last the rest is replaced.
    pub steps: Vec<CanaryStep>,
    /// How it is judged meanwhile.
    pub analysis: Analysis,
    /// How clients are told apart.
    pub cohort: Cohort,
}

/// Which nodes take a canary.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CanaryNodes {
    /// The first so many of those that run the service; `100%`: all of them.
    Some(Share),
    /// Those that carry all these labels.
    Labels(BTreeMap<String, String>),
    /// These.
    Names(BTreeSet<NodeName>),
}

/// One step of a canary.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CanaryStep {
    /// Percent of the requests, 0 to 100.
    pub weight: u32,
    /// Until the next step.
    pub hold: Hold,
}

/// What ends a wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Hold {
    /// Time.
    For(Millis),
    /// `pith rollout promote`.
    Manual,
}

/// How a canary is judged: by what the nodes' proxies counted, against the stable release at the same moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Analysis {
    /// One measurement covers this long.
    pub interval: Millis,
    /// So many failed measurements abort; 1 aborts at the first.
    pub failure_limit: u32,
    /// Answers of 500 and above, and broken ones, in ten thousand; none: not judged.
    pub max_error_rate: Option<u32>,
    /// The time within which 99 of 100 requests are answered; none: not judged.
    pub max_p99: Option<Millis>,
    /// A measurement with fewer requests of the canary is inconclusive: the step holds.
    pub min_requests: u32,
    /// Judge and say so, and never abort.
    pub dry_run: bool,
}

/// How clients of a canary are told apart; without either each request is on its own.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cohort {
    /// A cookie of this name keeps a client on its side.
    pub cookie: Option<String>,
    /// A header of this name chooses a side: `canary` or `stable`.
    pub header: Option<String>,
}

/// Nodes that move together.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Batch {
    /// Only nodes that carry all these labels.
    pub labels: BTreeMap<String, String>,
    /// Only these nodes, when given.
    pub names: Option<BTreeSet<NodeName>>,
    /// Of them so many.
    pub limit: Share,
    /// What the nodes after it wait for, besides its success.
    pub gate: Option<Hold>,
}

/// A number or a percentage of the count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Share {
    /// So many.
    Count(u32),
    /// So many in a hundred.
    Percent(u32),
}

impl Share {
    /// Of `count`, rounded up, as Kubernetes rounds `maxSurge`.
    #[must_use]
    pub fn ceil_of(self, count: u32) -> u32 {
        match self {
            Self::Count(n) => n,
            Self::Percent(p) => narrow((u64::from(count) * u64::from(p)).div_ceil(100)),
        }
    }

    /// Of `count`, rounded down, as Kubernetes rounds `maxUnavailable`.
    #[must_use]
    pub fn floor_of(self, count: u32) -> u32 {
        match self {
            Self::Count(n) => n,
            Self::Percent(p) => narrow(u64::from(count) * u64::from(p) / 100),
        }
    }
}

/// At most what a count can hold: a signed document may say any percentage.
fn narrow(count: u64) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

/// What a failed release does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnFailure {
    /// Back to last-good.
    Rollback,
    /// Stand still, for a person to look.
    Pause,
}

/// Where a service may run.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Placement {
    /// Only these nodes, when given.
    pub names: Option<BTreeSet<NodeName>>,
    /// Only nodes that carry all these labels.
    pub labels: BTreeMap<String, String>,
}

/// A named volume and where it is mounted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Volume {
    /// Its name; the Docker volume is named after node, service and this.
    pub name: VolumeName,
    /// Absolute path inside the container.
    pub path: String,
    /// Mounted read-only.
    pub read_only: bool,
    /// The application says that several instances may write it at once.
    pub shared: bool,
}

/// One-shot containers that a deploy runs, each on one node of the rollout.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hooks {
    /// Before any node moves, such as a migration; its failure ends the rollout with nothing changed.
    pub pre_deploy: Option<Hook>,
    /// After every node has moved, such as a smoke test; its failure goes back.
    pub post_deploy: Option<Hook>,
}

impl Hooks {
    /// The hook of that kind.
    #[must_use]
    pub const fn get(&self, kind: HookKind) -> Option<&Hook> {
        match kind {
            HookKind::PreDeploy => self.pre_deploy.as_ref(),
            HookKind::PostDeploy => self.post_deploy.as_ref(),
        }
    }
}

/// One run of the new release's image with another command.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hook {
    /// What it runs, instead of the image's command.
    pub command: Vec<String>,
    /// Environment variables beside those of the service.
    pub env: BTreeMap<String, String>,
    /// Killed and failed after this long.
    pub timeout: Millis,
}

impl ServiceSpec {
    /// Whether at most one instance may run on a node, the old one stopped before the new one starts: a writable
    /// volume or host path that is not marked shared has one writer, and the node's network has each port once.
    #[must_use]
    pub fn is_exclusive(&self) -> bool {
        self.volumes.iter().any(|v| !v.read_only && !v.shared) || self.host.is_exclusive()
    }

    /// Every secret that it is made with, as a file or a variable.
    pub fn secret_names(&self) -> impl Iterator<Item = &SecretName> {
        self.secrets.iter().map(|file| &file.name).chain(self.container.secret_env.values())
    }
}
