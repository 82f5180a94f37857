//! An engine in memory that behaves like Docker, for tests and simulation: deterministic, with a clock that only
//! [`FakeDocker::advance`] moves. [`FakeDocker`] is plain and synchronous; [`FakeEngine`] puts it behind [`super::Engine`].
//!
//! Keeps what Docker keeps and refuses what Docker refuses (names, addresses, networks in use, running containers);
//! what an application does is scripted by its image ([`Behaviour`]).

mod engine;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use protocol::release::Image;

use super::container::{Container, ContainerSpec, ContainerState};
use super::error::{EngineError, PullError};
use super::identity::Ours;
use super::{Action, EngineEvent, EngineInfo, ImageFacts, Network, Placement, Signal};

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

/// What the engine does; see [`super::Engine`].
impl FakeDocker {
    /// See [`super::Engine::info`].
    ///
    /// # Errors
    /// When the daemon is away or the call is made to fail; so do all below.
    pub fn info(&mut self) -> Result<EngineInfo, EngineError> {
        self.check(Call::Observe)?;
        Ok(EngineInfo {
            version: "0.0.0".to_owned(),
            api: "1.41".to_owned(),
            architecture: ARCHITECTURE.to_owned(),
            os: "linux".to_owned(),
            root_dir: "/var/lib/docker".to_owned(),
            cores: 4,
            memory_bytes: 1 << 30,
            placement: Placement::Host,
            limits_memory: true,
            limits_cpu: true,
            live_restore: true,
        })
    }

    /// See [`super::Engine::containers`].
    ///
    /// # Errors
    /// As [`FakeDocker::info`].
    pub fn containers(&mut self, ours: &Ours) -> Result<Vec<Container>, EngineError> {
        self.check(Call::Observe)?;
        let mine = self.containers.iter().filter(|(_, kept)| kept.spec.ours == *ours);
        let mut list: Vec<Container> = mine.map(|(id, kept)| self.seen(id, kept)).collect();
        list.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(list)
    }

    fn seen(&self, id: &str, kept: &Kept) -> Container {
        let age_ms = |since_ms: u64| self.now_ms.saturating_sub(since_ms);
        let (state, run) = match kept.life {
            Life::Created => (ContainerState::Created, String::new()),
            Life::Running { since_ms, .. } if since_ms > self.now_ms => {
                (ContainerState::Created, String::new())
            }
            Life::Running { since_ms, .. } => {
                (ContainerState::Running { age_ms: age_ms(since_ms) }, since_ms.to_string())
            }
            Life::Exited { started_ms, at_ms, code, oom } => {
                let state = ContainerState::Exited { age_ms: age_ms(at_ms), code, oom };
                (state, started_ms.to_string())
            }
        };
        Container {
            id: id.to_owned(),
            name: kept.spec.name(),
            identity: kept.spec.identity.clone(),
            state,
            address: Some(kept.spec.address),
            run,
        }
    }

    /// See [`super::Engine::create`].
    ///
    /// # Errors
    /// As [`super::Engine::create`].
    pub fn create(&mut self, spec: &ContainerSpec) -> Result<String, EngineError> {
        self.check(Call::Create)?;
        let reference = spec.image.pinned_reference();
        let Some(facts) = self.images.get(&reference) else {
            return Err(EngineError::NotFound(format!("No such image: {reference}")));
        };
        if facts.architecture != ARCHITECTURE {
            return Err(EngineError::WrongPlatform(format!(
                "{reference} is for another processor"
            )));
        }
        let name = spec.name();
        let of_name = self.containers.iter().find(|(_, kept)| kept.spec.name() == name);
        if let Some((id, kept)) = of_name {
            if kept.spec.ours == spec.ours && kept.spec.identity == spec.identity {
                return Ok(id.clone());
            }
            return Err(EngineError::Conflict(format!("the name {name} is in use")));
        }
        if !self.networks.values().any(|network| network.name == spec.network()) {
            return Err(EngineError::NotFound(format!("network {} not found", spec.network())));
        }
        self.volumes.extend(spec.mounts.iter().map(|mount| mount.volume.clone()));
        self.next_id += 1;
        let id = format!("{:064x}", self.next_id);
        self.containers.insert(id.clone(), Kept { spec: spec.clone(), life: Life::Created });
        self.note("create", &id);
        self.tell(&id, Action::Create);
        Ok(id)
    }

    /// See [`super::Engine::start`]; returns when it will run.
    ///
    /// # Errors
    /// As [`super::Engine::start`].
    pub fn start(&mut self, id: &str) -> Result<u64, EngineError> {
        self.check(Call::Start)?;
        let Some(kept) = self.containers.get(id).cloned() else {
            return Err(EngineError::NotFound(format!("No such container: {id}")));
        };
        if let Life::Running { since_ms, .. } = kept.life {
            return Ok(since_ms);
        }
        let is_rival = |(other, k): (&String, &Kept)| {
            other != id
                && matches!(k.life, Life::Running { .. })
                && k.spec.address == kept.spec.address
        };
        if self.containers.iter().any(is_rival) {
            return Err(EngineError::AddressTaken("Address already in use".to_owned()));
        }
        let behaviour = self.behaviour(&kept.spec.image);
        let since_ms = self.now_ms + behaviour.start_ms;
        let ends_at_ms = behaviour.ends.map(|e| (since_ms + e.after_ms, e.code, e.oom));
        if let Some(kept) = self.containers.get_mut(id) {
            kept.life = Life::Running { since_ms, ends_at_ms };
        }
        self.note("start", id);
        self.tell(id, Action::Start);
        Ok(since_ms)
    }

    /// See [`super::Engine::signal`].
    ///
    /// # Errors
    /// As [`FakeDocker::info`].
    pub fn signal(&mut self, id: &str, signal: Signal) -> Result<(), EngineError> {
        self.check(Call::Signal)?;
        let Some(kept) = self.containers.get(id).cloned() else { return Ok(()) };
        let Life::Running { since_ms, ends_at_ms } = kept.life else { return Ok(()) };
        let (verb, ending) = match signal {
            Signal::Kill => ("kill", Some((self.now_ms, KILLED_CODE, false))),
            Signal::Term => {
                let after_ms = self.behaviour(&kept.spec.image).stops_after_ms;
                ("term", after_ms.map(|after_ms| (self.now_ms + after_ms, 0, false)))
            }
        };
        self.note(verb, id);
        // What ends it first ends it.
        let first = [ends_at_ms, ending].into_iter().flatten().min();
        if let Some(kept) = self.containers.get_mut(id) {
            kept.life = Life::Running { since_ms, ends_at_ms: first };
        }
        self.advance(0);
        Ok(())
    }

    /// See [`super::Engine::remove`].
    ///
    /// # Errors
    /// As [`super::Engine::remove`].
    pub fn remove(&mut self, id: &str) -> Result<(), EngineError> {
        self.check(Call::Remove)?;
        match self.containers.get(id).map(|kept| kept.life) {
            None => Ok(()),
            Some(Life::Running { .. }) => {
                Err(EngineError::Conflict("You cannot remove a running container".to_owned()))
            }
            Some(Life::Created | Life::Exited { .. }) => {
                self.note("remove", id);
                self.containers.remove(id);
                self.tell(id, Action::Destroy);
                Ok(())
            }
        }
    }

    /// See [`super::Engine::image`].
    ///
    /// # Errors
    /// As [`FakeDocker::info`].
    pub fn image(&mut self, image: &Image) -> Result<Option<ImageFacts>, EngineError> {
        self.check(Call::Observe)?;
        Ok(self.images.get(&image.pinned_reference()).cloned())
    }

    /// What pulling it would come to.
    #[must_use]
    pub fn pull_outcome(&self, image: &Image) -> PullOutcome {
        let reference = image.pinned_reference();
        if self.images.contains_key(&reference) {
            return PullOutcome::Comes { takes_ms: 0, bytes: 0 };
        }
        let missing = PullOutcome::Fails { after_ms: 0, error: PullError::NotFound };
        self.pulls.get(&reference).cloned().unwrap_or(missing)
    }

    /// A pull has ended well.
    pub fn image_comes(&mut self, image: &Image) {
        let reference = image.pinned_reference();
        let facts = ImageFacts {
            id: reference.clone(),
            architecture: ARCHITECTURE.to_owned(),
            os: "linux".to_owned(),
            healthcheck: false,
            size_bytes: 0,
        };
        self.images.insert(reference, facts);
    }

    /// See [`super::Engine::remove_image`].
    ///
    /// # Errors
    /// As [`super::Engine::remove_image`].
    pub fn remove_image(&mut self, image: &Image) -> Result<(), EngineError> {
        self.check(Call::RemoveImage)?;
        if self.containers.values().any(|kept| kept.spec.image == *image) {
            return Err(EngineError::Conflict("image is being used by a container".to_owned()));
        }
        if self.images.remove(&image.pinned_reference()).is_some() {
            self.changes.push(format!("remove-image {}", image.pinned_reference()));
        }
        Ok(())
    }
}
