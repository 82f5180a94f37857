//! `pith dev`: a whole fleet on this machine: coordinator, embedded broker, and per node an agent and its proxy.
//!
//! ```text
//! look at Docker -> init the folder where empty -> coordinator -> children per node -> every hello -> "ready"
//! Ctrl-C -> agents end, proxies end -> containers and networks of this fleet removed -> coordinator ends
//! ```
//! Everything of this fleet carries its id: a second dev, or a real agent on the same Docker, is not seen.

mod child;
mod cleanup;
mod fleet_port;
mod identity;
mod node;
mod slices;
mod successor;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use tokio::time::Instant;

use crate::client::chain;
use crate::data_dir::{DataDir, DataDirError, Fleet};
use crate::docker::{Docker, DockerError};
use crate::event_loop as fleet_loop;
use crate::local::{ApiSettings, BrokerChoice, Coordinator, LocalError};
use crate::state::Policy;
use node::{DevNode, Prepared, Surroundings};
pub use node::{NodeSettings, settings};

/// Agents say hello within a second; a machine that builds something beside takes longer.
const READY_WITHIN: Duration = Duration::from_secs(60);

/// What `pith dev` was asked for.
#[derive(Debug)]
pub struct Wish {
    /// The fleet's folder.
    pub data: DataDir,
    /// Its nodes.
    pub nodes: Vec<NodeSettings>,
    /// What is left at the end.
    pub at_end: AtEnd,
    /// What each environment takes.
    pub policy: Policy,
    /// Who else may use the API.
    pub api: ApiSettings,
}

/// What is left at the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AtEnd {
    /// Named volumes.
    Remove,
    /// Containers and networks too.
    Keep,
}

/// Why there is no fleet.
#[derive(Debug, thiserror::Error)]
pub enum DevError {
    /// No engine, or it refused.
    #[error(transparent)]
    Docker(#[from] DockerError),
    /// Containers would run, and nothing could reach them.
    #[error("containers of this Docker cannot be reached: {0}")]
    Unreachable(&'static str),
    /// The folder.
    #[error(transparent)]
    Data(#[from] DataDirError),
    /// The coordinator.
    #[error(transparent)]
    Local(#[from] LocalError),
    /// The program of the nodes.
    #[error("pith-agent is neither beside {} nor in PATH; build it with `cargo build -p agent`, or install it", beside.display())]
    NoAgent {
        /// Where it was looked for first.
        beside: PathBuf,
    },
    /// Settings of a node.
    #[error("--node {text}: {reason}")]
    Settings {
        /// As written.
        text: String,
        /// What is wrong.
        reason: String,
    },
    /// A node of before that is not let in any more.
    #[error(
        "node {node} gets no certificate: {reason}; remove its folder below nodes/ to make it anew"
    )]
    Identity {
        /// Which.
        node: String,
        /// Why.
        reason: String,
    },
    /// No room for container networks.
    #[error(
        "no free /20 for container networks in 10.208.0.0/12: Docker's networks or other fleets use them all"
    )]
    NoSubnet,
    /// No port for all nodes.
    #[error("no port from 16000 to 19999 is free on the loopback addresses of all nodes")]
    NoFleetPort,
    /// A child could not be started.
    #[error("{program}: {source}")]
    Child {
        /// Which.
        program: String,
        /// Why.
        source: std::io::Error,
    },
    /// Nodes that said nothing.
    #[error("not every node said hello within a minute; missing: {missing}\n{hint}")]
    Silent {
        /// Which.
        missing: String,
        /// Where to look.
        hint: String,
    },
}

/// Runs until asked to end; says "ready" on stdout once deploys are accepted.
///
/// # Errors
/// Names what could not be started. Whatever was started is ended before it returns.
pub async fn run(wish: Wish, asked_to_end: impl Future<Output = ()>) -> Result<(), DevError> {
    let docker = Docker::local()?;
    let info = docker.info().await?;
    if let Some(why) = info.unreachable_containers() {
        return Err(DevError::Unreachable(why));
    }
    let agent = child::find_agent()?;
    let fleet = if wish.data.holds_fleet() { wish.data.open()? } else { wish.data.init()? };
    let listen = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
    let broker = BrokerChoice::Embedded { listen };
    let mut coordinator =
        Coordinator::start_with(&wish.data, broker, wish.policy.clone(), wish.api.clone()).await?;
    let started = start_nodes(&wish, &fleet, &docker, &agent, &coordinator).await;
    let mut nodes = match started {
        Ok(nodes) => nodes,
        Err(error) => {
            coordinator.stop().await;
            return Err(error);
        }
    };
    let fleet_view = coordinator.fleet().clone();
    let ended = tokio::select! {
        // Cancel-safe: all three only watch; what they watch is ended below.
        () = asked_to_end => Ok(()),
        error = coordinator.failed() => Err(DevError::Local(error)),
        error = ready_then_forever(fleet_view, &nodes) => Err(error),
    };
    for node in &mut nodes {
        node.stop().await;
    }
    cleanup::run(&docker, &fleet.id, wish.at_end).await;
    if wish.at_end != AtEnd::Keep {
        nodes.iter().for_each(DevNode::forget_secrets);
    }
    coordinator.stop().await;
    ended
}

async fn start_nodes(
    wish: &Wish,
    fleet: &Fleet,
    docker: &Docker,
    agent: &std::path::Path,
    coordinator: &Coordinator,
) -> Result<Vec<DevNode>, DevError> {
    let count = wish.nodes.len();
    let pools = slices::choose(&fleet.id, &docker.subnets().await?, count);
    let pools = pools.ok_or(DevError::NoSubnet)?;
    let addresses: Vec<Ipv4Addr> =
        (1u8..).take(count).map(|k| Ipv4Addr::new(127, 0, 0, k)).collect();
    let fleet_port = fleet_port::choose(&fleet.id, &addresses).ok_or(DevError::NoFleetPort)?;
    let around = Surroundings {
        data: &wish.data,
        docker: docker.url(),
        agent: agent.to_owned(),
        fleet_port,
    };
    let mut nodes = Vec::new();
    for ((settings, pool), address) in wish.nodes.iter().zip(pools).zip(addresses) {
        let prepared = Prepared::new(settings, address, pool, &around)?;
        // Before it connects: a refusal would cost it a back-off.
        identity::issue(&wish.data, &prepared.state_dir, &prepared.key, coordinator).await?;
        let node = DevNode::start(prepared)?;
        eprintln!("{} on {address}", settings.name);
        nodes.push(node);
    }
    Ok(nodes)
}

/// Says "ready" when every node has said hello; returns only when that does not happen.
async fn ready_then_forever(fleet: fleet_loop::Fleet, nodes: &[DevNode]) -> DevError {
    let until = Instant::now() + READY_WITHIN;
    let missing = loop {
        let shown = fleet.ask(|state, at| (state.version(), state.show_nodes(None, at))).await;
        let Ok((version, shown)) = shown else { return LocalError::Ended.into() };
        let is_there = |node: &&DevNode| {
            !shown.nodes.iter().any(|one| one.id == *node.id() && one.status != "offline")
        };
        let missing: Vec<&DevNode> = nodes.iter().filter(is_there).collect();
        let left = until.saturating_duration_since(Instant::now());
        if missing.is_empty() || left.is_zero() {
            break missing;
        }
        fleet.newer_than(version, left).await;
    };
    if let Some(first) = missing.first() {
        let names: Vec<String> = missing.iter().map(|node| node.name().to_string()).collect();
        return DevError::Silent { missing: names.join(", "), hint: first.last_words() };
    }
    println!("ready");
    std::future::pending().await
}

/// An error with its causes, as one line.
#[must_use]
pub fn explain(error: &DevError) -> String {
    chain(error)
}
