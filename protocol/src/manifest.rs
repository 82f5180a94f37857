//! A manifest: what one node must run now.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::envelope::Envelope;
use crate::id::{EnvironmentName, FleetId, NodeId, ReleaseId, ServiceName, Template};
use crate::payload::{Payload, PayloadType};
use crate::peers::Peers;
use crate::secret::{self, SecretVersions};
use crate::units::Millis;

/// (epoch, generation): what orders manifests. Epoch first.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(deny_unknown_fields)]
pub struct Version {
    /// Changes only by root signature.
    pub epoch: u64,
    /// Counts the manifests of one node.
    pub generation: u64,
}

/// A jump of the generation beyond this is refused, so that one forged number cannot exhaust the counter.
pub const MAX_GENERATION_JUMP: u64 = 1 << 20;

/// The document that the director signs for one node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// [`crate::FORMAT`] at the time of writing.
    pub format: u32,
    /// The fleet it is for.
    pub fleet: FleetId,
    /// The node it is for.
    pub node: NodeId,
    /// The node's one environment.
    pub environment: EnvironmentName,
    /// Its place in the order.
    pub version: Version,
    /// Unix seconds by the coordinator's clock: a floor under the node's.
    pub issued_at: u64,
    /// What runs, one entry per service, in no order.
    pub services: Vec<Assignment>,
    /// Services that ran here and must not any more; one that is dropped without being named here refuses the whole.
    pub removed: BTreeSet<ServiceName>,
    /// One-shot containers to run here, at most one per service.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hooks: Vec<HookRun>,
    /// The envelopes of the releases named by `services` and `hooks`, so that a node needs nothing else.
    pub releases: Vec<Envelope>,
    /// The security floors of services that run here or ran here; each holds from now on, whatever a later manifest says.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub retirements: Vec<Envelope>,
    /// The other nodes that its proxy has to do with.
    #[serde(default, skip_serializing_if = "Peers::is_empty")]
    pub peers: Peers,
    /// Copies, sealed to this node, of the secrets that `services` and `hooks` name; one that is missing is waited for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub secrets: Vec<secret::Copy>,
}

/// A one-shot container of a deploy. A node runs it once: its container, ended, says so until it is not asked for any more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HookRun {
    /// The service.
    pub service: ServiceName,
    /// Which of its hooks.
    pub kind: HookKind,
    /// The revision it belongs to, for people and reports.
    pub revision: u64,
    /// The release whose image and command it runs.
    pub release: ReleaseId,
    /// As in [`Assignment`].
    pub attempt: u32,
    /// The version of each secret that it gets.
    #[serde(default, skip_serializing_if = "SecretVersions::is_empty")]
    pub secrets: SecretVersions,
}

/// Which hook of a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HookKind {
    /// Before any node moves.
    PreDeploy,
    /// After every node has moved.
    PostDeploy,
}

impl HookKind {
    /// As it stands in the service file.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::PreDeploy => "pre_deploy",
            Self::PostDeploy => "post_deploy",
        }
    }
}

impl Manifest {
    /// Of everything that it wants made, with which versions of secrets.
    pub fn secret_versions(&self) -> impl Iterator<Item = &SecretVersions> {
        let candidates = self.services.iter().filter_map(|a| a.candidate.as_ref());
        let services = self.services.iter().map(|a| &a.secrets);
        let hooks = self.hooks.iter().map(|hook| &hook.secrets);
        services.chain(candidates.map(|c| &c.secrets)).chain(hooks)
    }
}

impl HookRun {
    /// What its container is made from; never that of an instance.
    #[must_use]
    pub fn template(&self, environment: &EnvironmentName) -> Template {
        Template::of_hook(&self.release, environment, self.kind.as_str(), self.attempt)
    }
}

/// One service on one node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Assignment {
    /// The service's name in the manifest's environment.
    pub service: ServiceName,
    /// The coordinator's number of the deploy or undo, for people and reports; decides nothing on the node.
    pub revision: u64,
    /// Which release.
    pub release: ReleaseId,
    /// Instances on this node.
    pub count: u32,
    /// The coordinator's count of tries of this template; a given-up template is tried again only under a higher one.
    pub attempt: u32,
    /// Raised by `pith rollout restart`; part of the template.
    pub restarts: u32,
    /// The version of each secret that it is made with; part of the template.
    #[serde(default, skip_serializing_if = "SecretVersions::is_empty")]
    pub secrets: SecretVersions,
    /// The operator holds the rollout: what is up stays up, nothing more is replaced.
    pub paused: bool,
    /// What runs beside it, until it is promoted or dropped.
    pub candidate: Option<Candidate>,
}

/// A second release of a service on a node: a canary, or the green set before the switch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Candidate {
    /// The revision it would become, for people and reports.
    pub revision: u64,
    /// Which release.
    pub release: ReleaseId,
    /// Instances on this node.
    pub count: u32,
    /// As in [`Assignment`].
    pub attempt: u32,
    /// As in [`Assignment`].
    pub restarts: u32,
    /// The version of each secret that it is made with; part of the template.
    #[serde(default, skip_serializing_if = "SecretVersions::is_empty")]
    pub secrets: SecretVersions,
    /// Of ten thousand requests on this node so many are its; 0: none, it is reached by its preview port alone.
    pub share: u32,
    /// How often the node tells what it counts while this runs.
    pub sample_every: Millis,
}

impl Candidate {
    /// What it is made from.
    #[must_use]
    pub fn template(&self, environment: &EnvironmentName) -> Template {
        Template::with_secrets(&self.release, environment, self.restarts, &self.secrets)
    }
}

/// Every request.
pub const WHOLE_SHARE: u32 = 10_000;

impl Assignment {
    /// What it is made from.
    #[must_use]
    pub fn template(&self, environment: &EnvironmentName) -> Template {
        Template::with_secrets(&self.release, environment, self.restarts, &self.secrets)
    }

    /// The releases it names.
    pub fn releases(&self) -> impl Iterator<Item = &ReleaseId> {
        std::iter::once(&self.release).chain(self.candidate.as_ref().map(|c| &c.release))
    }
}

impl Payload for Manifest {
    const TYPE: PayloadType = PayloadType::Manifest;
}
