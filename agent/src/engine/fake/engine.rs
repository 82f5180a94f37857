//! The fake behind the trait, with its networks; calls that take time wait for the fake's clock.

use std::cell::{RefCell, RefMut};
use std::path::Path;
use std::rc::Rc;

use protocol::command::Channel;
use protocol::id::ServiceName;
use protocol::release::Image;
use protocol::spec::HostAccess;
use tokio::sync::{Notify, mpsc};

use super::{Call, FakeDocker, PullOutcome};
use crate::engine::container::{Container, ContainerSpec};
use crate::engine::error::EngineError;
use crate::engine::identity::Ours;
use crate::engine::pull::{Pull, PullUpdate};
use crate::engine::{
    Engine, EngineEvent, EngineInfo, Events, ExecOutcome, ImageFacts, MAX_QUEUED_EVENTS, Network,
    NetworkSpec, Program, Signal, Source, Survey, Typed, Typing, Written, Wrote,
};
use crate::network::Ipv4Net;
use protocol::registries::RegistryLogin;

/// Parts in which a pull tells its progress.
const PULL_PARTS: u64 = 4;

/// A [`FakeDocker`] that several hold.
#[derive(Debug, Clone, Default)]
pub struct FakeEngine {
    docker: Rc<RefCell<FakeDocker>>,
    moved: Rc<Notify>,
    listeners: Rc<RefCell<Vec<mpsc::Sender<EngineEvent>>>>,
}

impl FakeEngine {
    /// Works on the fake directly; what happened in it is told to those who listen.
    pub fn with<T>(&self, work: impl FnOnce(&mut FakeDocker) -> T) -> T {
        let (result, events) = {
            let mut docker: RefMut<'_, FakeDocker> = self.docker.borrow_mut();
            let result = work(&mut docker);
            (result, docker.take_events())
        };
        for event in events {
            // A listener whose queue is full misses events, as with Docker.
            self.listeners.borrow_mut().retain(|listener| {
                !matches!(
                    listener.try_send(event.clone()),
                    Err(mpsc::error::TrySendError::Closed(_))
                )
            });
        }
        result
    }

    /// Lets time pass and wakes whoever waits for it.
    pub fn advance(&self, ms: u64) {
        self.with(|docker| docker.advance(ms));
        self.moved.notify_waiters();
    }

    async fn wait_until(&self, at_ms: u64) {
        loop {
            let moved = self.moved.notified();
            if self.with(|docker| docker.now_ms()) >= at_ms {
                return;
            }
            moved.await;
        }
    }
}

impl Engine for FakeEngine {
    async fn info(&self) -> Result<EngineInfo, EngineError> {
        self.with(FakeDocker::info)
    }

    async fn survey(&self) -> Result<Survey, EngineError> {
        self.with(FakeDocker::survey)
    }

    async fn containers(&self, ours: &Ours) -> Result<Vec<Container>, EngineError> {
        self.with(|docker| docker.containers(ours))
    }

    async fn create(&self, spec: &ContainerSpec) -> Result<String, EngineError> {
        self.with(|docker| docker.create(spec))
    }

    async fn access(&self, id: &str) -> Result<Option<(ServiceName, HostAccess)>, EngineError> {
        self.with(|docker| docker.access(id))
    }

    async fn start(&self, id: &str) -> Result<(), EngineError> {
        let runs_at_ms = self.with(|docker| docker.start(id))?;
        self.wait_until(runs_at_ms).await;
        Ok(())
    }

    async fn signal(&self, id: &str, signal: Signal) -> Result<(), EngineError> {
        self.with(|docker| docker.signal(id, signal))
    }

    async fn remove(&self, id: &str) -> Result<(), EngineError> {
        self.with(|docker| docker.remove(id))
    }

    async fn image(&self, image: &Image) -> Result<Option<ImageFacts>, EngineError> {
        self.with(|docker| docker.image(image))
    }

    fn pull(&self, image: &Image, _credentials: Option<&RegistryLogin>) -> Pull {
        let (engine, image) = (self.clone(), image.clone());
        Pull::spawn(move |updates| async move {
            let (begun_ms, outcome) =
                engine.with(|docker| (docker.now_ms(), docker.pull_outcome(&image)));
            match outcome {
                PullOutcome::Comes { takes_ms, bytes } => {
                    for part in 1..=PULL_PARTS {
                        engine.wait_until(begun_ms + takes_ms * part / PULL_PARTS).await;
                        let bytes_now = bytes * part / PULL_PARTS;
                        let progress = PullUpdate::Progress { bytes: bytes_now, total: bytes };
                        // Nobody listens: this task is being ended.
                        let _ = updates.send(progress).await;
                    }
                    engine.with(|docker| docker.image_comes(&image));
                    PullUpdate::Done
                }
                PullOutcome::Fails { after_ms, error } => {
                    engine.wait_until(begun_ms + after_ms).await;
                    PullUpdate::Failed { error, message: format!("{error:?}") }
                }
                PullOutcome::Hangs => std::future::pending().await,
            }
        })
    }

    /// Comes to what a pull would.
    fn load(&self, image: &Image, _file: &Path) -> Pull {
        self.pull(image, None)
    }

    async fn remove_image(&self, image: &Image) -> Result<(), EngineError> {
        self.with(|docker| docker.remove_image(image))
    }

    async fn discard_image(&self, image: &Image) -> Result<(), EngineError> {
        self.with(|docker| docker.discard_image(image))
    }

    async fn programs(&self, id: &str) -> Result<Vec<Program>, EngineError> {
        self.with(|docker| docker.programs(id))
    }

    async fn networks(&self, ours: &Ours) -> Result<Vec<Network>, EngineError> {
        self.with(|docker| docker.networks(ours))
    }

    async fn all_subnets(&self) -> Result<Vec<Ipv4Net>, EngineError> {
        self.with(|docker| {
            docker.check(Call::Observe)?;
            Ok(docker.networks.values().map(|network| network.subnet).collect())
        })
    }

    async fn create_network(&self, spec: &NetworkSpec) -> Result<Network, EngineError> {
        self.with(|docker| docker.create_network(spec))
    }

    async fn remove_network(&self, id: &str) -> Result<(), EngineError> {
        self.with(|docker| docker.remove_network(id))
    }

    async fn logs_tail(&self, id: &str, lines: usize) -> Result<Vec<String>, EngineError> {
        self.with(|docker| {
            docker.check(Call::Observe)?;
            let Some(kept) = docker.containers.get(id) else {
                return Err(EngineError::NotFound(format!("No such container: {id}")));
            };
            let logs = docker.behaviour(&kept.spec.image).logs;
            Ok(logs[logs.len().saturating_sub(lines)..].to_vec())
        })
    }

    async fn memory_percent(&self, id: &str) -> Result<Option<u8>, EngineError> {
        self.with(|docker| {
            docker.check(Call::Observe)?;
            let kept = docker.containers.get(id);
            let kept =
                kept.ok_or_else(|| EngineError::NotFound(format!("No such container: {id}")))?;
            Ok(docker.behaviour(&kept.spec.image).memory_percent)
        })
    }

    async fn exec(
        &self,
        id: &str,
        _command: &[String],
        _deadline_ms: u64,
    ) -> Result<ExecOutcome, EngineError> {
        self.with(|docker| {
            docker.check(Call::Observe)?;
            let Some(kept) = docker.containers.get(id) else {
                return Err(EngineError::NotFound(format!("No such container: {id}")));
            };
            let code = docker.behaviour(&kept.spec.image).exec_code;
            Ok(ExecOutcome::Exited { code, output: String::new() })
        })
    }

    fn read(&self, id: &str, source: Source, typing: Option<Typing>) -> Written {
        let (engine, id) = (self.clone(), id.to_owned());
        Written::spawn(move |pieces| async move {
            let found = engine.with(|docker| {
                docker.check(Call::Observe)?;
                let kept = docker.containers.get(&id);
                let kept = kept.ok_or_else(|| EngineError::NotFound(id.clone()))?;
                let behaviour = docker.behaviour(&kept.spec.image);
                Ok::<_, EngineError>((behaviour.logs.clone(), behaviour.exec_code))
            });
            let (logs, code) = match found {
                Ok(found) => found,
                Err(error) => return Wrote::Failed(error.to_string()),
            };
            match source {
                Source::Exec { command, .. } => {
                    let said = command.join(" ").into_bytes();
                    let _ = pieces.send(Wrote::Bytes(Channel::Stdout, said)).await;
                    if let Some(typing) = typing {
                        echo(typing, &pieces).await;
                    }
                    Wrote::Ended(Some(code))
                }
                Source::Logs { lines, follow, .. } => {
                    let lines = usize::try_from(lines).unwrap_or(usize::MAX);
                    for line in &logs[logs.len().saturating_sub(lines)..] {
                        let line = format!("{line}\n").into_bytes();
                        // Nobody reads any more: this task is being ended.
                        let _ = pieces.send(Wrote::Bytes(Channel::Stdout, line)).await;
                    }
                    if follow {
                        std::future::pending::<()>().await;
                    }
                    Wrote::Ended(None)
                }
            }
        })
    }

    fn events(&self, _ours: &Ours) -> Events {
        let (sender, receiver) = mpsc::channel(MAX_QUEUED_EVENTS);
        // The queue is empty.
        let _ = sender.try_send(EngineEvent::Restored);
        self.listeners.borrow_mut().push(sender);
        Events { receiver, _task: None }
    }
}

/// What every command does that takes input.
async fn echo(mut typing: Typing, pieces: &mpsc::Sender<Wrote>) {
    while let Some(typed) = typing.typed.recv().await {
        let is_last = typed == Typed::Last;
        let _ = pieces.send(Wrote::Took).await;
        if let Typed::Bytes(bytes) = typed {
            let _ = pieces.send(Wrote::Bytes(Channel::Stdout, bytes)).await;
        }
        if is_last {
            return;
        }
    }
}

#[cfg(test)]
mod tests;
