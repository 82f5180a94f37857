//! The loop: one task that owns the state of the node. Its state is a value without IO ([`Agent`]): what it hears goes in,
//! what is to be done comes out ([`Act`]). The shell does it; whatever waits is a local task that comes back as an
//! [`Event`]. The simulation drives the same state with a shell of its own.
//!
//! ```text
//! manifest -> inbox -> ledger (durable) -> report, which is the acknowledgement
//! engine, proxy, probes, timers -> gather -> planner::node::decide -> per service: route first, else one step -> gather
//! ```
//!
//! Must not decide: what happens next is `planner::node::decide`. It only keeps to the order above, to one step at a
//! time per service, and never decides from facts older than its last step.

mod acts;
mod agent;
mod asking;
mod commanding;
mod deciding;
mod examining;
mod freshness;
mod gathering;
mod learning;
mod measuring;
mod policing;
mod pulling;
mod saying;
mod shell;
mod stepping;
#[cfg(test)]
mod tests;
mod updating;
mod writing;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use planner::Now;
use protocol::acceptance::NodeIdentity;
use protocol::id::{CommandId, NodeName, ServiceName};
use protocol::join::Coordinators;
use protocol::keys::{Root, SecretKey};
use protocol::release::Pin;
use protocol::topic::Up;
use proxy::{Applied, Client, ClientError, Snapshot};
use tokio::sync::mpsc;

use crate::alarm::Alarm;
use crate::archives::Archives;
use crate::doctor::Subject;
use crate::engine::{Autopsy, Engine, EngineError, EngineEvent, PullUpdate};
use crate::execute::{Done, Executor, StepError};
use crate::ledger::{Contents, Ledger, LedgerError};
use crate::link::{Incoming, Outgoing};
use crate::local::socket::Call;
use crate::moving::Keeper;
use crate::observe::gather::Gathered;
use crate::policy::Looked;
use crate::probe::ProbeChanged;
use crate::registries::Registries;
use crate::routes::Between;
use crate::secrets::Vault;
use crate::update::Own;
use crate::update::fetch::Source;
use crate::watchdog::Watchdog;
use shell::Shell;

pub use acts::{Act, Surroundings};
pub use agent::Agent;
pub(crate) use asking::told;
pub use asking::{Asked, Holding};
pub use commanding::{Stream, Streamed};
pub use measuring::MemoryPercents;
pub use updating::{UpdateAct, UpdateNews};
pub use writing::{Job, Write};

/// Events that wait for the loop; whoever sends the next one waits.
const MAX_EVENTS: usize = 256;
/// Events taken before the loop looks at what follows from them.
const MAX_EVENTS_PER_TURN: usize = 64;

/// Everything the loop can be told beside what comes from the broker.
#[derive(Debug)]
pub enum Event {
    /// Engine and proxy answered.
    Gathered(Box<Gathered>),
    /// Something happened to a container, or to the stream of such news.
    Engine(EngineEvent),
    /// Probes of an instance changed their mind.
    Probe(ProbeChanged),
    /// The proxy's work changed.
    Proxy(proxy::Event),
    /// The table was set, or could not be: what the proxy said, and its state after it.
    TableSet(Box<Result<(Applied, Snapshot), ClientError>>),
    /// A step ended.
    StepDone {
        /// Whose.
        service: ServiceName,
        /// How.
        result: Result<Done, StepError>,
    },
    /// The end of the log of a container whose release is given up.
    Evidence {
        /// Whose.
        service: ServiceName,
        /// Lines, oldest first.
        log: Vec<String>,
    },
    /// A change was written, or could not be.
    Written {
        /// What was to be written.
        write: Box<Write>,
        /// How it went.
        result: Result<(), LedgerError>,
    },
    /// A pull went on.
    Pull {
        /// Of this image.
        pin: Pin,
        /// As it was begun.
        number: u64,
        /// How.
        update: PullUpdate,
    },
    /// The node's policy, or the devices that it allows, changed.
    Policy(Box<Looked>),
    /// How much of their memory limits containers use.
    Measured(MemoryPercents),
    /// An image was removed, or could not be.
    ImageRemoved {
        /// Which.
        pin: Pin,
        /// What the engine said.
        result: Result<(), EngineError>,
    },
    /// A damaged image was removed, or could not be.
    ImageDiscarded {
        /// Which.
        pin: Pin,
        /// What the engine said.
        result: Result<(), EngineError>,
    },
    /// What there was to see of a container that ended at once.
    Examined {
        /// The engine's id.
        container: String,
        /// It.
        result: Result<Autopsy, EngineError>,
    },
    /// Where the coordinator is was kept, or could not be.
    Learned(Result<(), String>),
    /// Root of the board asks something.
    Asked(Box<Asked>),
    /// A stream tells something.
    Stream(CommandId, Streamed),
    /// Something about releases of the agent.
    Update(UpdateNews),
    /// Nobody took what was said.
    Unsaid(Up),
}

/// What the loop's state begins with.
#[derive(Debug)]
pub struct Beginning {
    /// Who the node is.
    pub node: NodeIdentity,
    /// Its key.
    pub key: SecretKey,
    /// Whom it trusts.
    pub root: Root,
    /// What people configured.
    pub settings: Settings,
    /// What it remembers.
    pub ledger: Arc<Contents>,
    /// The boot that it runs in.
    pub boot_id: String,
    /// When what it remembers was read: moments of another boot count as this one.
    pub opened_at: Now,
    /// Unix milliseconds: orders processes, decides nothing.
    pub unix_ms: u64,
    /// Of the machine, until the engine has told.
    pub cores: u32,
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
    /// Where images in archives are gathered.
    pub archives: Archives,
    /// The rest of `agent.toml`.
    pub settings: Settings,
    /// Keeps where the coordinator is.
    pub keeper: Keeper,
    /// Where programs of the agent come from.
    pub programs: Source,
    /// To the broker.
    pub outgoing: mpsc::Sender<Outgoing>,
    /// From the broker.
    pub incoming: mpsc::Receiver<Incoming>,
    /// What a doctor looks at.
    pub subject: Subject,
    /// From root of the board.
    pub calls: mpsc::Receiver<Call>,
    /// Is told of each turn.
    pub watchdog: Watchdog,
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
    /// How the proxies of other nodes and this one's reach and know each other.
    pub between: Between,
    /// Where the coordinator is, as joining and itself have said.
    pub coordinators: Coordinators,
    /// Where `agent.toml` says that the broker is; it is looked for nowhere else.
    pub own_broker: Option<String>,
    /// Whether images that nothing needs may be removed.
    pub remove_images: bool,
    /// Whether the link is paid by the byte.
    pub metered: bool,
    /// Opens what is sealed to the node.
    pub vault: Vault,
    /// Which program this is.
    pub own: Own,
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

/// Why the loop has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// It was asked to.
    Asked,
    /// Another agent is to be started.
    ForAnother,
}

/// Runs until `shutdown` resolves, or another agent is to be started. Containers and routes stay as they are.
///
/// Must be called within a `tokio::task::LocalSet`.
pub async fn run<E: Engine>(parts: Parts<E>, shutdown: impl Future<Output = ()>) -> End {
    let (clock, mut watchdog) = (parts.clock, parts.watchdog);
    let (sender, mut events) = mpsc::channel(MAX_EVENTS);
    let (mut shell, mut incoming, mut calls) = Shell::start(parts, sender, (clock.now)());
    let mut shutdown = std::pin::pin!(shutdown);
    let alarm = Alarm::new();
    let end = loop {
        let now = (clock.now)();
        let wake_at = shell.turn(now);
        if shell.is_ending() {
            break End::ForAnother;
        }
        watchdog.turned(now);
        let wake_at = watchdog.bound(wake_at);
        // Every arm is cancel-safe: receives take nothing before they are ready, the sleep begins anew with each turn,
        // and the shutdown is pinned outside.
        tokio::select! {
            biased;
            () = &mut shutdown => break End::Asked,
            message = incoming.recv() => match message {
                Some(message) => shell.hear(message, (clock.now)()),
                None => break End::Asked,
            },
            event = events.recv() => {
                let mut next = event;
                for _ in 0..MAX_EVENTS_PER_TURN {
                    let Some(told) = next else { break };
                    shell.handle(told, (clock.now)());
                    next = events.try_recv().ok();
                }
            }
            Some(call) = calls.recv() => shell.ask(call, (clock.unix_ms)(), (clock.now)()),
            () = alarm.until(wake_at) => {}
        }
    };
    shell.finish();
    end
}
