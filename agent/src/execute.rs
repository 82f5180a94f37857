//! Doing one step. Straight lines: what to do and in which order was the planner's choice.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::Arc;

use protocol::acceptance::NodeIdentity;
use protocol::id::{EnvironmentName, ReleaseId, ServiceName, Template};
use protocol::manifest::HookKind;
use protocol::reason::Reason;
use protocol::registries::{RegistryLogin, registry_of};
use protocol::release::Release;
use protocol::report::{Evidence, MAX_EVIDENCE_LINES, MAX_EVIDENCE_TEXT_BYTES};
use protocol::secret;

use crate::engine::{ContainerSpec, Engine, EngineError, Network, NetworkSpec, Ours, Signal};
use crate::network::{self, Ipv4Net, SERVICE_PREFIX};
use crate::policy::{NotAdmitted, PolicyFile};
use crate::secrets::{SecretError, SecretFiles};

/// Another node or program may take a subnet between looking and creating.
const SUBNET_TRIES: u32 = 10;
/// The machine's IPv4 routes (proc(5)).
const ROUTES_FILE: &str = "/proc/net/route";

/// Does steps on one engine, for one node.
#[derive(Debug, Clone)]
pub struct Executor<E> {
    /// The engine.
    pub engine: E,
    /// Whose containers it makes.
    pub ours: Ours,
    /// The node's environment.
    pub environment: EnvironmentName,
    /// Mounted over `/etc/hosts` of every container.
    pub hosts_file: PathBuf,
    /// Where the networks of services are cut from.
    pub pool: Ipv4Net,
    /// What containers may have of the node: the last word, whoever decided on the step.
    pub policy: PolicyFile,
    /// What containers get of secrets.
    pub secrets: SecretFiles,
}

/// A step with everything that doing it needs.
#[derive(Debug, Clone)]
pub enum Task {
    /// Create an instance, and its service's network where there is none.
    Create(Box<Creation>),
    /// Start a container.
    Start {
        /// Docker's id.
        container: String,
        /// What it needs unsealed; none: nothing.
        secrets: Option<Box<ToUnseal>>,
    },
    /// SIGTERM.
    Terminate {
        /// Docker's id.
        container: String,
    },
    /// SIGKILL.
    Kill {
        /// Docker's id.
        container: String,
    },
    /// Remove a container that does not run.
    Remove {
        /// Docker's id.
        container: String,
        /// Its name.
        name: String,
    },
    /// Create the network of a service that runs elsewhere.
    CreateNetwork {
        /// The service.
        service: ServiceName,
    },
    /// Remove a network; none: there is none.
    RemoveNetwork {
        /// Docker's id.
        network: Option<String>,
    },
}

/// What an instance is made of.
#[derive(Debug, Clone)]
pub struct Creation {
    /// The service.
    pub service: ServiceName,
    /// Its release.
    pub release: (ReleaseId, Arc<Release>),
    /// Template and slot.
    pub template: (Template, u32),
    /// Not an instance, but this one-shot container.
    pub hook: Option<HookKind>,
    /// The service's network, where there is one.
    pub network: Option<Network>,
    /// Addresses not to be given out.
    pub used: BTreeSet<Ipv4Addr>,
    /// The address given out last in that network.
    pub last_address: Option<Ipv4Addr>,
    /// Sealed copies of the secrets that it is made with.
    pub copies: Vec<secret::Copy>,
}

/// The secrets of a container that exists.
#[derive(Debug, Clone)]
pub struct ToUnseal {
    /// The container's name.
    pub name: String,
    /// What it is made of.
    pub release: Arc<Release>,
    /// Sealed copies of the versions that it is made with.
    pub copies: Vec<secret::Copy>,
}

/// Why a step was not done.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StepError {
    /// The engine refused or does not answer.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The node's policy, or what is on the node, does not admit it.
    #[error(transparent)]
    NotAdmitted(#[from] NotAdmitted),
    /// Its secrets cannot be given to it.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// No subnet is left.
    #[error("no subnet of {pool} is free on this node; `network_pool` in agent.toml names another")]
    PoolUsedUp {
        /// The configured pool.
        pool: Ipv4Net,
    },
    /// No address is left.
    #[error("no address of {subnet} is free")]
    SubnetUsedUp {
        /// The service's subnet.
        subnet: Ipv4Net,
    },
}

impl StepError {
    /// The reason code of a failed step; `otherwise` where the kind has none of its own.
    #[must_use]
    pub fn reason(&self, otherwise: Reason) -> Reason {
        match self {
            Self::Engine(error) => error.reason(otherwise),
            Self::NotAdmitted(NotAdmitted::Denied(_)) => Reason::PolicyDenied,
            Self::NotAdmitted(NotAdmitted::Missing { .. }) => otherwise,
            Self::Secret(_) | Self::PoolUsedUp { .. } | Self::SubnetUsedUp { .. } => otherwise,
        }
    }

    /// Whether trying again cannot mend it.
    #[must_use]
    pub fn is_permanent(&self) -> bool {
        match self {
            Self::Engine(error) => error.is_permanent(),
            Self::Secret(error) => error.is_permanent(),
            Self::PoolUsedUp { .. } | Self::NotAdmitted(NotAdmitted::Denied(_)) => true,
            Self::SubnetUsedUp { .. } | Self::NotAdmitted(NotAdmitted::Missing { .. }) => false,
        }
    }

    /// Whether it says nothing about the step but that the engine is away.
    #[must_use]
    pub fn is_engine_away(&self) -> bool {
        matches!(self, Self::Engine(EngineError::Unavailable(_)))
    }
}

/// What a step left behind that the next observation does not tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Done {
    /// Nothing.
    Plain,
    /// A container with this address.
    Created {
        /// The address given out.
        address: Ipv4Addr,
    },
}

impl<E: Engine> Executor<E> {
    /// Does one step.
    ///
    /// # Errors
    /// What the engine said.
    pub async fn execute(&self, task: &Task) -> Result<Done, StepError> {
        match task {
            Task::Create(creation) => return self.create(creation).await,
            Task::Start { container, secrets } => {
                self.start(container, secrets.as_deref()).await?;
            }
            Task::Terminate { container } => self.engine.signal(container, Signal::Term).await?,
            Task::Kill { container } => self.engine.signal(container, Signal::Kill).await?,
            Task::Remove { container, name } => {
                self.engine.remove(container).await?;
                self.secrets.forget(name);
            }
            Task::CreateNetwork { service } => drop(self.create_network(service).await?),
            Task::RemoveNetwork { network: Some(id) } => self.engine.remove_network(id).await?,
            Task::RemoveNetwork { network: None } => {}
        }
        Ok(Done::Plain)
    }

    async fn create(&self, creation: &Creation) -> Result<Done, StepError> {
        let (release, (template, slot)) = (&creation.release, &creation.template);
        let service = release.1.spec(&self.environment);
        let hook = creation.hook.and_then(|kind| service.hooks.get(kind));
        let asked = match hook {
            Some(_) => service.host.for_hook(),
            None => service.host.clone(),
        };
        let access = self.policy.admit(&creation.service, asked)?;
        let network = match &creation.network {
            Some(network) => network.clone(),
            None => self.create_network(&creation.service).await?,
        };
        let subnet = network.subnet;
        let address = network::choose_address(subnet, &creation.used, creation.last_address)
            .ok_or(StepError::SubnetUsedUp { subnet })?;
        let spec = ContainerSpec::of_release(
            &self.ours,
            &self.environment,
            (&release.0, &release.1),
            (template, *slot),
            (address, self.hosts_file.clone()),
        );
        let spec = match hook {
            Some(hook) => spec.for_hook(hook),
            None => spec,
        };
        let spec = spec.with_access(access);
        let name = spec.name();
        let files = self.place(&name, &release.1, &creation.copies).await?;
        let variables = self.secrets.variables(&self.node(), service, &creation.copies)?;
        let spec = spec.with_secrets(files, variables);
        self.engine.create(&spec).await?;
        Ok(Done::Created { address })
    }

    /// A container that was made under a wider policy, or whose paths lead elsewhere by now, is not started.
    async fn start(&self, container: &str, secrets: Option<&ToUnseal>) -> Result<(), StepError> {
        if let Some((service, mut asked)) = self.engine.access(container).await? {
            asked.paths.retain(|path| !self.secrets.holds(&path.host));
            self.policy.admit(&service, asked)?;
        }
        if let Some(ToUnseal { name, release, copies }) = secrets {
            self.place(name, release, copies).await?;
        }
        Ok(self.engine.start(container).await?)
    }

    /// The files of a container's secrets: a reboot takes them, so they are looked after before each start.
    async fn place(
        &self,
        container: &str,
        release: &Release,
        copies: &[secret::Copy],
    ) -> Result<Vec<(PathBuf, String)>, StepError> {
        let spec = release.spec(&self.environment);
        if spec.secrets.is_empty() {
            return Ok(Vec::new());
        }
        let user = match &spec.container.user {
            Some(user) => user.clone(),
            None => self.engine.image(&release.image).await?.map(|i| i.user).unwrap_or_default(),
        };
        Ok(self.secrets.place(container, (&self.node(), spec, copies), &user)?)
    }

    /// The login for an image's registry; one that cannot be had is said, and the pull tries without.
    pub(crate) fn login(&self, sealed: &secret::Copy, reference: &str) -> Option<RegistryLogin> {
        match self.secrets.login(&self.node(), sealed, registry_of(reference)) {
            Ok(login) => Some(login),
            Err(error) => {
                tracing::warn!(%error, reference, "pulled without a login");
                None
            }
        }
    }

    fn node(&self) -> NodeIdentity {
        NodeIdentity {
            fleet: self.ours.fleet.clone(),
            node: self.ours.node.clone(),
            environment: self.environment.clone(),
        }
    }

    async fn create_network(&self, service: &ServiceName) -> Result<Network, StepError> {
        let mut tries = 1;
        loop {
            let spec = self.choose_network(service).await?;
            match self.engine.create_network(&spec).await {
                Err(EngineError::AddressTaken(_)) if tries < SUBNET_TRIES => tries += 1,
                created => return Ok(created?),
            }
        }
    }

    async fn choose_network(&self, service: &ServiceName) -> Result<NetworkSpec, StepError> {
        let mut taken = self.engine.all_subnets().await?;
        let routes = std::fs::read_to_string(ROUTES_FILE).unwrap_or_default();
        taken.extend(network::host_routes(&routes));
        let subnet = network::choose_subnet(self.pool, SERVICE_PREFIX, &taken)
            .ok_or(StepError::PoolUsedUp { pool: self.pool })?;
        Ok(NetworkSpec {
            ours: self.ours.clone(),
            environment: self.environment.clone(),
            service: service.clone(),
            subnet,
        })
    }

    /// The end of a container's log, bounded; empty when the engine does not give it.
    pub async fn log_tail(&self, container: &str) -> Vec<String> {
        let lines = self.engine.logs_tail(container, MAX_EVIDENCE_LINES).await.unwrap_or_default();
        lines.into_iter().rev().take(MAX_EVIDENCE_LINES).rev().map(bounded).collect()
    }
}

/// Evidence within its bounds.
#[must_use]
pub fn evidence(probe: Option<String>, exit: Option<(i64, bool)>, log: Vec<String>) -> Evidence {
    Evidence {
        probe: probe.map(bounded),
        exit_code: exit.map(|(code, _)| code),
        oom_killed: exit.is_some_and(|(_, oom)| oom),
        log,
    }
}

/// Cut to [`MAX_EVIDENCE_TEXT_BYTES`] at a character's edge, control characters escaped.
fn bounded(text: String) -> String {
    let clean: String = text.chars().flat_map(escape_control).collect();
    let mut end = clean.len().min(MAX_EVIDENCE_TEXT_BYTES);
    while !clean.is_char_boundary(end) {
        end -= 1;
    }
    clean[..end].to_owned()
}

fn escape_control(c: char) -> impl Iterator<Item = char> {
    let escaped = (c.is_control() && c != '\t').then(|| c.escape_default());
    let plain = escaped.is_none().then_some(c);
    escaped.into_iter().flatten().chain(plain)
}

#[cfg(test)]
mod tests;
