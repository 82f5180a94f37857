//! What becomes of loads over time: rates from counters, and the last minutes of a board's processor. Bounded; no clock.
//!
//! Counters are compared over the last ten seconds or so. The time between two loads is taken from the board's own uptime, which has
//! whole seconds, and made finer by when the coordinator heard them.

use std::collections::{BTreeMap, VecDeque};

use protocol::hello::Load;
use protocol::id::NodeId;
use protocol::load::{BoardLoad, InstanceLoad};

use super::known_load;
use crate::state::shown::NodesShown;

/// Samples of the processor that are kept.
pub(crate) const HISTORY: usize = 60;
/// Loads that rates are taken over.
const WINDOW: usize = 6;
/// Two loads are never taken to be nearer than this.
const LEAST_S: f64 = 0.5;

/// Bytes per second; none: not known.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Rate {
    /// Received, or read.
    pub(crate) into: Option<f64>,
    /// Sent, or written.
    pub(crate) out: Option<f64>,
}

/// What a node has told while somebody looked.
#[derive(Debug, Clone, Default)]
pub(crate) struct Track {
    /// Oldest first, with the time at which the node was last heard then.
    loads: VecDeque<(u64, Load)>,
    cpu: VecDeque<f32>,
}

/// Of every node that is there.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tracks(BTreeMap<NodeId, Track>);

impl Tracks {
    /// Takes what the coordinator knows now; forgets nodes that are gone.
    pub(crate) fn take(&mut self, shown: &NodesShown) {
        self.0.retain(|id, _| shown.nodes.iter().any(|node| node.id == *id));
        for node in &shown.nodes {
            // What an offline node said last is no sample of now.
            if let Some(load) = known_load(node, node.heard_ms) {
                self.0.entry(node.id.clone()).or_default().take(load, node.heard_ms);
            }
        }
    }

    /// Of one node.
    pub(crate) fn of(&self, id: &NodeId) -> Option<&Track> {
        self.0.get(id)
    }
}

impl Track {
    fn take(&mut self, load: &Load, heard_ms: u64) {
        match self.loads.back() {
            Some((_, known)) if known == load => return,
            Some((_, known)) if load.up_s < known.up_s => self.loads.clear(),
            Some(_) | None => {}
        }
        self.loads.push_back((heard_ms, load.clone()));
        self.cpu.extend(load.cpu);
        while self.loads.len() > WINDOW {
            self.loads.pop_front();
        }
        while self.cpu.len() > HISTORY {
            self.cpu.pop_front();
        }
    }

    /// How many of the last loads had more of the board.
    pub(crate) fn in_detail(&self) -> usize {
        self.loads.iter().filter(|(_, load)| load.board.is_some()).count()
    }

    /// Busy shares, oldest first, at most [`HISTORY`].
    pub(crate) fn cpu(&self) -> impl DoubleEndedIterator<Item = f32> + ExactSizeIterator {
        self.cpu.iter().copied()
    }

    /// Of the network cards.
    pub(crate) fn net(&self) -> Rate {
        Rate { into: self.board(|board| board.net_in), out: self.board(|board| board.net_out) }
    }

    /// Of the disks.
    pub(crate) fn disk(&self) -> Rate {
        Rate {
            into: self.board(|board| board.disk_read),
            out: self.board(|board| board.disk_written),
        }
    }

    /// Of one instance's network.
    pub(crate) fn instance_net(&self, name: &str) -> Rate {
        let of = |counter: fn(&InstanceLoad) -> Option<u64>| {
            self.rate(|load| counter(load.instances.iter().find(|one| one.instance == name)?))
        };
        Rate { into: of(|one| one.net_in), out: of(|one| one.net_out) }
    }

    fn board(&self, counter: fn(&BoardLoad) -> Option<u64>) -> Option<f64> {
        self.rate(|load| counter(load.board.as_deref()?))
    }

    /// How fast a counter grows; none where it began anew, or was told once only.
    fn rate(&self, counter: impl Fn(&Load) -> Option<u64>) -> Option<f64> {
        let (until_ms, newest) = self.loads.back()?;
        let until = counter(newest)?;
        let told = |(ms, load): &(u64, Load)| Some((*ms, load.up_s, counter(load)?));
        let (from_ms, from_s, from) = self.loads.iter().find_map(told)?;
        let grown = until.checked_sub(from)?;
        Some(small(grown) / seconds(from_s, newest.up_s, until_ms.saturating_sub(from_ms))?)
    }
}

/// Seconds between two loads; none where no time has passed on the board.
fn seconds(from_s: u64, until_s: u64, heard_ms: u64) -> Option<f64> {
    let whole = small(until_s.checked_sub(from_s)?);
    let heard = small(heard_ms) / 1000.0;
    let between = heard.clamp(whole - 1.0, whole + 1.0);
    (whole > 0.0 || heard > LEAST_S).then(|| between.max(LEAST_S))
}

/// Exact up to 2^53, which is more than any board counts.
fn small(value: u64) -> f64 {
    value as f64
}

#[cfg(test)]
mod tests;
