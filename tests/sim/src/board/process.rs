//! The agent's process: the agent's own loop ([`agent::event_loop::Agent`]), and around it a shell of virtual time in the
//! place of the real one. Nothing here decides.
//!
//! What the loop wants done is done on the [`Hardware`] in its order, later or at once; the process may be killed between
//! any two acts, and then the rest of them never happens. What it hears is late, and hints get lost.

mod acting;
mod telling;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use agent::event_loop::{Agent, Beginning, Event, Settings, Surroundings, Write};
use agent::link::{Incoming, Outgoing};
use agent::load::Detail;
use agent::probe::asked::{Answered, Asked};
use agent::routes::Between;
use agent::secrets::Vault;
use planner::Now;
use planner::node::Probed;
use protocol::hello::Load;
use protocol::id::ServiceName;
use protocol::manifest::Version;
use protocol::release::{Image, Pin};
use protocol::report::Phase;
use proxy::{BackendStatus, Changed};

use super::hardware::{Hardware, Reply};
use crate::fleet;

/// Of a hundred hints of the engine so many are lost.
const LOST_HINTS: u64 = 3;
const ADDRESS: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const CORES: u32 = 4;

/// See the file's head.
#[derive(Debug)]
pub struct Process {
    /// Tells processes apart.
    pub run: u64,
    /// The loop.
    pub agent: Agent,
    asked: Asked,
    /// What it will hear.
    events: BTreeMap<(Now, u64), Event>,
    next_event: u64,
    /// On its way to the disk.
    write: Option<Box<Write>>,
    /// Under way, by the loop's number.
    pulls: BTreeMap<Pin, (u64, Image)>,
    /// What the proxy told of its backends last.
    backends: Vec<BackendStatus>,
    said: Vec<Outgoing>,
    /// For people.
    phases: BTreeMap<ServiceName, Phase>,
}

impl Process {
    /// Takes over what the disk remembers.
    #[must_use]
    pub fn start(run: u64, board: &Hardware) -> Self {
        let now = board.local();
        let beginning = Beginning {
            node: board.identity.clone(),
            key: fleet::node_key(board.number),
            root: board.root.clone(),
            settings: Settings {
                name: fleet::name(board.number),
                labels: fleet::labels(board.number),
                listen: vec![ADDRESS],
                address: None,
                broker: None,
                coordinators: protocol::join::Coordinators::default(),
                own_broker: None,
                between: Between {
                    port: None,
                    certificates: None,
                    floor: mqtt::VerifyAt::default(),
                },
                remove_images: true,
                metered: false,
                vault: Vault::default(),
                own: agent::update::Own::alone(),
            },
            ledger: Arc::clone(&board.disk),
            boot_id: board.boot_id(),
            opened_at: now,
            unix_ms: board.unix_ms(),
            cores: CORES,
        };
        Self {
            run,
            agent: Agent::new(beginning, now),
            asked: Asked::default(),
            events: BTreeMap::new(),
            next_event: 0,
            write: None,
            pulls: BTreeMap::new(),
            backends: Vec::new(),
            said: Vec::new(),
            phases: BTreeMap::new(),
        }
    }

    /// Something from the broker.
    pub fn hear(&mut self, message: Incoming, now: Now) {
        self.agent.hear(message, now);
    }

    /// An answer of the hardware to this process.
    pub fn answered(&mut self, reply: Reply, board: &Hardware) {
        let soon = board.local().plus(1);
        let (at, event) = match reply {
            Reply::Engine(service, result, at_ms) => {
                let at = Now(at_ms.saturating_sub(board.boot_at_ms));
                (at, Event::StepDone { service, result })
            }
            Reply::ImageRemoved(pin, result) => (soon, Event::ImageRemoved { pin, result }),
            Reply::Disk => {
                let Some(write) = self.write.take() else { return };
                (soon, Event::Written { write, result: Ok(()) })
            }
            Reply::Table(done) => (soon, Event::TableSet(Box::new(Ok(*done)))),
        };
        self.later(at, event);
    }

    /// Everything that is due now; returns when to be woken at the latest. Stops in between where the agent is killed.
    pub fn turn(&mut self, board: &mut Hardware) -> Now {
        let now = board.local();
        self.take_hints(board, now);
        while let Some(entry) = self.events.first_entry() {
            if entry.key().0 > now || board.kills_now() {
                break;
            }
            let event = entry.remove();
            self.note_event(&event, board);
            self.handle(event, board, now);
        }
        if board.kills_now() {
            return now;
        }
        self.probe(board, now);
        let wake_at = self.agent.turn(&mut Around { asked: &self.asked, board }, now);
        self.act(board, now);
        self.note_phases(board);
        let moments = [
            Some(wake_at),
            self.asked.next_at(),
            self.events.first_key_value().map(|((at, _), _)| *at),
        ];
        moments.into_iter().flatten().min().unwrap_or(now).max(now.plus(1))
    }

    /// What it says, since the last time.
    pub fn take_said(&mut self) -> Vec<Outgoing> {
        std::mem::take(&mut self.said)
    }

    fn handle(&mut self, event: Event, board: &mut Hardware, now: Now) {
        self.agent.handle(event, &Around { asked: &self.asked, board }, now);
        self.act(board, now);
    }

    fn later(&mut self, at: Now, event: Event) {
        self.events.insert((at, self.next_event), event);
        self.next_event += 1;
    }

    /// Engine and proxy tell what happened, as a rule.
    fn take_hints(&mut self, board: &mut Hardware, now: Now) {
        let hints = board.docker.take_events();
        if !hints.is_empty() && !board.random.chance(LOST_HINTS) {
            for hint in hints {
                self.handle(Event::Engine(hint), board, now);
            }
        }
        let backends = board.proxy.statuses(board.now_ms);
        if backends != self.backends {
            self.backends.clone_from(&backends);
            let changed = Changed { version: board.proxy.table().version, backends };
            self.handle(Event::Proxy(proxy::Event::Changed(changed)), board, now);
        }
    }

    /// Asks whoever is due; applications answer at once.
    fn probe(&mut self, board: &mut Hardware, now: Now) {
        for asking in self.asked.ask(now) {
            let (container, started) = (asking.target.container, asking.target.started);
            let (kind, answer) = (asking.kind, board.ask(&container, asking.kind));
            let answered = Answered { container, started, kind, answer };
            if let Some(changed) = self.asked.take(answered, now) {
                self.handle(Event::Probe(changed), board, now);
            }
        }
    }
}

/// What the loop reads at the moment of a decision.
struct Around<'a> {
    asked: &'a Asked,
    board: &'a mut Hardware,
}

impl Surroundings for Around<'_> {
    fn probed(&self, container: &str) -> Option<Probed> {
        self.asked.probed(container).cloned()
    }

    fn memory_available(&self) -> Option<u64> {
        self.board.memory_available
    }

    fn own_address(&self) -> Option<IpAddr> {
        Some(ADDRESS)
    }

    fn load(&mut self, _: &str, seen: Version, _: Option<Detail<'_>>) -> Option<Load> {
        Some(Load {
            seen,
            disk_used: self.board.disk_used_percent.map(u64::from),
            disk_total: Some(100),
            up_s: 1,
            ..Load::default()
        })
    }

    fn nonce(&mut self) -> [u8; 16] {
        let mut nonce = [0; 16];
        nonce[..8].copy_from_slice(&self.board.random.draw().to_le_bytes());
        nonce
    }
}
