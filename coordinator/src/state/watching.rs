//! Somebody looks at the fleet: its nodes tell their load in detail for a while, and are told again for as long as somebody does.

use planner::Now;
use protocol::command::Act;
use protocol::id::{CommandId, NodeId};

use super::{At, State};

/// A node that is told to say more says it for this long; whoever looks asks again before.
pub(super) const WATCH_S: u32 = 60;
/// It is told again when less than this is left.
const RENEW_MS: u64 = 20_000;
/// Between loads of a watched node, milliseconds, in a fleet that is small.
const EVERY_MS: u32 = 2_000;
/// So many loads a second of all nodes together, at most.
const LOADS_PER_S: usize = 100;

impl State {
    /// Has every node that is heard of tell its load in detail, every two seconds; in a fleet above two hundred nodes less often. `every_ms`:
    /// more rarely than that is enough. Does nothing for nodes that do so already. `new_id` gives a random id, or none where there is no
    /// randomness.
    pub fn watch(
        &mut self,
        every_ms: Option<u32>,
        new_id: &mut dyn FnMut() -> Option<CommandId>,
        at: At,
    ) {
        let fair_ms = self.nodes.len() * 1_000 / LOADS_PER_S;
        let least_ms = u32::try_from(fair_ms).unwrap_or(u32::MAX).max(EVERY_MS);
        let every_ms = every_ms.map_or(least_ms, |wanted| wanted.max(least_ms));
        // Whoever wants to know less often waits until a watch is over, so that it does not keep a fast one going.
        let is_due = |until: Now, known_ms: u32| {
            let left_ms = until.0.saturating_sub(at.now.0);
            every_ms < known_ms || left_ms == 0 || (every_ms == known_ms && left_ms < RENEW_MS)
        };
        let due = self.nodes.values().filter(|node| {
            node.record.online
                && node.hello.is_some()
                && self.is_admitted(&node.record.id)
                && node.watched.is_none_or(|(until, known_ms)| is_due(until, known_ms))
        });
        let due: Vec<NodeId> = due.map(|node| node.record.id.clone()).collect();
        for id in due {
            let Some(command) = new_id() else { return };
            let Some(node) = self.nodes.get_mut(&id) else { continue };
            node.watched = Some((at.now.plus(u64::from(WATCH_S) * 1_000), every_ms));
            self.say_once(&id, &command, Act::Watch { every_ms, for_s: WATCH_S }, at);
        }
    }
}
