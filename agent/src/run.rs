//! From `agent.toml` to a running loop.

use std::future::Future;
use std::net::IpAddr;
use std::num::NonZeroU16;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, bail};
use protocol::acceptance::NodeIdentity;
use protocol::id::NodeId;
use proxy::TakeOver;
use tokio::sync::mpsc;
use tokio::task::LocalSet;
use tracing::{info, warn};

use crate::archives::{Archives, Dialling};
use crate::config::Config;
use crate::engine::Ours;
use crate::engine::docker::Docker;
use crate::engine::pull::AbortOnDrop;
use crate::event_loop::{self, Clock, Parts, Settings};
use crate::execute::Executor;
use crate::ledger::Ledger;
use crate::link::Reached;
use crate::local::socket::{self, Call};
use crate::moving::Keeper;
use crate::policy::PolicyFile;
use crate::registries::Registries;
use crate::renew::Renewing;
use crate::routes::Between;
use crate::secrets::{SecretFiles, Vault};
use crate::tls::{self, Joined};
use crate::watchdog::{self, Watchdog};
use crate::{clock, identity, link, trust};

/// Messages from the broker that the loop has not taken.
const MAX_INCOMING: usize = 16;
/// Questions of root's that the loop has not taken.
const MAX_CALLS: usize = 8;
/// The machine's IPv6 addresses (proc(5)); missing or empty where IPv6 is switched off.
const IPV6_FILE: &str = "/proc/net/if_inet6";
const HOSTS_FILE: &str = "hosts";

/// Runs the agent until `shutdown` resolves.
///
/// # Errors
/// What keeps it from starting, with the file and the mend.
pub async fn agent(config: Config, shutdown: impl Future<Output = ()>) -> anyhow::Result<()> {
    let local = LocalSet::new();
    local.run_until(run(config, shutdown)).await
}

async fn run(config: Config, shutdown: impl Future<Output = ()>) -> anyhow::Result<()> {
    let ledger = Ledger::open(&config.state_dir, &clock::boot_id(), clock::now())?;
    let key = identity::load_or_create(&config.state_dir)?;
    let vault = Vault::new(crate::join::keys::opening(&config.state_dir)?);
    let joined = Joined::load(&config.state_dir)?;
    if joined.is_none() && config.broker.is_none() {
        return Err(link::LinkError::NotJoined.into());
    }
    let root_file = config.root_file();
    let root = trust::load(&root_file)?;
    let node = NodeIdentity {
        fleet: root.fleet.clone(),
        node: key.public().node_id(),
        environment: config.environment(),
    };
    let registries = config.registries.as_deref().map(Registries::read).transpose()?;
    let floor = tls::floor(&ledger, &root, joined.as_ref().and_then(|joined| joined.times));
    let boot = link::Boot { id: clock::boot_id(), age: clock::now() };
    let reached = link::reached(config.broker.as_ref(), joined.as_ref(), &node, &floor)?;
    let mut settings = settings(&config, joined.as_ref(), &reached, &floor);
    settings.vault = vault.clone();
    let follows = reached.follows;
    let session = link::session(reached, &node, &boot);
    let (handle, heard) = mqtt::Session::start(session, seed(&node.node, &boot.id));
    let (outgoing, to_send) = mpsc::channel(link::MAX_OUTGOING);
    let (received, incoming) = mpsc::channel(MAX_INCOMING);
    let bells = Arc::new(link::Bells::default());
    let keeper = Keeper::of(&config.state_dir, follows.then(|| handle.clone()));
    let renewing = joined.is_some().then(|| Renewing {
        state_dir: config.state_dir.clone(),
        root_file,
        node: node.clone(),
        floor,
        handle: handle.clone(),
        outgoing: outgoing.clone(),
        bells: Arc::clone(&bells),
        name: settings.name.clone(),
        labels: settings.labels.clone(),
        own_address: own_address(&config),
        patience: crate::join::https::PATIENCE,
    });
    let renewing = renewing.map(|renewing| tokio::task::spawn_local(renewing.keep()));
    let carrying = link::carry(node.clone(), handle, heard, to_send, received, bells);
    let carrying = tokio::task::spawn_local(carrying);
    info!(node = %node.node, name = %settings.name, environment = %node.environment, "agent starts");
    let archives = archives(&config, &node, &settings.between.floor);
    let (calls, _answering) = answer_root(config.agent_socket());
    let parts = Parts {
        executor: executor(&config, &node, vault)?,
        node,
        key,
        root,
        ledger,
        proxy: proxy::Client::new(config.proxy_socket()),
        registries: registries.unwrap_or_default(),
        archives,
        settings,
        keeper,
        outgoing,
        incoming,
        calls,
        watchdog: Watchdog::of_unit(),
        clock: Clock::system(),
    };
    event_loop::run(parts, shutdown).await;
    // It holds a way to say something, which the session waits for.
    if let Some(renewing) = renewing {
        renewing.abort();
    }
    carrying.await.context("the broker's session")
}

/// Where the board's owner says that the coordinator is, as far as it is reached with the node's certificate.
fn own_address(config: &Config) -> Option<String> {
    let broker = config.broker.as_ref().filter(|broker| broker.token_file.is_none());
    broker.map(|broker| broker.address.clone())
}

fn archives(config: &Config, node: &NodeIdentity, floor: &mqtt::VerifyAt) -> Archives {
    let dialling = Dialling {
        state_dir: config.state_dir.clone(),
        node: node.clone(),
        own_address: own_address(config),
        floor: floor.clone(),
    };
    Archives::new(&config.state_dir, dialling, config.pull_rate())
}

fn executor(
    config: &Config,
    node: &NodeIdentity,
    vault: Vault,
) -> anyhow::Result<Executor<Docker>> {
    Ok(Executor {
        engine: Docker::at(&config.docker),
        ours: Ours { fleet: node.fleet.clone(), node: node.node.clone() },
        environment: node.environment.clone(),
        hosts_file: absolute(config.state_dir.join(HOSTS_FILE))?,
        pool: config.pool(),
        policy: PolicyFile::at(absolute(config.policy.clone())?),
        secrets: SecretFiles::at(absolute(config.secrets_dir())?, vault),
    })
}

/// Questions of root's, until what is beside them is dropped. A board on which root cannot ask runs on like any other.
fn answer_root(path: PathBuf) -> (mpsc::Receiver<Call>, AbortOnDrop) {
    let (asked, calls) = mpsc::channel(MAX_CALLS);
    let answering = tokio::task::spawn_local(take_calls(path, asked));
    (calls, AbortOnDrop(answering.abort_handle()))
}

async fn take_calls(path: PathBuf, calls: mpsc::Sender<Call>) {
    let made = path.parent().map_or(Ok(()), make_private);
    match made.and_then(|()| socket::listen(&path).map_err(Into::into)) {
        Ok(listener) => socket::serve(listener, calls).await,
        Err(error) => {
            warn!(%error, path = %path.display(), "no local verbs: root cannot ask this agent");
        }
    }
}

/// Docker takes the path of a mount as it is seen from the root.
fn absolute(path: PathBuf) -> anyhow::Result<PathBuf> {
    std::path::absolute(&path).with_context(|| path.display().to_string())
}

fn settings(
    config: &Config,
    joined: Option<&Joined>,
    reached: &Reached,
    floor: &mqtt::VerifyAt,
) -> Settings {
    let mut listen = config.listen.clone();
    let has_ipv6 = std::fs::read_to_string(IPV6_FILE).is_ok_and(|text| !text.trim().is_empty());
    if !has_ipv6 && listen.iter().any(IpAddr::is_ipv4) {
        listen.retain(IpAddr::is_ipv4);
        if listen.len() < config.listen.len() {
            warn!("this machine has no IPv6: ports are open on IPv4 only");
        }
    }
    let narrowed = listen.first().copied().filter(|address| !address.is_unspecified());
    Settings {
        name: config.node_name(),
        labels: config.labels.clone(),
        address: config.address.or(narrowed),
        broker: reached.addresses.first().and_then(|address| address.host.parse().ok()),
        coordinators: joined.map(|one| one.coordinators.clone()).unwrap_or_default(),
        own_broker: config.broker.as_ref().map(|broker| broker.address.clone()),
        between: Between {
            port: NonZeroU16::new(config.fleet_port),
            certificates: config.state_dir.join(protocol::join::CERTIFICATE_FILE).exists().then(
                || std::path::absolute(&config.state_dir).unwrap_or(config.state_dir.clone()),
            ),
            floor: floor.clone(),
        },
        listen,
        remove_images: config.remove_images,
        vault: Vault::default(),
    }
}

/// Waits of this board that differ from those of the others and of its last boot.
fn seed(node: &NodeId, boot_id: &str) -> u64 {
    let digest = protocol::id::sha256_hex(format!("{node}{boot_id}").as_bytes());
    u64::from_str_radix(&digest[..16], 16).unwrap_or(0)
}

/// Runs the proxy until `shutdown` resolves or a newer one took over.
///
/// # Errors
/// What keeps it from starting.
pub async fn proxy(
    config: Config,
    take_over: TakeOver,
    shutdown: impl Future<Output = ()>,
) -> anyhow::Result<()> {
    make_private(&config.runtime_dir)?;
    let options = proxy::Options {
        control_socket: config.proxy_socket(),
        state_file: config.proxy_state(),
        take_over,
    };
    let watching = tokio::spawn(watchdog::of_proxy(proxy::Client::new(config.proxy_socket())));
    let _watching = AbortOnDrop(watching.abort_handle());
    Ok(proxy::run(options, shutdown).await?)
}

/// Whoever reaches the control socket decides where requests go.
fn make_private(dir: &Path) -> anyhow::Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    let built = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir);
    if let Err(error) = built {
        bail!("{}: {error}; `runtime_dir` must be a folder that this user can make", dir.display());
    }
    Ok(())
}
