//! One question by multicast, on every network that the board is in (RFC 6762 §5.1, §6.7: from a port of its own, answered to it alone).

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::time::Duration;

use tokio::net::UdpSocket;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};

use super::Found;
use super::message::{self, Answer, BadMessage, MAX_MESSAGE_BYTES};
use crate::network::{hex_address, own_address};

const PORT: u16 = 5353;
const GROUP_V4: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 251);
const GROUP_V6: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0xfb);
/// The question is asked so often where nobody answers.
const ASKED: u32 = 3;
const AGAIN: Duration = Duration::from_secs(1);
/// After the first answer, for those of other networks and of the other kind of address.
const MORE: Duration = Duration::from_millis(150);
/// Networks that are asked at most.
const MAX_NETWORKS: usize = 16;
const MAX_ADDRESSES: usize = 16;
/// Networks of containers: no coordinator is there, and whoever is may say anything.
const INSIDE: [&str; 4] = ["docker", "br-", "pith", "virbr"];

/// The addresses of a host under `.local`.
///
/// # Errors
/// Where it is no name, or nobody answers.
pub(super) async fn ask(name: &str) -> io::Result<Found> {
    let mut drawn = [0; 2];
    getrandom::fill(&mut drawn).map_err(io::Error::other)?;
    let id = u16::from_ne_bytes(drawn);
    let invalid = |error: BadMessage| {
        io::Error::new(io::ErrorKind::InvalidInput, format!("{name} is no name of DNS: {error}"))
    };
    let question = message::question(id, name).map_err(invalid)?;
    let networks = networks();
    if networks.is_empty() {
        let text =
            format!("{name}: this machine is in no network that multicast DNS could be asked in");
        return Err(io::Error::new(io::ErrorKind::NetworkUnreachable, text));
    }
    let mut asking = JoinSet::new();
    for network in networks {
        let (question, name) = (question.clone(), name.to_owned());
        asking.spawn(async move { network.ask(&question, id, &name).await });
    }
    let mut found = Found { addresses: Vec::new(), good_for: Duration::MAX };
    let mut until = None::<Instant>;
    loop {
        let next = match until {
            None => asking.join_next().await,
            // Cancel-safe: what was not taken ends with the set.
            Some(until) => timeout_at(until, asking.join_next()).await.unwrap_or(None),
        };
        let Some(answered) = next else { break };
        let Ok(Ok((interface, answers))) = answered else { continue };
        for Answer { address, ttl_s } in answers {
            let at = (address, interface);
            found.good_for = found.good_for.min(Duration::from_secs(u64::from(ttl_s)));
            if !found.addresses.contains(&at) && found.addresses.len() < MAX_ADDRESSES {
                found.addresses.push(at);
            }
        }
        if !found.addresses.is_empty() {
            until = until.or(Some(Instant::now() + MORE));
        }
    }
    if found.addresses.is_empty() {
        let text = format!(
            "{name}: nobody answers for it by multicast DNS; is that machine on, in the same network, and does it run avahi-daemon or \
             another responder? Its address instead of the name always works"
        );
        return Err(io::Error::new(io::ErrorKind::NotFound, text));
    }
    Ok(found)
}

/// A network to ask in: from which address, to which group, on which interface.
#[derive(Debug, Clone, Copy)]
struct Network {
    from: SocketAddr,
    to: SocketAddr,
    interface: u32,
}

impl Network {
    /// Asks until somebody answers, or it was asked often enough.
    async fn ask(self, question: &[u8], id: u16, name: &str) -> io::Result<(u32, Vec<Answer>)> {
        // Bound to the address of an interface, a question to a group leaves by that interface (ip(7), ip_route_output).
        let socket = UdpSocket::bind(self.from).await?;
        let mut bytes = vec![0; MAX_MESSAGE_BYTES + 1];
        for _ in 0..ASKED {
            let _ = socket.send_to(question, self.to).await?;
            let until = Instant::now() + AGAIN;
            while let Ok(received) = timeout_at(until, socket.recv_from(&mut bytes)).await {
                let (length, from) = received?;
                if from.port() != PORT {
                    continue;
                }
                match message::answers(&bytes[..length], id, name) {
                    Ok(answers) if !answers.is_empty() => return Ok((self.interface, answers)),
                    // Whoever is loud must not keep others from being heard.
                    Ok(_) | Err(_) => {}
                }
            }
        }
        Ok((self.interface, Vec::new()))
    }
}

/// Every network that this machine is in. Read from files of the kernel: its messages about interfaces (AF_NETLINK), by which a libc lists
/// them, are closed to the agent's unit.
fn networks() -> Vec<Network> {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let (routes, addresses) = (read("/proc/net/route"), read("/proc/net/if_inet6"));
    listed(&routes, &addresses, |target| own_address(Some(target.into())))
}

/// From the texts of `/proc/net/route` and `/proc/net/if_inet6`; `own` is this machine's address towards another.
fn listed(routes: &str, addresses: &str, own: impl Fn(Ipv4Addr) -> Option<IpAddr>) -> Vec<Network> {
    let v6: Vec<(&str, u32)> = addresses.lines().filter_map(interface_of).collect();
    let is_outside = |name: &str| name != "lo" && !INSIDE.iter().any(|head| name.starts_with(head));
    let of_v4 = routes.lines().skip(1).filter_map(|line| {
        let name = line.split_whitespace().next()?;
        let to = connected(line).filter(|_| is_outside(name))?;
        let from = SocketAddr::new(own(to)?, 0);
        // Needed for addresses of IPv6 that are one cable's alone.
        let interface = v6.iter().find(|(of, _)| *of == name).map_or(0, |(_, number)| *number);
        from.is_ipv4().then_some(Network { from, to: (GROUP_V4, PORT).into(), interface })
    });
    let of_v6 = v6.iter().filter(|(name, _)| is_outside(name)).map(|(_, interface)| {
        let at = |address, port| SocketAddr::from(SocketAddrV6::new(address, port, 0, *interface));
        Network {
            from: at(Ipv6Addr::UNSPECIFIED, 0),
            to: at(GROUP_V6, PORT),
            interface: *interface,
        }
    });
    let mut found: Vec<Network> = Vec::new();
    for network in of_v4.chain(of_v6) {
        let is_new = found
            .iter()
            .all(|known| (known.from, known.interface) != (network.from, network.interface));
        if is_new && found.len() < MAX_NETWORKS {
            found.push(network);
        }
    }
    found
}

/// Somebody in the network of a route that leads to a cable: the first address there.
fn connected(line: &str) -> Option<Ipv4Addr> {
    let mut fields = line.split_whitespace().skip(1);
    let (destination, gateway) = (hex_address(fields.next()?)?, hex_address(fields.next()?)?);
    let mask = hex_address(fields.nth(4)?)?;
    let is_cable =
        gateway.is_unspecified() && !mask.is_unspecified() && mask != Ipv4Addr::BROADCAST;
    is_cable.then(|| Ipv4Addr::from(u32::from(destination).saturating_add(1)))
}

/// The name and number of an interface, from a line of `/proc/net/if_inet6`.
fn interface_of(line: &str) -> Option<(&str, u32)> {
    let mut fields = line.split_whitespace();
    let number = u32::from_str_radix(fields.nth(1)?, 16).ok()?;
    Some((fields.nth(3)?, number))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROUTES: &str = "Iface Destination Gateway Flags RefCnt Use Metric Mask MTU Window IRTT\n\
        eth0 00000000 0102000A 0003 0 0 0 00000000 0 0 0\n\
        docker0 000011AC 00000000 0001 0 0 0 0000FFFF 0 0 0\n\
        eth0 0002000A 00000000 0001 0 0 0 00FFFFFF 0 0 0\n";
    const ADDRESSES: &str = "fe800000000000000042d9fffe295c64 05 40 20 80 docker0\n\
        00000000000000000000000000000001 01 80 10 80 lo\n\
        fe8000000000000000fc00fffe000001 04 40 20 80 eth0\n";

    #[test]
    fn each_network_that_a_cable_leads_to_is_asked_and_none_of_containers() {
        // As a machine of the other byte order would write it, the addresses are others; what is left out is not.
        let found = listed(ROUTES, ADDRESSES, |_| Some("10.0.2.15".parse().unwrap()));
        let shown: Vec<(String, String, u32)> =
            found.iter().map(|n| (n.from.to_string(), n.to.to_string(), n.interface)).collect();
        let expected =
            [("10.0.2.15:0", "224.0.0.251:5353", 4), ("[::%4]:0", "[ff02::fb%4]:5353", 4)];
        let expected: Vec<(String, String, u32)> = expected
            .iter()
            .map(|(from, to, n)| ((*from).to_owned(), (*to).to_owned(), *n))
            .collect();
        assert_eq!(shown, expected);
    }

    #[test]
    fn a_machine_in_no_network_asks_nobody() {
        for (routes, addresses) in [("", ""), ("Iface\nx y z", "1 2"), (ROUTES, "")] {
            assert!(listed(routes, addresses, |_| None).is_empty());
        }
    }
}
