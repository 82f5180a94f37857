//! What a node says at connect and while it lives: hello, presence, load and events.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::id::{EnvironmentName, FleetId, NodeId, NodeName, ReleaseId, ServiceName};
use crate::join::SealKey;
use crate::load::{BoardLoad, InstanceLoad};
use crate::manifest::Version;
use crate::payload::{Payload, PayloadType};
use crate::policy::PolicyState;
use crate::reason::Reason;
use crate::whereabouts::Learned;

/// Said at every connect, again after 2, 4, 8 … s until it is answered, then every [`HELLO_INTERVAL_SECS`]: it is not retained, and the
/// coordinator may not listen at that moment. Signed by the node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hello {
    /// [`crate::FORMAT`] at the time of writing.
    pub format: u32,
    /// The fleet.
    pub fleet: FleetId,
    /// The node; must be the hash of `public_key`.
    pub node: NodeId,
    /// The node's Ed25519 public key, base64.
    pub public_key: String,
    /// Its name among people.
    pub name: NodeName,
    /// Its one environment.
    pub environment: EnvironmentName,
    /// Labels that placements select by.
    pub labels: BTreeMap<String, String>,
    /// Formats this agent reads, ascending.
    pub formats: Vec<u32>,
    /// The agent's version.
    pub agent_version: String,
    /// Random; the answer is a signed [`crate::time::Time`].
    pub nonce: String,
    /// The kernel's boot id: the same node under two boots is one node, two nodes under one id are two boot ids.
    pub boot_id: String,
    /// The newest manifest accepted and durable.
    pub seen: Version,
    /// What the node has.
    pub capacity: Capacity,
    /// Where its proxy listens, for people and other nodes: `127.0.0.2`.
    pub address: String,
    /// The port on which its proxy serves those of other nodes; none: it has nothing to do with them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fleet_port: Option<u16>,
    /// What it lets containers have of it; none: it allows nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<PolicyState>,
    /// The version of the trust root it trusts; none: said by an agent that knows only the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub root_version: Option<u64>,
    /// What secrets are sealed to; none: an agent that cannot open any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seal_key: Option<SealKey>,
    /// sha256 of the signed bytes of the manifest in `seen`, hexadecimal: two that were signed under one number are told
    /// apart by it. None: nothing was seen, or the agent is older than this field.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seen_sha256: Option<String>,
    /// Where it looks for the coordinator. None: the coordinator has not said, signed, where it is, or the agent is older; so that
    /// a coordinator that is older than this field never reads it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub learned: Option<Learned>,
    /// Its link is paid by the byte: it says less ([`METERED_HELLO_INTERVAL_SECS`], [`METERED_LOAD_INTERVAL_SECS`]), and is well
    /// meanwhile. Left out where it is not, so that a coordinator that is older than this field never reads it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub metered: bool,
}

/// Hello is repeated at this interval at the latest.
pub const HELLO_INTERVAL_SECS: u64 = 15 * 60;
/// The same for a node whose link is metered.
pub const METERED_HELLO_INTERVAL_SECS: u64 = 60 * 60;
/// A settled node says its load so often.
pub const LOAD_INTERVAL_SECS: u64 = 60;
/// The same for a node whose link is metered.
pub const METERED_LOAD_INTERVAL_SECS: u64 = 15 * 60;

/// What a node has to give.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Capacity {
    /// `arm64`, `amd64`.
    pub architecture: String,
    /// Cores.
    pub cores: u32,
    /// Bytes of memory.
    pub memory_bytes: u64,
}

/// Retained; the broker publishes `online: false` for a node that is gone. Advice, not truth.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Presence {
    /// Whether its session stands.
    pub online: bool,
    /// The boot it speaks from.
    pub boot_id: String,
}

/// A periodic sample; short stable names, so that people can read it with `mosquitto_sub`. Unsigned, QoS 0.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Load {
    /// The newest manifest accepted and durable.
    pub seen: Version,
    /// Busy share of all cores since the last sample, 0 to 1; none: not known.
    pub cpu: Option<f32>,
    /// Load average of one minute.
    pub load1: Option<f32>,
    /// Memory in use, bytes.
    pub mem_used: Option<u64>,
    /// Memory in all, bytes.
    pub mem_total: Option<u64>,
    /// Disk in use where Docker keeps images, bytes.
    pub disk_used: Option<u64>,
    /// That disk's size, bytes.
    pub disk_total: Option<u64>,
    /// The hottest zone, degrees Celsius.
    pub temp_c: Option<f32>,
    /// Seconds since boot.
    pub up_s: u64,
    /// What the proxy counted, per service and release, since it started; only while a release is judged by it, or somebody looks.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub traffic: Vec<Traffic>,
    /// More of the board; only while somebody looks, while something changes, and once after each hello.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub board: Option<Box<BoardLoad>>,
    /// Its instances, whenever there is more of the board.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub instances: Vec<InstanceLoad>,
}

/// What one release of a service did with its requests, counted since the proxy's start.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Traffic {
    /// The service.
    pub service: ServiceName,
    /// The release.
    pub release: ReleaseId,
    /// Requests answered or broken.
    pub requests: u64,
    /// Of them answered with 500 and above, or broken.
    pub errors: u64,
    /// Upper bounds in milliseconds and how many requests were answered within each and above the bound before; empty
    /// ones are left out.
    pub latency_ms: Vec<(u64, u64)>,
    /// Times its instances ended or failed their liveness, since the agent's start.
    pub restarts: u64,
    /// Times a readiness probe of a once ready instance failed, since the agent's start.
    pub unready: u64,
    /// Percent of its memory limit that its fullest instance uses; none: no limit, or not known.
    pub memory_percent: Option<u8>,
}

/// Something that happened on a node, for `pith events`. QoS 1, not retained.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Event {
    /// The service it concerns.
    pub service: Option<ServiceName>,
    /// Why.
    pub reason: Option<Reason>,
    /// One sentence for a person.
    pub message: String,
}

impl Payload for Hello {
    const TYPE: PayloadType = PayloadType::Hello;
}
