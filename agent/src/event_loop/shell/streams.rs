//! The tasks that tell what a command asked for, each until it ends or is told to.

use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use protocol::command::{DOCTOR, End, INPUT_WINDOW, Refused, Terminal};
use protocol::id::CommandId;
use tokio::sync::{mpsc, watch};
use tracing::{debug, warn};

use super::{Outside, Told, tell};
use crate::commands::{MAX_INSTANCES, Reading};
use crate::engine::pull::AbortOnDrop;
use crate::engine::{Engine, Typed, Typing};
use crate::event_loop::Event;
use crate::event_loop::commanding::{Stream, Streamed};
use crate::execute::Executor;
use crate::streaming::Readings;
use crate::{doctor, streaming};

/// What was typed and is not passed on yet: no more than the window of inputs is let in.
const MAX_TYPED: usize = INPUT_WINDOW as usize;

/// A stream under way; dropping it ends it.
#[derive(Debug)]
pub(super) struct Telling {
    allowed: watch::Sender<u64>,
    /// What a stream that follows goes on with.
    more: Option<mpsc::Sender<Reading>>,
    /// Of a stream that takes input.
    keyboard: Option<Keyboard>,
    _task: AbortOnDrop,
}

/// What is typed, on this side.
#[derive(Debug)]
struct Keyboard {
    typed: mpsc::Sender<Typed>,
    size: watch::Sender<Option<Terminal>>,
}

impl Keyboard {
    fn new() -> (Self, Typing) {
        let (typed, coming) = mpsc::channel(MAX_TYPED);
        let (size, sizes) = watch::channel(None);
        (Self { typed, size }, Typing { typed: coming, sizes })
    }
}

/// How a stream is told.
struct Way {
    may: watch::Receiver<u64>,
    coming: Option<mpsc::Receiver<Reading>>,
    /// See [`streaming::gathered_within`].
    within: Duration,
}

impl<E: Engine> Outside<E> {
    pub(super) fn stream(&mut self, id: CommandId, stream: Stream) {
        match stream {
            Stream::Begin { sources, follows, exec_in, is_typed, window } => {
                let (allowed, may) = watch::channel(window);
                let (more, coming) = match follows {
                    true => Some(mpsc::channel(MAX_INSTANCES)).unzip(),
                    false => (None, None),
                };
                let (keyboard, typing) = is_typed.then(Keyboard::new).unzip();
                let way = Way { may, coming, within: streaming::gathered_within(is_typed) };
                let forbids = exec_in.map(|service| Refused::ExecNotAllowed { service });
                let _task = self.tell_all(id.clone(), forbids, way, move |engine| {
                    streaming::written(engine, sources, typing)
                });
                self.streams.insert(id, Telling { allowed, more, keyboard, _task });
            }
            Stream::Connect { instance, address, of: service, window } => {
                let (allowed, may) = watch::channel(window);
                let (keyboard, typing) = Keyboard::new();
                let way = Way { may, coming: None, within: streaming::gathered_within(true) };
                let forbids = Some(Refused::ForwardNotAllowed { service });
                let _task = self.tell_all(id.clone(), forbids, way, move |_| {
                    streaming::connected(&instance, address, typing)
                });
                let (more, keyboard) = (None, Some(keyboard));
                self.streams.insert(id, Telling { allowed, more, keyboard, _task });
            }
            Stream::Type(typed) => {
                if let Some(Err(error)) = self.keyboard(&id).map(|to| to.typed.try_send(typed)) {
                    // It has ended, and its end is told.
                    debug!(%error, stream = %id, "what is typed is not passed on");
                }
            }
            Stream::Resize(terminal) => {
                if let Some(keyboard) = self.keyboard(&id) {
                    keyboard.size.send_replace(Some(terminal));
                }
            }
            Stream::Examine { window } => {
                let (allowed, may) = watch::channel(window);
                let task = tokio::task::spawn_local(self.examination(id.clone(), may));
                let _task = AbortOnDrop(task.abort_handle());
                self.streams.insert(id, Telling { allowed, more: None, keyboard: None, _task });
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
    fn keyboard(&self, id: &CommandId) -> Option<&Keyboard> {
        self.streams.get(id)?.keyboard.as_ref()
    }

    /// Tells what is read to its end, unless the node's policy does not allow it at this very moment.
    fn tell_all(
        &self,
        id: CommandId,
        forbids: Option<Refused>,
        Way { may, coming, within }: Way,
        read: impl FnOnce(&E) -> Readings + 'static,
    ) -> AbortOnDrop {
        let (told, executor) = (self.told.clone(), Rc::clone(&self.executor));
        let task = tokio::task::spawn_local(async move {
            let say = async |streamed| {
                tell(&told, Told::Event(Event::Stream(id.clone(), streamed))).await;
            };
            let end = match forbids.and_then(|refused| forbidden(&executor, refused)) {
                Some(refused) => refused,
                None => {
                    let read = read(&executor.engine);
                    streaming::run(&executor.engine, (read, within), (may, coming), say).await
                }
            };
            tell(&told, Told::Event(Event::Stream(id.clone(), Streamed::Ended(end)))).await;
        });
        AbortOnDrop(task.abort_handle())
    }

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

/// What the policy's file says at this very moment; `refused` is of the service that is to be let into.
fn forbidden<E: Engine>(executor: &Executor<E>, refused: Refused) -> Option<End> {
    let service = refused.forbidden_in()?;
    let policy = executor.policy.look(None).state.policy;
    (!policy.allows_exec(service))
        .then(|| End::Refused { code: refused.code().to_owned(), message: refused.to_string() })
}
