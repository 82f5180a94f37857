//! What the board carries: the least, and all of it where that is asked for ([`crate::load`]). The only place that knows `sysinfo`, which
//! reads what it has a word for: memory, load average, time since the boot.

use std::path::PathBuf;

use nix::sys::statvfs::{Statvfs, statvfs};
use planner::Now;
use protocol::hello::Load;
use protocol::manifest::Version;
use sysinfo::System;

use crate::load::board::{self, Board};
use crate::load::instances::Instances;
use crate::load::proc::Memory;
use crate::load::{Detail, Root, round};

/// Samples the board.
#[derive(Debug)]
pub struct Sampler {
    system: System,
    board: Board,
    instances: Instances,
    /// Where Docker keeps images.
    disk: PathBuf,
}

/// A file system's fill.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Disk {
    /// Bytes in use.
    pub used_bytes: u64,
    /// Its size in bytes, without what is reserved for root.
    pub total_bytes: u64,
}

impl Sampler {
    /// A sampler that looks at the file system of `disk` (Docker's root directory), and for all else below `root`. `None` where the
    /// system tells nothing.
    #[must_use]
    pub fn new(root: Root, disk: PathBuf) -> Option<Self> {
        let system = System::new().ok()?;
        Some(Self {
            system,
            board: Board::new(root.clone())?,
            instances: Instances::new(root),
            disk,
        })
    }

    /// One sample, with all that is asked for in `detail`; shares of the processor's time are since the sample before, those of
    /// instances since the one before that told of them.
    pub fn sample(&mut self, seen: Version, detail: Option<Detail<'_>>, now: Now) -> Load {
        let processor = self.board.processor();
        let memory = memory(&mut self.system);
        let volume = self.volume();
        let disk = volume.as_ref().map(Disk::of);
        let warmth = self.board.warmth();
        let mut load = Load {
            seen,
            cpu: processor.all.map(|all| all.busy),
            load1: System::load_average().ok().map(|load| round(load.one as f32, 100.0)),
            mem_used: memory.map(|memory| memory.total.saturating_sub(memory.available)),
            mem_total: memory.map(|memory| memory.total),
            disk_used: disk.map(|disk| disk.used_bytes),
            disk_total: disk.map(|disk| disk.total_bytes),
            temp_c: board::hottest(&warmth),
            up_s: System::uptime().unwrap_or(0),
            traffic: Vec::new(),
            board: None,
            instances: Vec::new(),
        };
        let Some(Detail { engine, instances }) = detail else { return load };
        let inodes = volume
            .map(|volume| (volume.files().saturating_sub(volume.files_free()), volume.files()));
        let board = self.board.tell(engine, processor, memory, &warmth, inodes);
        load.board = Some(Box::new(board));
        load.instances = self.instances.look(&instances, now);
        load
    }

    /// The file system that images are on; `None` when it cannot be asked.
    fn volume(&self) -> Option<Statvfs> {
        statvfs(&self.disk).ok()
    }
}

/// Processors that this program may use.
#[must_use]
pub fn cores() -> u32 {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    u32::try_from(cores).unwrap_or(u32::MAX)
}

/// Bytes of memory that could be used without swapping (`MemAvailable`, proc(5)); none where the system does not tell.
#[must_use]
pub fn memory_available() -> Option<u64> {
    memory(&mut System::new().ok()?).map(|memory| memory.available)
}

fn memory(system: &mut System) -> Option<Memory> {
    system.refresh_memory();
    let (total, available) = (system.total_memory(), system.available_memory());
    // 0 is what it says where it knows nothing.
    let is_known = total > 0 && available > 0;
    let swap = (system.used_swap(), system.total_swap());
    is_known.then_some(Memory { total, available, swap })
}

impl Disk {
    fn of(volume: &Statvfs) -> Self {
        let block = volume.fragment_size();
        let used = volume.blocks().saturating_sub(volume.blocks_free());
        let usable = used + volume.blocks_available();
        Self { used_bytes: used * block, total_bytes: usable * block }
    }

    /// Percent in use, as `df` counts it.
    #[must_use]
    pub fn used_percent(self) -> u8 {
        let percent = (self.used_bytes * 100).div_ceil(self.total_bytes.max(1));
        u8::try_from(percent.min(100)).unwrap_or(100)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_of_this_machine_is_plausible() {
        let mut sampler = Sampler::new(Root::new("/"), "/".into()).unwrap();
        let detail = Detail { engine: "20.10.24", instances: Vec::new() };
        let load = sampler.sample(Version::default(), Some(detail), Now(0));
        assert!(load.cpu.is_none_or(|cpu| (0.0..=1.0).contains(&cpu)), "{load:?}");
        assert!(load.mem_used.unwrap() <= load.mem_total.unwrap(), "{load:?}");
        assert!(load.disk_used.unwrap() <= load.disk_total.unwrap(), "{load:?}");
        assert!(load.up_s > 0 && load.load1.is_some(), "{load:?}");
        let board = load.board.unwrap();
        assert!(board.kernel.is_some() && board.swap_total.is_some(), "{board:?}");
        assert!(board.inodes_used <= board.inodes_total, "{board:?}");
        assert_eq!(sampler.sample(Version::default(), None, Now(0)).board, None);
        assert!(memory_available().unwrap() <= load.mem_total.unwrap());
    }

    #[test]
    fn a_disk_that_cannot_be_asked_is_not_known() {
        let mut sampler = Sampler::new(Root::new("/"), "/does/not/exist".into()).unwrap();
        assert_eq!(sampler.sample(Version::default(), None, Now(0)).disk_used, None);
    }

    #[test]
    fn a_share_of_the_disk_is_rounded_up() {
        assert_eq!(Disk { used_bytes: 691, total_bytes: 1000 }.used_percent(), 70);
        assert_eq!(Disk { used_bytes: 0, total_bytes: 0 }.used_percent(), 0);
    }
}
