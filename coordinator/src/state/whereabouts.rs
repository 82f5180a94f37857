//! Where this coordinator is reached, as an operator says before it moves: signed for all nodes, and who of them has learned it.
//!
//! Published to nodes that were heard, as trust roots are: what a broker keeps for the others may be newer than what we have.

use protocol::FORMAT;
use protocol::envelope::Envelope;
use protocol::id::NodeId;
use protocol::whereabouts::{Edition, MAX_ADDRESSES, MAX_KNOWN, Whereabouts, is_address};
use serde::{Deserialize, Serialize};

use super::heard::printable;
use super::records::{Change, WhereaboutsRecord};
use super::requests::Refused;
use super::shown::{AddressesShown, NodeLearned};
use super::{At, Node, State, natural};

/// What an operator asks for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Moving {
    /// Nodes are to look here too, and here first.
    To(String),
    /// Nodes are to look here no more.
    Forget(String),
}

impl State {
    /// Changes where nodes are told to look. What is so already changes nothing.
    ///
    /// # Errors
    /// [`Refused::BadAddress`], [`Refused::LastAddress`], [`Refused::TooManyAddresses`].
    pub fn tell_addresses(&mut self, moving: &Moving, at: At) -> Result<AddressesShown, Refused> {
        let mut next = self.whereabouts.clone();
        let message = match moving {
            Moving::To(address) => {
                check(address)?;
                next.forgotten.retain(|one| one != address);
                next.addresses.retain(|one| one != address);
                next.addresses.insert(0, address.clone());
                format!("nodes are told that the coordinator is at {address}")
            }
            Moving::Forget(address) => {
                check(address)?;
                next.addresses.retain(|one| one != address);
                if next.addresses.is_empty() {
                    return Err(Refused::LastAddress(address.clone()));
                }
                next.forgotten.retain(|one| one != address);
                next.forgotten.insert(0, address.clone());
                next.forgotten.truncate(MAX_ADDRESSES);
                format!("nodes are told to forget the coordinator's address {address}")
            }
        };
        if next.addresses.len() > MAX_ADDRESSES {
            return Err(Refused::TooManyAddresses(MAX_ADDRESSES));
        }
        if next != self.whereabouts {
            next.number = (self.whereabouts.number + 1).max(at.unix_ms / 1000);
            self.whereabouts = next;
            self.effects.changes.push(Change::Whereabouts(self.whereabouts.clone()));
            self.note_fleet(message, at);
            self.publish_addresses();
        }
        Ok(self.show_addresses())
    }

    /// The signed document; none before the first.
    #[must_use]
    pub fn addresses(&self) -> Option<Vec<u8>> {
        let WhereaboutsRecord { addresses, forgotten, .. } = &self.whereabouts;
        let said = Whereabouts {
            format: FORMAT,
            fleet: self.director.fleet.clone(),
            edition: self.edition()?,
            addresses: addresses.clone(),
            forgotten: forgotten.clone(),
        };
        Some(Envelope::sign(&said, &[&self.director.key]).to_bytes())
    }

    /// What nodes are told, and who has it durably.
    #[must_use]
    pub fn show_addresses(&self) -> AddressesShown {
        let edition = self.edition();
        let admitted = self.nodes.values().filter(|node| self.is_admitted(&node.record.id));
        let mut nodes: Vec<NodeLearned> = admitted.map(|node| node.show_learned(edition)).collect();
        let unheard = self.show_unheard(None).into_iter().filter(|one| one.status == "admitted");
        nodes.extend(unheard.map(|member| NodeLearned {
            id: member.id,
            node: member.name,
            online: false,
            heard: false,
            learned: edition.is_none(),
            knows: Vec::new(),
            broker: None,
        }));
        nodes.sort_by_key(|of_it| natural(&of_it.node));
        let WhereaboutsRecord { addresses, forgotten, .. } = self.whereabouts.clone();
        AddressesShown { version: self.version, addresses, forgotten, nodes }
    }

    /// To every node that was heard and has not learned it.
    pub(super) fn publish_addresses(&mut self) {
        let Some(edition) = self.edition() else { return };
        let heard = self.nodes.values().filter(|node| node.is_heard());
        let behind = heard.filter(|node| node.learned() < Some(edition));
        let behind: Vec<NodeId> = behind.map(|node| node.record.id.clone()).collect();
        self.effects.publish_addresses.extend(behind);
    }

    /// A node that has said hello and has not learned it.
    pub(super) fn remind_of_addresses(&mut self, id: &NodeId) {
        let (edition, node) = (self.edition(), self.nodes.get(id));
        if node.is_some_and(|node| node.learned() < edition) {
            self.effects.publish_addresses.insert(id.clone());
        }
    }

    /// Of the newest; none before the first.
    fn edition(&self) -> Option<Edition> {
        let WhereaboutsRecord { number, addresses, .. } = &self.whereabouts;
        let edition = Edition { epoch: self.director.root.epoch, number: *number };
        (!addresses.is_empty()).then_some(edition)
    }
}

impl Node {
    fn learned(&self) -> Option<Edition> {
        self.record.learned.as_ref().map(|learned| learned.edition)
    }

    fn show_learned(&self, edition: Option<Edition>) -> NodeLearned {
        let learned = self.record.learned.as_ref();
        let knows = learned.map(|learned| &learned.addresses[..]).unwrap_or_default();
        NodeLearned {
            id: self.record.id.clone(),
            node: self.record.name.to_string(),
            online: self.record.online,
            heard: self.is_heard(),
            learned: edition.is_none() || self.learned() >= edition,
            knows: knows.iter().take(MAX_KNOWN).map(|one| printable(one)).collect(),
            broker: learned.and_then(|one| one.broker.as_deref()).map(printable),
        }
    }
}

fn check(address: &str) -> Result<(), Refused> {
    if is_address(address) {
        return Ok(());
    }
    Err(Refused::BadAddress(printable(address)))
}
