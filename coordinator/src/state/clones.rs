//! Copied boards: two with one identity, told apart by the kernel's boot id.
//!
//! A boot id is drawn at each boot and never comes back. One that is heard again after another was heard is a second board: the two
//! take each other's session, again and again.

use std::collections::BTreeMap;

use protocol::hello::Hello;
use protocol::id::NodeId;

use super::{At, State};

/// Boots in turn that are called a clone: a late word of the boot before counts once, and never twice.
const RETURNS: u32 = 2;
/// Without a turn for this long there is one board again.
const FORGOTTEN_MS: u64 = 60 * 60 * 1000;

/// The two boots that were heard last.
#[derive(Debug, Clone, Default)]
pub(super) struct Turns {
    now: Spoken,
    before: Spoken,
    returns: u32,
    at_ms: u64,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Spoken {
    boot_id: String,
    address: String,
}

/// By node.
pub(super) type Clones = BTreeMap<NodeId, Turns>;

impl Turns {
    /// Counts a hello; true when it proves a second board that was not known.
    fn hear(&mut self, spoken: Spoken, at_ms: u64) -> bool {
        if at_ms.saturating_sub(self.at_ms) > FORGOTTEN_MS {
            self.returns = 0;
        }
        if spoken.boot_id == self.now.boot_id {
            self.now = spoken;
            return false;
        }
        let is_back = spoken.boot_id == self.before.boot_id;
        self.before = std::mem::replace(&mut self.now, spoken);
        if !is_back {
            return false;
        }
        self.at_ms = at_ms;
        self.returns = self.returns.saturating_add(1);
        self.returns == RETURNS
    }
}

impl State {
    /// Notes whose boot speaks; the second board is named once.
    pub(super) fn watch_clones(&mut self, hello: &Hello, at: At) {
        let spoken = Spoken { boot_id: hello.boot_id.clone(), address: hello.address.clone() };
        let turns = self.clones.entry(hello.node.clone()).or_default();
        if !turns.hear(spoken, at.unix_ms) {
            return;
        }
        let (one, other) = (turns.now.clone(), turns.before.clone());
        let head = |boot: &str| boot.chars().take(8).collect::<String>();
        let message = format!(
            "cloned: two boards have this node's identity and take turns, boot {} at {} and boot {} at {}; on the copy remove \
             the keys in its state_dir and join it anew",
            head(&one.boot_id),
            super::heard::printable(&one.address),
            head(&other.boot_id),
            super::heard::printable(&other.address)
        );
        tracing::warn!(node = %hello.node.short(), "two boards have one identity");
        self.note_node(&hello.node, message, at);
    }

    /// Whether two boards take turns under this identity.
    pub(super) fn is_cloned(&self, id: &NodeId, now_ms: u64) -> bool {
        self.clones.get(id).is_some_and(|turns| {
            turns.returns >= RETURNS && now_ms.saturating_sub(turns.at_ms) <= FORGOTTEN_MS
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(boots: &[&str], expected: &[bool]) {
        let mut turns = Turns::default();
        let heard: Vec<bool> = boots
            .iter()
            .map(|boot| {
                turns.hear(Spoken { boot_id: (*boot).to_owned(), address: String::new() }, 1_000)
            })
            .collect();
        assert_eq!(heard, expected, "{boots:?}");
    }

    #[test]
    fn boots_that_take_turns_are_two_boards_and_reboots_are_one() {
        check(&["a", "b", "c", "d", "d"], &[false; 5]);
        check(&["a", "b", "a", "a", "b", "a"], &[false, false, false, false, true, false]);
    }

    #[test]
    fn a_late_word_of_the_boot_before_is_no_clone() {
        check(&["a", "b", "a", "c", "d"], &[false; 5]);
    }

    #[test]
    fn turns_that_ended_are_forgotten() {
        let mut turns = Turns::default();
        for (boot, at) in [("a", 0), ("b", 1), ("a", 2), ("b", FORGOTTEN_MS + 3)] {
            let spoken = Spoken { boot_id: boot.to_owned(), address: String::new() };
            assert!(!turns.hear(spoken, at), "{boot} at {at}");
        }
    }
}
