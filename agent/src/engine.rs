//! The container engine as the agent sees it: one trait, own types, own errors.
//!
//! [`docker`] alone speaks to Docker; [`fake`] behaves like it in tests. Nothing here decides: whether and when something
//! is created, started or removed is `planner`'s. "Ours" means fleet AND node equal in the labels; nothing else is ever
//! listed, signalled or removed.

pub mod container;
pub mod docker;
mod error;
pub mod fake;
pub mod identity;
pub mod program;
pub mod pull;
mod survey;
mod written;

use std::net::Ipv4Addr;
use std::path::Path;

use protocol::id::{EnvironmentName, ServiceName};
use protocol::release::Image;
use protocol::spec::HostAccess;

pub use container::{Container, ContainerSpec, ContainerState, Mount};
pub use error::{EngineError, PullError};
pub use identity::{Identity, Ours};
pub use program::{Autopsy, Program};
pub use pull::{Pull, PullUpdate};
pub use survey::{Neighbour, Survey};
pub use written::{Source, Typed, Typing, Written, Wrote};

use crate::network::Ipv4Net;
use protocol::registries::RegistryLogin;

/// A container engine. Every call has a deadline of its own, after which it ends as [`EngineError::Unavailable`].
#[expect(async_fn_in_trait, reason = "the agent runs on one thread; no future needs to be Send")]
pub trait Engine: Clone + 'static {
    /// What it is and what it can do.
    async fn info(&self) -> Result<EngineInfo, EngineError>;

    /// The same, with what it warns of and who else uses it.
    async fn survey(&self) -> Result<Survey, EngineError>;

    /// All containers of ours, in any state, by name. One that carries our labels in a form we cannot read is left out
    /// (and logged).
    async fn containers(&self, ours: &Ours) -> Result<Vec<Container>, EngineError>;

    /// Creates a container, and its named volumes where they are missing; returns its id. One of that name that carries
    /// equal labels of ours counts as created; one of anybody else is a [`EngineError::Conflict`].
    async fn create(&self, spec: &ContainerSpec) -> Result<String, EngineError>;

    /// What a container has of the node, as the engine would start it, and whose service it is; `None` when it is gone.
    async fn access(&self, id: &str) -> Result<Option<(ServiceName, HostAccess)>, EngineError>;

    /// Starts a created or ended container; one that runs is done.
    async fn start(&self, id: &str) -> Result<(), EngineError>;

    /// Sends a signal and does not wait for what it does; a container that is gone or does not run is done.
    async fn signal(&self, id: &str, signal: Signal) -> Result<(), EngineError>;

    /// Removes an ended or never started container with its anonymous volumes, never its named ones; gone is done. One
    /// that runs is a [`EngineError::Conflict`].
    async fn remove(&self, id: &str) -> Result<(), EngineError>;

    /// What is known of an image; `None` when it is not on this node under its pin.
    async fn image(&self, image: &Image) -> Result<Option<ImageFacts>, EngineError>;

    /// Begins to pull a pinned image. Ends with one [`PullUpdate::Done`] or [`PullUpdate::Failed`]; dropping it cancels.
    fn pull(&self, image: &Image, credentials: Option<&RegistryLogin>) -> Pull;

    /// Begins to take an image from an archive whose sha256 is right. Ends as [`Engine::pull`] does; an image that is here already
    /// needs no file.
    fn load(&self, image: &Image, file: &Path) -> Pull;

    /// Removes an image under its pin; gone is done, in use is a [`EngineError::Conflict`].
    async fn remove_image(&self, image: &Image) -> Result<(), EngineError>;

    /// Removes an image under all its names, with the layers that nothing else holds; gone is done, one that runs is a
    /// [`EngineError::Conflict`].
    async fn discard_image(&self, image: &Image) -> Result<(), EngineError>;

    /// The program that a container runs first, and what that is run by (a script's interpreter, a loader): as far as they are there,
    /// at most [`program::MAX_PROGRAMS`].
    async fn programs(&self, id: &str) -> Result<Vec<Program>, EngineError>;

    /// The networks of ours, by name.
    async fn networks(&self, ours: &Ours) -> Result<Vec<Network>, EngineError>;

    /// The IPv4 subnets of every network of the engine, whoever made it.
    async fn all_subnets(&self) -> Result<Vec<Ipv4Net>, EngineError>;

    /// Creates a bridge network; one of that name that carries equal labels of ours counts as created and is returned
    /// as it is. A subnet that somebody took in the meantime is a [`EngineError::AddressTaken`].
    async fn create_network(&self, spec: &NetworkSpec) -> Result<Network, EngineError>;

    /// Removes a network; gone is done, in use is a [`EngineError::Conflict`].
    async fn remove_network(&self, id: &str) -> Result<(), EngineError>;

    /// The last lines that a container wrote, oldest first, without time stamps.
    async fn logs_tail(&self, id: &str, lines: usize) -> Result<Vec<String>, EngineError>;

    /// Percent of its memory limit that a running container uses; none where the engine does not tell.
    async fn memory_percent(&self, id: &str) -> Result<Option<u8>, EngineError>;

    /// Runs a command inside a running container. A command that outlives the deadline is reported so; Docker cannot
    /// end it.
    async fn exec(
        &self,
        id: &str,
        command: &[String],
        deadline_ms: u64,
    ) -> Result<ExecOutcome, EngineError>;

    /// Begins to read what a container writes, or to run a command in it and read what that writes; what is typed is its standard
    /// input. Dropping it ends the reading. Docker cannot end a command: one whose typist is gone finds the end of its input, and on a
    /// terminal Ctrl-C and Ctrl-D before it.
    fn read(&self, id: &str, source: Source, typing: Option<Typing>) -> Written;

    /// What happens to containers of ours from now on. Hints only: a full list is the truth.
    fn events(&self, ours: &Ours) -> Events;
}

/// What the engine is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EngineInfo {
    /// `20.10.24`.
    pub version: String,
    /// Highest API version it speaks, `1.41`.
    pub api: String,
    /// The host's architecture as images name it: `amd64`, `arm64`, `arm`.
    pub architecture: String,
    /// `linux`.
    pub os: String,
    /// Where it keeps images and containers.
    pub root_dir: String,
    /// Cores.
    pub cores: u32,
    /// Bytes of memory.
    pub memory_bytes: u64,
    /// Where its containers are, as seen from the agent.
    pub placement: Placement,
    /// Whether memory limits are enforced; some boards boot with `cgroup_disable=memory`.
    pub limits_memory: bool,
    /// Whether processor limits are enforced.
    pub limits_cpu: bool,
    /// Whether containers survive a restart of the daemon.
    pub live_restore: bool,
}

/// Whether the addresses of containers can be reached from the agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Placement {
    /// On this machine's own network stack: reachable.
    Host,
    /// In a user's own network namespace: not reachable.
    Rootless,
    /// In a virtual machine: not reachable.
    Desktop,
}

/// A signal to a container's first process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// Ask it to end: the image's own stop signal, SIGTERM where it names none.
    Term,
    /// SIGKILL.
    Kill,
}

/// What is known of an image on the node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageFacts {
    /// The engine's id of it.
    pub id: String,
    /// `amd64`, `arm64`, …
    pub architecture: String,
    /// `linux`.
    pub os: String,
    /// Whether it declares a health check of its own, which is switched off.
    pub healthcheck: bool,
    /// Bytes on disk, shared layers included.
    pub size_bytes: u64,
    /// Whom its containers run as unless they say so; empty: root.
    pub user: String,
}

/// A network to create.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetworkSpec {
    /// Whose it is.
    pub ours: Ours,
    /// The environment of the service.
    pub environment: EnvironmentName,
    /// The service it belongs to.
    pub service: ServiceName,
    /// Its subnet.
    pub subnet: Ipv4Net,
}

/// A network of ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Network {
    /// The engine's id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// The environment of the service.
    pub environment: EnvironmentName,
    /// The service it belongs to.
    pub service: ServiceName,
    /// Its subnet.
    pub subnet: Ipv4Net,
    /// The service's address there.
    pub gateway: Ipv4Addr,
}

/// How a command inside a container ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ExecOutcome {
    /// By itself.
    Exited {
        /// Its code; 126 and 127 when it could not be run.
        code: i64,
        /// The beginning of what it wrote, cut to [`MAX_EXEC_OUTPUT_BYTES`].
        output: String,
    },
    /// Not within the deadline.
    TimedOut,
}

/// What of a command's output is kept.
pub const MAX_EXEC_OUTPUT_BYTES: usize = 512;

/// Something that happened in the engine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EngineEvent {
    /// To a container of ours.
    Container {
        /// Its id.
        id: String,
        /// What.
        action: Action,
    },
    /// The stream ended: events may be missed until [`EngineEvent::Restored`].
    Lost,
    /// The stream stands again: list everything once.
    Restored,
}

/// What happened to a container. `Die` comes for every end; `Oom` before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// It was created.
    Create,
    /// Its process runs.
    Start,
    /// Its process ended.
    Die,
    /// The kernel killed a process in it for its memory.
    Oom,
    /// It was removed.
    Destroy,
}

/// Events not read yet; more wait in the engine.
pub(crate) const MAX_QUEUED_EVENTS: usize = 128;

/// A running subscription; dropping it ends it.
#[derive(Debug)]
pub struct Events {
    pub(crate) receiver: tokio::sync::mpsc::Receiver<EngineEvent>,
    pub(crate) _task: Option<pull::AbortOnDrop>,
}

impl Events {
    /// The next event; `None` only when the engine was dropped. Cancel-safe.
    pub async fn next(&mut self) -> Option<EngineEvent> {
        self.receiver.recv().await
    }
}
