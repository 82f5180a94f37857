//! The load that a node says: how often, in which detail, and never more than is read.

use planner::Now;
use protocol::hello::Load;
use protocol::load::MAX_LOAD_BYTES;
use protocol::topic::Up;

use super::super::acts::{Act, Surroundings};
use super::super::agent::Agent;
use super::plain;
use crate::load::Detail;
use crate::sampler::Disk;

const LOAD_INTERVAL_BUSY_MS: u64 = 10_000;
pub(super) const LOAD_INTERVAL_LEAST_MS: u64 = 1_000;

impl Agent {
    pub(in crate::event_loop) fn say_load(&mut self, around: &mut dyn Surroundings, now: Now) {
        let Some(info) = &self.facts.info else { return };
        let in_detail = self.voice.tells_all(now) || !self.is_settled();
        let services = self.observed.services.iter();
        let detail = in_detail.then(|| Detail {
            engine: &info.version,
            instances: services
                .flat_map(|(name, facts)| facts.instances.iter().map(move |one| (name, one)))
                .collect(),
        });
        let Some(load) = around.load(&info.root_dir, self.version(), detail) else { return };
        self.voice.is_detail_due = false;
        let disk = load.disk_used.zip(load.disk_total);
        let disk = disk.map(|(used_bytes, total_bytes)| Disk { used_bytes, total_bytes });
        self.facts.disk_used_percent = disk.map(Disk::used_percent);
        let mut load = Load { traffic: self.traffic(self.voice.watched(now).is_some()), ..load };
        let mut said = plain(Up::Load, &load);
        // Whoever judges a release needs its traffic: of instances as many are told as have room beside it.
        while said.payload.len() > MAX_LOAD_BYTES && !load.instances.is_empty() {
            let fitting = load.instances.len() * MAX_LOAD_BYTES / said.payload.len();
            load.instances.truncate(fitting);
            if load.instances.is_empty() {
                load.traffic = self.traffic(false);
            }
            said = plain(Up::Load, &load);
        }
        self.acts.push(Act::Say(said));
    }

    /// A candidate that takes requests is looked at as often as whoever judges it asks.
    pub(super) fn load_interval_ms(&self, now: Now) -> u64 {
        let of_itself = match self.judged().map(|(_, candidate)| candidate.sample_every.0).min() {
            Some(every_ms) => every_ms.clamp(LOAD_INTERVAL_LEAST_MS, LOAD_INTERVAL_BUSY_MS),
            None if self.is_settled() => self.voice.intervals.load_ms,
            None => LOAD_INTERVAL_BUSY_MS,
        };
        self.voice.watched(now).map_or(of_itself, |watched_ms| watched_ms.min(of_itself))
    }
}
