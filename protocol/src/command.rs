//! What one node is told to do once, and what it answers while it does it.
//!
//! A command is good on one node, for a short while, once. The while is counted from a hello that this node has said, by its own
//! monotonic clock: nothing here asks what time it is. What is not of the director's hand is refused before anything else.
//!
//! ```text
//! coordinator --Command (director's signature), down/command--> node: accept (here) -> nonce, age, id, policy (the agent)
//! coordinator <--Part 0, 1, 2 … (the node's signature), up/stream-- node, a few ahead of what was taken (`Act::Keep`)
//! coordinator --Input 0, 1, 2 …, down/command--> node: a few ahead of what it has passed on (`What::Taken`); said again until it has
//! ```

use std::num::NonZeroU16;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::{Deserialize, Serialize};

use crate::acceptance::{NodeIdentity, NodeMessage};
use crate::envelope::{Envelope, Rejected, Verified};
use crate::id::{CommandId, FleetId, NodeId, ServiceName};
use crate::keys::Root;
use crate::payload::{Payload, PayloadType};

/// Seconds that a command is good for after it was signed, and so the longest that it may be on its way.
pub const LIFE_S: u64 = 30;
/// A command that would be good for longer than this is no honest coordinator's.
pub const MAX_LIFE_S: u64 = 60;
/// Hellos whose nonces a node still takes commands for.
pub const NONCES: usize = 8;
/// Bytes of output in one part.
pub const MAX_PART_BYTES: usize = 16 * 1024;
/// Parts with output that a node says beyond those that were taken.
pub const WINDOW: u64 = 4;
/// Streams at once on a node, [`Act::Forward`] aside.
pub const MAX_STREAMS: usize = 4;
/// Connections of [`Act::Forward`] at once on a node: a browser opens six to each host.
pub const MAX_FORWARDS: usize = 8;
/// Bytes of a part, or of a command, that carries as much as it may, as they travel: base64 twice, and what stands around it.
pub const MAX_SAID_BYTES: usize = 2 * MAX_PART_BYTES;
/// Inputs that are said beyond those that the node has passed on.
pub const INPUT_WINDOW: u64 = 4;
/// A stream that nobody keeps ends after this.
pub const LEASE_S: u64 = 20;
/// How often a stream is kept.
pub const KEEP_EVERY_S: u64 = 8;
/// Who writes an examination of the board: no container is called so.
pub const DOCTOR: &str = "doctor";
/// Lines of a log that may be asked for.
pub const MAX_LINES: u32 = 100_000;
/// Words of a command line, and bytes of them together.
pub const MAX_WORDS: usize = 256;
/// See [`MAX_WORDS`].
pub const MAX_WORD_BYTES: usize = 32 * 1024;

/// The document that the director signs for one node, for once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Command {
    /// [`crate::FORMAT`] at the time of writing.
    pub format: u32,
    /// The fleet it is for.
    pub fleet: FleetId,
    /// The node it is for.
    pub node: NodeId,
    /// Of one of the node's last hellos.
    pub nonce: String,
    /// Until how many seconds after that hello it is good.
    pub valid_s: u64,
    /// Random: it is done once. The stream of what it starts is called the same.
    pub id: CommandId,
    /// What to do.
    pub act: Act,
}

/// What a node is told to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Act {
    /// Tell what instances have written.
    Logs(Logs),
    /// Run a command inside an instance, once.
    Exec(Exec),
    /// Open one connection to a port of an instance; the output is what comes on it. An agent older than this act does not understand it.
    Forward(Forward),
    /// Bytes for a stream that takes them.
    Input(Input),
    /// The terminal of a command has another size.
    Resize {
        /// Of this stream.
        stream: CommandId,
        /// Which.
        terminal: Terminal,
    },
    /// Look at the board itself; the output is one [`crate::doctor::Examination`]. An agent older than this act does not understand it.
    Doctor,
    /// Somebody looks at the node: its load is said in detail, so often and for so long. Nothing is answered; an agent older than this
    /// act does not understand it.
    Watch {
        /// Milliseconds; at least [`crate::load::MIN_WATCH_EVERY_MS`].
        every_ms: u32,
        /// Seconds; at most [`crate::load::MAX_WATCH_S`].
        for_s: u32,
    },
    /// Somebody still listens to a stream.
    Keep {
        /// Which.
        stream: CommandId,
        /// How many parts were taken, counted from the first.
        taken: u64,
    },
    /// Nobody listens to a stream any more.
    End {
        /// Which.
        stream: CommandId,
    },
}

/// Which lines of a log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Logs {
    /// Of this service's instances.
    pub service: ServiceName,
    /// Of this instance alone, by its name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance: Option<String>,
    /// The last so many of each; at most [`MAX_LINES`].
    pub lines: u32,
    /// Not older than so many seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since_s: Option<u64>,
    /// And what is written from now on.
    pub follow: bool,
    /// Of those that were replaced or have ended, instead of those that run.
    pub previous: bool,
}

/// What to run, and where.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Exec {
    /// In an instance of this service.
    pub service: ServiceName,
    /// In this one, by its name; none: in the first that runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance: Option<String>,
    /// The program and its arguments; no shell reads them.
    pub command: Vec<String>,
    /// [`Act::Input`] is its standard input; without, it has none. An agent older than this field does not understand it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub input: bool,
    /// It runs on a terminal, and all that it writes is standard output; none: two channels. An agent older than this field does not
    /// understand it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub terminal: Option<Terminal>,
}

/// The size of a terminal, in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Terminal {
    /// Lines.
    pub rows: u16,
    /// Characters of a line.
    pub columns: u16,
}

/// Where to connect to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Forward {
    /// To an instance of this service.
    pub service: ServiceName,
    /// To this one, by its name; none: to the youngest that runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance: Option<String>,
    /// TCP, inside the instance; it need not be published.
    pub port: NonZeroU16,
}

/// Bytes for the standard input of a command, or for a connection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// Of this stream.
    pub stream: CommandId,
    /// Counts the inputs of a stream from 0, without a gap: what comes twice is passed on once.
    pub number: u64,
    /// Base64 of at most [`MAX_PART_BYTES`].
    pub bytes: String,
    /// Nothing comes after it; it has no bytes of its own.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub last: bool,
}

/// A piece of an answer, signed by the node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Part {
    /// [`crate::FORMAT`] at the time of writing.
    pub format: u32,
    /// The fleet.
    pub fleet: FleetId,
    /// The node that says it.
    pub node: NodeId,
    /// Of this stream.
    pub stream: CommandId,
    /// Counts the parts of a stream from 0, without a gap.
    pub number: u64,
    /// What.
    pub what: What,
}

/// What a part says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum What {
    /// The command is taken; these instances are read, or this one runs it. The first part of every stream that begins.
    Begun {
        /// Names of containers.
        instances: Vec<String>,
    },
    /// Something was written.
    Output(Output),
    /// So many inputs were passed on, counted from the first. It is not counted where parts with output are ([`WINDOW`]).
    Taken {
        /// So many.
        inputs: u64,
    },
    /// The last part.
    End(End),
}

/// What an instance, or a command in it, has written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Output {
    /// The container's name; [`DOCTOR`] for what the agent itself says.
    pub instance: String,
    /// On which of the two.
    pub channel: Channel,
    /// Base64 of at most [`MAX_PART_BYTES`]; need not end where a line ends.
    pub bytes: String,
}

/// Standard output or standard error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Channel {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// Why a stream is over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum End {
    /// All was told.
    Finished,
    /// The command has ended by itself.
    Exited {
        /// With this code.
        code: i64,
    },
    /// Nobody listened any more.
    Unheard,
    /// It was kept, and the node does not know it: its end was lost on its way. Counts whatever the number of its part.
    Forgotten,
    /// It could not go on.
    Failed {
        /// One sentence for a person.
        message: String,
    },
    /// It was not begun.
    Refused {
        /// See [`Refused::code`].
        code: String,
        /// One sentence for a person, with the mend.
        message: String,
    },
}

/// Why a node does not do what the director has signed for it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The hello is none of its last ones, or of another process.
    #[error(
        "it names no hello that this node has said lately; it was delayed, or the agent has started anew"
    )]
    UnknownNonce,
    /// Its time is over.
    #[error("it came {late_s} s too late")]
    Expired {
        /// By so much.
        late_s: u64,
    },
    /// It would be good for too long.
    #[error("it would be good for {life_s} s, and {MAX_LIFE_S} s is the most")]
    LivesTooLong {
        /// So long.
        life_s: u64,
    },
    /// It was done before.
    #[error("it was done before")]
    Replayed,
    /// More commands within their life than are remembered.
    #[error("too many commands came within a minute; try again in one")]
    TooMany,
    /// The node's policy.
    #[error(
        "the node's policy does not allow commands inside containers of {service}; its policy.toml would have to say \
         `exec = true`"
    )]
    ExecNotAllowed {
        /// Of which.
        service: ServiceName,
    },
    /// The node's policy; whoever may reach a port that is not published may as well be inside.
    #[error(
        "the node's policy does not allow connections to ports inside containers of {service}; its policy.toml would have to say \
         `exec = true`"
    )]
    ForwardNotAllowed {
        /// Of which.
        service: ServiceName,
    },
    /// There is nothing to read, or nothing to run it in.
    #[error("{0}")]
    NoSuchInstance(String),
    /// No place for another stream.
    #[error(
        "this node tells {MAX_STREAMS} streams and forwards {MAX_FORWARDS} connections at once, and all of them are taken; \
         end one, or try again"
    )]
    Busy,
    /// A list that is empty or too long.
    #[error("{0}")]
    Unusable(&'static str),
    /// The engine or the first look at it.
    #[error("the container engine does not answer")]
    EngineUnavailable,
}

impl Refused {
    /// The stable code.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::UnknownNonce => "command_unknown_nonce",
            Self::Expired { .. } => "command_expired",
            Self::LivesTooLong { .. } => "command_lives_too_long",
            Self::Replayed => "command_replayed",
            Self::TooMany => "command_too_many",
            Self::ExecNotAllowed { .. } => "command_exec_not_allowed",
            Self::ForwardNotAllowed { .. } => "command_forward_not_allowed",
            Self::NoSuchInstance(_) => "command_no_such_instance",
            Self::Busy => "command_busy",
            Self::Unusable(_) => "command_unusable",
            Self::EngineUnavailable => "command_engine_unavailable",
        }
    }

    /// The service that the node's policy lets nobody into; none: it is another reason.
    #[must_use]
    pub const fn forbidden_in(&self) -> Option<&ServiceName> {
        match self {
            Self::ExecNotAllowed { service } | Self::ForwardNotAllowed { service } => Some(service),
            Self::UnknownNonce
            | Self::Expired { .. }
            | Self::LivesTooLong { .. }
            | Self::Replayed
            | Self::TooMany
            | Self::NoSuchInstance(_)
            | Self::Busy
            | Self::Unusable(_)
            | Self::EngineUnavailable => None,
        }
    }

    /// Whether the same would be taken with the nonce of a newer hello.
    #[must_use]
    pub fn is_stale(code: &str) -> bool {
        code == Self::UnknownNonce.code() || code == (Self::Expired { late_s: 0 }).code()
    }
}

impl Output {
    /// Bytes of an instance, as they travel.
    #[must_use]
    pub fn new(instance: String, channel: Channel, bytes: &[u8]) -> Self {
        Self { instance, channel, bytes: BASE64.encode(bytes) }
    }

    /// What was written; none where it is no base64, or more than a part holds.
    #[must_use]
    pub fn bytes(&self) -> Option<Vec<u8>> {
        decoded(&self.bytes)
    }
}

impl Input {
    /// Bytes for a stream, as they travel.
    #[must_use]
    pub fn new(stream: CommandId, number: u64, bytes: &[u8], last: bool) -> Self {
        Self { stream, number, bytes: BASE64.encode(bytes), last }
    }

    /// What is to be passed on; none where it is no base64, or more than an input holds.
    #[must_use]
    pub fn bytes(&self) -> Option<Vec<u8>> {
        decoded(&self.bytes)
    }
}

fn decoded(base64: &str) -> Option<Vec<u8>> {
    let bytes = BASE64.decode(base64).ok()?;
    (bytes.len() <= MAX_PART_BYTES).then_some(bytes)
}

impl Exec {
    /// Why no node runs it, whatever its policy.
    ///
    /// # Errors
    /// Where there is no program, or too much of it.
    pub fn check(&self) -> Result<(), Refused> {
        let bytes: usize = self.command.iter().map(String::len).sum();
        if self.command.first().is_none_or(String::is_empty) {
            return Err(Refused::Unusable("there is no program to run"));
        }
        if self.command.len() > MAX_WORDS || bytes > MAX_WORD_BYTES {
            return Err(Refused::Unusable("a command has 256 words and 32 KiB at most"));
        }
        Ok(())
    }
}

impl Payload for Command {
    const TYPE: PayloadType = PayloadType::Command;
}

impl Payload for Part {
    const TYPE: PayloadType = PayloadType::Stream;
}

impl NodeMessage for Part {
    fn fleet(&self) -> &FleetId {
        &self.fleet
    }
    fn node(&self) -> &NodeId {
        &self.node
    }
}

/// What the director has signed for this node; whether it is fresh, new and allowed is the node's to find out.
///
/// # Errors
/// Reasons of size, signature and form, [`Rejected::WrongFleet`] and [`Rejected::WrongNode`].
pub fn accept(
    bytes: &[u8],
    root: &Root,
    node: &NodeIdentity,
) -> Result<Verified<Command>, Rejected> {
    let command: Verified<Command> = Envelope::from_bytes(bytes)?.verify(root)?;
    if command.fleet != node.fleet {
        return Err(Rejected::WrongFleet);
    }
    if command.node != node.node {
        return Err(Rejected::WrongNode);
    }
    Ok(command)
}
