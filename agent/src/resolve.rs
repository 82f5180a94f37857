//! Where names are found: the one place through which the coordinator's and the broker's addresses go.
//!
//! ```text
//! 10.0.0.2, [::1]      as they are
//! fleet.example        the system's resolver
//! opi.local            multicast DNS, asked here: a static program has no name service switch that would (RFC 6762)
//! ```
//! An answer is a hint, whoever gave it: TLS proves who is there. Must not decide which name is asked for.

mod ask;
pub mod message;

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::Instant;

/// Names that are remembered at once: of one coordinator and one broker, with room.
const MAX_NAMES: usize = 16;
/// However long an answer says that it is good.
const MAX_TTL: Duration = Duration::from_secs(120);

/// Every address of `host:port`, those of IPv4 first.
///
/// # Errors
/// Where there is none.
pub async fn addresses(at: &str) -> io::Result<Vec<SocketAddr>> {
    match local_name(at) {
        Some((host, port)) => Ok(ask::ask(host).await?.sockets(port)),
        None => Ok(tokio::net::lookup_host(at).await?.collect()),
    }
}

/// Connects to the first address of `host:port` that takes it.
///
/// # Errors
/// Where the name has no address, or the last of them its reason.
pub async fn connect(at: &str) -> io::Result<TcpStream> {
    if local_name(at).is_none() {
        return TcpStream::connect(at).await;
    }
    let mut last = None;
    for address in addresses(at).await? {
        match TcpStream::connect(address).await {
            Ok(stream) => return Ok(stream),
            Err(error) => last = Some(error),
        }
    }
    Err(last.unwrap_or_else(|| io::Error::from(io::ErrorKind::NotFound)))
}

/// For a session with the broker: asks anew at each connect, and where nobody answers this once, what was answered last
/// counts until it is over.
#[derive(Debug, Clone, Default)]
pub struct Names(Arc<Mutex<Vec<(String, Found, Instant)>>>);

impl Names {
    async fn found(&self, host: &str) -> io::Result<Found> {
        let asked = ask::ask(host).await;
        let now = Instant::now();
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|(name, _, until)| now < *until && (asked.is_err() || name != host));
        match asked {
            Ok(found) => {
                let until = now + found.good_for.min(MAX_TTL);
                if known.len() < MAX_NAMES {
                    known.push((host.to_owned(), found.clone(), until));
                }
                Ok(found)
            }
            Err(error) => {
                let last = known.iter().find(|(name, ..)| name == host);
                last.map(|(_, found, _)| found.clone()).ok_or(error)
            }
        }
    }
}

impl mqtt::Resolve for Names {
    fn resolve(&self, at: String) -> mqtt::Resolving {
        let names = self.clone();
        Box::pin(async move {
            match local_name(&at) {
                Some((host, port)) => Ok(names.found(host).await?.sockets(port)),
                None => Ok(tokio::net::lookup_host(&at).await?.collect()),
            }
        })
    }
}

/// What a name has.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Found {
    /// Each once, with the interface that a link-local one is reached on.
    addresses: Vec<(IpAddr, u32)>,
    /// The shortest of its answers.
    good_for: Duration,
}

impl Found {
    fn sockets(&self, port: u16) -> Vec<SocketAddr> {
        let socket = |(address, interface): &(IpAddr, u32)| match address {
            IpAddr::V4(v4) => SocketAddr::from((*v4, port)),
            IpAddr::V6(v6) => {
                let scope = if v6.is_unicast_link_local() { *interface } else { 0 };
                std::net::SocketAddrV6::new(*v6, port, 0, scope).into()
            }
        };
        let rank = |address: &SocketAddr| match address.ip() {
            IpAddr::V4(_) => 0,
            IpAddr::V6(v6) if v6.is_unicast_link_local() => 2,
            IpAddr::V6(_) => 1,
        };
        let all: Vec<SocketAddr> = self.addresses.iter().map(socket).collect();
        (0..=2).flat_map(|of| all.iter().copied().filter(move |one| rank(one) == of)).collect()
    }
}

/// The host of `host:port`, and the port, where only multicast DNS knows it.
fn local_name(at: &str) -> Option<(&str, u16)> {
    let (host, port) = at.rsplit_once(':')?;
    mqtt::needs_multicast_dns(host).then_some((host, port.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_under_local_are_asked_for_here() {
        assert_eq!(local_name("opi.local:8883"), Some(("opi.local", 8883)));
        assert_eq!(local_name("OPI.Local.:1"), Some(("OPI.Local.", 1)));
        for at in ["opi.local", "10.0.0.2:8883", "[fe80::1]:8883", "local.example:1", "opi.local:x"]
        {
            assert_eq!(local_name(at), None, "{at}");
        }
    }

    #[test]
    fn a_network_of_one_cable_comes_last_and_with_its_interface() {
        let at = |text: &str, interface| (text.parse().unwrap(), interface);
        let addresses = vec![at("fe80::1", 3), at("2001:db8::1", 3), at("10.0.0.2", 3)];
        let found = Found { addresses, good_for: Duration::from_secs(10) };
        let shown: Vec<String> = found.sockets(8883).iter().map(ToString::to_string).collect();
        assert_eq!(shown, ["10.0.0.2:8883", "[2001:db8::1]:8883", "[fe80::1%3]:8883"]);
    }

    #[tokio::test]
    async fn an_address_needs_nobody_to_be_asked() {
        let found = addresses("127.0.0.1:80").await.unwrap();
        assert_eq!(found, ["127.0.0.1:80".parse().unwrap()]);
        assert!(connect("127.0.0.1:1").await.is_err());
    }

    #[tokio::test]
    async fn a_name_that_is_none_is_refused_before_anybody_is_asked() {
        let long = format!("{}.local:1", "a".repeat(64));
        for at in [long.as_str(), "..local:1"] {
            let error = addresses(at).await.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput, "{at}: {error}");
        }
    }
}
