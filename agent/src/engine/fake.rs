//! An engine in memory that behaves like Docker, for tests and simulation: deterministic, with a clock that only
//! [`FakeDocker::advance`] moves. [`FakeDocker`] is plain and synchronous; [`FakeEngine`] puts it behind [`super::Engine`].
//!
//! Keeps what Docker keeps and refuses what Docker refuses (names, addresses, networks in use, running containers);
//! what an application does is scripted by its image ([`Behaviour`]).

mod calls;
mod engine;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use protocol::release::Image;

use super::container::ContainerSpec;
use super::error::{EngineError, PullError};
use super::identity::Ours;
use super::{Action, EngineEvent, ImageFacts, Network};

pub use engine::FakeEngine;

/// The fake's processor.
pub const ARCHITECTURE: &str = "amd64";
const KILLED_CODE: i64 = 137;

/// What the application in an image does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Behaviour {
    /// Docker takes this long to start it.
    pub start_ms: u64,
    /// Answers its probes this long after its start; none: never.
    pub ready_after_ms: Option<u64>,
    /// Ends by itself; none: runs on.
    pub ends: Option<Ending>,
    /// Ends this long after being asked to; none: only when killed.
    pub stops_after_ms: Option<u64>,
    /// What it writes.
    pub logs: Vec<String>,
    /// The code of every command run in it.
    pub exec_code: i64,
    /// Of its memory limit it uses so much.
    pub memory_percent: Option<u8>,
}

/// How an application ends by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ending {
    /// After its start.
    pub after_ms: u64,
    /// With this code.
    pub code: i64,
    /// Killed by the kernel for its memory.
    pub oom: bool,
}

impl Default for Behaviour {
    fn default() -> Self {
        Self {
            start_ms: 0,
            ready_after_ms: Some(0),
            ends: None,
            stops_after_ms: Some(0),
            logs: Vec::new(),
            exec_code: 0,
            memory_percent: None,
        }
    }
}

/// What the registry does with a pull.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PullOutcome {
    /// The image comes, bytes evenly over time.
    Comes {
        /// How long it takes.
        takes_ms: u64,
        /// How big it is.
        bytes: u64,
    },
    /// It fails.
    Fails {
        /// After this.
        after_ms: u64,
        /// The kind.
        error: PullError,
    },
    /// Nothing moves for ever.
    Hangs,
}

/// A call that can be made to fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Call {
    /// Any that lists or looks.
    Observe,
    /// Create a container.
    Create,
    /// Start one.
    Start,
    /// Signal one.
    Signal,
    /// Remove one.
    Remove,
    /// Create a network.
    CreateNetwork,
    /// Remove a network.
    RemoveNetwork,
    /// Remove an image.
    RemoveImage,
}

/// Whether the daemon answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Daemon {
    /// It does.
    Answers,
    /// It does not; containers run on.
    Away,
}

/// What a power cut did to an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Damaged {
    /// Its program is empty, until it comes anew.
    Once,
    /// Also when it has come anew: a layer of it is another image's too.
    Lastingly,
}

/// The whole engine.
#[derive(Debug)]
pub struct FakeDocker {
    now_ms: u64,
    next_id: u64,
    daemon: Daemon,
    containers: BTreeMap<String, Kept>,
    networks: BTreeMap<String, Network>,
    network_owners: BTreeMap<String, Ours>,
    volumes: BTreeSet<String>,
    images: BTreeMap<String, ImageFacts>,
    pulls: BTreeMap<String, PullOutcome>,
    behaviours: BTreeMap<String, Behaviour>,
    /// Images whose programs are empty; whether they come so again.
    damaged: BTreeMap<String, Damaged>,
    failures: BTreeMap<Call, VecDeque<EngineError>>,
    events: VecDeque<EngineEvent>,
    changes: Vec<String>,
}

#[derive(Debug, Clone)]
struct Kept {
    spec: ContainerSpec,
    life: Life,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Life {
    Created,
    /// Runs from `since` (which may be a little ahead: it is being started) to `ends_at`.
    Running {
        since_ms: u64,
        ends_at_ms: Option<(u64, i64, bool)>,
    },
    Exited {
        started_ms: u64,
        at_ms: u64,
        code: i64,
        oom: bool,
    },
}

impl Default for FakeDocker {
    fn default() -> Self {
        Self {
            now_ms: 1_000_000,
            next_id: 0,
            daemon: Daemon::Answers,
            containers: BTreeMap::new(),
            networks: BTreeMap::new(),
            network_owners: BTreeMap::new(),
            volumes: BTreeSet::new(),
            images: BTreeMap::new(),
            pulls: BTreeMap::new(),
            behaviours: BTreeMap::new(),
            damaged: BTreeMap::new(),
            failures: BTreeMap::new(),
            events: VecDeque::new(),
            changes: Vec::new(),
        }
    }
}

/// What a test sets up and looks at.
impl FakeDocker {
    /// The fake's time.
    #[must_use]
    pub const fn now_ms(&self) -> u64 {
        self.now_ms
    }

    /// Lets time pass; applications end in the order of their times.
    pub fn advance(&mut self, ms: u64) {
        let until = self.now_ms + ms;
        while let Some((at_ms, id)) = self.next_ending().filter(|(at_ms, _)| *at_ms <= until) {
            self.now_ms = self.now_ms.max(at_ms);
            self.end(&id);
        }
        self.now_ms = until;
    }

    /// Puts an image on the node, whose application behaves so.
    pub fn add_image(&mut self, image: &Image, behaviour: Behaviour) {
        self.behaviours.insert(image.pinned_reference(), behaviour);
        self.image_comes(image);
    }

    /// What pulling an image comes to, and how its application behaves. An image not named here is not found.
    pub fn set_registry(&mut self, image: &Image, outcome: PullOutcome, behaviour: Behaviour) {
        self.pulls.insert(image.pinned_reference(), outcome);
        self.behaviours.insert(image.pinned_reference(), behaviour);
    }

    /// Its program is empty from now on: whatever starts ends at once.
    pub fn damage(&mut self, image: &Image, damaged: Damaged) {
        self.damaged.insert(image.pinned_reference(), damaged);
    }

    /// The next such call fails so; several queue up.
    pub fn fail_next(&mut self, call: Call, error: EngineError) {
        self.failures.entry(call).or_default().push_back(error);
    }

    /// Whether the daemon answers from now on.
    pub fn set_daemon(&mut self, daemon: Daemon) {
        if daemon == self.daemon {
            return;
        }
        self.daemon = daemon;
        self.events.push_back(match daemon {
            Daemon::Answers => EngineEvent::Restored,
            Daemon::Away => EngineEvent::Lost,
        });
    }

    /// Whether an application answers its probes now.
    #[must_use]
    pub fn is_ready(&self, id: &str) -> bool {
        let Some(kept) = self.containers.get(id) else { return false };
        let Life::Running { since_ms, .. } = kept.life else { return false };
        let after_ms = self.behaviour(&kept.spec.image).ready_after_ms;
        after_ms.is_some_and(|after_ms| self.now_ms >= since_ms + after_ms)
    }

    /// Whether a container's process runs now.
    #[must_use]
    pub fn is_running(&self, id: &str) -> bool {
        let life = self.containers.get(id).map(|kept| kept.life);
        matches!(life, Some(Life::Running { since_ms, .. }) if since_ms <= self.now_ms)
    }

    /// Ends a running application as a crash would.
    pub fn crash(&mut self, id: &str, code: i64) {
        if let Some(Kept { life: Life::Running { ends_at_ms, .. }, .. }) =
            self.containers.get_mut(id)
        {
            *ends_at_ms = Some((self.now_ms, code, false));
        }
        self.advance(0);
    }

    /// What was changed so far, in order: `create <name>`, `start <name>`, `term <name>` …
    #[must_use]
    pub fn changes(&self) -> &[String] {
        &self.changes
    }

    /// Events that nobody has taken yet, oldest first.
    pub fn take_events(&mut self) -> Vec<EngineEvent> {
        self.events.drain(..).collect()
    }

    /// Volumes that exist.
    #[must_use]
    pub const fn volumes(&self) -> &BTreeSet<String> {
        &self.volumes
    }

    fn behaviour(&self, image: &Image) -> Behaviour {
        self.behaviours.get(&image.pinned_reference()).cloned().unwrap_or_default()
    }

    fn next_ending(&self) -> Option<(u64, String)> {
        let ending = |(id, kept): (&String, &Kept)| match kept.life {
            Life::Running { ends_at_ms: Some((at_ms, ..)), .. } => Some((at_ms, id.clone())),
            Life::Running { .. } | Life::Created | Life::Exited { .. } => None,
        };
        self.containers.iter().filter_map(ending).min()
    }

    fn end(&mut self, id: &str) {
        let Some(kept) = self.containers.get_mut(id) else { return };
        let Life::Running { since_ms, ends_at_ms: Some((_, code, oom)) } = kept.life else {
            return;
        };
        kept.life = Life::Exited { started_ms: since_ms, at_ms: self.now_ms, code, oom };
        if oom {
            self.tell(id, Action::Oom);
        }
        self.tell(id, Action::Die);
    }

    fn tell(&mut self, id: &str, action: Action) {
        self.events.push_back(EngineEvent::Container { id: id.to_owned(), action });
    }

    fn note(&mut self, verb: &str, id: &str) {
        let name = self.containers.get(id).map_or_else(|| id.to_owned(), |kept| kept.spec.name());
        self.changes.push(format!("{verb} {name}"));
    }

    fn check(&mut self, call: Call) -> Result<(), EngineError> {
        if self.daemon == Daemon::Away {
            return Err(EngineError::Unavailable("connection refused".to_owned()));
        }
        self.failures.get_mut(&call).and_then(VecDeque::pop_front).map_or(Ok(()), Err)
    }
}
