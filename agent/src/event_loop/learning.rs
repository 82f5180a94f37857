//! Where the coordinator is, as it says itself: accepted, made durable, then said in a hello.
//!
//! ```text
//! down/addresses -> inbox -> newer than what is known -> Act::Learn (file, session) -> Event::Learned -> hello
//! ```
//! Nothing that runs depends on it; what cannot be written is said and learned with the next one.

use planner::Now;
use protocol::join::Coordinators;
use protocol::reason::Reason;
use protocol::whereabouts::Learned;

use super::acts::Act;
use super::agent::Agent;
use crate::inbox::ReceivedAddresses;

impl Agent {
    /// After the trust roots that it may be signed under.
    pub(super) fn read_addresses(&mut self) {
        if self.writing.is_accepting() || self.learning.is_some() {
            return;
        }
        let Some(bytes) = self.addresses.take() else { return };
        match self.inbox.receive_addresses(&bytes) {
            ReceivedAddresses::Said(said) => {
                let Some(known) = self.settings.coordinators.learn(&said) else { return };
                self.acts.push(Act::Learn(known.clone()));
                self.learning = Some(known);
            }
            ReceivedAddresses::Old => {}
            ReceivedAddresses::Refused(refusal) => {
                self.voice.has_news = true;
                self.tell_refused(Reason::AddressesRefused, &refusal);
            }
        }
    }

    /// It is durable, or could not be made so.
    pub(super) fn learned(&mut self, result: Result<(), String>, now: Now) {
        let Some(known) = self.learning.take() else { return };
        match result {
            Ok(()) => {
                self.settings.coordinators = known;
                self.voice.greet_again(now);
            }
            Err(error) => {
                let text = format!("where the coordinator is to be found cannot be kept: {error}");
                self.tell(None, None, &text);
            }
        }
    }

    /// What a hello says of it.
    pub(super) fn known_addresses(&self) -> Option<Learned> {
        let Coordinators { addresses, edition } = &self.settings.coordinators;
        let (addresses, broker) = (addresses.clone(), self.settings.own_broker.clone());
        (*edition).map(|edition| Learned { edition, addresses, broker })
    }
}
