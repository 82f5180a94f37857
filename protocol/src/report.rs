//! What a node says of itself.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::agent_release::AgentUpdate;
use crate::id::{EnvironmentName, FleetId, NodeId, ReleaseId, ServiceName, Template};
use crate::manifest::{HookKind, Version};
use crate::payload::{Payload, PayloadType};
use crate::reason::Reason;

/// The state of a node after a change; retained, at QoS 1, signed by the node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Report {
    /// [`crate::FORMAT`] at the time of writing.
    pub format: u32,
    /// The fleet.
    pub fleet: FleetId,
    /// The node.
    pub node: NodeId,
    /// The node's environment.
    pub environment: EnvironmentName,
    /// Counts the reports of one agent process, so that an older one is known as such.
    pub sequence: u64,
    /// Unix milliseconds at the agent's start: orders sequences of different processes, nothing else.
    pub agent_started_ms: u64,
    /// The newest manifest accepted and durable.
    pub seen: Version,
    /// One entry per service that runs or should run here.
    pub services: Vec<ServiceReport>,
    /// Manifests refused since the agent's start, by code.
    pub refused: BTreeMap<String, u64>,
    /// Whether Docker answers.
    pub engine: EngineState,
    /// What is wrong with the node as a whole and stops nothing.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub alarms: Vec<Detail>,
    /// Which images of releases are on the node, of those it needs or has pulled: [`crate::release::Pin::short`], ascending. None: it has not
    /// looked yet, or the agent is older than this field.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub images: Option<Vec<String>>,
    /// What became of the newest release of the agent that it was told of. None: of none, so that a coordinator that is older
    /// than this field never reads it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent_update: Option<AgentUpdate>,
}

/// Whether the container engine answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EngineState {
    /// It answers.
    Ready,
    /// It does not.
    Unavailable,
}

/// One service on one node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServiceReport {
    /// The service.
    pub service: ServiceName,
    /// The revision of the newest accepted manifest.
    pub revision: u64,
    /// The attempt of that manifest.
    pub attempt: u32,
    /// Where the service stands.
    pub phase: Phase,
    /// Why, with what a person needs beside it.
    pub detail: Option<Detail>,
    /// Instances wanted.
    pub desired: u32,
    /// Instances of the wanted template.
    pub updated: u32,
    /// Instances that answer and are routed, of any template.
    pub ready: u32,
    /// What instances are, in slot order.
    pub instances: Vec<InstanceReport>,
    /// The template that failed last and stays failed until a higher attempt.
    pub given_up: Option<GivenUp>,
    /// What runs beside the wanted release.
    pub candidate: Option<CandidateReport>,
    /// The one-shot container that is asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hook: Option<HookReport>,
    /// Root of the node holds it: manifests move it no further until it is released there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held: Option<HeldReport>,
}

/// A service that root of its node holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HeldReport {
    /// The user who asked, as the node knows it.
    pub by: String,
    /// Unix seconds by the node's clock.
    pub since_s: u64,
    /// What they said about it.
    pub reason: Option<String>,
    /// The revision that it is held at.
    pub revision: u64,
    /// The release that it is held at.
    pub release: ReleaseId,
}

/// Bytes of the reason that a hold is given.
pub const MAX_HOLD_REASON_BYTES: usize = 256;

/// A one-shot container on a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HookReport {
    /// Which hook.
    pub kind: HookKind,
    /// Of which revision.
    pub revision: u64,
    /// Of which attempt.
    pub attempt: u32,
    /// How it goes or went.
    pub outcome: HookOutcome,
    /// Why, with what a person needs beside it.
    pub detail: Option<Detail>,
}

/// How a hook goes or went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HookOutcome {
    /// On its way.
    Underway,
    /// It exited with 0.
    Succeeded,
    /// It exited otherwise, took too long, or could not be run.
    Failed,
}

/// A canary or a green set on a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CandidateReport {
    /// The revision it would become.
    pub revision: u64,
    /// The attempt.
    pub attempt: u32,
    /// Of ten thousand requests so many are meant for it.
    pub share: u32,
    /// `Updating` until all its instances are available, `Running` then, `Degraded` where some are not any more, `Failed`
    /// once it was given up.
    pub phase: Phase,
    /// Why, with what a person needs beside it.
    pub detail: Option<Detail>,
    /// Instances wanted.
    pub desired: u32,
    /// Instances that answer.
    pub ready: u32,
}

/// Where a service on a node stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// The wanted template runs, complete and available. Moves on with the next manifest or a crash.
    Running,
    /// Moving to the wanted template. Ends in `Running`, `RollingBack` or `Failed`.
    Updating,
    /// The wanted template was given up; moving back. Ends in `RolledBack`.
    RollingBack,
    /// The wanted template was given up and last-good runs, complete. Ends with a higher attempt or another template.
    RolledBack,
    /// The wanted template was given up and there is nothing to go back to, or `on_failure = "pause"`.
    Failed,
    /// Running, but fewer than wanted are ready; being healed.
    Degraded,
    /// Being removed. Ends by leaving the report.
    Removing,
    /// Held by root of the node at something else than the newest manifest names. Ends when it is released there.
    Held,
}

/// A reason with what a person needs to act on it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Detail {
    /// The stable code.
    pub reason: Reason,
    /// One sentence for a person.
    pub message: String,
    /// When it is looked at again: milliseconds from the report's making.
    pub again_in_ms: Option<u64>,
}

/// A template that failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GivenUp {
    /// The release.
    pub release: ReleaseId,
    /// The template.
    pub template: Template,
    /// The attempt that failed.
    pub attempt: u32,
    /// The code.
    pub reason: Reason,
    /// One sentence for a person.
    pub message: String,
    /// What was seen at that moment.
    pub evidence: Option<Evidence>,
}

/// What was seen when a release failed; bounded in size.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Evidence {
    /// The last answer of the failing probe: status line and the beginning of the body.
    pub probe: Option<String>,
    /// The exit code of the last exit.
    pub exit_code: Option<i64>,
    /// Whether the kernel killed it for its memory.
    pub oom_killed: bool,
    /// The last log lines, oldest first, at most [`MAX_EVIDENCE_LINES`].
    pub log: Vec<String>,
}

/// Log lines kept as evidence.
pub const MAX_EVIDENCE_LINES: usize = 20;
/// Bytes kept of each text in evidence.
pub const MAX_EVIDENCE_TEXT_BYTES: usize = 512;

/// One instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InstanceReport {
    /// The container's name.
    pub name: String,
    /// Its slot.
    pub slot: u32,
    /// Its release.
    pub release: ReleaseId,
    /// Its template.
    pub template: Template,
    /// What it is doing.
    pub state: InstanceState,
    /// How often it was restarted after a crash or a failed liveness probe, by this agent process.
    pub restarts: u32,
}

/// What an instance is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum InstanceState {
    /// Created, not started yet.
    Created,
    /// Runs, not ready yet.
    Starting,
    /// Ready and routed.
    Ready,
    /// Was ready and is not now.
    Unready,
    /// Ready and kept so, without requests: what the service goes back to at once.
    Warm,
    /// Finishes what it has.
    Draining,
    /// Told to stop.
    Stopping,
    /// Stopped and kept, so that going back needs no network.
    Kept,
    /// Exited by itself; starts again after a pause.
    Crashed,
}

impl Payload for Report {
    const TYPE: PayloadType = PayloadType::Report;
}
