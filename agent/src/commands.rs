//! Which commands of the director are done, and in which containers. Pure: time is an argument.
//!
//! ```text
//! signed for this node (protocol::command::accept) -> of one of my last hellos -> in time by my own clock -> not done before
//!   -> what it asks for is allowed and here -> a place for its stream
//! ```
//! Nothing of it is written down: an agent that starts anew knows none of its old hellos, so that every command from before is
//! refused by itself.

use std::collections::{BTreeMap, VecDeque};

use planner::Now;
use protocol::command::{
    Act, Command, Exec, INPUT_WINDOW, LEASE_S, Logs, MAX_FORWARDS, MAX_LIFE_S, MAX_LINES,
    MAX_STREAMS, NONCES, Refused,
};
use protocol::id::{CommandId, ServiceName};

use crate::engine::{Container, ContainerState, Source};

/// Commands that are within their life and remembered as done, and as many connections beside them.
const MAX_DONE: usize = 1_024;
/// Streams that ended lately: what keeps them may have been on its way.
const MAX_ENDED: usize = 32;
const ENDED_LATELY_MS: u64 = 5_000;
/// Instances that one command reads at once.
pub const MAX_INSTANCES: usize = 32;

/// A container that was read to its end is read again after this: a log that cannot be read must not keep a board busy.
pub const REJOIN_MS: u64 = 1_000;

/// What a stream reads: under which name, which container, and what of it.
pub type Reading = (String, String, Source);

/// What a node remembers of commands.
#[derive(Debug, Default)]
pub struct Commands {
    /// Of the last hellos, and when each was said; the newest last.
    hellos: VecDeque<(String, Now)>,
    /// What was done, until nobody would take it any more.
    done: BTreeMap<CommandId, Now>,
    /// The same of connections, which come by the dozen: they are in no other command's way.
    forwarded: BTreeMap<CommandId, Now>,
    streams: BTreeMap<CommandId, Stream>,
    ended: VecDeque<(CommandId, Now)>,
}

/// An answer under way.
#[derive(Debug, Clone)]
struct Stream {
    /// Of the next part.
    number: u64,
    /// When it ends unless it is kept.
    until: Now,
    kind: Kind,
    follows: Option<Follows>,
    /// None: it takes no input.
    inputs: Option<Inputs>,
}

/// What came for a stream, and how much of it was passed on.
#[derive(Debug, Clone, Copy, Default)]
struct Inputs {
    /// The number of the next one.
    next: u64,
    taken: u64,
}

/// What a stream is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// Something is told.
    Told,
    /// A command runs in a container of this service.
    Run {
        /// Which.
        inside: ServiceName,
        /// It takes input.
        is_typed: bool,
    },
    /// A connection to a port in one.
    Forward {
        /// Of which.
        inside: ServiceName,
    },
}

impl Kind {
    const fn is_forward(&self) -> bool {
        match self {
            Self::Forward { .. } => true,
            Self::Told | Self::Run { .. } => false,
        }
    }

    const fn is_typed(&self) -> bool {
        match self {
            Self::Forward { .. } => true,
            Self::Told => false,
            Self::Run { is_typed, .. } => *is_typed,
        }
    }

    const fn inside(&self) -> Option<&ServiceName> {
        match self {
            Self::Forward { inside } | Self::Run { inside, .. } => Some(inside),
            Self::Told => None,
        }
    }
}

/// What becomes of an input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fed {
    /// It is the next: pass it on.
    Next,
    /// It came before; so many were passed on.
    Known {
        /// So many.
        taken: u64,
    },
    /// One before it is missing, too many wait, or there is no such stream: it will be said again.
    Not,
}

/// A stream that goes on with whatever runs of a service: it ends when nobody keeps it.
#[derive(Debug, Clone)]
struct Follows {
    service: ServiceName,
    /// By the engine's id; none: it is read.
    read: BTreeMap<String, Option<ReadOut>>,
}

/// Up to when a container was read.
#[derive(Debug, Clone, Copy)]
struct ReadOut {
    at: Now,
    /// Only a gathering of at least this number knows whether it runs again.
    seen_from: u64,
}

impl Commands {
    /// A hello with this nonce is said now. A nonce that anybody could foresee lets no command in.
    pub fn greeted(&mut self, nonce: String, now: Now) {
        if nonce.bytes().all(|byte| byte == b'0') {
            return;
        }
        if self.hellos.len() == NONCES {
            self.hellos.pop_front();
        }
        self.hellos.push_back((nonce, now));
    }

    /// Takes a command that the director has signed for this node: what begins something once, what keeps or ends a stream as
    /// often as it comes, for that changes nothing.
    ///
    /// # Errors
    /// Where it is not fresh, or was done before.
    pub fn take(&mut self, command: &Command, now: Now) -> Result<(), Refused> {
        let said = self.hellos.iter().find(|(nonce, _)| *nonce == command.nonce);
        let (_, said_at) = said.ok_or(Refused::UnknownNonce)?;
        let age_s = now.since(*said_at) / 1_000;
        if age_s > command.valid_s {
            return Err(Refused::Expired { late_s: age_s - command.valid_s });
        }
        let life_s = command.valid_s - age_s;
        if life_s > MAX_LIFE_S {
            return Err(Refused::LivesTooLong { life_s });
        }
        let done = match command.act {
            Act::Logs(_) | Act::Exec(_) | Act::Doctor | Act::Watch { .. } => &mut self.done,
            Act::Forward(_) => &mut self.forwarded,
            Act::Input(_) | Act::Resize { .. } | Act::Keep { .. } | Act::End { .. } => {
                return Ok(());
            }
        };
        // The second that is counted as not over yet is over after it.
        let until = now.plus((life_s + 2) * 1_000);
        done.retain(|_, until| *until > now);
        if done.contains_key(&command.id) {
            return Err(Refused::Replayed);
        }
        if done.len() >= MAX_DONE {
            return Err(Refused::TooMany);
        }
        done.insert(command.id.clone(), until);
        Ok(())
    }

    /// Begins a stream.
    ///
    /// # Errors
    /// Where all places are taken.
    pub fn begin(&mut self, stream: CommandId, kind: Kind, now: Now) -> Result<(), Refused> {
        let is_forward = kind.is_forward();
        let alike = self.streams.values().filter(|one| one.kind.is_forward() == is_forward).count();
        if alike >= if is_forward { MAX_FORWARDS } else { MAX_STREAMS } {
            return Err(Refused::Busy);
        }
        let inputs = kind.is_typed().then(Inputs::default);
        let begun = Stream { number: 0, until: leased(now), kind, follows: None, inputs };
        self.streams.insert(stream, begun);
        Ok(())
    }

    /// An input of this number came for a stream.
    pub fn fed(&mut self, stream: &CommandId, number: u64) -> Fed {
        let inputs = self.streams.get_mut(stream).and_then(|stream| stream.inputs.as_mut());
        let Some(inputs) = inputs else { return Fed::Not };
        if number < inputs.next {
            return Fed::Known { taken: inputs.taken };
        }
        if number > inputs.next || inputs.next - inputs.taken >= INPUT_WINDOW {
            return Fed::Not;
        }
        inputs.next += 1;
        Fed::Next
    }

    /// One more input of a stream was passed on; how many in all.
    pub fn took(&mut self, stream: &CommandId) -> Option<u64> {
        let inputs = self.streams.get_mut(stream)?.inputs.as_mut()?;
        inputs.taken += 1;
        Some(inputs.taken)
    }

    /// A stream goes on with what runs of a service from now on, beside what it reads of these containers.
    pub fn follow(
        &mut self,
        stream: &CommandId,
        (service, containers): (&ServiceName, &[Container]),
        readings: &[Reading],
        (number, now): (u64, Now),
    ) {
        let Some(stream) = self.streams.get_mut(stream) else { return };
        let before = of_service(service, containers).filter(|one| has_begun(one)).map(|one| {
            let is_read = readings.iter().any(|(_, container, _)| *container == one.id);
            (one.id.clone(), (!is_read).then_some(ReadOut { at: now, seen_from: number }))
        });
        stream.follows = Some(Follows { service: service.clone(), read: before.collect() });
    }

    /// A container of a stream was read to its end; whether it runs again is known from the gathering of this number on.
    pub fn read_out(&mut self, stream: &CommandId, container: &str, (number, now): (u64, Now)) {
        let follows = self.streams.get_mut(stream).and_then(|stream| stream.follows.as_mut());
        if let Some(read) = follows.and_then(|follows| follows.read.get_mut(container)) {
            *read = Some(ReadOut { at: now, seen_from: number });
        }
    }

    /// What streams that follow read from now on too: all of an instance that is new, and of one that runs again what came since.
    pub fn to_join(
        &mut self,
        containers: &[Container],
        (number, now): (u64, Now),
    ) -> Vec<(CommandId, Vec<Reading>)> {
        let mut joining = Vec::new();
        for (id, stream) in &mut self.streams {
            let Some(follows) = &mut stream.follows else { continue };
            let readings = follows.join(containers, number, now);
            if !readings.is_empty() {
                joining.push((id.clone(), readings));
            }
        }
        joining
    }

    /// Somebody still listens; false: there is no such stream.
    pub fn keep(&mut self, stream: &CommandId, now: Now) -> bool {
        let known = self.streams.get_mut(stream);
        known.map(|stream| stream.until = leased(now)).is_some()
    }

    /// The number of the next part of a stream; none: it is over.
    pub fn next_number(&mut self, stream: &CommandId) -> Option<u64> {
        let stream = self.streams.get_mut(stream)?;
        stream.number += 1;
        Some(stream.number - 1)
    }

    /// A stream is over; the number of its last part, if it was not over before.
    pub fn end(&mut self, stream: &CommandId, now: Now) -> Option<u64> {
        let ended = self.streams.remove(stream)?;
        if self.ended.len() == MAX_ENDED {
            self.ended.pop_front();
        }
        self.ended.push_back((stream.clone(), now));
        Some(ended.number)
    }

    /// Whether whoever keeps a stream waits in vain: it is not there, and did not end just now.
    #[must_use]
    pub fn has_forgotten(&self, stream: &CommandId, now: Now) -> bool {
        let is_it = |(id, at): &(CommandId, Now)| id == stream && now.since(*at) < ENDED_LATELY_MS;
        !self.streams.contains_key(stream) && !self.ended.iter().any(is_it)
    }

    /// Streams that are inside services where nobody is let in.
    #[must_use]
    pub fn not_let_in(&self, lets_in: impl Fn(&ServiceName) -> bool) -> Vec<CommandId> {
        let is_in = |stream: &Stream| stream.kind.inside().is_some_and(|service| !lets_in(service));
        let inside = self.streams.iter().filter(|(_, stream)| is_in(stream));
        inside.map(|(id, _)| id.clone()).collect()
    }

    /// Streams that nobody keeps any more.
    #[must_use]
    pub fn unheard(&self, now: Now) -> Vec<CommandId> {
        let over = self.streams.iter().filter(|(_, stream)| now >= stream.until);
        over.map(|(id, _)| id.clone()).collect()
    }

    /// When the next stream ends unless it is kept.
    #[must_use]
    pub fn wake_at(&self) -> Option<Now> {
        self.streams.values().map(|stream| stream.until).min()
    }
}

impl ReadOut {
    const fn is_over(self, number: u64, now: Now) -> bool {
        number >= self.seen_from && now.since(self.at) >= REJOIN_MS
    }
}

impl Follows {
    fn join(&mut self, containers: &[Container], number: u64, now: Now) -> Vec<Reading> {
        let is_there = |id: &String| containers.iter().any(|container| container.id == *id);
        self.read.retain(|id, read| read.is_none() || is_there(id));
        let mut room = MAX_INSTANCES - self.read.values().filter(|read| read.is_none()).count();
        let mut readings = Vec::new();
        for container in of_service(&self.service, containers).filter(|one| has_begun(one)) {
            let since_s = match self.read.get(&container.id) {
                None => None,
                Some(Some(out)) if out.is_over(number, now) && runs(container) => {
                    // The engine knows seconds: a line twice is better than none.
                    Some(now.since(out.at).div_ceil(1_000) + 1)
                }
                Some(_) => continue,
            };
            if room == 0 {
                break;
            }
            room -= 1;
            self.read.insert(container.id.clone(), None);
            let source = Source::Logs { lines: MAX_LINES, since_s, follow: true };
            readings.push((container.name.clone(), container.id.clone(), source));
        }
        readings
    }
}

fn leased(now: Now) -> Now {
    now.plus(LEASE_S * 1_000)
}

/// The containers whose logs are asked for, by name.
///
/// # Errors
/// Where there are none.
pub fn to_read<'a>(
    logs: &Logs,
    containers: &'a [Container],
) -> Result<Vec<&'a Container>, Refused> {
    let service = &logs.service;
    let begun = of_service(service, containers).filter(|container| has_begun(container));
    let mut of_it: Vec<&Container> = begun.collect();
    if let Some(name) = &logs.instance {
        of_it.retain(|container| container.name == *name);
    } else if logs.previous {
        of_it.retain(|container| !runs(container));
    } else if of_it.iter().any(|container| runs(container)) {
        of_it.retain(|container| runs(container));
    } else {
        // Nothing runs: what ended last says why.
        let newest = of_it.iter().min_by_key(|container| age_ms(container));
        let template = newest.map(|container| container.identity.template.clone());
        of_it.retain(|container| Some(&container.identity.template) == template.as_ref());
    }
    of_it.sort_by(|a, b| a.name.cmp(&b.name));
    of_it.truncate(MAX_INSTANCES);
    match (of_it.is_empty(), &logs.instance) {
        (false, _) => Ok(of_it),
        (true, Some(name)) => Err(Refused::NoSuchInstance(no_instance(service, name))),
        (true, None) if logs.previous => Err(Refused::NoSuchInstance(format!(
            "this node keeps no instance of {service} that has ended"
        ))),
        (true, None) => {
            Err(Refused::NoSuchInstance(format!("this node has no instance of {service}")))
        }
    }
}

/// The container that runs a command: the one that is named, else the youngest that runs.
///
/// # Errors
/// Where it does not run, or nothing does.
pub fn to_run_in<'a>(exec: &Exec, containers: &'a [Container]) -> Result<&'a Container, Refused> {
    exec.check()?;
    running((&exec.service, exec.instance.as_ref()), containers)
}

/// The instance that is named and runs, else the youngest that does.
///
/// # Errors
/// Where it does not run, or nothing does.
pub fn running<'a>(
    (service, instance): (&ServiceName, Option<&String>),
    containers: &'a [Container],
) -> Result<&'a Container, Refused> {
    let running = of_service(service, containers).filter(|container| runs(container));
    match instance {
        Some(name) => {
            let named = of_service(service, containers).find(|container| container.name == *name);
            let named = named.ok_or_else(|| Refused::NoSuchInstance(no_instance(service, name)))?;
            if runs(named) {
                return Ok(named);
            }
            Err(Refused::NoSuchInstance(format!("{name} does not run")))
        }
        None => {
            running.min_by_key(|container| (age_ms(container), &container.name)).ok_or_else(|| {
                Refused::NoSuchInstance(format!("no instance of {service} runs on this node"))
            })
        }
    }
}

fn no_instance(service: &ServiceName, name: &str) -> String {
    let name: String = name.chars().take(80).flat_map(char::escape_default).collect();
    format!("this node has no instance {name} of {service}; `pith ps` lists them")
}

fn of_service<'a>(
    service: &ServiceName,
    containers: &'a [Container],
) -> impl Iterator<Item = &'a Container> {
    containers.iter().filter(move |container| container.identity.service == *service)
}

fn has_begun(container: &Container) -> bool {
    container.state != ContainerState::Created
}

fn runs(container: &Container) -> bool {
    matches!(container.state, ContainerState::Running { .. })
}

fn age_ms(container: &Container) -> u64 {
    match container.state {
        ContainerState::Created => u64::MAX,
        ContainerState::Running { age_ms } | ContainerState::Exited { age_ms, .. } => age_ms,
    }
}

#[cfg(test)]
mod tests;
