//! The node's side of the broker: what is said at connect, where it goes, and how the session is configured.
//!
//! The loop puts what it has to say into an [`Outgoing`]; this file alone knows topics and sessions.

use std::time::Duration;

use mqtt::{BrokerAddress, Config as Session, Credentials, Handle};
use protocol::acceptance::NodeIdentity;
use protocol::hello::Presence;
use protocol::topic::{Subject, Topic, Up};
use tokio::sync::mpsc;
use tracing::{debug, warn};

use crate::config::Broker;

/// What the loop says before the link has taken it; the link's own outbox is behind it.
pub const MAX_OUTGOING: usize = 64;
/// What may still be sent at the end.
const CLOSE_PATIENCE: Duration = Duration::from_secs(1);
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
    /// A manifest, unchecked.
    Manifest(Vec<u8>),
}

/// The session of a node: client id and user are its id.
///
/// # Errors
/// When the token cannot be read.
pub fn session(broker: &Broker, node: &NodeIdentity, boot: &Boot) -> std::io::Result<Session> {
    let token = std::fs::read_to_string(&broker.token_file)?.trim().to_owned();
    let (host, port) = broker.address.rsplit_once(':').unwrap_or((&broker.address, ""));
    let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
    let address = BrokerAddress { host, port: port.parse().unwrap_or(1883) };
    let id = node.node.to_string();
    let subscriptions = Topic::node_subscriptions(&node.fleet, &node.node);
    let mut session = Session::new(address, id.clone(), subscriptions);
    session.credentials = Some(Credentials { user: id, secret: token });
    let presence = |online| {
        let presence = Presence { online, boot_id: boot.id.clone() };
        serde_json::to_vec(&presence).expect("plain data serialises")
    };
    session.presence = Some(mqtt::Presence {
        topic: topic(node, Up::Presence),
        online: presence(true),
        offline: presence(false),
    });
    let pause = Duration::from_millis(broker.backoff_ms);
    session.pace.base = pause;
    session.pace.network_cap = session.pace.network_cap.min(pause * LONGEST_PAUSES);
    if boot.age.0 < FRESH_BOOT_MS {
        session.first_delay_max = pause;
    }
    Ok(session)
}

fn topic(node: &NodeIdentity, subject: Up) -> Topic {
    Topic { fleet: node.fleet.clone(), node: node.node.clone(), subject: Subject::Up(subject) }
}

/// Carries what comes and goes until the loop ends, then says goodbye.
pub async fn carry(
    node: NodeIdentity,
    handle: Handle,
    mut events: mpsc::Receiver<mqtt::Event>,
    mut outgoing: mpsc::Receiver<Outgoing>,
    incoming: mpsc::Sender<Incoming>,
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
            Subject::Down(protocol::topic::Down::Manifest) => {
                Some(Incoming::Manifest(payload.to_vec()))
            }
            Subject::Up(_) => None,
        },
    }
}
