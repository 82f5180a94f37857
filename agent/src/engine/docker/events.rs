//! Docker's event stream, followed for as long as someone listens.

use std::time::Duration;

use bollard::models::EventMessage;
use bollard::query_parameters as query;
use futures_util::StreamExt as _;
use tokio::sync::mpsc;

use super::{Docker, QUERY_DEADLINE_MS, observe, within};
use crate::clock;
use crate::engine::identity::Ours;
use crate::engine::pull::AbortOnDrop;
use crate::engine::{Action, EngineEvent, Events, MAX_QUEUED_EVENTS};

const FIRST_PAUSE_MS: u64 = 100;
const LONGEST_PAUSE_MS: u64 = 5_000;
/// A new stream begins this far back, so that nothing falls between a list and the stream.
const OVERLAP_S: u64 = 2;

pub(super) fn subscribe(docker: Docker, ours: Ours) -> Events {
    let (sender, receiver) = mpsc::channel(MAX_QUEUED_EVENTS);
    let task = tokio::task::spawn_local(async move { follow(&docker, &ours, &sender).await });
    Events { receiver, _task: Some(AbortOnDrop(task.abort_handle())) }
}

/// Ends when nobody listens any more.
async fn follow(docker: &Docker, ours: &Ours, sender: &mpsc::Sender<EngineEvent>) {
    let mut pause_ms = FIRST_PAUSE_MS;
    loop {
        let Ok(stood) = follow_once(docker, ours, sender).await else { return };
        if stood == Stood::Yes {
            pause_ms = FIRST_PAUSE_MS;
            if sender.send(EngineEvent::Lost).await.is_err() {
                return;
            }
        }
        tokio::time::sleep(Duration::from_millis(pause_ms)).await;
        pause_ms = (pause_ms * 2).min(LONGEST_PAUSE_MS);
    }
}

/// Whether a stream was ever there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stood {
    Yes,
    No,
}

/// Nobody listens.
struct Unheard;

/// Follows one stream to its end.
async fn follow_once(
    docker: &Docker,
    ours: &Ours,
    sender: &mpsc::Sender<EngineEvent>,
) -> Result<Stood, Unheard> {
    let Ok(client) = docker.client() else { return Ok(Stood::No) };
    let since = (clock::unix_ms() / 1000).saturating_sub(OVERLAP_S).to_string();
    let mut filters = observe::label_filter(ours);
    filters.insert("type".to_owned(), vec!["container".to_owned()]);
    let actions = ["create", "start", "die", "oom", "destroy"].map(str::to_owned);
    filters.insert("event".to_owned(), actions.to_vec());
    let options = query::EventsOptionsBuilder::new().since(&since).filters(&filters).build();
    let mut stream = Box::pin(client.events(Some(options)));
    // The client tells nothing before the first event: a ping that is answered while the stream has not ended says that
    // it stands.
    let ping = within(QUERY_DEADLINE_MS, client.ping());
    tokio::pin!(ping);
    let mut stood = Stood::No;
    loop {
        tokio::select! {
            // Cancel-safe: the stream keeps what it has read.
            message = stream.next() => match message {
                Some(Ok(message)) => {
                    let Some(event) = event(message) else { continue };
                    sender.send(event).await.map_err(|_| Unheard)?;
                }
                Some(Err(_)) | None => return Ok(stood),
            },
            // Polled to its end once.
            answer = &mut ping, if stood == Stood::No => {
                if answer.is_err() {
                    return Ok(stood);
                }
                stood = Stood::Yes;
                sender.send(EngineEvent::Restored).await.map_err(|_| Unheard)?;
            }
            // Cancel-safe: only waits.
            () = sender.closed() => return Err(Unheard),
        }
    }
}

fn event(message: EventMessage) -> Option<EngineEvent> {
    let action = match message.action?.as_str() {
        "create" => Action::Create,
        "start" => Action::Start,
        "die" => Action::Die,
        "oom" => Action::Oom,
        "destroy" => Action::Destroy,
        _ => return None,
    };
    Some(EngineEvent::Container { id: message.actor?.id?, action })
}
