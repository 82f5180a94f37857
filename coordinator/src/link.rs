//! The coordinator's one MQTT session: embedded broker or external one, there is no difference from here on.

use protocol::command::MAX_SAID_BYTES;
use protocol::id::{FleetId, NodeId};
use protocol::topic::{Down, Subject, Topic, Up};

use crate::broker::COORDINATOR_CLIENT_ID;

/// Where the broker is and who we are there.
#[derive(Debug, Clone)]
pub struct LinkConfig {
    /// Host name or address.
    pub host: String,
    /// Port.
    pub port: u16,
    /// User and password; none where the broker takes anyone, or a certificate says who we are.
    pub credentials: Option<(String, String)>,
    /// None: in clear.
    pub tls: Option<mqtt::Tls>,
}

/// Commands that wait for a broker which takes them slowly: the windows of 256 streams.
const MAX_WAITING: usize = 1_024;

/// The session's settings for this fleet.
#[must_use]
pub fn session_config(link: &LinkConfig, fleet: &FleetId) -> mqtt::Config {
    let address = mqtt::BrokerAddress { host: link.host.clone(), port: link.port };
    let subscriptions = Topic::coordinator_subscriptions(fleet);
    let mut config = mqtt::Config::new(address, COORDINATOR_CLIENT_ID.to_owned(), subscriptions);
    config.credentials = link
        .credentials
        .as_ref()
        .map(|(user, secret)| mqtt::Credentials { user: user.clone(), secret: secret.clone() });
    config.tls = link.tls.clone();
    // What is typed goes to many nodes at once, and must push out nothing that is said once.
    config.outbox.events = MAX_WAITING;
    config.outbox.event_bytes = MAX_WAITING * MAX_SAID_BYTES;
    config
}

/// The topic of a node's manifest.
#[must_use]
pub fn manifest_topic(fleet: &FleetId, node: &NodeId) -> Topic {
    let subject = Subject::Down(Down::Manifest);
    Topic { fleet: fleet.clone(), node: node.clone(), subject }
}

/// The topic of the trust roots, as a node reads them.
#[must_use]
pub fn root_topic(fleet: &FleetId, node: &NodeId) -> Topic {
    let subject = Subject::Down(Down::Root);
    Topic { fleet: fleet.clone(), node: node.clone(), subject }
}

/// The topic of the answers to a node's hellos.
#[must_use]
pub fn time_topic(fleet: &FleetId, node: &NodeId) -> Topic {
    let subject = Subject::Down(Down::Time);
    Topic { fleet: fleet.clone(), node: node.clone(), subject }
}

/// The topic of where the coordinator is.
#[must_use]
pub fn addresses_topic(fleet: &FleetId, node: &NodeId) -> Topic {
    let subject = Subject::Down(Down::Addresses);
    Topic { fleet: fleet.clone(), node: node.clone(), subject }
}

/// The topic of the agent that a node is to run.
#[must_use]
pub fn agent_release_topic(fleet: &FleetId, node: &NodeId) -> Topic {
    let subject = Subject::Down(Down::AgentRelease);
    Topic { fleet: fleet.clone(), node: node.clone(), subject }
}

/// The topic of the commands to a node.
#[must_use]
pub fn command_topic(fleet: &FleetId, node: &NodeId) -> Topic {
    let subject = Subject::Down(Down::Command);
    Topic { fleet: fleet.clone(), node: node.clone(), subject }
}

/// What a node said, by its topic; none for what is not a node's to say to this fleet.
#[must_use]
pub fn said_by(topic: &Topic, fleet: &FleetId) -> Option<(NodeId, Up)> {
    match topic.subject {
        Subject::Up(up) if topic.fleet == *fleet => Some((topic.node.clone(), up)),
        Subject::Up(_) | Subject::Down(_) => None,
    }
}
