//! What people ask of the fleet. These types are the bodies of the API.

mod agents;
mod refused;
mod secrets;

use std::collections::BTreeMap;

use protocol::envelope::Envelope;
use protocol::id::{EnvironmentName, NodeName, OperatorName, ServiceId, ServiceName};
use protocol::join::{TlsKey, TokenId};
use protocol::release::Image;
use protocol::spec::ServiceSpec;
use serde::{Deserialize, Serialize};

use crate::role::Role;
pub use agents::{AddAgentRelease, AgentSteer, RollAgent};
pub use refused::Refused;
pub use secrets::{AddCopies, CopiesOf, SetSecret};

/// A signed release, to be rolled out.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Deploy {
    /// Where.
    pub environment: EnvironmentName,
    /// What.
    pub release: Envelope,
    /// The service file as written; the base of `pith deploy NAME --image`.
    pub file: String,
    /// Why, in a person's words.
    pub cause: Option<String>,
    /// Who.
    pub by: String,
    /// Only where this is the newest revision.
    #[serde(default)]
    pub if_revision: Option<u64>,
}

/// The release of one environment, to be rolled out in another.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Promote {
    /// The service.
    pub service: ServiceName,
    /// Where it stands.
    pub from: EnvironmentName,
    /// Where it is to run.
    pub to: EnvironmentName,
    /// Why, in a person's words.
    pub cause: Option<String>,
    /// Who.
    #[serde(default)]
    pub by: String,
}

/// The one node on which a service starts anew.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RestartOn {
    /// Which.
    pub node: NodeName,
}

/// A signed retirement: the security floor of a service.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Retire {
    /// What.
    pub retirement: Envelope,
    /// Why, in a person's words.
    pub cause: Option<String>,
    /// Who.
    #[serde(default)]
    pub by: String,
}

/// What an operator does to a rollout under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "verb")]
pub enum Steer {
    /// Hold it.
    Pause,
    /// Let what was held go on.
    Resume,
    /// Past the step or gate it is at.
    Promote {
        /// Past all steps.
        full: bool,
    },
    /// End it, back to the release before.
    Abort,
}

/// The same, as somebody asks for it who looked at the rollout before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SteerRequest {
    /// What.
    #[serde(flatten)]
    pub steer: Steer,
    /// Only where this revision is under way.
    #[serde(default)]
    pub if_revision: Option<u64>,
    /// Only where it has passed so many steps and gates: two who promote at once mean the same step.
    #[serde(default)]
    pub if_passed: Option<usize>,
}

impl From<Steer> for SteerRequest {
    fn from(steer: Steer) -> Self {
        Self { steer, if_revision: None, if_passed: None }
    }
}

/// An old release, to be rolled out again.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Undo {
    /// Which revision's; none: the one before, never one that failed.
    pub to_revision: Option<u64>,
    /// Why, in a person's words.
    pub cause: Option<String>,
    /// Who.
    #[serde(default)]
    pub by: String,
    /// Only where this is the newest revision.
    #[serde(default)]
    pub if_revision: Option<u64>,
}

/// An operator's count.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Scale {
    /// Instances; none: what the service file says.
    pub count: Option<u32>,
}

/// What would be deployed, unsigned.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct PlanRequest {
    /// Where.
    pub environment: EnvironmentName,
    /// The pinned image.
    pub image: Image,
    /// The service as that environment reads it.
    pub spec: Box<ServiceSpec>,
    /// The service in every environment that has an overlay: only the size of it counts here.
    #[serde(default)]
    pub environments: BTreeMap<EnvironmentName, ServiceSpec>,
    /// Compressed bytes of the image by architecture, as far as its registry says them.
    #[serde(default)]
    pub sizes: BTreeMap<String, u64>,
}

/// The right to join, to be made.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct NewToken {
    /// How long it may be used, milliseconds.
    pub ttl_ms: u64,
    /// Labels of the node.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// The node's environment; none: what the node is configured for.
    #[serde(default)]
    pub environment: Option<EnvironmentName>,
    /// Whether the node is let in without an operator.
    #[serde(default)]
    pub approve: bool,
    /// Where nodes reach the coordinator, `host:port`; none: the addresses of its machine.
    #[serde(default)]
    pub addresses: Vec<String>,
}

/// `pith node replace`: who comes in the place of a node.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Replace {
    /// Whoever joins with the token of the answer.
    Token(NewToken),
    /// A node, by its name or id.
    Node(String),
}

/// Somebody to be invited.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct NewOperator {
    /// Unique.
    pub name: OperatorName,
    /// What they may do.
    pub role: Role,
    /// How long the invitation may be used, milliseconds.
    pub ttl_ms: u64,
    /// Where they reach the coordinator, `host:port`; none: the addresses of its machine.
    #[serde(default)]
    pub addresses: Vec<String>,
}

/// The answer to an invitation, with the key that was made for it.
#[derive(Clone, Serialize, Deserialize)]
pub struct Login {
    /// Which token.
    pub token: TokenId,
    /// Its secret.
    pub secret: String,
    /// The public half of the key that the certificate is for.
    pub tls_key: TlsKey,
}

/// A new certificate over the one that is shown.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RenewLogin {
    /// The public half of the key that the certificate is for.
    pub tls_key: TlsKey,
}

impl std::fmt::Debug for Login {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Login({}, …)", self.token)
    }
}

/// A deploy or undo that was accepted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Accepted {
    /// Of which service.
    pub service: ServiceId,
    /// Its number.
    pub revision: u64,
    /// The revision it replaces.
    pub from_revision: Option<u64>,
    /// True where nothing had to change and `revision` is the one that runs.
    pub unchanged: bool,
    /// Instances that no node could take.
    pub unplaced: u32,
}
