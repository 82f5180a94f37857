//! The tasks that tell what a command asked for, each until it ends or is told to.

use std::path::PathBuf;
use std::rc::Rc;

use protocol::command::{DOCTOR, End, Refused};
use protocol::id::{CommandId, ServiceName};
use tokio::sync::{mpsc, watch};
use tracing::warn;

use super::{Outside, Told, tell};
use crate::commands::{MAX_INSTANCES, Reading};
use crate::engine::Engine;
use crate::engine::pull::AbortOnDrop;
use crate::event_loop::Event;
use crate::event_loop::commanding::{Stream, Streamed};
use crate::execute::Executor;
use crate::{doctor, streaming};

/// A stream under way; dropping it ends it.
#[derive(Debug)]
pub(super) struct Telling {
    allowed: watch::Sender<u64>,
    /// What a stream that follows goes on with.
    more: Option<mpsc::Sender<Reading>>,
    _task: AbortOnDrop,
}

impl<E: Engine> Outside<E> {
    pub(super) fn stream(&mut self, id: CommandId, stream: Stream) {
        match stream {
            Stream::Begin { sources, follows, exec_in, window } => {
                let (allowed, may) = watch::channel(window);
                let (more, coming) = match follows {
                    true => Some(mpsc::channel(MAX_INSTANCES)).unzip(),
                    false => (None, None),
                };
                let (told, executor) = (self.told.clone(), Rc::clone(&self.executor));
                let of = id.clone();
                let task = tokio::task::spawn_local(async move {
                    let say = async |streamed| {
                        tell(&told, Told::Event(Event::Stream(of.clone(), streamed))).await;
                    };
                    let end = match exec_in.and_then(|service| forbidden(&executor, service)) {
                        Some(refused) => refused,
                        None => streaming::run(&executor.engine, sources, (may, coming), say).await,
                    };
                    tell(&told, Told::Event(Event::Stream(of.clone(), Streamed::Ended(end)))).await;
                });
                let _task = AbortOnDrop(task.abort_handle());
                self.streams.insert(id, Telling { allowed, more, _task });
            }
            Stream::Examine { window } => {
                let (allowed, may) = watch::channel(window);
                let task = tokio::task::spawn_local(self.examination(id.clone(), may));
                let _task = AbortOnDrop(task.abort_handle());
                self.streams.insert(id, Telling { allowed, more: None, _task });
            }
            Stream::Allow(allowed) => {
                if let Some(telling) = self.streams.get(&id) {
                    telling.allowed.send_if_modified(|before| {
                        let is_more = allowed > *before;
                        *before = allowed.max(*before);
                        is_more
                    });
                }
            }
            Stream::Join(readings) => {
                let more = self.streams.get(&id).and_then(|telling| telling.more.as_ref());
                for reading in readings {
                    let sent = more.map(|more| more.try_send(reading));
                    if let Some(Err(error)) = sent {
                        warn!(%error, stream = %id, "an instance is not followed");
                    }
                }
            }
            Stream::End => drop(self.streams.remove(&id)),
        }
    }
}

impl<E: Engine> Outside<E> {
    /// Looks at the board as the agent's user, and tells what is found.
    fn examination(
        &self,
        id: CommandId,
        may: watch::Receiver<u64>,
    ) -> impl Future<Output = ()> + use<E> {
        let (told, executor) = (self.told.clone(), Rc::clone(&self.executor));
        let (subject, at) = (self.subject.clone(), (self.unix_ms)() / 1_000);
        let floor_s = self.calls.floor_s();
        async move {
            let board = (PathBuf::from("/"), doctor::Installed);
            let found = doctor::examine(subject, &executor.engine, (at, floor_s), board).await;
            let bytes = serde_json::to_vec(&found).expect("plain data serialises");
            let say = async |streamed| {
                tell(&told, Told::Event(Event::Stream(id.clone(), streamed))).await;
            };
            streaming::tell_whole(DOCTOR, &bytes, may, say).await;
            tell(&told, Told::Event(Event::Stream(id.clone(), Streamed::Ended(End::Finished))))
                .await;
        }
    }
}

/// What the policy's file says at this very moment.
fn forbidden<E: Engine>(executor: &Executor<E>, service: ServiceName) -> Option<End> {
    let policy = executor.policy.look(None).state.policy;
    (!policy.allows_exec(&service)).then(|| {
        let refused = Refused::ExecNotAllowed { service };
        End::Refused { code: refused.code().to_owned(), message: refused.to_string() }
    })
}
