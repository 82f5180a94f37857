//! Commands of the director: taken or refused here, done by the shell, answered part by part under the node's key.
//!
//! A refusal is answered where the command is the director's for this node, so that whoever asked hears of it; a replay is not,
//! for its stream may be under way. All are counted with the refusals of the inbox.

use std::net::SocketAddr;

use planner::Now;
use protocol::FORMAT;
use protocol::command::{
    Act as Asked, Command, End, Exec, Forward, Input, Logs, Output, Part, Refused, Terminal,
    WINDOW, What,
};
use protocol::envelope::Envelope;
use protocol::id::{CommandId, ServiceName};
use protocol::reason::Reason;
use protocol::topic::Up;
use tracing::info;

use super::acts::Act;
use super::agent::Agent;
use crate::commands::{Fed, Kind, REJOIN_MS, Reading, running, to_read, to_run_in};
use crate::engine::{Container, Source, Typed};
use crate::link::Outgoing;
use crate::observe::gather::Scope;

/// Commands that wait for a trust root or a manifest to be written.
pub(super) const MAX_COMMANDS: usize = 64;

/// What is to be done about a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stream {
    /// Read, and say what is read: [`super::Event::Stream`], which also tells its end.
    Begin {
        /// What is read.
        sources: Vec<Reading>,
        /// More may come: it ends only when it is ended.
        follows: bool,
        /// Ask the node's policy once more before anything runs inside a container.
        exec_in: Option<ServiceName>,
        /// What is typed may come ([`Stream::Type`]).
        is_typed: bool,
        /// So many outputs may be told before any is taken.
        window: u64,
    },
    /// Connect to a port of an instance, say what comes on it, and pass on what is typed.
    Connect {
        /// Its name.
        instance: String,
        /// Its port.
        address: SocketAddr,
        /// Ask the node's policy once more before.
        of: ServiceName,
        /// So many outputs may be told before any is taken.
        window: u64,
    },
    /// Pass this on, and say [`Streamed::Took`] once it is.
    Type(Typed),
    /// Its terminal has another size.
    Resize(Terminal),
    /// Examine the board, and say what is found.
    Examine {
        /// So many outputs may be told before any is taken.
        window: u64,
    },
    /// So many outputs may be told in all.
    Allow(u64),
    /// Read this too.
    Join(Vec<Reading>),
    /// End it; nothing more is told.
    End,
}

/// What a stream tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Streamed {
    /// Something was written.
    Output(Output),
    /// One more of what was typed was passed on.
    Took,
    /// A container of a stream that follows was read to its end.
    ReadOut {
        /// The engine's id.
        container: String,
    },
    /// It is over.
    Ended(End),
}

impl Agent {
    /// After the trust roots and manifests that came before them.
    pub(super) fn read_commands(&mut self, now: Now) {
        while !self.writing.is_accepting() {
            let Some(bytes) = self.incoming_commands.pop_front() else { break };
            match self.inbox.receive_command(&bytes) {
                Ok(command) => self.command(command, now),
                Err(refusal) => {
                    self.voice.has_news = true;
                    self.tell_refused(Reason::CommandRefused, &refusal);
                }
            }
        }
        for stream in self.commands.unheard(now) {
            self.end_stream(&stream, End::Unheard, now);
        }
    }

    fn command(&mut self, command: Command, now: Now) {
        let done = self.commands.take(&command, now).and_then(|()| self.obey(&command, now));
        let Err(refused) = done else { return };
        if counts(&refused) {
            self.voice.has_news = true;
            let refusal = self.inbox.refuse_command(&refused);
            self.tell_refused(Reason::CommandRefused, &refusal);
        }
        if Refused::is_stale(refused.code()) {
            // The director is there and has not heard the newest hello: one more, and it can ask again.
            let at = self.freshness.may_ask_at(now);
            self.voice.greet_by(at);
        }
        if begins_a_stream(&command.act) && refused != Refused::Replayed {
            let (code, message) = (refused.code().to_owned(), refused.to_string());
            self.say_part(&command.id, 0, What::End(End::Refused { code, message }));
        }
    }

    fn obey(&mut self, command: &Command, now: Now) -> Result<(), Refused> {
        match &command.act {
            Asked::Logs(logs) => self.begin_logs(&command.id, logs, now),
            Asked::Exec(exec) => self.begin_exec(&command.id, exec, now),
            Asked::Forward(forward) => self.begin_forward(&command.id, forward, now),
            Asked::Input(input) => {
                self.pass_on(input);
                Ok(())
            }
            Asked::Resize { stream, terminal } => {
                self.acts.push(Act::Stream(stream.clone(), Stream::Resize(*terminal)));
                Ok(())
            }
            Asked::Doctor => self.begin_examination(&command.id, now),
            Asked::Watch { every_ms, for_s } => {
                self.voice.watch(*every_ms, *for_s, now);
                Ok(())
            }
            Asked::Keep { stream, taken } => {
                if self.commands.keep(stream, now) {
                    let allowed = taken.saturating_add(WINDOW);
                    self.acts.push(Act::Stream(stream.clone(), Stream::Allow(allowed)));
                } else if self.commands.has_forgotten(stream, now) {
                    self.say_part(stream, 0, What::End(End::Forgotten));
                }
                Ok(())
            }
            Asked::End { stream } => {
                self.end_stream(stream, End::Unheard, now);
                Ok(())
            }
        }
    }

    fn begin_logs(&mut self, id: &CommandId, logs: &Logs, now: Now) -> Result<(), Refused> {
        let read = to_read(logs, self.seen_containers()?)?;
        let source = |container: &&Container| {
            (container.name.clone(), container.id.clone(), Source::logs(logs))
        };
        let sources: Vec<Reading> = read.iter().map(source).collect();
        let follows = logs.follow && logs.instance.is_none() && !logs.previous;
        info!(service = %logs.service, stream = %id, "logs are told");
        self.commands.begin(id.clone(), Kind::Told, now)?;
        if follows {
            let containers = self.facts.containers.as_deref().unwrap_or_default();
            let at = (self.gathering.next_number(), now);
            self.commands.follow(id, (&logs.service, containers), &sources, at);
        }
        let (exec_in, is_typed) = (None, false);
        let begin = Stream::Begin { sources, follows, exec_in, is_typed, window: WINDOW };
        self.begin_stream(id, begin);
        Ok(())
    }

    fn begin_exec(&mut self, id: &CommandId, exec: &Exec, now: Now) -> Result<(), Refused> {
        if !self.lets_in(&exec.service) {
            return Err(Refused::ExecNotAllowed { service: exec.service.clone() });
        }
        let container = to_run_in(exec, self.seen_containers()?)?;
        let terminal = exec.terminal;
        let source = Source::Exec { command: exec.command.clone(), terminal };
        let sources = vec![(container.name.clone(), container.id.clone(), source)];
        info!(service = %exec.service, instance = container.name, stream = %id, "a command is run");
        // A terminal has sizes to hear of, also where nobody types.
        let is_typed = exec.input || terminal.is_some();
        let kind = Kind::Run { inside: exec.service.clone(), is_typed };
        self.commands.begin(id.clone(), kind, now)?;
        let (exec_in, follows) = (Some(exec.service.clone()), false);
        let begin = Stream::Begin { sources, follows, exec_in, is_typed, window: WINDOW };
        self.begin_stream(id, begin);
        Ok(())
    }

    fn begin_forward(
        &mut self,
        id: &CommandId,
        forward: &Forward,
        now: Now,
    ) -> Result<(), Refused> {
        let Forward { service, instance, port } = forward;
        if !self.lets_in(service) {
            return Err(Refused::ForwardNotAllowed { service: service.clone() });
        }
        let container = running((service, instance.as_ref()), self.seen_containers()?)?;
        let instance = container.name.clone();
        let address = container.address.ok_or_else(|| {
            Refused::NoSuchInstance(format!("{instance} has no network address of its own"))
        })?;
        let address = SocketAddr::from((address, port.get()));
        info!(%service, instance, port, stream = %id, "a connection is forwarded");
        let of = service.clone();
        self.commands.begin(id.clone(), Kind::Forward { inside: of.clone() }, now)?;
        self.begin_stream(id, Stream::Connect { instance, address, of, window: WINDOW });
        Ok(())
    }

    fn lets_in(&self, service: &ServiceName) -> bool {
        let policy = self.policy.as_ref().map(|looked| &looked.state.policy);
        policy.is_some_and(|policy| policy.allows_exec(service))
    }

    fn pass_on(&mut self, input: &Input) {
        let stream = &input.stream;
        // What is no base64 is no honest coordinator's, and would be said again for ever.
        let Some(bytes) = input.bytes() else { return };
        match self.commands.fed(stream, input.number) {
            Fed::Next => {
                let typed = if input.last { Typed::Last } else { Typed::Bytes(bytes) };
                self.acts.push(Act::Stream(stream.clone(), Stream::Type(typed)));
            }
            Fed::Known { taken: inputs } => self.say_next(stream, What::Taken { inputs }),
            Fed::Not => {}
        }
    }

    /// What is looked at does not need the engine: that it is away is one of the things that are found.
    fn begin_examination(&mut self, id: &CommandId, now: Now) -> Result<(), Refused> {
        info!(stream = %id, "the board is examined");
        self.commands.begin(id.clone(), Kind::Told, now)?;
        // The report says which images are here: it is to be as new as what is found.
        self.gathering.want(Scope { images: true, ..Scope::NOTHING }, now);
        self.begin_stream(id, Stream::Examine { window: WINDOW });
        Ok(())
    }

    fn seen_containers(&self) -> Result<&[Container], Refused> {
        let is_here = self.gathering.away_since.is_none();
        let containers = self.facts.containers.as_deref().filter(|_| is_here);
        containers.ok_or(Refused::EngineUnavailable)
    }

    fn begin_stream(&mut self, id: &CommandId, begin: Stream) {
        let instances = match &begin {
            Stream::Begin { sources, .. } => {
                sources.iter().map(|(instance, ..)| instance.clone()).collect()
            }
            Stream::Connect { instance, .. } => vec![instance.clone()],
            Stream::Examine { .. }
            | Stream::Type(_)
            | Stream::Resize(_)
            | Stream::Allow(_)
            | Stream::Join(_)
            | Stream::End => Vec::new(),
        };
        self.say_next(id, What::Begun { instances });
        self.acts.push(Act::Stream(id.clone(), begin));
    }

    /// Streams that follow go on with what a gathering of this number has shown.
    pub(super) fn join_streams(&mut self, number: u64, now: Now) {
        let containers = self.facts.containers.as_deref().unwrap_or_default();
        for (id, readings) in self.commands.to_join(containers, (number, now)) {
            self.acts.push(Act::Stream(id, Stream::Join(readings)));
        }
    }

    /// What a stream tells.
    pub(super) fn streamed(&mut self, id: &CommandId, told: Streamed, now: Now) {
        match told {
            Streamed::ReadOut { container } => {
                let at = (self.gathering.next_number(), now);
                self.commands.read_out(id, &container, at);
                let scope = Scope { containers: true, ..Scope::NOTHING };
                self.gathering.want(scope, now.plus(REJOIN_MS));
            }
            Streamed::Output(output) => self.say_next(id, What::Output(output)),
            Streamed::Took => {
                if let Some(inputs) = self.commands.took(id) {
                    self.say_next(id, What::Taken { inputs });
                }
            }
            Streamed::Ended(end) => {
                if let Some(number) = self.commands.end(id, now) {
                    self.say_part(id, number, What::End(end));
                }
            }
        }
    }

    /// Whoever is inside a service that the policy lets nobody into any more is not, from now on.
    pub(super) fn show_out(&mut self, now: Now) {
        for stream in self.commands.not_let_in(|service| self.lets_in(service)) {
            let message = "the node's policy does not allow it any more".to_owned();
            self.end_stream(&stream, End::Failed { message }, now);
        }
    }

    fn end_stream(&mut self, id: &CommandId, end: End, now: Now) {
        let Some(number) = self.commands.end(id, now) else { return };
        self.acts.push(Act::Stream(id.clone(), Stream::End));
        self.say_part(id, number, What::End(end));
    }

    fn say_next(&mut self, id: &CommandId, what: What) {
        if let Some(number) = self.commands.next_number(id) {
            self.say_part(id, number, what);
        }
    }

    fn say_part(&mut self, stream: &CommandId, number: u64, what: What) {
        let (fleet, node) = (self.node.fleet.clone(), self.node.node.clone());
        let part = Part { format: FORMAT, fleet, node, stream: stream.clone(), number, what };
        let payload = Envelope::sign(&part, &[self.voice.key()]).to_bytes();
        self.acts.push(Act::Say(Outgoing { subject: Up::Stream, payload }));
    }
}

/// Whether whoever asked waits for an answer.
fn begins_a_stream(act: &Asked) -> bool {
    match act {
        Asked::Logs(_) | Asked::Exec(_) | Asked::Forward(_) | Asked::Doctor => true,
        Asked::Watch { .. }
        | Asked::Input(_)
        | Asked::Resize { .. }
        | Asked::Keep { .. }
        | Asked::End { .. } => false,
    }
}

/// What may be somebody's attempt; the rest is how things stand.
fn counts(refused: &Refused) -> bool {
    match refused {
        Refused::UnknownNonce
        | Refused::Expired { .. }
        | Refused::LivesTooLong { .. }
        | Refused::Replayed
        | Refused::TooMany
        | Refused::ExecNotAllowed { .. }
        | Refused::ForwardNotAllowed { .. } => true,
        Refused::NoSuchInstance(_)
        | Refused::Busy
        | Refused::Unusable(_)
        | Refused::EngineUnavailable => false,
    }
}
