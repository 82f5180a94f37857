//! Which subnets the container networks of each node are taken from: a /20 each, none of which Docker uses yet.

use std::net::Ipv4Addr;

use protocol::id::FleetId;

/// 10.208.0.0/12 in slices of 4096 addresses.
const BASE: u32 = 0x0AD0_0000;
const SLICES: u32 = 256;
const SLICE_BITS: u8 = 20;
const SLICE_SIZE: u32 = 1 << (32 - SLICE_BITS);

/// A slice per node, from a place that depends on the fleet, so that two fleets on one Docker do not meet before
/// either has made a network; none where there is not enough room.
pub(super) fn choose(fleet: &FleetId, used: &[String], count: usize) -> Option<Vec<String>> {
    let used: Vec<(u32, u32)> = used.iter().filter_map(|subnet| range(subnet)).collect();
    let start = u32::from_str_radix(&fleet.as_str()[..8], 16).unwrap_or(0);
    let slice = |index: u32| BASE + (start.wrapping_add(index) % SLICES) * SLICE_SIZE;
    let free = |first: &u32| {
        let last = first + (SLICE_SIZE - 1);
        used.iter().all(|(from, to)| last < *from || first > to)
    };
    let found: Vec<String> = (0..SLICES)
        .map(slice)
        .filter(free)
        .take(count)
        .map(|first| format!("{}/{SLICE_BITS}", Ipv4Addr::from(first)))
        .collect();
    (found.len() == count).then_some(found)
}

/// First and last address of `a.b.c.d/n`; none for IPv6.
fn range(subnet: &str) -> Option<(u32, u32)> {
    let (address, bits) = subnet.split_once('/')?;
    let address = u32::from(address.parse::<Ipv4Addr>().ok()?);
    let bits: u32 = bits.parse().ok().filter(|bits| *bits <= 32)?;
    let hosts = u32::MAX.checked_shr(bits).unwrap_or(0);
    Some((address & !hosts, address | hosts))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fleet(start: &str) -> FleetId {
        format!("{start:0<32}").parse().unwrap()
    }

    fn check(start: &str, used: &[&str], count: usize, expected: Option<&[&str]>) {
        let used: Vec<String> = used.iter().map(|s| (*s).to_owned()).collect();
        let chosen = choose(&fleet(start), &used, count);
        let expected: Option<Vec<String>> =
            expected.map(|e| e.iter().map(|s| (*s).to_owned()).collect());
        assert_eq!(chosen, expected);
    }

    #[test]
    fn slices_do_not_overlap_each_other_or_what_docker_uses() {
        check("0", &[], 2, Some(&["10.208.0.0/20", "10.208.16.0/20"]));
        check(
            "0",
            &["10.208.0.64/26", "172.17.0.0/16"],
            2,
            Some(&["10.208.16.0/20", "10.208.32.0/20"]),
        );
        check("0", &["10.208.0.0/16"], 1, Some(&["10.209.0.0/20"]));
        check("0", &["10.0.0.0/8"], 1, None);
        check("0", &["fd00::/64"], 1, Some(&["10.208.0.0/20"]));
    }

    #[test]
    fn another_fleet_begins_elsewhere_and_wraps_around() {
        check("000000ff", &[], 2, Some(&["10.223.240.0/20", "10.208.0.0/20"]));
    }
}
