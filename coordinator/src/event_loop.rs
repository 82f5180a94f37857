//! The one task that owns the [`State`]: takes requests, messages and ticks; stores what changed, then publishes it.
//!
//! Policy-free: it moves values between the API, the state, the store and the broker session.

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nix::time::{ClockId, clock_gettime};
use planner::Now;
use protocol::envelope::Envelope;
use protocol::id::{FleetId, NodeId};
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::MissedTickBehavior;

use crate::data_dir::DataDir;
use crate::front::Door;
use crate::link;
use crate::notify::Told;
use crate::state::notices::Notice;
use crate::state::{At, Effects, State};
use crate::store::{Copied, Store, StoreError};
use crate::streams::Streams;

/// Requests that wait for the loop.
const REQUESTS_MAX: usize = 256;
/// Notices that wait for whoever tells them; it only hands them on.
const NOTICES_MAX: usize = 8_192;
/// Silence and rollouts are looked at this often.
const TICK: Duration = Duration::from_secs(1);

type Answer = Box<dyn FnOnce() + Send>;
type Question = Box<dyn FnOnce(&mut State, At) -> Answer + Send>;

enum Request {
    Ask(Question),
    /// A copy of the database.
    Copy(oneshot::Sender<Copied>),
}

/// Asks the loop; clones ask the same one.
#[derive(Debug, Clone)]
pub struct Fleet {
    requests: mpsc::Sender<Request>,
    version: watch::Receiver<u64>,
    streams: Streams,
    told: Told,
}

/// The loop has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the coordinator is stopping")]
pub struct Stopped;

impl Fleet {
    /// Runs `request` on the state and gives its answer once what it changed is durable.
    ///
    /// # Errors
    /// When the loop has ended, also where it could not store the change.
    pub async fn ask<T: Send + 'static>(
        &self,
        request: impl FnOnce(&mut State, At) -> T + Send + 'static,
    ) -> Result<T, Stopped> {
        let (reply, answer) = oneshot::channel();
        let question: Question = Box::new(move |state, at| {
            let value = request(state, at);
            Box::new(move || drop(reply.send(value)))
        });
        self.requests.send(Request::Ask(question)).await.map_err(|_| Stopped)?;
        answer.await.map_err(|_| Stopped)
    }

    /// A copy of the database, with all that anybody was told is done.
    ///
    /// # Errors
    /// When the loop has ended.
    pub async fn copy_database(&self) -> Result<Copied, Stopped> {
        let (done, copied) = oneshot::channel();
        self.requests.send(Request::Copy(done)).await.map_err(|_| Stopped)?;
        copied.await.map_err(|_| Stopped)
    }

    /// Who waits for the answers to commands.
    #[must_use]
    pub const fn streams(&self) -> &Streams {
        &self.streams
    }

    /// What became of what people are told.
    #[must_use]
    pub fn told(&self) -> Told {
        self.told.clone()
    }

    /// Waits until the fleet shows something newer than `version`, at most `patience`.
    pub async fn newer_than(&self, version: u64, patience: Duration) {
        let mut versions = self.version.clone();
        // Over is over, whether by news, time or the loop's end: the caller looks again.
        let _ = tokio::time::timeout(patience, versions.wait_for(|newest| *newest > version)).await;
    }
}

/// What the loop needs.
#[derive(Debug)]
pub struct EventLoop {
    state: State,
    store: Store,
    data: DataDir,
    fleet: FleetId,
    door: Door,
    session: mqtt::Handle,
    heard: mpsc::Receiver<mqtt::Event>,
    requests: mpsc::Receiver<Request>,
    version: watch::Sender<u64>,
    streams: Streams,
    notices: mpsc::Sender<Notice>,
}

impl EventLoop {
    /// A loop, the way to ask it, and what people are told of: all of it, that of the start too. Who does not want it drops it.
    #[must_use]
    pub fn new(
        state: State,
        (store, data): (Store, DataDir),
        fleet: FleetId,
        door: Door,
        session: (mqtt::Handle, mpsc::Receiver<mqtt::Event>),
    ) -> (Self, Fleet, mpsc::Receiver<Notice>) {
        let (requests_in, requests) = mpsc::channel(REQUESTS_MAX);
        let (version, versions) = watch::channel(state.version());
        let (session, heard) = session;
        let streams = Streams::default();
        let (notices, told_of) = mpsc::channel(NOTICES_MAX);
        let asking = Fleet {
            requests: requests_in,
            version: versions,
            streams: streams.clone(),
            told: Told::default(),
        };
        let event_loop = Self {
            state,
            store,
            data,
            fleet,
            door,
            session,
            heard,
            requests,
            version,
            streams,
            notices,
        };
        (event_loop, asking, told_of)
    }

    /// Runs until nobody can ask any more or the session ends.
    ///
    /// # Errors
    /// When the store fails: intent that is not durable must not be published, so the coordinator ends and its
    /// supervisor starts it again from what is stored. Boards go on by themselves meanwhile.
    pub async fn run(mut self) -> Result<(), StoreError> {
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        self.settle().await?;
        loop {
            // Cancel-safe: receiving from both channels and the interval's tick lose nothing when dropped.
            tokio::select! {
                request = self.requests.recv() => {
                    match request {
                        None => break,
                        // Not waited for: the store's thread answers by itself.
                        Some(Request::Copy(done)) => self.store.copy_to(done),
                        Some(Request::Ask(question)) => {
                            let answer = question(&mut self.state, at());
                            self.settle().await?;
                            answer();
                        }
                    }
                }
                event = self.heard.recv() => {
                    let Some(event) = event else { break };
                    self.hear(event);
                    self.settle().await?;
                }
                _ = tick.tick() => {
                    self.state.tick(at());
                    self.settle().await?;
                }
            }
        }
        Ok(())
    }

    fn hear(&mut self, event: mqtt::Event) {
        match event {
            mqtt::Event::Up => {
                tracing::info!("broker session is up");
                self.state.publish_everything();
            }
            mqtt::Event::Down { reason, retry_in } => {
                tracing::warn!(%reason, ?retry_in, "broker session is down");
            }
            mqtt::Event::Refused { reason, retry_in } => {
                tracing::warn!(%reason, ?retry_in, "the broker refuses the coordinator");
            }
            mqtt::Event::Message { topic, payload, .. } => {
                let Some((node, up)) = link::said_by(&topic, &self.fleet) else { return };
                if let Err(reason) = self.state.heard(&node, up, &payload, at()) {
                    tracing::debug!(node = %node.short(), subject = ?up, %reason, "message not taken");
                }
            }
        }
    }

    async fn keep_root(&self, root: Envelope) -> Result<(), StoreError> {
        let (data, version) = (self.data.clone(), self.state.show_root().version);
        let written = tokio::task::spawn_blocking(move || data.keep_root(&root, version)).await;
        match written {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(StoreError::Folder(Box::new(error))),
            Err(error) => Err(StoreError::Folder(Box::new(error))),
        }
    }

    /// Stores, then publishes, then lets those who wait look again.
    async fn settle(&mut self) -> Result<(), StoreError> {
        let effects = self.state.take_effects(at());
        let Effects { root, changes, publish_roots, publish, publish_addresses, times, .. } =
            effects;
        let Effects { commands, parts, visible: _, admit, revoke, publish_agents, .. } = effects;
        let Effects { notices, .. } = effects;
        if let Some(root) = root {
            self.keep_root(root).await?;
        }
        if !changes.is_empty() {
            self.store.write(changes).await?;
        }
        for node in &admit {
            self.door.admit(node);
        }
        for node in &revoke {
            self.door.revoke(node);
        }
        if let Some(roots) = self.state.roots().filter(|_| !publish_roots.is_empty()) {
            for node in publish_roots {
                let topic = link::root_topic(&self.fleet, &node);
                if let Err(error) = self.session.publish(topic, roots.clone()) {
                    tracing::warn!(node = %node.short(), %error, "trust roots not published");
                }
            }
        }
        self.publish_addresses(&publish_addresses);
        self.publish_agents(&publish_agents);
        for node in publish {
            let Some(manifest) = self.state.manifest(&node) else { continue };
            let topic = link::manifest_topic(&self.fleet, &node);
            if let Err(error) = self.session.publish(topic, manifest.to_vec()) {
                tracing::warn!(node = %node.short(), %error, "manifest not published");
            }
        }
        for (node, time) in times {
            let topic = link::time_topic(&self.fleet, &node);
            if let Err(error) = self.session.publish(topic, time) {
                tracing::warn!(node = %node.short(), %error, "time not published");
            }
        }
        for (node, command) in commands {
            let topic = link::command_topic(&self.fleet, &node);
            if let Err(error) = self.session.publish(topic, command) {
                tracing::warn!(node = %node.short(), %error, "command not published");
            }
        }
        for part in parts {
            self.streams.deliver(part);
        }
        for notice in notices {
            match self.notices.try_send(notice) {
                // Nobody may be there to be told.
                Ok(()) | Err(TrySendError::Closed(_)) => {}
                Err(TrySendError::Full(notice)) => {
                    tracing::warn!(kind = ?notice.kind, "notices come faster than they are taken: not told");
                }
            }
        }
        let version = self.state.version();
        self.version.send_if_modified(|shown| {
            let newer = *shown != version;
            *shown = version;
            newer
        });
        Ok(())
    }
}

impl EventLoop {
    fn publish_agents(&self, nodes: &BTreeSet<NodeId>) {
        for node in nodes {
            let Some(release) = self.state.agent_release_for(node) else { continue };
            let topic = link::agent_release_topic(&self.fleet, node);
            if let Err(error) = self.session.publish(topic, release) {
                tracing::warn!(node = %node.short(), %error, "release of the agent not published");
            }
        }
    }

    fn publish_addresses(&self, nodes: &BTreeSet<NodeId>) {
        if nodes.is_empty() {
            return;
        }
        let Some(addresses) = self.state.addresses() else { return };
        for node in nodes {
            let topic = link::addresses_topic(&self.fleet, node);
            if let Err(error) = self.session.publish(topic, addresses.clone()) {
                tracing::warn!(node = %node.short(), %error, "addresses not published");
            }
        }
    }
}

/// Reads both clocks.
pub type Clock = fn() -> At;

/// Both clocks now.
#[must_use]
pub fn at() -> At {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let unix_ms = u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX);
    let boot = clock_gettime(ClockId::CLOCK_BOOTTIME).map_or(Duration::ZERO, Duration::from);
    At { now: Now(u64::try_from(boot.as_millis()).unwrap_or(u64::MAX)), unix_ms }
}
