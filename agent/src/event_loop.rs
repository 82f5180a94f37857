//! The loop: one task that owns the state of the node. Everything that waits is a local task that sends an [`Event`].
//!
//! ```text
//! manifest -> inbox -> ledger (durable) -> report, which is the acknowledgement
//! engine, proxy, probes, timers -> gather -> planner::node::decide -> per service: route first, else one step -> gather
//! ```
//!
//! Must not decide: what happens next is `planner::node::decide`. It only keeps to the order above, to one step at a
//! time per service, and never decides from facts older than its last step.

mod agent;
mod deciding;
mod gathering;
mod measuring;
mod pulling;
mod saying;
mod stepping;
#[cfg(test)]
mod tests;
mod writing;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::num::NonZeroU16;
use std::rc::Rc;
use std::time::Duration;

use planner::Now;
use planner::node::LedgerChange;
use protocol::acceptance::NodeIdentity;
use protocol::id::{NodeName, ServiceName};
use protocol::keys::{Root, SecretKey};
use protocol::release::Pin;
use protocol::report::Evidence;
use proxy::{Applied, Client, ClientError, Snapshot};
use tokio::sync::mpsc;

use crate::engine::{Engine, EngineEvent, PullUpdate};
use crate::execute::{Done, Executor, StepError};
use crate::ledger::{Ledger, LedgerError};
use crate::link::{Incoming, Outgoing};
use crate::observe::gather::Gathered;
use crate::probe::ProbeChanged;
use crate::registries::Registries;
use agent::Agent;

/// Events that wait for the loop; whoever sends the next one waits.
const MAX_EVENTS: usize = 256;
/// Events taken before the loop looks at what follows from them.
const MAX_EVENTS_PER_TURN: usize = 64;

/// Everything the loop can be told.
#[derive(Debug)]
pub(crate) enum Event {
    /// Engine and proxy answered.
    Gathered(Box<Gathered>),
    /// Something happened to a container, or to the stream of such news.
    Engine(EngineEvent),
    /// Probes of an instance changed their mind.
    Probe(ProbeChanged),
    /// The proxy's work changed.
    Proxy(proxy::Event),
    /// The table was set, or could not be.
    TableSet {
        /// The step's number, for failpoints.
        number: u64,
        /// What the proxy said, and its state after it.
        result: Result<(Applied, Snapshot), ClientError>,
    },
    /// A step ended.
    StepDone {
        /// Whose.
        service: ServiceName,
        /// The step's number, for failpoints.
        number: u64,
        /// How.
        result: Result<Done, StepError>,
    },
    /// What is remembered beside a failure was collected.
    Evidence {
        /// Whose.
        service: ServiceName,
        /// The step's number.
        number: u64,
        /// What is to be recorded.
        change: LedgerChange,
        /// With this.
        evidence: Evidence,
    },
    /// A change was written, or could not be. The ledger comes back.
    Written {
        /// The ledger, which was away for the write.
        ledger: Box<Ledger>,
        /// What was to be written.
        job: writing::Job,
        /// How it went.
        result: Result<(), LedgerError>,
    },
    /// A pull went on.
    Pull {
        /// Which.
        pin: Pin,
        /// How.
        update: PullUpdate,
    },
    /// How much of their memory limits containers use.
    Measured(measuring::MemoryPercents),
    /// An image was removed, or could not be.
    ImageRemoved {
        /// Which.
        pin: Pin,
        /// What the engine said.
        result: Result<(), crate::engine::EngineError>,
    },
}

/// What the loop is made of.
#[derive(Debug)]
pub struct Parts<E> {
    /// Who the node is.
    pub node: NodeIdentity,
    /// Its key.
    pub key: SecretKey,
    /// Whom it trusts.
    pub root: Root,
    /// What it remembers.
    pub ledger: Ledger,
    /// What does its steps.
    pub executor: Executor<E>,
    /// The proxy's control socket.
    pub proxy: Client,
    /// Credentials for pulls.
    pub registries: Registries,
    /// The rest of `agent.toml`.
    pub settings: Settings,
    /// To the broker.
    pub outgoing: mpsc::Sender<Outgoing>,
    /// From the broker.
    pub incoming: mpsc::Receiver<Incoming>,
    /// The only clock.
    pub clock: Clock,
}

/// What people configured.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The node's name.
    pub name: NodeName,
    /// Labels that placements select by.
    pub labels: BTreeMap<String, String>,
    /// Where ports are open unless a service narrows it.
    pub listen: Vec<IpAddr>,
    /// Where people and other nodes reach the node; none: what it has towards `broker` or the outside.
    pub address: Option<IpAddr>,
    /// Where the broker is, if it is known by its address.
    pub broker: Option<IpAddr>,
    /// Where the proxies of other nodes reach this one's; none: not at all.
    pub fleet_port: Option<NonZeroU16>,
    /// Whether images that nothing needs may be removed.
    pub remove_images: bool,
}

/// Reads the time, for the loop alone.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    /// See [`Now`].
    pub now: fn() -> Now,
    /// Unix milliseconds: orders processes, decides nothing.
    pub unix_ms: fn() -> u64,
}

impl Clock {
    /// The machine's.
    #[must_use]
    pub fn system() -> Self {
        Self { now: crate::clock::now, unix_ms: crate::clock::unix_ms }
    }
}

/// Runs until `shutdown` resolves. Containers and routes stay as they are.
///
/// Must be called within a `tokio::task::LocalSet`.
pub async fn run<E: Engine>(parts: Parts<E>, shutdown: impl Future<Output = ()>) {
    let clock = parts.clock;
    let (sender, mut events) = mpsc::channel(MAX_EVENTS);
    let (mut agent, mut incoming) = Agent::start(parts, sender, (clock.now)());
    let mut shutdown = std::pin::pin!(shutdown);
    loop {
        let now = (clock.now)();
        let wake = Duration::from_millis(agent.turn(now).since(now));
        // Every arm is cancel-safe: receives take nothing before they are ready, the sleep begins anew with each turn,
        // and the shutdown is pinned outside.
        tokio::select! {
            biased;
            () = &mut shutdown => break,
            message = incoming.recv() => match message {
                Some(message) => agent.hear(message, (clock.now)()),
                None => break,
            },
            event = events.recv() => {
                let mut next = event;
                for _ in 0..MAX_EVENTS_PER_TURN {
                    let Some(event) = next else { break };
                    agent.handle(event, (clock.now)());
                    next = events.try_recv().ok();
                }
            }
            () = tokio::time::sleep(wake) => {}
        }
    }
    agent.finish().await;
}

/// Sends an event from a task; a loop that ended hears nothing more.
async fn tell(events: &mpsc::Sender<Event>, event: Event) {
    // The loop ended: nobody needs it.
    let _ = events.send(event).await;
}

/// Shared by the tasks of one loop.
type Shared<E> = Rc<Executor<E>>;
