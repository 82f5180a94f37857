//! A container to create, and a container as it is seen.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::PathBuf;

use protocol::id::{EnvironmentName, ReleaseId, Template};
use protocol::release::{Image, Release};
use protocol::spec;

use super::identity::{Identity, Ours};
use crate::policy::Admitted;

/// Everything a container is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerSpec {
    /// Whose it is.
    pub ours: Ours,
    /// What it is.
    pub identity: Identity,
    /// Its image, which must be on the node.
    pub image: Image,
    /// Its process.
    pub process: spec::Container,
    /// What it needs and may use.
    pub resources: spec::Resources,
    /// Named volumes.
    pub mounts: Vec<Mount>,
    /// Its fixed address in the service's network, which must exist.
    pub address: Ipv4Addr,
    /// A file of the agent's, mounted read-only over `/etc/hosts`.
    pub hosts_file: PathBuf,
    /// What it gets of the node.
    pub access: Admitted,
    /// Its secrets: files on the node, in memory, and where they are inside.
    pub secrets: Vec<(PathBuf, String)>,
}

/// A named volume in a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// The engine's name of the volume.
    pub volume: String,
    /// Where it is inside.
    pub path: String,
    /// Mounted read-only.
    pub read_only: bool,
    /// Several may write it at once.
    pub is_shared: bool,
}

impl ContainerSpec {
    /// An instance of `release`, with nothing of the node yet ([`Self::with_access`]).
    #[must_use]
    pub fn of_release(
        ours: &Ours,
        environment: &EnvironmentName,
        (id, release): (&ReleaseId, &Release),
        (template, slot): (&Template, u32),
        (address, hosts_file): (Ipv4Addr, PathBuf),
    ) -> Self {
        let spec = release.spec(environment);
        let mount = |volume: &spec::Volume| Mount {
            volume: ours.volume_name(environment, &spec.name, &volume.name),
            path: volume.path.clone(),
            read_only: volume.read_only,
            is_shared: volume.shared,
        };
        Self {
            ours: ours.clone(),
            identity: Identity {
                environment: environment.clone(),
                service: spec.name.clone(),
                release: id.clone(),
                template: template.clone(),
                slot,
            },
            image: release.image.clone(),
            process: spec.container.clone(),
            resources: spec.resources,
            mounts: spec.volumes.iter().map(mount).collect(),
            address,
            hosts_file,
            access: Admitted::default(),
            secrets: Vec::new(),
        }
    }

    /// The same with what the node's policy admitted.
    #[must_use]
    pub fn with_access(self, access: Admitted) -> Self {
        Self { access, ..self }
    }

    /// The same with its secrets, as files and as variables.
    #[must_use]
    pub fn with_secrets(
        mut self,
        files: Vec<(PathBuf, String)>,
        variables: BTreeMap<String, String>,
    ) -> Self {
        self.process.env.extend(variables);
        Self { secrets: files, ..self }
    }

    /// The same with a hook's command, and without volumes that an instance may write at that moment.
    #[must_use]
    pub fn for_hook(mut self, hook: &spec::Hook) -> Self {
        self.process.command = Some(hook.command.clone());
        self.process.env.extend(hook.env.clone());
        self.mounts.retain(|mount| mount.read_only || mount.is_shared);
        self
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> String {
        self.ours.container_name(&self.identity)
    }

    /// Its labels: the service's own, and ours over them.
    #[must_use]
    pub fn labels(&self) -> BTreeMap<String, String> {
        let mut labels = self.process.labels.clone();
        labels.extend(self.ours.container_labels(&self.identity));
        labels
    }

    /// The name of the service's network.
    #[must_use]
    pub fn network(&self) -> String {
        self.ours.network_name(&self.identity.environment, &self.identity.service)
    }
}

/// A container of ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Container {
    /// The engine's id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// What its labels say.
    pub identity: Identity,
    /// Whether it runs.
    pub state: ContainerState,
    /// Its fixed address, also while it does not run.
    pub address: Option<Ipv4Addr>,
    /// The engine's stamp of its last start; only compared: a new value is a new start. Empty: never started.
    pub run: String,
}

/// Whether a container runs. Ages come from the machine's wall clock, which may jump: take a time from the first
/// observation of a state and keep it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ContainerState {
    /// Never started.
    Created,
    /// Its process runs.
    Running {
        /// Milliseconds since it started.
        age_ms: u64,
    },
    /// Its process ended.
    Exited {
        /// Milliseconds since it ended.
        age_ms: u64,
        /// With this code.
        code: i64,
        /// The kernel killed it for its memory.
        oom: bool,
    },
}
