//! Where other machines reach this one: what a token says when nobody named an address.

use std::net::{IpAddr, SocketAddr};

use nix::ifaddrs::getifaddrs;
use nix::net::if_::InterfaceFlags;

/// As many as a token takes.
const MAX_ADDRESSES: usize = 8;
/// Networks of containers: no board is there.
const INSIDE: [&str; 4] = ["docker", "br-", "veth", "virbr"];

/// `host:port` of each address that the port can be reached at; loopback alone where there is no other.
#[must_use]
pub fn own_addresses(port: SocketAddr) -> Vec<String> {
    if !port.ip().is_unspecified() {
        return vec![port.to_string()];
    }
    let mut found: Vec<IpAddr> = interfaces().into_iter().filter(is_outward).collect();
    // IPv4 first: boards in a home have it always. What a network gives out for a day comes last.
    found.sort_by_key(|address| (address.is_ipv6(), *address));
    found.dedup();
    found.truncate(MAX_ADDRESSES);
    if found.is_empty() {
        found.push(IpAddr::V4(std::net::Ipv4Addr::LOCALHOST));
    }
    found.into_iter().map(|ip| SocketAddr::new(ip, port.port()).to_string()).collect()
}

fn interfaces() -> Vec<IpAddr> {
    let Ok(interfaces) = getifaddrs() else { return Vec::new() };
    let is_up = |flags: InterfaceFlags| flags.contains(InterfaceFlags::IFF_UP);
    interfaces
        .filter(|one| is_up(one.flags))
        .filter(|one| !INSIDE.iter().any(|head| one.interface_name.starts_with(head)))
        .filter_map(|one| {
            let address = one.address?;
            let v4 = address.as_sockaddr_in().map(|v4| IpAddr::V4(v4.ip()));
            v4.or_else(|| Some(IpAddr::V6(address.as_sockaddr_in6()?.ip())))
        })
        .collect()
}

fn is_outward(address: &IpAddr) -> bool {
    let is_link_local = match address {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    };
    !address.is_loopback() && !address.is_unspecified() && !is_link_local
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_on_one_address_is_reached_there_and_one_on_all_somewhere() {
        assert_eq!(own_addresses("10.0.0.2:8883".parse().unwrap()), ["10.0.0.2:8883"]);
        let all = own_addresses("[::]:8883".parse().unwrap());
        assert!(!all.is_empty() && all.len() <= MAX_ADDRESSES, "{all:?}");
        assert!(all.iter().all(|one| one.ends_with(":8883")), "{all:?}");
    }
}
