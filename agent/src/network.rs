//! Addresses: which subnet a service's network gets, which address an instance gets, and who is called what inside a
//! container. Pure, what is taken already is an argument; but for the machine's own address, which the kernel is asked for.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};
use std::str::FromStr;

use protocol::id::ServiceName;

/// Prefix of a service's subnet: 61 instances beside the gateway.
pub const SERVICE_PREFIX: u8 = 26;

/// An IPv4 network: an address whose host bits are 0, and the length of its prefix.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ipv4Net {
    base: u32,
    prefix: u8,
}

/// Why a text is not an IPv4 network.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not an IPv4 network such as 10.213.0.0/16")]
pub struct InvalidNet(String);

impl Ipv4Net {
    /// The network of this prefix that contains `address`; `None` when the prefix is above 32.
    #[must_use]
    pub fn containing(address: Ipv4Addr, prefix: u8) -> Option<Self> {
        (prefix <= 32).then(|| Self { base: u32::from(address) & mask(prefix), prefix })
    }

    /// The length of its prefix.
    #[must_use]
    pub const fn prefix(self) -> u8 {
        self.prefix
    }

    /// The first usable address: the gateway, which is the service's address.
    #[must_use]
    pub fn gateway(self) -> Ipv4Addr {
        Ipv4Addr::from(self.base.saturating_add(1))
    }

    /// Whether `address` is in it.
    #[must_use]
    pub fn contains(self, address: Ipv4Addr) -> bool {
        u32::from(address) & mask(self.prefix) == self.base
    }

    /// Whether both have an address in common.
    #[must_use]
    pub fn overlaps(self, other: Self) -> bool {
        let shorter = mask(self.prefix.min(other.prefix));
        self.base & shorter == other.base & shorter
    }

    /// The first and last address that an instance may have: not the network's, the gateway's or the broadcast one.
    fn instance_range(self) -> Option<(u32, u32)> {
        let last = self.base | !mask(self.prefix);
        let (first, last) = (self.base.checked_add(2)?, last.checked_sub(1)?);
        (first <= last).then_some((first, last))
    }
}

fn mask(prefix: u8) -> u32 {
    u32::MAX.checked_shl(32 - u32::from(prefix.min(32))).unwrap_or(0)
}

impl FromStr for Ipv4Net {
    type Err = InvalidNet;
    fn from_str(text: &str) -> Result<Self, InvalidNet> {
        let parse = || {
            let (address, prefix) = text.split_once('/')?;
            Self::containing(address.parse().ok()?, prefix.parse().ok()?)
        };
        parse().ok_or_else(|| InvalidNet(text.chars().take(80).collect()))
    }
}

impl fmt::Display for Ipv4Net {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", Ipv4Addr::from(self.base), self.prefix)
    }
}

impl fmt::Debug for Ipv4Net {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The first subnet of `prefix` in the pool that overlaps nothing in `taken`; `None` when the pool is used up.
#[must_use]
pub fn choose_subnet(pool: Ipv4Net, prefix: u8, taken: &[Ipv4Net]) -> Option<Ipv4Net> {
    if prefix < pool.prefix || prefix > 30 {
        return None;
    }
    let size = 1u64 << (32 - u32::from(prefix));
    let count = 1u64 << u32::from(prefix - pool.prefix);
    let mut index = 0;
    while index < count {
        let base = u32::try_from(u64::from(pool.base) + index * size).ok()?;
        let candidate = Ipv4Net { base, prefix };
        let Some(other) = taken.iter().find(|other| other.overlaps(candidate)) else {
            return Some(candidate);
        };
        // One bigger than the candidate is jumped over whole, so that a /8 in `taken` costs one round.
        let other_end = u64::from(other.base | !mask(other.prefix)) + 1;
        index = (other_end - u64::from(pool.base)).div_ceil(size).max(index + 1);
    }
    None
}

/// The address of a new instance: the next free one after `last` (around the end of the subnet), so that an address is
/// not used again at once. `used` names what any kept container or the proxy's table names.
#[must_use]
pub fn choose_address(
    subnet: Ipv4Net,
    used: &BTreeSet<Ipv4Addr>,
    last: Option<Ipv4Addr>,
) -> Option<Ipv4Addr> {
    let (first, end) = subnet.instance_range()?;
    let last = last.filter(|last| subnet.contains(*last)).map(u32::from);
    let start = last.map_or(first, |last| last.saturating_add(1)).max(first);
    let free = |candidate: &u32| !used.contains(&Ipv4Addr::from(*candidate));
    (start..=end).chain(first..start.min(end + 1)).find(free).map(Ipv4Addr::from)
}

/// Networks that the host routes by itself, from the text of `/proc/net/route`; default routes are left out, since they
/// contain everything.
#[must_use]
pub fn host_routes(proc_net_route: &str) -> Vec<Ipv4Net> {
    let route = |line: &str| {
        let mut fields = line.split_whitespace().skip(1);
        let destination = hex_address(fields.next()?)?;
        let mask = hex_address(fields.nth(5)?)?;
        let prefix = u8::try_from(u32::from(mask).leading_ones()).ok()?;
        Ipv4Net::containing(destination, prefix).filter(|net| net.prefix > 0)
    };
    proc_net_route.lines().skip(1).filter_map(route).collect()
}

/// The kernel prints addresses as hexadecimal words of the machine's own byte order.
pub(crate) fn hex_address(text: &str) -> Option<Ipv4Addr> {
    u32::from_str_radix(text, 16).ok().map(|word| Ipv4Addr::from(word.to_ne_bytes()))
}

/// Stands for any address beyond this network (RFC 5737 §3). Nothing is sent there.
const BEYOND: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);

/// The address from which this machine reaches `target`, else anything beyond its own network. None where there is no
/// route yet, or nothing but this machine is reached.
#[must_use]
pub fn own_address(target: Option<IpAddr>) -> Option<IpAddr> {
    let toward = |target: IpAddr| {
        let any: IpAddr = match target {
            IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        // Connecting such a socket chooses a route and sends nothing (udp(7)).
        let socket = UdpSocket::bind((any, 0)).ok()?;
        socket.connect((target, 1)).ok()?;
        let own = socket.local_addr().ok()?.ip();
        (!own.is_loopback() && !own.is_unspecified()).then_some(own)
    };
    target.and_then(toward).or_else(|| toward(BEYOND.into()))
}

/// The hosts file of a node's containers: every service by its address.
#[must_use]
pub fn hosts_file(services: &BTreeMap<ServiceName, IpAddr>) -> String {
    let head = "127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n";
    services
        .iter()
        .fold(head.to_owned(), |text, (name, address)| text + &format!("{address} {name}\n"))
}

#[cfg(test)]
mod tests;
