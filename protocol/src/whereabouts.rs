//! Where the coordinator is reached: signed by the director once for all nodes of a fleet, so that it can move.
//!
//! ```text
//! Whereabouts (envelope) --down/addresses, retained--> node: newer than what it learned -> Coordinators, in its file
//! ```
//! An address proves nothing: whoever answers there must show a certificate of the fleet's CA for the fleet's name. So a node keeps
//! what it knows beside what it learns, and tries one after another; only what is named in `forgotten` is dropped.

use serde::{Deserialize, Serialize};

use crate::envelope::{Envelope, Rejected, Verified};
use crate::id::FleetId;
use crate::join::Coordinators;
use crate::keys::Root;
use crate::payload::{Payload, PayloadType};

/// Addresses that the director names at most, and those that it drops.
pub const MAX_ADDRESSES: usize = 8;
/// Addresses that a node keeps, its own of joining among them.
pub const MAX_KNOWN: usize = 16;
/// A name in DNS has 253 characters, and a port follows.
const MAX_ADDRESS_CHARS: usize = 260;

/// The document that the director signs for a fleet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Whereabouts {
    /// [`crate::FORMAT`] at the time of writing.
    pub format: u32,
    /// The fleet it is for.
    pub fleet: FleetId,
    /// Its place in the order.
    pub edition: Edition,
    /// `host:port`, tried in this order; at least one.
    pub addresses: Vec<String>,
    /// What is not tried any more.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub forgotten: Vec<String>,
}

/// What orders them. Epoch first, so that one signed by a thief with the highest number there is ends with the next epoch.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(deny_unknown_fields)]
pub struct Edition {
    /// The trust root's.
    pub epoch: u64,
    /// Only ever grows: Unix seconds of the coordinator at the change, or one more than the last, so that one that came back from an
    /// old backup is heard again.
    pub number: u64,
}

/// What a node says of it in its hello, once it has learned something.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Learned {
    /// The newest that is durable there.
    pub edition: Edition,
    /// All that it tries, in this order.
    pub addresses: Vec<String>,
    /// Where its `agent.toml` says that the broker is: then it looks for it nowhere else.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub broker: Option<String>,
}

impl Payload for Whereabouts {
    const TYPE: PayloadType = PayloadType::Whereabouts;
}

/// Whether text is `host:port`.
#[must_use]
pub fn is_address(text: &str) -> bool {
    let Some((host, port)) = text.rsplit_once(':') else { return false };
    let bracketed = host.starts_with('[') && host.ends_with(']');
    let port_fits = port.parse::<u16>().is_ok_and(|port| port != 0);
    let is_plain = text.len() <= MAX_ADDRESS_CHARS && text.chars().all(|c| c.is_ascii_graphic());
    port_fits && is_plain && !host.is_empty() && (bracketed || !host.contains(':'))
}

/// Accepts what the director of this root says of itself; whether it is news is [`Coordinators::learn`]'s to say.
///
/// # Errors
/// Reasons of size, signature and form, [`Rejected::WrongFleet`], [`Rejected::WrongEpoch`], and [`Rejected::BadPayload`] where an
/// address is none, or there are too few or too many.
pub fn accept(bytes: &[u8], root: &Root) -> Result<Verified<Whereabouts>, Rejected> {
    let said: Verified<Whereabouts> = Envelope::from_bytes(bytes)?.verify(root)?;
    if said.fleet != root.fleet {
        return Err(Rejected::WrongFleet);
    }
    let (found, expected) = (said.edition.epoch, root.epoch);
    if found != expected {
        return Err(Rejected::WrongEpoch { found, expected });
    }
    let fits = |list: &[String]| list.len() <= MAX_ADDRESSES && list.iter().all(|a| is_address(a));
    if said.addresses.is_empty() || !fits(&said.addresses) || !fits(&said.forgotten) {
        let reason = "1 to 8 addresses are expected, each host:port";
        return Err(Rejected::BadPayload(reason.to_owned()));
    }
    Ok(said)
}

impl Coordinators {
    /// What a node knows from then on: what was named, then what it knew besides, without what is to be forgotten. None where
    /// it is not newer than what was learned before.
    #[must_use]
    pub fn learn(&self, said: &Whereabouts) -> Option<Self> {
        if self.edition.is_some_and(|known| known >= said.edition) {
            return None;
        }
        let mut addresses: Vec<String> = Vec::new();
        let kept = self.addresses.iter().filter(|known| !said.forgotten.contains(known));
        for address in said.addresses.iter().chain(kept) {
            if !addresses.contains(address) && addresses.len() < MAX_KNOWN {
                addresses.push(address.clone());
            }
        }
        Some(Self { addresses, edition: Some(said.edition) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(addresses: &[&str], number: Option<u64>) -> Coordinators {
        let edition = number.map(|number| Edition { epoch: 1, number });
        Coordinators { addresses: addresses.iter().map(|a| (*a).to_owned()).collect(), edition }
    }

    fn said(epoch: u64, number: u64, addresses: &[&str], forgotten: &[&str]) -> Whereabouts {
        let owned = |list: &[&str]| list.iter().map(|a| (*a).to_owned()).collect();
        Whereabouts {
            format: 1,
            fleet: FleetId::from_random([0xf1; 16]),
            edition: Edition { epoch, number },
            addresses: owned(addresses),
            forgotten: owned(forgotten),
        }
    }

    #[test]
    fn a_new_address_comes_first_and_the_old_ones_are_kept() {
        let before = known(&["10.0.0.1:8883", "hub:8883"], None);
        let after = before.learn(&said(1, 5, &["10.0.0.9:8883"], &[])).unwrap();
        assert_eq!(after, known(&["10.0.0.9:8883", "10.0.0.1:8883", "hub:8883"], Some(5)));
        let again = after.learn(&said(1, 6, &["10.0.0.9:8883"], &["hub:8883"])).unwrap();
        assert_eq!(again, known(&["10.0.0.9:8883", "10.0.0.1:8883"], Some(6)));
    }

    #[test]
    fn what_is_not_newer_is_not_learned_and_a_new_epoch_is() {
        let before = known(&["hub:8883"], Some(5));
        for number in [4, 5] {
            assert_eq!(before.learn(&said(1, number, &["10.0.0.9:8883"], &["hub:8883"])), None);
        }
        let stolen = before.learn(&said(1, u64::MAX, &["10.6.6.6:8883"], &[])).unwrap();
        let mended = stolen.learn(&said(2, 7, &["hub:8883"], &["10.6.6.6:8883"])).unwrap();
        assert_eq!(mended.addresses, ["hub:8883"]);
    }

    #[test]
    fn a_node_keeps_sixteen_addresses_at_most_the_signed_ones_first() {
        let many: Vec<String> = (1..=16).map(|n| format!("10.0.0.{n}:8883")).collect();
        let before = Coordinators { addresses: many, edition: None };
        let after = before.learn(&said(1, 1, &["new:8883", "10.0.0.3:8883"], &[])).unwrap();
        assert_eq!(after.addresses.len(), MAX_KNOWN);
        assert_eq!(after.addresses[..3], ["new:8883", "10.0.0.3:8883", "10.0.0.1:8883"]);
    }

    #[test]
    fn an_address_is_a_host_and_a_port_and_nothing_that_would_write_on_a_terminal() {
        let long = format!("{}:8883", "a".repeat(300));
        for good in ["10.0.0.1:8883", "hub.lan:1", "[2001:db8::1]:8883"] {
            assert!(is_address(good), "{good}");
        }
        for bad in ["", "hub", "hub:", ":8883", "hub:0", "2001:db8::1:8883", "a\u{1b}[2J:1", &long]
        {
            assert!(!is_address(bad), "{bad}");
        }
    }
}
