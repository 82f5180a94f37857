//! The one port number on which the proxies of all nodes serve each other, each on its own loopback address.

use std::net::{Ipv4Addr, TcpListener};

use protocol::id::FleetId;

/// Below the range of outgoing connections, one of which could be in the way later: the port is not opened at once.
const FIRST: u16 = 16_000;
const COUNT: u16 = 4_000;

/// A port that is free on all of them now, from a place that depends on the fleet, so that two fleets of one machine do
/// not meet before either has opened its own; none where there is none.
pub(super) fn choose(fleet: &FleetId, addresses: &[Ipv4Addr]) -> Option<u16> {
    let start = u64::from_str_radix(&fleet.as_str()[..8], 16).unwrap_or(0) % u64::from(COUNT);
    let start = u16::try_from(start).unwrap_or(0);
    let port = |index: u16| FIRST + (start + index) % COUNT;
    let is_free = |port: &u16| addresses.iter().all(|at| TcpListener::bind((*at, *port)).is_ok());
    (0..COUNT).map(port).find(is_free)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_that_any_node_could_not_open_is_passed_over() {
        let fleet = "0123456789abcdef0123456789abcdef".parse().unwrap();
        let addresses = [Ipv4Addr::new(127, 88, 0, 1), Ipv4Addr::new(127, 88, 0, 2)];
        let first = choose(&fleet, &addresses).unwrap();
        let _holder = TcpListener::bind((addresses[1], first)).unwrap();
        let second = choose(&fleet, &addresses).unwrap();
        assert!(second > first, "{second} after {first}");
        assert_eq!(choose(&fleet, &addresses[..1]), Some(first));
    }
}
