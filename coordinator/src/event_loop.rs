//! The one task that owns the [`State`]: takes requests, messages and ticks; stores what changed, then publishes it.
//!
//! Policy-free: it moves values between the API, the state, the store and the broker session.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nix::time::{ClockId, clock_gettime};
use planner::Now;
use protocol::id::FleetId;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::MissedTickBehavior;

use crate::link;
use crate::state::{At, Effects, State};
use crate::store::{Store, StoreError};

/// Requests that wait for the loop.
const REQUESTS_MAX: usize = 256;
/// Silence and rollouts are looked at this often.
const TICK: Duration = Duration::from_secs(1);

type Answer = Box<dyn FnOnce() + Send>;
type Request = Box<dyn FnOnce(&mut State, At) -> Answer + Send>;

/// Asks the loop; clones ask the same one.
#[derive(Debug, Clone)]
pub struct Fleet {
    requests: mpsc::Sender<Request>,
    version: watch::Receiver<u64>,
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
        let request: Request = Box::new(move |state, at| {
            let value = request(state, at);
            Box::new(move || drop(reply.send(value)))
        });
        self.requests.send(request).await.map_err(|_| Stopped)?;
        answer.await.map_err(|_| Stopped)
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
    fleet: FleetId,
    session: mqtt::Handle,
    heard: mpsc::Receiver<mqtt::Event>,
    requests: mpsc::Receiver<Request>,
    version: watch::Sender<u64>,
}

impl EventLoop {
    /// A loop and the way to ask it.
    #[must_use]
    pub fn new(
        state: State,
        store: Store,
        fleet: FleetId,
        session: (mqtt::Handle, mpsc::Receiver<mqtt::Event>),
    ) -> (Self, Fleet) {
        let (requests_in, requests) = mpsc::channel(REQUESTS_MAX);
        let (version, versions) = watch::channel(state.version());
        let (session, heard) = session;
        let event_loop = Self { state, store, fleet, session, heard, requests, version };
        (event_loop, Fleet { requests: requests_in, version: versions })
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
                    let Some(request) = request else { break };
                    let answer = request(&mut self.state, at());
                    self.settle().await?;
                    answer();
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

    /// Stores, then publishes, then lets those who wait look again.
    async fn settle(&mut self) -> Result<(), StoreError> {
        let Effects { changes, publish, visible: _ } = self.state.take_effects(at());
        if !changes.is_empty() {
            self.store.write(changes).await?;
        }
        for node in publish {
            let Some(manifest) = self.state.manifest(&node) else { continue };
            let topic = link::manifest_topic(&self.fleet, &node);
            if let Err(error) = self.session.publish(topic, manifest.to_vec()) {
                tracing::warn!(node = %node.short(), %error, "manifest not published");
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

/// Both clocks now.
#[must_use]
pub fn at() -> At {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let unix_ms = u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX);
    let boot = clock_gettime(ClockId::CLOCK_BOOTTIME).map_or(Duration::ZERO, Duration::from);
    At { now: Now(u64::try_from(boot.as_millis()).unwrap_or(u64::MAX)), unix_ms }
}
