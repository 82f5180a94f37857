//! Answers without a length: what instances write, what commands in them write, and what a board finds of itself, one JSON document per line.
//!
//! ```text
//! request -> nodes to ask -> per node: a signed command, its parts as they come -> lines -> client
//!                                      kept while somebody listens; what is not taken is not told further
//! ```
//! A client that goes away ends all its streams; so does a coordinator that dies, for nobody keeps them then.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::body::{Body, Bytes};
use axum::extract::{Path as UrlPath, Query, State as Shared};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse as _, Json};
use futures_util::stream;
use protocol::command::{
    Act, End, Exec, KEEP_EVERY_S, LEASE_S, Logs, MAX_LINES, Part, WINDOW, What,
};
use protocol::id::{CommandId, NodeId, NodeName};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep};

use super::Api;
use super::caller::{Caller, Peer};
use super::problem::{Answer, Failed};
use super::write::{Of, service_id};
use crate::data_dir::random;
use crate::role::Role;
use crate::state::commands::Target;
use crate::state::shown::StreamShown;

/// Lines that the client has not taken.
const MAX_LINES_WAITING: usize = 8;
/// Nodes that one request asks.
const MAX_NODES_ASKED: usize = 64;
/// A node that is there answers within this, one more hello included.
const FIRST_WITHIN: Duration = Duration::from_secs(15);
/// How soon somebody who was revoked hears no more.
const LOOK_EVERY: Duration = Duration::from_secs(2);
const KEEP_EVERY: Duration = Duration::from_secs(KEEP_EVERY_S);
/// A node that was gone for this long has ended the stream, or will when it is back: nobody could keep it meanwhile.
const GONE_AFTER: Duration = Duration::from_secs(LEASE_S - KEEP_EVERY_S);
/// Lines twice are better than none: clocks of boards know seconds.
const ONCE_MORE_S: u64 = 2;

/// Which lines are wanted.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct LogsWanted {
    node: Option<NodeName>,
    instance: Option<String>,
    lines: Option<u32>,
    since_s: Option<u64>,
    follow: bool,
    previous: bool,
}

/// What is to be run, and where.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExecWanted {
    /// On this node; none: on the first that runs the service and is heard of.
    pub node: Option<NodeName>,
    /// In this instance; none: in the youngest there.
    pub instance: Option<String>,
    /// The program and its arguments.
    pub command: Vec<String>,
}

pub(super) async fn logs(
    Shared(api): Shared<Arc<Api>>,
    Extension(peer): Extension<Peer>,
    UrlPath(of): Of,
    Query(wanted): Query<LogsWanted>,
) -> Answer {
    let id = service_id(of);
    let LogsWanted { node, instance, lines, since_s, follow, previous } = wanted;
    let service = id.name.clone();
    let lines = lines.unwrap_or(MAX_LINES).min(MAX_LINES);
    let targets = api.fleet.ask(move |state, _| state.whom_to_ask(&id, node.as_ref())).await??;
    if targets.len() > MAX_NODES_ASKED {
        let message = format!(
            "{service} runs on {} nodes, and {MAX_NODES_ASKED} are asked at once; name one with --node",
            targets.len()
        );
        return Err(Failed::new(StatusCode::CONFLICT, "too_many_nodes", message));
    }
    let act = Act::Logs(Logs { service, instance, lines, since_s, follow, previous });
    Ok(answer(&Listening { api, peer, least: Role::Viewer }, targets, &act))
}

pub(super) async fn exec(
    Shared(api): Shared<Arc<Api>>,
    Extension(peer): Extension<Peer>,
    UrlPath(of): Of,
    Json(wanted): Json<ExecWanted>,
) -> Answer {
    let id = service_id(of);
    let ExecWanted { node, instance, command } = wanted;
    let exec = Exec { service: id.name.clone(), instance, command };
    exec.check().map_err(|refused| {
        Failed::new(StatusCode::BAD_REQUEST, refused.code(), refused.to_string())
    })?;
    let of = id.clone();
    let targets = api.fleet.ask(move |state, _| state.whom_to_ask(&of, node.as_ref())).await??;
    let first = targets.iter().find(|target| target.online).or(targets.first()).cloned();
    let Some(target) = first else {
        let message = format!("no node runs {id}; `pith ps` shows where it runs");
        return Err(Failed::new(StatusCode::CONFLICT, "command_no_such_instance", message));
    };
    let listening = Listening { api, peer, least: Role::Operator };
    Ok(answer(&listening, vec![target], &Act::Exec(exec)))
}

pub(super) async fn doctor(
    Shared(api): Shared<Arc<Api>>,
    Extension(peer): Extension<Peer>,
    UrlPath(who): UrlPath<String>,
) -> Answer {
    let target = api.fleet.ask(move |state, _| state.whom_to_examine(&who)).await??;
    Ok(answer(&Listening { api, peer, least: Role::Viewer }, vec![target], &Act::Doctor))
}

/// Who listens, and what they must be for as long as they do.
#[derive(Debug, Clone)]
struct Listening {
    api: Arc<Api>,
    peer: Peer,
    least: Role,
}

fn answer(listening: &Listening, targets: Vec<Target>, act: &Act) -> axum::response::Response {
    let (out, lines) = mpsc::channel::<Bytes>(MAX_LINES_WAITING);
    for target in targets {
        let told =
            Told { listening: listening.clone(), node: target.name.clone(), out: out.clone() };
        let act = act.clone();
        tokio::spawn(async move {
            // A client that goes away wants no more lines, and a coordinator that stops says none.
            let _ = told.tell(&target, act).await;
        });
    }
    let lines = stream::unfold(lines, |mut lines| async move {
        let line = lines.recv().await?;
        Some((Ok::<_, Infallible>(line), lines))
    });
    ([(CONTENT_TYPE, "application/x-ndjson")], Body::from_stream(lines)).into_response()
}

/// One node's part of an answer.
#[derive(Debug)]
struct Told {
    listening: Listening,
    node: NodeName,
    out: mpsc::Sender<Bytes>,
}

/// Nobody listens any more.
#[derive(Debug)]
struct Over;

/// How a stream ended.
enum Passed {
    /// With its last part, or without a first.
    Ended,
    /// Its node went, or does not know it any more.
    Broken {
        why: &'static str,
        /// When something of it came last.
        heard: Instant,
    },
}

/// Whether the node of a stream is there, look after look.
struct Watched {
    speaks: Option<u64>,
    gone_since: Option<Instant>,
}

impl Watched {
    /// Why the stream is over, once it is.
    fn look(&mut self, (online, speaks): (bool, Option<u64>)) -> Option<&'static str> {
        let gone_for = self.gone_since.map_or(Duration::ZERO, |since| since.elapsed());
        if online {
            self.gone_since = None;
        } else {
            self.gone_since.get_or_insert_with(Instant::now);
        }
        if online && speaks != self.speaks && self.speaks.is_some() {
            return Some("its agent has started anew");
        }
        (gone_for >= GONE_AFTER).then_some("it went away")
    }
}

/// What came first.
enum Next {
    Part(Option<Part>),
    Keep,
    Look,
    Silence,
    Gone,
}

impl Told {
    async fn tell(&self, target: &Target, act: Act) -> Result<(), Over> {
        if !target.online {
            return self.away("it is offline").await;
        }
        let mut act = act;
        loop {
            let (why, heard) = match self.once(target, act.clone()).await? {
                Passed::Ended => return Ok(()),
                Passed::Broken { why, heard } => (why, heard),
            };
            self.away(why).await?;
            let Some(more) = gone_on_with(&act) else { return Ok(()) };
            self.until_back(&target.id).await?;
            let since_s = Some(heard.elapsed().as_secs() + ONCE_MORE_S);
            act = Act::Logs(Logs { since_s, lines: MAX_LINES, ..more });
        }
    }

    /// Waits until the node is heard of again.
    async fn until_back(&self, node: &NodeId) -> Result<(), Over> {
        let mut look = interval_at(Instant::now() + LOOK_EVERY, LOOK_EVERY);
        loop {
            // Cancel-safe: both only wait.
            tokio::select! {
                _ = look.tick() => {}
                () = self.out.closed() => return Err(Over),
            }
            self.check_role().await?;
            if self.who_speaks(node).await?.0 {
                return Ok(());
            }
            // A client that waits knows that we are there.
            let _ = self.out.try_send(document(&StreamShown::Alive));
        }
    }

    async fn who_speaks(&self, node: &NodeId) -> Result<(bool, Option<u64>), Over> {
        let (fleet, node) = (&self.listening.api.fleet, node.clone());
        fleet.ask(move |state, _| state.who_speaks(&node)).await.map_err(|_| Over)
    }

    async fn once(&self, target: &Target, act: Act) -> Result<Passed, Over> {
        let watched = Watched { speaks: self.who_speaks(&target.id).await?.1, gone_since: None };
        let (stream, fleet) = (new_id()?, &self.listening.api.fleet);
        let mut parts = fleet.streams().open(&stream);
        let (node, id): (NodeId, _) = (target.id.clone(), stream.clone());
        let asked = fleet.ask(move |state, at| state.command(&node, &id, act, at)).await;
        if !asked.map_err(|_| Over)? {
            self.away("the coordinator follows too many streams; try again").await?;
            return Ok(Passed::Ended);
        }
        let done = self.pass(&stream, &mut parts, (&target.id, watched)).await;
        if !matches!(done, Ok(Passed::Ended)) {
            self.end(&stream).await?;
        }
        done
    }

    /// Until its last part, or its node is gone; [`Over`] where nobody wants it any more or nothing comes.
    async fn pass(
        &self,
        stream: &CommandId,
        parts: &mut mpsc::Receiver<Part>,
        (node, mut watched): (&NodeId, Watched),
    ) -> Result<Passed, Over> {
        let mut keep = interval_at(Instant::now() + KEEP_EVERY, KEEP_EVERY);
        keep.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut look = interval_at(Instant::now() + LOOK_EVERY, LOOK_EVERY);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut silence = std::pin::pin!(sleep(FIRST_WITHIN));
        let (mut number, mut kept, mut heard) = (0, 0, Instant::now());
        loop {
            // Cancel-safe: a receive takes nothing before it is ready, nor does a tick; the sleep is pinned outside.
            let next = tokio::select! {
                part = parts.recv() => Next::Part(part),
                _ = keep.tick() => Next::Keep,
                _ = look.tick() => Next::Look,
                () = silence.as_mut(), if number == 0 => Next::Silence,
                () = self.out.closed() => Next::Gone,
            };
            match next {
                Next::Gone | Next::Part(None) => return Err(Over),
                Next::Silence => {
                    self.away("it did not answer within 15 s").await?;
                    return Err(Over);
                }
                Next::Look => {
                    self.check_role().await?;
                    if let Some(why) = watched.look(self.who_speaks(node).await?) {
                        return Ok(Passed::Broken { why, heard });
                    }
                }
                Next::Keep => self.keep(stream, number).await?,
                // Played again, or sent twice on its way.
                Next::Part(Some(part)) if part.number < number => {}
                Next::Part(Some(part)) => {
                    if part.number > number {
                        let (node, parts) = (self.node.clone(), part.number - number);
                        self.say(&StreamShown::Lost { node, parts }, stream, number).await?;
                    }
                    (number, heard) = (part.number + 1, Instant::now());
                    if self.shown(part.what, stream, number).await? {
                        return Ok(Passed::Ended);
                    }
                    if number >= kept + WINDOW / 2 {
                        kept = number;
                        self.keep(stream, number).await?;
                    }
                }
            }
        }
    }

    /// Whether it was the last.
    async fn shown(&self, what: What, stream: &CommandId, taken: u64) -> Result<bool, Over> {
        let node = self.node.clone();
        let (line, is_last) = match what {
            What::Begun { .. } => return Ok(false),
            What::Output(output) => {
                let (instance, channel, bytes) = (output.instance, output.channel, output.bytes);
                (StreamShown::Output { node, instance, channel, bytes }, false)
            }
            What::End(end) => (StreamShown::End { node, end }, true),
        };
        self.say(&line, stream, taken).await?;
        Ok(is_last)
    }

    /// Waits until the client takes a line, and keeps the stream meanwhile.
    async fn say(&self, line: &StreamShown, stream: &CommandId, taken: u64) -> Result<(), Over> {
        let line = document(line);
        loop {
            // Cancel-safe: a place that was not given is not taken.
            tokio::select! {
                place = self.out.reserve() => {
                    place.map_err(|_| Over)?.send(line);
                    return Ok(());
                }
                () = sleep(KEEP_EVERY) => {
                    self.check_role().await?;
                    self.keep(stream, taken).await?;
                }
            }
        }
    }

    async fn away(&self, why: &str) -> Result<(), Over> {
        let line = StreamShown::Away { node: self.node.clone(), why: why.to_owned() };
        self.out.send(document(&line)).await.map_err(|_| Over)
    }

    /// Whoever was revoked meanwhile hears no more.
    async fn check_role(&self) -> Result<(), Over> {
        let Listening { api, peer, least } = &self.listening;
        if let Peer::Remote { .. } = peer {
            let caller = Caller::of(peer, api).await.map_err(|_| Over)?;
            if caller.role.is_none_or(|role| role < *least) {
                let message = "you may not listen any more".to_owned();
                let end = End::Refused { code: "role".to_owned(), message };
                let _ =
                    self.out.try_send(document(&StreamShown::End { node: self.node.clone(), end }));
                return Err(Over);
            }
        }
        Ok(())
    }

    async fn keep(&self, stream: &CommandId, taken: u64) -> Result<(), Over> {
        let (stream, id, fleet) = (stream.clone(), new_id()?, &self.listening.api.fleet);
        let kept = fleet.ask(move |state, at| state.keep_stream(&stream, taken, &id, at)).await;
        // A client that has lines to take knows that we are there.
        let _ = self.out.try_send(document(&StreamShown::Alive));
        kept.map_err(|_| Over)
    }

    async fn end(&self, stream: &CommandId) -> Result<(), Over> {
        let (stream, id) = (stream.clone(), new_id()?);
        let fleet = &self.listening.api.fleet;
        fleet.ask(move |state, at| state.end_stream(&stream, &id, at)).await.map_err(|_| Over)
    }
}

/// What goes on by itself once its node is back: reading what is written from now on. A command is not run twice.
fn gone_on_with(act: &Act) -> Option<Logs> {
    match act {
        Act::Logs(logs) if logs.follow => Some(logs.clone()),
        Act::Logs(_)
        | Act::Exec(_)
        | Act::Doctor
        | Act::Watch { .. }
        | Act::Keep { .. }
        | Act::End { .. } => None,
    }
}

fn document(line: &StreamShown) -> Bytes {
    let mut text = serde_json::to_vec(line).expect("answers are plain data with string keys");
    text.push(b'\n');
    text.into()
}

fn new_id() -> Result<CommandId, Over> {
    random().map(CommandId::from_random).map_err(|error| {
        tracing::error!(%error, "no randomness for a command");
        Over
    })
}
