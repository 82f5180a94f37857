//! One node's part of an answer: the command, its parts as they come, and what is typed. Ends with whoever listens.

use std::time::Duration;

use axum::body::Bytes;
use protocol::command::{
    Act, End, Exec, KEEP_EVERY_S, LEASE_S, Logs, MAX_LINES, Part, WINDOW, What,
};
use protocol::id::{CommandId, NodeId, NodeName};
use tokio::sync::mpsc;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at, sleep};

use super::Listening;
use super::typed::{Typed, Typing};
use crate::api::caller::{Caller, Peer};
use crate::data_dir::random;
use crate::state::commands::Target;
use crate::state::shown::StreamShown;

/// A node that is there answers within this, one more hello included.
const FIRST_WITHIN: Duration = Duration::from_secs(15);
/// How soon somebody who was revoked hears no more.
const LOOK_EVERY: Duration = Duration::from_secs(2);
const KEEP_EVERY: Duration = Duration::from_secs(KEEP_EVERY_S);
/// A node that was gone for this long has ended the stream, or will when it is back: nobody could keep it meanwhile.
const GONE_AFTER: Duration = Duration::from_secs(LEASE_S - KEEP_EVERY_S);
/// Lines twice are better than none: clocks of boards know seconds.
const ONCE_MORE_S: u64 = 2;

/// One node's part of an answer.
#[derive(Debug)]
pub(super) struct Told {
    pub(super) listening: Listening,
    pub(super) node: NodeName,
    pub(super) out: mpsc::Sender<Bytes>,
}

/// Nobody listens any more.
#[derive(Debug)]
pub(super) struct Over;

/// How a stream ended.
enum Passed {
    /// With its last part.
    Ended,
    /// No part of it came.
    Silent,
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

/// Parts of a stream that were passed on.
#[derive(Default)]
struct Count {
    /// The number of the next one.
    next: u64,
    /// Without those that say what was typed: the node counts them so ([`WINDOW`]). Those that were lost are counted, whatever they said, so
    /// that a node never waits for what will not be taken.
    taken: u64,
}

impl Count {
    /// One more; how many before it are missing, if any are.
    fn part(&mut self, part: &Part) -> Option<u64> {
        let missing = part.number - self.next;
        self.next = part.number + 1;
        self.taken += missing;
        match part.what {
            What::Taken { .. } => {}
            What::Begun { .. } | What::Output(_) | What::End(_) => self.taken += 1,
        }
        (missing > 0).then_some(missing)
    }
}

/// What came first.
enum Next {
    Part(Option<Part>),
    Typed(Option<Typed>),
    Keep,
    Look,
    Silence,
    Gone,
}

impl Told {
    /// Asks the node, and passes on what it says to the end, and to it what is typed.
    pub(super) async fn tell(
        &self,
        target: &Target,
        act: Act,
        mut typing: Typing,
    ) -> Result<(), Over> {
        if !target.online {
            return self.away("it is offline").await;
        }
        let mut act = act;
        loop {
            let (why, heard) = match self.once(target, act.clone(), &mut typing).await? {
                Passed::Ended | Passed::Silent => return Ok(()),
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

    async fn once(&self, target: &Target, act: Act, typing: &mut Typing) -> Result<Passed, Over> {
        let silence = silence_of(&act);
        let watched = Watched { speaks: self.who_speaks(&target.id).await?.1, gone_since: None };
        let (stream, fleet) = (new_id()?, &self.listening.api.fleet);
        let mut parts = fleet.streams().open(&stream);
        let (node, id): (NodeId, _) = (target.id.clone(), stream.clone());
        let asked = fleet.ask(move |state, at| state.command(&node, &id, act, at)).await;
        if !asked.map_err(|_| Over)? {
            self.away("the coordinator follows too many streams; try again").await?;
            return Ok(Passed::Ended);
        }
        let done = self.pass(&stream, &mut parts, typing, (&target.id, watched)).await;
        if !matches!(done, Ok(Passed::Ended)) {
            self.end(&stream).await?;
        }
        if matches!(done, Ok(Passed::Silent)) {
            self.away(silence).await?;
        }
        done
    }

    /// Until its last part, or its node is gone; [`Over`] where nobody wants it any more or nothing comes.
    async fn pass(
        &self,
        stream: &CommandId,
        parts: &mut mpsc::Receiver<Part>,
        typing: &mut Typing,
        (node, mut watched): (&NodeId, Watched),
    ) -> Result<Passed, Over> {
        let (mut keep, mut look) = (every(KEEP_EVERY), every(LOOK_EVERY));
        let mut silence = std::pin::pin!(sleep(FIRST_WITHIN));
        let (mut passed, mut kept, mut heard) = (Count::default(), 0, Instant::now());
        loop {
            // Cancel-safe: a receive takes nothing before it is ready, nor does a tick; the sleep is pinned outside.
            let next = tokio::select! {
                part = parts.recv() => Next::Part(part),
                typed = typing.next() => Next::Typed(typed),
                _ = keep.tick() => Next::Keep,
                _ = look.tick() => Next::Look,
                () = silence.as_mut(), if passed.next == 0 => Next::Silence,
                () = self.out.closed() => Next::Gone,
            };
            match next {
                Next::Gone | Next::Part(None) | Next::Typed(None) => return Err(Over),
                Next::Silence => return Ok(Passed::Silent),
                Next::Look => {
                    self.check_role().await?;
                    if let Some(why) = watched.look(self.who_speaks(node).await?) {
                        return Ok(Passed::Broken { why, heard });
                    }
                    for act in typing.again(Instant::now()) {
                        self.feed(stream, act).await?;
                    }
                }
                Next::Keep => self.keep(stream, passed.taken).await?,
                Next::Typed(Some(typed)) => {
                    let act = typing.act(stream, typed, Instant::now());
                    self.feed(stream, act).await?;
                }
                Next::Part(Some(Part { what: What::End(End::Forgotten), .. })) => {
                    return Ok(Passed::Broken {
                        why: "its agent does not know it any more",
                        heard,
                    });
                }
                // Played again, or sent twice on its way.
                Next::Part(Some(part)) if part.number < passed.next => {}
                Next::Part(Some(part)) => {
                    heard = Instant::now();
                    if let Some(parts) = passed.part(&part) {
                        let node = self.node.clone();
                        self.say(&StreamShown::Lost { node, parts }, stream, passed.taken).await?;
                    }
                    if let What::Taken { inputs } = part.what {
                        typing.taken(inputs, heard);
                        continue;
                    }
                    if self.shown(part.what, stream, passed.taken).await? {
                        return Ok(Passed::Ended);
                    }
                    if passed.taken >= kept + WINDOW / 2 {
                        kept = passed.taken;
                        self.keep(stream, kept).await?;
                    }
                }
            }
        }
    }

    /// Tells the node something about a stream.
    async fn feed(&self, stream: &CommandId, act: Act) -> Result<(), Over> {
        let (stream, id, fleet) = (stream.clone(), new_id()?, &self.listening.api.fleet);
        let fed = fleet.ask(move |state, at| state.feed_stream(&stream, act, &id, at)).await;
        fed.map_err(|_| Over)
    }

    /// Whether it was the last.
    async fn shown(&self, what: What, stream: &CommandId, taken: u64) -> Result<bool, Over> {
        let node = self.node.clone();
        let (line, is_last) = match what {
            What::Begun { .. } | What::Taken { .. } => return Ok(false),
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
        // A client that has lines to take knows that we are there.
        let _ = self.out.try_send(document(&StreamShown::Alive));
        self.feed(stream, Act::Keep { stream: stream.clone(), taken }).await
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
        | Act::Forward(_)
        | Act::Input(_)
        | Act::Resize { .. }
        | Act::Doctor
        | Act::Watch { .. }
        | Act::Keep { .. }
        | Act::End { .. } => None,
    }
}

/// Why a node that is there may say nothing.
const fn silence_of(act: &Act) -> &'static str {
    match act {
        Act::Exec(Exec { input: true, .. } | Exec { terminal: Some(_), .. }) | Act::Forward(_) => {
            "it did not answer within 15 s; an agent from before `pith exec -it` and `pith port-forward` does not (`pith agent status` \
             shows versions)"
        }
        Act::Logs(_)
        | Act::Exec(_)
        | Act::Input(_)
        | Act::Resize { .. }
        | Act::Doctor
        | Act::Watch { .. }
        | Act::Keep { .. }
        | Act::End { .. } => "it did not answer within 15 s",
    }
}

fn every(period: Duration) -> Interval {
    let mut ticks = interval_at(Instant::now() + period, period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
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
