//! The node's side of the broker: what is said at connect, where it goes, and how the session is configured.
//!
//! A node that has joined speaks TLS with the certificate of its joining. The loop puts what it has to say into an [`Outgoing`]; this file alone knows topics and sessions.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use mqtt::{
    BrokerAddress, Config as Session, Credentials, Handle, InvalidBrokerAddress, InvalidTls,
    Refusal, Tls, VerifyAt,
};
use protocol::acceptance::NodeIdentity;
use protocol::command::{MAX_FORWARDS, MAX_SAID_BYTES, MAX_STREAMS, WINDOW};
use protocol::hello::Presence;
use protocol::id::NodeId;
use protocol::topic::{Down, Subject, Topic, Up};
use tokio::sync::{Notify, mpsc};
use tracing::{debug, warn};

use crate::config::{Broker, DEFAULT_BACKOFF_MS};
use crate::resolve::Names;
use crate::tls::{Joined, JoinedError};

/// What the loop says before the link has taken it; the link's own outbox is behind it.
pub const MAX_OUTGOING: usize = 64;
/// What may still be sent at the end.
const CLOSE_PATIENCE: Duration = Duration::from_secs(1);
/// All that streams say beyond what was taken, and the first part of each.
const STREAMED_BYTES: usize = (MAX_STREAMS + MAX_FORWARDS) * (WINDOW as usize + 1) * MAX_SAID_BYTES;
/// Between signs of life where the link is paid by the byte: within what networks of phones keep connections for.
pub const METERED_KEEPALIVE: Duration = Duration::from_secs(240);
/// The longest wait between two tries, in units of the configured first one.
const LONGEST_PAUSES: u32 = 60;

/// Something to say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outgoing {
    /// What it is.
    pub subject: Up,
    /// The bytes.
    pub payload: Vec<u8>,
}

/// A board that booted this recently may be one of a thousand after a power cut: its first connect is spread.
const FRESH_BOOT_MS: u64 = 120_000;

/// The boot that the agent runs in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Boot {
    /// The kernel's id of it.
    pub id: String,
    /// How long ago it was, when the agent started.
    pub age: planner::Now,
}

/// What comes from the broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Incoming {
    /// The session stands: say hello.
    Up,
    /// It does not.
    Down,
    /// Trust roots, unchecked.
    Root(Vec<u8>),
    /// A manifest, unchecked.
    Manifest(Vec<u8>),
    /// A signed time, unchecked.
    Time(Vec<u8>),
    /// Where the coordinator is, unchecked.
    Addresses(Vec<u8>),
    /// A signed command, unchecked.
    Command(Vec<u8>),
    /// A signed release of the agent, unchecked.
    AgentRelease(Vec<u8>),
}

/// Rung when something about certificates must be looked at.
#[derive(Debug, Default)]
pub struct Bells {
    /// Somebody refused ours.
    pub refused: Notify,
    /// What answers shows one of another CA than the fleet's.
    pub foreign: Notify,
}

/// How the broker is reached.
#[derive(Debug)]
pub enum Way {
    /// Over TLS, with the certificate of the node's joining.
    Secure(Tls),
    /// In clear, with a password that is the node's own.
    Password(String),
}

/// Where the broker is and how it is reached.
#[derive(Debug)]
pub struct Reached {
    /// At least one.
    pub addresses: Vec<BrokerAddress>,
    /// See [`Way`].
    pub way: Way,
    /// First pause after a lost connection.
    pub pause: Duration,
    /// Whether the addresses are the coordinator's, which may say that it is elsewhere.
    pub follows: bool,
}

/// Why the broker cannot be reached.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// There is neither a certificate nor a broker's password.
    #[error(
        "this board has not joined a fleet: `pith node token` on the coordinator prints a token, \
         then run `pith-agent join TOKEN` here"
    )]
    NotJoined,
    /// What joining left cannot be used.
    #[error(transparent)]
    Joined(#[from] JoinedError),
    /// Nor its certificate.
    #[error(
        "the certificate of this node cannot be used; `pith-agent join TOKEN --again` asks for another"
    )]
    Tls(#[from] InvalidTls),
    /// An address that joining left.
    #[error(transparent)]
    Address(#[from] InvalidBrokerAddress),
    /// The password's file.
    #[error(
        "{path}: {source}; here belongs the broker's password for this node, whose user is {node}; \
         `pith node approve {node}` on the coordinator lets the node in"
    )]
    Token {
        /// The file.
        path: PathBuf,
        /// The node's id comes from the key that it has just made, so only it can say whose password it needs.
        node: NodeId,
        /// What the system said.
        source: std::io::Error,
    },
}

/// Where the broker of `agent.toml` is, or the coordinator that the node joined.
///
/// # Errors
/// What is missing, with the mend.
pub fn reached(
    broker: Option<&Broker>,
    joined: Option<&Joined>,
    node: &NodeIdentity,
    floor: &VerifyAt,
) -> Result<Reached, LinkError> {
    let pause =
        Duration::from_millis(broker.map_or(DEFAULT_BACKOFF_MS, |broker| broker.backoff_ms));
    if let Some(Broker { address, token_file: Some(path), .. }) = broker {
        let read = std::fs::read_to_string(path);
        let password = read.map_err(|source| {
            let (path, node) = (path.clone(), node.node.clone());
            LinkError::Token { path, node, source }
        })?;
        let way = Way::Password(password.trim().to_owned());
        return Ok(Reached { addresses: vec![address.parse()?], way, pause, follows: false });
    }
    let joined = joined.ok_or(LinkError::NotJoined)?;
    let own = broker.map(|broker| &broker.address);
    let all = own.map_or(joined.brokers(), std::slice::from_ref);
    let addresses = all.iter().map(|one| one.parse()).collect::<Result<Vec<_>, _>>()?;
    if addresses.is_empty() {
        return Err(LinkError::NotJoined);
    }
    let way = Way::Secure(joined.session(&node.fleet, floor)?);
    Ok(Reached { addresses, way, pause, follows: own.is_none() && joined.is_at_coordinator() })
}

/// The session of a node: client id and user are its id.
///
/// # Panics
/// Without an address.
#[must_use]
pub fn session(reached: Reached, node: &NodeIdentity, boot: &Boot) -> Session {
    let Reached { mut addresses, way, pause, follows: _ } = reached;
    let id = node.node.to_string();
    let subscriptions = Topic::node_subscriptions(&node.fleet, &node.node);
    let first = addresses.remove(0);
    let mut session = Session::new(first, id.clone(), subscriptions);
    session.fallbacks = addresses;
    // Streams say no more than their windows allow; none of it may push a hello out.
    session.outbox.event_bytes += STREAMED_BYTES;
    session.resolver = Some(mqtt::Resolver(Arc::new(Names::default())));
    match way {
        Way::Secure(tls) => session.tls = Some(tls),
        Way::Password(secret) => session.credentials = Some(Credentials { user: id, secret }),
    }
    let presence = |online| {
        let presence = Presence { online, boot_id: boot.id.clone() };
        serde_json::to_vec(&presence).expect("plain data serialises")
    };
    session.presence = Some(mqtt::Presence {
        topic: topic(node, Up::Presence),
        online: presence(true),
        offline: presence(false),
    });
    session.pace.base = pause;
    session.pace.network_cap = session.pace.network_cap.min(pause * LONGEST_PAUSES);
    if boot.age.0 < FRESH_BOOT_MS {
        session.first_delay_max = pause;
    }
    session
}

fn topic(node: &NodeIdentity, subject: Up) -> Topic {
    Topic { fleet: node.fleet.clone(), node: node.node.clone(), subject: Subject::Up(subject) }
}

/// Carries what comes and goes until the loop ends, then says goodbye. Rings when the broker does not take our certificate, or we not its.
pub async fn carry(
    node: NodeIdentity,
    handle: Handle,
    mut events: mpsc::Receiver<mqtt::Event>,
    mut outgoing: mpsc::Receiver<Outgoing>,
    incoming: mpsc::Sender<Incoming>,
    bells: Arc<Bells>,
) {
    loop {
        // Both arms are cancel-safe: a receive that was not polled to its end has taken nothing.
        let event = tokio::select! {
            event = events.recv() => event,
            said = outgoing.recv() => {
                let Some(said) = said else { break };
                publish(&node, &handle, said);
                continue;
            }
        };
        let Some(event) = event else { break };
        ring(&bells, &event);
        let Some(event) = translate(event) else { continue };
        if incoming.send(event).await.is_err() {
            break;
        }
    }
    handle.close(CLOSE_PATIENCE).await;
}

fn publish(node: &NodeIdentity, handle: &Handle, said: Outgoing) {
    if let Err(error) = handle.publish(topic(node, said.subject), said.payload) {
        warn!(subject = ?said.subject, %error, "not published");
    }
}

/// Ours is renewed then, whatever the clocks say; of another CA may be a coordinator that was made anew.
fn ring(bells: &Bells, event: &mqtt::Event) {
    let mqtt::Event::Refused { reason, .. } = event else { return };
    if matches!(reason, Refusal::CertificateExpired | Refusal::Certificate) {
        bells.refused.notify_one();
    }
    if *reason == Refusal::ForeignBroker {
        bells.foreign.notify_one();
    }
}

fn translate(event: mqtt::Event) -> Option<Incoming> {
    match event {
        mqtt::Event::Up => {
            debug!("broker reached");
            Some(Incoming::Up)
        }
        mqtt::Event::Down { reason, retry_in } => {
            debug!(%reason, retry_in_ms = retry_in.as_millis(), "broker lost");
            Some(Incoming::Down)
        }
        mqtt::Event::Refused { reason, retry_in } => {
            debug!(%reason, retry_in_ms = retry_in.as_millis(), "broker refuses");
            Some(Incoming::Down)
        }
        mqtt::Event::Message { topic, payload, .. } => match topic.subject {
            Subject::Down(Down::Root) => Some(Incoming::Root(payload.to_vec())),
            Subject::Down(Down::Manifest) => Some(Incoming::Manifest(payload.to_vec())),
            Subject::Down(Down::Time) => Some(Incoming::Time(payload.to_vec())),
            Subject::Down(Down::Addresses) => Some(Incoming::Addresses(payload.to_vec())),
            Subject::Down(Down::Command) => Some(Incoming::Command(payload.to_vec())),
            Subject::Down(Down::AgentRelease) => Some(Incoming::AgentRelease(payload.to_vec())),
            Subject::Up(_) => None,
        },
    }
}
