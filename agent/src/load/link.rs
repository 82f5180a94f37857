//! The host's end of a container's network, whose counters anybody may read. The kernel's own counters of the container are in
//! `/proc/PID/net/dev`, which `ProtectProc=invisible` hides from the agent.
//!
//! ```text
//! its address -> /proc/net/arp: hardware's address, bridge -> BRIDGE/brforward: port -> BRIDGE/brif/*/port_no: interface
//! ```
//! A container that nobody speaks to over its bridge, or that has none, is not found.

use std::net::Ipv4Addr;

use super::Root;
use super::proc::{self, Bytes};

const INTERFACES: &str = "/sys/class/net";
/// One entry of `brforward` (linux/if_bridge.h, `struct __fdb_entry`).
const ENTRY_BYTES: usize = 16;

/// The interface at the other end of a container's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link(String);

impl Link {
    /// That of the container with this address, by the text of `/proc/net/arp`.
    #[must_use]
    pub fn find(root: &Root, arp: &str, address: Ipv4Addr) -> Option<Self> {
        let (hardware, bridge) = proc::neighbour(arp, address)?;
        let port = port(&root.bytes(&format!("{INTERFACES}/{bridge}/brforward"))?, hardware)?;
        let of_port = |name: &String| {
            let path = format!("{INTERFACES}/{bridge}/brif/{name}/port_no");
            let number = root.text(&path);
            let number = number.as_deref().and_then(|text| text.trim().strip_prefix("0x"));
            number.is_some_and(|number| u16::from_str_radix(number, 16) == Ok(port))
        };
        root.names(&format!("{INTERFACES}/{bridge}/brif")).into_iter().find(of_port).map(Self)
    }

    /// Bytes that the container received and sent; none when it has ended: its interface goes with it.
    #[must_use]
    pub fn bytes(&self, root: &Root) -> Option<Bytes> {
        let counter =
            |name: &str| root.number(&format!("{INTERFACES}/{}/statistics/{name}", self.0));
        // What this end sends is received at the other.
        Some((counter("tx_bytes")?, counter("rx_bytes")?))
    }
}

/// The bridge's port behind which it has seen this address.
fn port(brforward: &[u8], hardware: [u8; 6]) -> Option<u16> {
    let mut entries = brforward.chunks_exact(ENTRY_BYTES);
    entries.find_map(|entry| {
        let (is_local, port) = (entry[7] != 0, u16::from_le_bytes([entry[6], entry[12]]));
        (entry[..6] == hardware && !is_local).then_some(port)
    })
}

#[cfg(test)]
mod tests;
