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

/// Whole days, or hours below one.
fn days(seconds: u64) -> String {
    match seconds / 86_400 {
        0 => format!("{} h", seconds / 3_600),
        days => format!("{days} days"),
    }
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
    /// Something else answers: an impostor, or a fleet that was made anew.
    #[error(
        "the broker's certificate is not of this fleet's CA: check the address; where the fleet was made anew, join again"
    )]
    ForeignBroker,
    /// It is signed by our CA for another name.
    #[error("the broker's certificate is not for {expected}: check the address")]
    BrokerName {
        /// What we looked for.
        expected: String,
    },
    /// It ended before the time that we are sure of.
    #[error("the broker's certificate ended {} before now: renew it there", days(*by_s))]
    BrokerExpired {
        /// How long before, in seconds.
        by_s: u64,
    },
    /// It begins after the time that we are sure of.
    #[error(
        "the broker's certificate begins {} after the time that is certain here: make it anew with an earlier beginning",
        days(*by_s)
    )]
    BrokerTooNew {
        /// How long after, in seconds.
        by_s: u64,
    },
    /// Anything else about it.
    #[error("the broker's certificate cannot be used: {problem}")]
    BrokerCertificate {
        /// What is wrong with it.
        problem: String,
    },
    /// What answers does not speak TLS.
    #[error(
        "what answers at the broker's address does not speak TLS: check the port, 8883 as a rule"
    )]
    NotTls,
    /// The broker asks for a certificate and this side has none.
    #[error("the broker asks for a certificate and this side has none: join the fleet")]
    NoCertificate,
    /// Ours ended.
    #[error("the broker refuses this side's certificate, which ended: it must be renewed")]
    CertificateExpired,
    /// Ours is not taken.
    #[error(
        "the broker refuses this side's certificate: revoked, or of another fleet; a node joins again"
    )]
    Certificate,
    /// A name that only multicast DNS can resolve.
    #[error(
        "{host} ends in .local and multicast DNS is not asked for the coordinator: give the broker's address, or a name in DNS"
    )]
    LocalName {
        /// The name.
        host: String,
    },
}
