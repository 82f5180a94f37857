//! How the fleet may refuse what people ask.

use planner::fleet::Unplaceable;
use protocol::id::{EnvironmentName, NodeName, OperatorName, SecretName, ServiceId, ServiceName};

/// Why a request was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The release's envelope.
    #[error("the release was refused: {0}")]
    Release(#[from] protocol::envelope::Rejected),
    /// A trust root that does not follow the one in effect.
    #[error("the trust root was refused: {0}")]
    Root(protocol::envelope::Rejected),
    /// Under it the coordinator could sign nothing.
    #[error(
        "trust root {version} names no director key that lies in the coordinator's keys folder, or asks for several: nothing \
         could be signed under it"
    )]
    NoDirectorKey {
        /// The root.
        version: u64,
    },
    /// A release whose key was revoked.
    #[error(
        "{service}: the release is signed by no key that trust root {root} names; sign it again: `pith deploy`"
    )]
    Distrusted {
        /// The service.
        service: ServiceId,
        /// The root in effect.
        root: u64,
    },
    /// A release older than one accepted before.
    #[error(
        "release {found} is not above {newest}, which was accepted before, maybe in another environment; deploy again"
    )]
    OldCounter {
        /// What it says.
        found: u64,
        /// The newest accepted.
        newest: u64,
    },
    /// The retirement's envelope.
    #[error("the retirement was refused: {0}")]
    Retirement(#[source] protocol::envelope::Rejected),
    /// A release below its service's security floor.
    #[error(
        "release {counter} of {service} is retired: only {floor} and newer ones may run; `pith rollout history {service}` \
         lists them, `pith deploy` makes a new one"
    )]
    Retired {
        /// The service.
        service: ServiceName,
        /// What was asked for.
        counter: u64,
        /// The floor.
        floor: u64,
    },
    /// A release that would be retired is needed.
    #[error("{}", still_runs(.service, .environment, *.revision, *.counter, *.below, .node.as_ref()))]
    StillRuns {
        /// The service.
        service: ServiceName,
        /// Where.
        environment: EnvironmentName,
        /// The revision there.
        revision: u64,
        /// Its release.
        counter: u64,
        /// What was asked for.
        below: u64,
        /// Where it was seen although the environment is past it.
        node: Option<NodeName>,
    },
    /// A floor that would retire releases nobody has made yet.
    #[error(
        "the newest release of {service} is {newest}: --below {below} would retire releases that are not made yet; at most \
         --below {most} retires all there are", most = newest.saturating_add(1)
    )]
    FloorTooHigh {
        /// The service.
        service: ServiceName,
        /// What was asked for.
        below: u64,
        /// The highest counter accepted.
        newest: u64,
    },
    /// No release of such a service was ever accepted.
    #[error("no service `{0}` was ever deployed; `pith ps` lists those that are")]
    NoReleases(ServiceName),
    /// Nobody can run it.
    #[error(transparent)]
    NoNodeFits(planner::fleet::NoNodeFits),
    /// Nodes that it is meant for do not allow what it asks of them.
    #[error(transparent)]
    PolicyDenied(planner::fleet::PolicyDenied),
    /// No such service.
    #[error("no service `{0}`; `pith ps` lists them")]
    NoService(ServiceId),
    /// No such revision.
    #[error("{service} has no revision {revision}; `pith rollout history {name}` lists them", name = service.name)]
    NoRevision {
        /// The service.
        service: ServiceId,
        /// What was asked for.
        revision: u64,
    },
    /// No older revision that succeeded.
    #[error("{0} has no earlier revision that succeeded; name one with --to-revision")]
    NothingToUndo(ServiceId),
    /// Somebody was faster.
    #[error("{service} is at revision {newest} by now, not {expected}: look again with `pith rollout history {name}`", name = service.name)]
    RevisionChanged {
        /// The service.
        service: ServiceId,
        /// What was expected.
        expected: u64,
        /// What is there.
        newest: u64,
    },
    /// Somebody, or time, was faster.
    #[error("revision {revision} of {service} has passed another step or gate since: look again with `pith rollout status {name}`", name = service.name)]
    RolloutMovedOn {
        /// The service.
        service: ServiceId,
        /// What is rolled out.
        revision: u64,
    },
    /// The environment takes only what another ran.
    #[error(
        "{to} takes only releases that succeeded in {from}, and this one did not; deploy it with --env {from}, then \
         `pith promote {name} --from {from} --to {to}`"
    )]
    OnlyFrom {
        /// The service.
        name: ServiceName,
        /// Where it should have run.
        from: EnvironmentName,
        /// Where it was to run.
        to: EnvironmentName,
    },
    /// Nothing of it has succeeded where it is to come from.
    #[error("no revision of {0} has succeeded: there is nothing to promote")]
    NothingToPromote(ServiceId),
    /// No rollout is under way.
    #[error("no rollout of {0} is under way; `pith rollout status {name}` shows the last one", name = .0.name)]
    NotUnderWay(ServiceId),
    /// It is not in a state in which this means anything.
    #[error("revision {revision} of {service} is {state}: there is nothing to {verb}")]
    CannotSteer {
        /// The service.
        service: ServiceId,
        /// The revision.
        revision: u64,
        /// Where it stands.
        state: String,
        /// What was asked for.
        verb: &'static str,
    },
    /// A rollout is under way.
    #[error("revision {revision} of {service} is still being rolled out; wait for it or undo it")]
    Busy {
        /// The service.
        service: ServiceId,
        /// The revision.
        revision: u64,
    },
    /// A node's manifest would not fit into an envelope.
    #[error(
        "the manifest of {node} would have {size} bytes, more than the {max} allowed; use fewer or smaller services on it"
    )]
    ManifestTooLarge {
        /// Which node.
        node: String,
        /// Bytes it would have.
        size: usize,
        /// Bytes it may have.
        max: usize,
    },
    /// No such secret, or none any more.
    #[error("no secret `{0}` in environment {1}; `pith secret set {0} --env {1}` makes it")]
    NoSecret(SecretName, EnvironmentName),
    /// Somebody was faster.
    #[error("secret `{name}` is at version {newest} by now: run the same again")]
    SecretChanged {
        /// Which.
        name: SecretName,
        /// What is there.
        newest: u64,
    },
    /// What a secret is for never changes.
    #[error(
        "secret `{name}` is {is}, and stays that; take another name, or remove it first: `pith secret rm {name}`"
    )]
    SecretKind {
        /// Which.
        name: SecretName,
        /// `a login for pulls from HOST`, or `for services`.
        is: String,
    },
    /// A container would get what only the engine is to know.
    #[error(
        "secret `{name}` is a login for pulls from {registry}: no container gets it; give the service a secret of its own"
    )]
    SecretOfRegistry {
        /// Which.
        name: SecretName,
        /// Of which registry.
        registry: String,
    },
    /// A service would not start any more.
    #[error("secret `{name}` is used by {by}; deploy {by} without it first")]
    SecretUsed {
        /// Which.
        name: SecretName,
        /// By whom.
        by: ServiceName,
    },
    /// No room.
    #[error("the environment has {0} secrets already")]
    TooManySecrets(usize),
    /// A copy for nobody.
    #[error(
        "{0} is no node of this environment and no release key of the trust root: run the same again"
    )]
    NotAReader(String),
    /// It is not there.
    #[error("{service} does not run on {node}; `pith ps` shows where it does")]
    NotOnNode {
        /// Which.
        service: ServiceId,
        /// Where it was looked for.
        node: NodeName,
    },
    /// Nobody is meant.
    #[error("no node `{0}`; `pith node ls` lists them with their ids")]
    NoNode(String),
    /// More than one is meant.
    #[error("`{name}` is the name of several nodes; say which by its id: {ids}")]
    SeveralNodes {
        /// What was said.
        name: String,
        /// Who is meant by it.
        ids: String,
    },
    /// It was revoked.
    #[error(
        "node {0} is revoked, which is for ever; a board that is to come back removes `node.key` in its state_dir and joins anew"
    )]
    NodeRevoked(String),
    /// No board can take its own place, or one in another environment.
    #[error(
        "{new} ({new_environment}) cannot take the place of {old} ({old_environment}): another board of the same environment can; a board joins \
         an environment with the token of `pith node token --env {old_environment}`"
    )]
    CannotReplace {
        /// The old one.
        old: NodeName,
        /// Where it is.
        old_environment: EnvironmentName,
        /// The new one.
        new: NodeName,
        /// Where that is.
        new_environment: EnvironmentName,
    },
    /// Nodes that it needs have seen what was not signed here.
    #[error(
        "{service} needs {nodes}, in conflict with this coordinator, which signs nothing for them; {why}. What runs there goes on; \
         `pith fleet reconcile` shows what would change and mends it"
    )]
    Conflict {
        /// The service.
        service: ServiceId,
        /// Which.
        nodes: String,
        /// Why the first of them is.
        why: String,
    },
    /// No room.
    #[error("the fleet has {0} nodes already")]
    FleetFull(usize),
    /// No room.
    #[error("there are {0} tokens already; they are forgotten a month after they ended")]
    TooManyTokens(usize),
    /// Too long, or none.
    #[error("a token lives at least a second and at most 24h")]
    TokenLife,
    /// Nobody has this name.
    #[error("no operator `{0}`; `pith operator ls` lists them")]
    NoOperator(OperatorName),
    /// Somebody has this name.
    #[error("operator {0} is logged in; `pith operator revoke {0}` first, or choose another name")]
    OperatorExists(OperatorName),
    /// No room.
    #[error("there are {0} operators already")]
    TooManyOperators(usize),
    /// Too long, or none.
    #[error("an invitation lives at least a second and at most 7 days")]
    InvitationLife,
    /// Another coordinator's, or made up.
    #[error(
        "this coordinator knows no such invitation; ask for another: `pith operator invite NAME --role ROLE`"
    )]
    InvitationUnknown,
    /// It is good once.
    #[error(
        "the invitation of {0} was used; it is good once: ask for another, after `pith operator revoke {0}`"
    )]
    InvitationUsed(OperatorName),
    /// Its time is over.
    #[error(
        "the invitation of {0} is too old; ask for another: `pith operator invite {0} --role ROLE`"
    )]
    InvitationExpired(OperatorName),
    /// Not on the own machine, not with a certificate that is nobody's any more.
    #[error(
        "only whoever has logged in renews a login, over the certificate that they have; ask for an invitation and `pith login TOKEN`"
    )]
    NotLoggedIn,
    /// Not an address.
    #[error("`{0}` is not HOST:PORT, such as 10.0.0.2:8883, hub.lan:8883 or [2001:db8::1]:8883")]
    BadAddress(String),
    /// Nodes would be told to look nowhere.
    #[error(
        "nodes are told of no address but {0}: first `pith coordinator move HOST:PORT`, then forget the old one"
    )]
    LastAddress(String),
    /// No room.
    #[error(
        "nodes are told of {0} addresses already; drop one: `pith coordinator addresses --forget HOST:PORT`"
    )]
    TooManyAddresses(usize),
    /// The envelope of a release of the agent.
    #[error("the release of the agent was refused: {0}")]
    AgentRelease(protocol::envelope::Rejected),
    /// One as new is known.
    #[error("release {found} of the agent is not above {newest}, which is known: release it again")]
    OldAgentCounter {
        /// What it says.
        found: u64,
        /// The newest.
        newest: u64,
    },
    /// A release before its programs.
    #[error(
        "the program for {0} was not sent before its release: `pith agent release FILE` sends both"
    )]
    NoAgentProgram(String),
    /// Nobody released it.
    #[error(
        "there is no release of the agent {version}; there are: {known}. `pith agent release FILE` makes one"
    )]
    NoAgentRelease {
        /// What was asked for.
        version: String,
        /// What there is.
        known: String,
    },
    /// Nodes would refuse it.
    #[error(
        "agent {0} was released before the one that nodes are brought to, and they go below none: `pith agent undo` signs it again"
    )]
    OlderAgent(String),
    /// There is nothing to steer.
    #[error("nodes are brought to no agent: `pith agent rollout` begins")]
    NoAgentRollout,
    /// The CA.
    #[error("the coordinator cannot make a certificate: {0}")]
    NoCertificate(String),
    /// Two services would open the same port on a node.
    #[error("port {port} is used by `{other}` on {node}; choose another `listen`")]
    PortUsed {
        /// The port.
        port: u16,
        /// By which service.
        other: String,
        /// On which node.
        node: String,
    },
}

impl Refused {
    /// The stable code.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Release(_) => "release_refused",
            Self::Root(_) => "root_refused",
            Self::NoDirectorKey { .. } => "no_director_key",
            Self::Distrusted { .. } => "release_distrusted",
            Self::OldCounter { .. } => "old_counter",
            Self::Retirement(_) => "retirement_refused",
            Self::Retired { .. } => "retired",
            Self::StillRuns { .. } => "still_runs",
            Self::FloorTooHigh { .. } => "floor_too_high",
            Self::NoReleases(_) => "no_service",
            Self::NoNodeFits(_) => "no_node_fits",
            Self::PolicyDenied(_) => "policy_denied",
            Self::NoService(_) => "no_service",
            Self::NoRevision { .. } => "no_revision",
            Self::NothingToUndo(_) => "nothing_to_undo",
            Self::RevisionChanged { .. } => "revision_changed",
            Self::RolloutMovedOn { .. } => "rollout_moved_on",
            Self::OnlyFrom { .. } => "refused_by_policy",
            Self::NothingToPromote(_) => "nothing_to_promote",
            Self::NotUnderWay(_) => "not_under_way",
            Self::CannotSteer { .. } => "cannot_steer",
            Self::Busy { .. } => "busy",
            Self::ManifestTooLarge { .. } => "manifest_too_large",
            Self::PortUsed { .. } => "port_used",
            Self::NoSecret(..) => "no_secret",
            Self::SecretChanged { .. } => "secret_changed",
            Self::SecretUsed { .. } => "secret_used",
            Self::SecretKind { .. } => "secret_kind",
            Self::SecretOfRegistry { .. } => "secret_of_registry",
            Self::TooManySecrets(_) => "too_many_secrets",
            Self::NotAReader(_) => "not_a_reader",
            Self::NotOnNode { .. } => "not_on_node",
            Self::NoNode(_) => "no_node",
            Self::SeveralNodes { .. } => "several_nodes",
            Self::NodeRevoked(_) => "node_revoked",
            Self::CannotReplace { .. } => "cannot_replace",
            Self::Conflict { .. } => "conflict",
            Self::FleetFull(_) => "fleet_full",
            Self::TooManyTokens(_) => "too_many_tokens",
            Self::TokenLife => "token_life",
            Self::NoOperator(_) => "no_operator",
            Self::OperatorExists(_) => "operator_exists",
            Self::TooManyOperators(_) => "too_many_operators",
            Self::InvitationLife => "invitation_life",
            Self::InvitationUnknown => "invitation_unknown",
            Self::InvitationUsed(_) => "invitation_used",
            Self::InvitationExpired(_) => "invitation_expired",
            Self::NotLoggedIn => "not_logged_in",
            Self::BadAddress(_) => "bad_address",
            Self::LastAddress(_) => "last_address",
            Self::TooManyAddresses(_) => "too_many_addresses",
            Self::AgentRelease(_) => "agent_release_refused",
            Self::OldAgentCounter { .. } => "old_counter",
            Self::NoAgentProgram(_) => "no_agent_program",
            Self::NoAgentRelease { .. } => "no_agent_release",
            Self::OlderAgent(_) => "older_agent",
            Self::NoAgentRollout => "no_agent_rollout",
            Self::NoCertificate(_) => "no_certificate_made",
        }
    }
}

fn still_runs(
    service: &ServiceName,
    environment: &EnvironmentName,
    revision: u64,
    counter: u64,
    below: u64,
    node: Option<&NodeName>,
) -> String {
    let on = node.map_or(String::new(), |node| format!(" on {node}"));
    format!(
        "{environment} needs release {counter} of {service}: revision {revision} runs{on}, is being rolled out or would be gone \
         back to; bring {environment} to release {below} or newer (`pith deploy -f FILE --env {environment}`), or remove \
         it there (`pith rm {service} --env {environment}`), then retire again"
    )
}

impl From<Unplaceable> for Refused {
    fn from(why: Unplaceable) -> Self {
        match why {
            Unplaceable::NoNodeFits(why) => Self::NoNodeFits(why),
            Unplaceable::PolicyDenied(why) => Self::PolicyDenied(why),
        }
    }
}
