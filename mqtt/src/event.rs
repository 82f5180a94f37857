//! What a session tells its owner.

use std::time::Duration;

use bytes::Bytes;
use protocol::topic::Topic;

/// What happened to the session, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Connected, and every subscription granted: say hello and bring the other side up to date. Messages may come
    /// before it, since a broker may send them before it answers the subscription.
    Up,
    /// The session ended, or could not be had. The next try is after `retry_in`.
    Down {
        /// Why.
        reason: DownReason,
        /// The wait that starts now.
        retry_in: Duration,
    },
    /// The broker, or we ourselves, said no: someone has to change something. It is tried again all the same.
    Refused {
        /// Why.
        reason: Refusal,
        /// The wait that starts now.
        retry_in: Duration,
    },
    /// A message on one of our topics.
    Message {
        /// Where it was published.
        topic: Topic,
        /// What; nothing has been checked yet.
        payload: Bytes,
        /// Whether the broker had kept it from before the subscription.
        retained: bool,
    },
}

/// Why a session ended.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DownReason {
    /// The name could not be resolved, or nothing listens there.
    #[error("the broker cannot be reached: {0}")]
    Unreachable(String),
    /// It took the connection and gave no answer in time.
    #[error("the broker did not answer in time")]
    TimedOut,
    /// The connection broke or the broker closed it.
    #[error("the connection ended: {0}")]
    Closed(String),
    /// No answer to a ping within the keepalive.
    #[error("the broker is silent: no answer to a ping")]
    Silent,
    /// The broker stopped acknowledging.
    #[error("the broker acknowledges nothing any more")]
    Stalled,
    /// It is there, but says that it cannot serve now.
    #[error("the broker says that it is unavailable")]
    Unavailable,
    /// A packet above the limit came in.
    #[error("the broker sent a packet above the limit of {limit_bytes} bytes")]
    PacketTooLarge {
        /// The configured limit.
        limit_bytes: usize,
    },
    /// It does not keep to MQTT 3.1.1.
    #[error("the broker broke the protocol: {0}")]
    Protocol(String),
    /// The owner asked for a new connection.
    #[error("the session was asked to connect anew")]
    Asked,
}

/// Who said no, to what.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Wrong user, password or certificate.
    #[error("the broker refuses the credentials of this client")]
    Credentials,
    /// It does not like the client id.
    #[error("the broker refuses this client id")]
    ClientId,
    /// It does not speak MQTT 3.1.1.
    #[error("the broker does not speak MQTT 3.1.1")]
    Version,
    /// A subscription was not granted.
    #[error("the broker refuses the subscription to {filter}")]
    Subscription {
        /// The first filter that was not granted.
        filter: String,
    },
    /// A name that only multicast DNS can resolve.
    #[error(
        "{host} ends in .local and multicast DNS is not supported yet: give the broker's address, or a name in DNS"
    )]
    LocalName {
        /// The name.
        host: String,
    },
}
