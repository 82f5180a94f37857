//! What a session needs to know before it starts.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::pin::Pin;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use protocol::topic::Topic;

use crate::backoff::Pace;
use crate::outbox::Limits;
use crate::tls::Tls;

/// Of a wrong text this much is shown.
const TEXT_CHARS_MAX: usize = 80;

/// Where the broker listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BrokerAddress {
    /// An address or a name; an IPv6 address without brackets.
    pub host: String,
    /// 8883 with TLS, 1883 in clear, as a rule.
    pub port: u16,
}

impl fmt::Display for BrokerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host_for_lookup(), self.port)
    }
}

/// Why text is not a broker's address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not host:port, such as 10.0.0.2:1883 or [::1]:1883")]
pub struct InvalidBrokerAddress(String);

impl FromStr for BrokerAddress {
    type Err = InvalidBrokerAddress;
    fn from_str(text: &str) -> Result<Self, InvalidBrokerAddress> {
        let invalid = || InvalidBrokerAddress(text.escape_default().take(TEXT_CHARS_MAX).collect());
        let (host, port) = text.rsplit_once(':').ok_or_else(invalid)?;
        let port = port.parse().map_err(|_| invalid())?;
        let bracketed = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
        let host = bracketed.unwrap_or(host);
        // Colons without brackets could be the end of an IPv6 address as well as a port.
        let is_host = !host.is_empty()
            && !host.contains(|c: char| c.is_whitespace() || "[]/@".contains(c))
            && bracketed.is_some() == host.contains(':');
        if !is_host {
            return Err(invalid());
        }
        Ok(Self { host: host.to_owned(), port })
    }
}

impl BrokerAddress {
    /// The host as it stands before a colon and a port.
    pub(crate) fn host_for_lookup(&self) -> String {
        let Ok(address) = self.host.parse::<Ipv6Addr>() else { return self.host.clone() };
        format!("[{address}]")
    }

    pub(crate) fn needs_multicast_dns(&self) -> bool {
        needs_multicast_dns(&self.host)
    }
}

/// Whether only multicast DNS could answer for the host (RFC 6762). A static binary has no name service switch that would ask it.
#[must_use]
pub fn needs_multicast_dns(host: &str) -> bool {
    let name = host.trim_end_matches('.').to_ascii_lowercase();
    host.parse::<IpAddr>().is_err() && (name == "local" || name.ends_with(".local"))
}

/// Addresses of a name, later.
pub type Resolving = Pin<Box<dyn Future<Output = io::Result<Vec<SocketAddr>>> + Send>>;

/// Finds the addresses of `host:port`, where the system alone could not.
pub trait Resolve: fmt::Debug + Send + Sync {
    /// In the order in which they are tried; asked at every connect.
    fn resolve(&self, at: String) -> Resolving;
}

/// Who finds the broker's addresses. Equal only to itself.
#[derive(Debug, Clone)]
pub struct Resolver(pub Arc<dyn Resolve>);

impl PartialEq for Resolver {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Resolver {}

/// A user and its secret, which no output shows.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// The user.
    pub user: String,
    /// Its password or token.
    pub secret: String,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").field("user", &self.user).finish_non_exhaustive()
    }
}

/// What the others read of this session: `online` is published whenever it stands, `offline` is the will, and is
/// published by a clean close.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Presence {
    /// A retained topic.
    pub topic: Topic,
    /// The payload while the session stands.
    pub online: Vec<u8>,
    /// The payload once it is gone.
    pub offline: Vec<u8>,
}

/// A session's settings. [`Config::new`] gives the defaults of DESIGN §6.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Where the broker listens.
    pub address: BrokerAddress,
    /// Where else it does; tried in turn after one that gave no session.
    pub fallbacks: Vec<BrokerAddress>,
    /// Who finds the addresses of its name; none: the system, which knows nothing below `.local`.
    pub resolver: Option<Resolver>,
    /// The node's id, or the coordinator's name; unique at the broker, which drops the older session of an id.
    pub client_id: String,
    /// None where the broker takes anyone.
    pub credentials: Option<Credentials>,
    /// None: in clear, for a broker on loopback.
    pub tls: Option<Tls>,
    /// The filters, subscribed to at every connect: `Topic::node_subscriptions` or `coordinator_subscriptions`.
    pub subscriptions: Vec<String>,
    /// The will and its counterpart.
    pub presence: Option<Presence>,
    /// How often an idle session says that it lives, in whole seconds.
    pub keepalive: Duration,
    /// The largest packet taken or sent, with its head.
    pub max_packet_bytes: usize,
    /// How long reaching the broker, its answer and the answer to the subscriptions may take, each.
    pub connect_timeout: Duration,
    /// An acknowledgement that takes longer than this ends the session.
    pub ack_timeout: Duration,
    /// The longest wait before the very first try; on boards some seconds, so that a fleet does not come up at once.
    pub first_delay_max: Duration,
    /// How long to wait between tries.
    pub pace: Pace,
    /// How much waits while offline.
    pub outbox: Limits,
}

impl Config {
    /// The defaults, for one broker, client id and set of filters.
    #[must_use]
    pub fn new(address: BrokerAddress, client_id: String, subscriptions: Vec<String>) -> Self {
        Self {
            address,
            fallbacks: Vec::new(),
            resolver: None,
            client_id,
            credentials: None,
            tls: None,
            subscriptions,
            presence: None,
            keepalive: Duration::from_secs(120),
            max_packet_bytes: 512 * 1024,
            connect_timeout: Duration::from_secs(20),
            ack_timeout: Duration::from_secs(60),
            first_delay_max: Duration::ZERO,
            pace: Pace::default(),
            outbox: Limits::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(host: &str) -> BrokerAddress {
        BrokerAddress { host: host.into(), port: 1883 }
    }

    #[test]
    fn only_names_under_local_need_multicast_dns() {
        for host in ["broker.local", "Broker.LOCAL.", "local"] {
            assert!(address(host).needs_multicast_dns(), "{host}");
        }
        for host in ["broker.example", "localhost", "127.0.0.1", "fe80::1", "local.example"] {
            assert!(!address(host).needs_multicast_dns(), "{host}");
        }
    }

    #[test]
    fn an_address_is_a_host_and_a_port() {
        for text in ["10.0.0.1:1883", "[::1]:1883", "broker.example:8883"] {
            assert_eq!(text.parse::<BrokerAddress>().unwrap().to_string(), text);
        }
        for text in ["broker", "broker:", ":1883", "::1", "mqtt://broker:1883", "b:99999", "[b]:1"]
        {
            assert!(text.parse::<BrokerAddress>().is_err(), "{text}");
        }
    }

    #[test]
    fn an_ipv6_address_is_shown_in_brackets() {
        assert_eq!(address("::1").to_string(), "[::1]:1883");
        assert_eq!(address("10.0.0.1").to_string(), "10.0.0.1:1883");
    }

    #[test]
    fn a_secret_is_not_printed() {
        let credentials = Credentials { user: "opi-1".into(), secret: "hunter2".into() };
        assert!(!format!("{credentials:?}").contains("hunter2"));
    }
}
