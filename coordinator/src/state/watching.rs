//! Somebody looks at the fleet: its nodes tell their load in detail for a while, and are told again for as long as somebody does.

use planner::Now;
use protocol::command::Act;
use protocol::id::{CommandId, NodeId};
use protocol::load::MAX_WATCH_S;

use super::{At, Node, State};

/// A node that is told to say more says it for this long; whoever looks asks again before.
pub(super) const WATCH_S: u32 = 60;
/// Whoever asks this rarely is between two of its questions when that time is over: the node goes on for as long as it may.
const RARELY_MS: u32 = 30_000;
/// It is told again when less than this is left.
pub(crate) const RENEW_MS: u64 = 20_000;
/// Between loads of a watched node, milliseconds, in a fleet that is small.
const EVERY_MS: u32 = 2_000;
/// So many loads a second of all nodes together, at most.
const LOADS_PER_S: usize = 100;

impl State {
    /// Has every node that is heard of tell its load in detail, every two seconds; in a fleet above two hundred nodes less often. `wanted_ms`:
    /// more rarely than that is enough, for a look that never ends; nodes with a metered link are spared then. Does nothing for nodes that
    /// do so already. `new_id` gives a random id, or none where there is no randomness.
    pub fn watch(
        &mut self,
        wanted_ms: Option<u32>,
        new_id: &mut dyn FnMut() -> Option<CommandId>,
        at: At,
    ) {
        let fair_ms = self.nodes.len() * 1_000 / LOADS_PER_S;
        let least_ms = u32::try_from(fair_ms).unwrap_or(u32::MAX).max(EVERY_MS);
        let every_ms = wanted_ms.map_or(least_ms, |wanted| wanted.max(least_ms));
        // Whoever wants to know much less often waits until a watch is over, so that it does not keep a fast one going. A little less often is
        // the same look, in a fleet that has grown.
        let (for_s, renew_ms) = match every_ms >= RARELY_MS {
            true => (MAX_WATCH_S, RENEW_MS + u64::from(every_ms)),
            false => (WATCH_S, RENEW_MS),
        };
        let is_due = |until: Now, known_ms: u32| {
            let left_ms = until.0.saturating_sub(at.now.0);
            let is_same_look = every_ms / 2 < known_ms;
            every_ms < known_ms || left_ms == 0 || (is_same_look && left_ms < renew_ms)
        };
        let is_spared = |node: &Node| node.record.metered && wanted_ms.is_some();
        let due = self.nodes.values().filter(|node| {
            node.record.online
                && node.hello.is_some()
                && !is_spared(node)
                && self.is_admitted(&node.record.id)
                && node.watched.is_none_or(|(until, known_ms)| is_due(until, known_ms))
        });
        let due: Vec<NodeId> = due.map(|node| node.record.id.clone()).collect();
        for id in due {
            let Some(command) = new_id() else { return };
            let Some(node) = self.nodes.get_mut(&id) else { continue };
            node.watched = Some((at.now.plus(u64::from(for_s) * 1_000), every_ms));
            self.say_once(&id, &command, Act::Watch { every_ms, for_s }, at);
        }
    }
}
