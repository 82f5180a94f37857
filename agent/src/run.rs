//! From `agent.toml` to a running loop.

use std::future::Future;
use std::net::IpAddr;
use std::num::NonZeroU16;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use protocol::acceptance::NodeIdentity;
use protocol::id::NodeId;
use protocol::keys::{Root, SecretKey};
use proxy::TakeOver;
use tokio::sync::mpsc;
use tokio::task::LocalSet;
use tracing::{info, warn};

use crate::archives::Archives;
use crate::config::Config;
use crate::download::Dialling;
use crate::engine::Ours;
use crate::engine::docker::Docker;
use crate::engine::pull::AbortOnDrop;
use crate::event_loop::{self, Clock, End, Parts, Settings};
use crate::exchange::Exchange;
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
use crate::update::fetch::Source;
use crate::update::{self, Own};
use crate::watchdog::{self, Watchdog};
use crate::{clock, doctor, failpoint, identity, launch, link, trust};

/// Messages from the broker that the loop has not taken.
const MAX_INCOMING: usize = 16;
/// Questions of root's that the loop has not taken.
const MAX_CALLS: usize = 8;
/// The machine's IPv6 addresses (proc(5)); missing or empty where IPv6 is switched off.
const IPV6_FILE: &str = "/proc/net/if_inet6";
/// Of a proxy that serves.
const PROVEN_AFTER: Duration = Duration::from_secs(60);
const HOSTS_FILE: &str = "hosts";

/// Runs the agent until `shutdown` resolves.
///
/// `path` is where `config` was read.
///
/// # Errors
/// What keeps it from starting, with the file and the mend.
pub async fn agent(
    config: Config,
    path: &Path,
    shutdown: impl Future<Output = ()>,
) -> anyhow::Result<()> {
    let local = LocalSet::new();
    local.run_until(run(config, path, shutdown)).await
}

/// What the board's own files make of the agent.
struct Begun {
    ledger: Ledger,
    key: SecretKey,
    vault: Vault,
    joined: Option<Joined>,
    root_file: PathBuf,
    root: Root,
    node: NodeIdentity,
}

fn begin(config: &Config) -> anyhow::Result<Begun> {
    let ledger = Ledger::open(&config.state_dir, &clock::boot_id(), clock::now())?;
    let key = identity::load_or_create(&config.state_dir)?;
    doctor::record(&config.state_dir);
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
    Ok(Begun { ledger, key, vault, joined, root_file, root, node })
}

async fn run(
    config: Config,
    path: &Path,
    shutdown: impl Future<Output = ()>,
) -> anyhow::Result<()> {
    failpoint::begin();
    let Begun { ledger, key, vault, joined, root_file, root, node } = begin(&config)?;
    let registries = config.registries.as_deref().map(Registries::read).transpose()?;
    let floor = tls::floor(&ledger, &root, joined.as_ref().and_then(|joined| joined.times));
    let boot = link::Boot { id: clock::boot_id(), age: clock::now() };
    let reached = link::reached(config.broker.as_ref(), joined.as_ref(), &node, &floor)?;
    let mut settings = settings(&config, joined.as_ref(), &reached, &floor);
    settings.vault = vault.clone();
    settings.own = Own::of_process(&config.state_dir);
    let config_file = absolute(path.to_owned())?;
    let follows = reached.follows;
    let mut session = link::session(reached, &node, &boot);
    if config.metered {
        session.keepalive = link::METERED_KEEPALIVE;
    }
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
    let dialling = dialling(&config, &node, &settings.between.floor);
    let (calls, _answering) = answer_root(config.agent_socket());
    let parts = Parts {
        executor: executor(&config, &node, vault)?,
        node,
        key,
        root,
        ledger,
        proxy: proxy::Client::new(config.proxy_socket()),
        registries: registries.unwrap_or_default(),
        archives: Archives::new(dialling.clone(), config.pull_rate()),
        settings,
        keeper,
        subject: doctor::Subject::of(&config),
        programs: Source { dialling, config: config_file },
        outgoing,
        incoming,
        calls,
        watchdog: Watchdog::of_unit(),
        clock: Clock::system(),
    };
    if event_loop::run(parts, shutdown).await == End::Asked {
        asked_to_end(&config.state_dir);
    }
    // It holds a way to say something, which the session waits for.
    if let Some(renewing) = renewing {
        renewing.abort();
    }
    carrying.await.context("the broker's session")
}

/// A start that ends because somebody asked for it is not counted against an agent that is tried.
fn asked_to_end(state_dir: &Path) {
    let counted = update::record::read(state_dir).ok().filter(|record| record.trial.is_some());
    let Some(record) = counted else { return };
    if let Err(error) = update::record::write(state_dir, &record.asked_to_end()) {
        warn!(%error, "this start stays counted against the new agent");
    }
}

/// Where the board's owner says that the coordinator is, as far as it is reached with the node's certificate.
fn own_address(config: &Config) -> Option<String> {
    let broker = config.broker.as_ref().filter(|broker| broker.token_file.is_none());
    broker.map(|broker| broker.address.clone())
}

fn dialling(config: &Config, node: &NodeIdentity, floor: &mqtt::VerifyAt) -> Dialling {
    Dialling {
        state_dir: config.state_dir.clone(),
        node: node.clone(),
        own_address: own_address(config),
        floor: floor.clone(),
    }
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
        policy: policy(absolute(config.policy.clone())?),
        secrets: SecretFiles::at(absolute(config.secrets_dir())?, vault),
    })
}

/// Under its unit the agent has a `/dev` of its own; the board's is seen where the unit says.
fn policy(path: PathBuf) -> PolicyFile {
    match std::env::var_os("PITH_DEVICES") {
        Some(folder) => PolicyFile::at(path).with_devices_at(folder.into()),
        None => PolicyFile::at(path),
    }
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
        metered: config.metered,
        vault: Vault::default(),
        own: Own::alone(),
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
    path: &Path,
    take_over: TakeOver,
    shutdown: impl Future<Output = ()>,
) -> anyhow::Result<()> {
    make_private(&config.runtime_dir)?;
    let (renewal, asked) = mpsc::channel(1);
    let options = proxy::Options {
        control_socket: config.proxy_socket(),
        state_file: config.proxy_state(),
        take_over,
        renewal: Some(renewal),
    };
    let exchange = Exchange { config: absolute(path.to_owned())?, socket: config.proxy_socket() };
    let exchanging = tokio::spawn(exchange.serve(asked));
    let _exchanging = AbortOnDrop(exchanging.abort_handle());
    let proving = tokio::spawn(prove(config.runtime_dir.clone(), config.proxy_socket()));
    let _proving = AbortOnDrop(proving.abort_handle());
    let watching = tokio::spawn(watchdog::of_proxy(proxy::Client::new(config.proxy_socket())));
    let _watching = AbortOnDrop(watching.abort_handle());
    Ok(proxy::run(options, shutdown).await?)
}

/// A proxy that has served for a while is started again however often it ends.
async fn prove(runtime_dir: PathBuf, socket: PathBuf) {
    tokio::time::sleep(PROVEN_AFTER).await;
    if proxy::Client::new(socket).get().await.is_ok() {
        launch::proxy_is_proven(&runtime_dir);
    }
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
