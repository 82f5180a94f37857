//! What the board carries: processor, memory, disk, temperature. The only place that knows `sysinfo`.

use std::path::PathBuf;

use protocol::hello::{Capacity, Load};
use protocol::load::BoardLoad;
use protocol::manifest::Version;
use sysinfo::{Components, System};

/// Samples the board.
#[derive(Debug)]
pub struct Sampler {
    system: System,
    components: Option<Components>,
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
    /// A sampler that looks at the file system of `disk` (Docker's root directory). `None` where the system tells nothing.
    #[must_use]
    pub fn new(disk: PathBuf) -> Option<Self> {
        let mut system = System::new().ok()?;
        system.refresh_memory();
        // Shares of processor time are between two looks: this is the first.
        system.refresh_cpu_usage();
        let components = Components::new_with_refreshed_list().ok();
        Some(Self { system, components, disk })
    }

    /// One sample, with all that the board tells where `in_detail`; shares of processor time are since the sample before.
    pub fn sample(&mut self, seen: Version, in_detail: bool) -> Load {
        self.system.refresh_memory();
        self.system.refresh_cpu_usage();
        let disk = self.disk();
        let mem_total = self.system.total_memory();
        Load {
            seen,
            cpu: Some(round(self.system.global_cpu_usage() / 100.0, 1000.0)),
            load1: System::load_average().ok().map(|load| round(load.one as f32, 100.0)),
            mem_used: (mem_total > 0).then(|| self.system.used_memory()),
            mem_total: (mem_total > 0).then_some(mem_total),
            disk_used: disk.map(|disk| disk.used_bytes),
            disk_total: disk.map(|disk| disk.total_bytes),
            temp_c: self.hottest_celsius().map(|celsius| round(celsius, 10.0)),
            up_s: System::uptime().unwrap_or(0),
            traffic: Vec::new(),
            board: in_detail.then(|| Box::new(self.board())),
            instances: Vec::new(),
        }
    }

    /// What is known beside the least.
    fn board(&mut self) -> BoardLoad {
        BoardLoad { kernel: System::kernel_version().ok(), ..BoardLoad::default() }
    }

    /// What the board has to give; `architecture` is the engine's word for it.
    #[must_use]
    pub fn capacity(&self, architecture: &str) -> Capacity {
        Capacity {
            architecture: architecture.to_owned(),
            cores: cores(),
            memory_bytes: self.system.total_memory(),
        }
    }

    /// The fill of the file system that images are on; `None` when it cannot be asked.
    #[must_use]
    pub fn disk(&self) -> Option<Disk> {
        let seen = nix::sys::statvfs::statvfs(&self.disk).ok()?;
        let block = seen.fragment_size();
        let used = seen.blocks().saturating_sub(seen.blocks_free());
        let usable = used + seen.blocks_available();
        Some(Disk { used_bytes: used * block, total_bytes: usable * block })
    }

    fn hottest_celsius(&mut self) -> Option<f32> {
        let components = self.components.as_mut()?;
        components.refresh(false);
        components.iter().filter_map(sysinfo::Component::temperature).reduce(f32::max)
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
    let mut system = System::new().ok()?;
    system.refresh_memory();
    Some(system.available_memory()).filter(|bytes| *bytes > 0)
}

impl Disk {
    /// Percent in use, as `df` counts it.
    #[must_use]
    pub fn used_percent(self) -> u8 {
        let percent = (self.used_bytes * 100).div_ceil(self.total_bytes.max(1));
        u8::try_from(percent.min(100)).unwrap_or(100)
    }
}

/// To so many parts of one: short on the wire.
fn round(value: f32, parts: f32) -> f32 {
    (value * parts).round() / parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_of_this_machine_is_plausible() {
        let mut sampler = Sampler::new("/".into()).unwrap();
        let load = sampler.sample(Version::default(), true);
        assert!(load.cpu.is_some_and(|cpu| (0.0..=1.0).contains(&cpu)), "{load:?}");
        assert!(load.mem_used.unwrap() <= load.mem_total.unwrap(), "{load:?}");
        assert!(load.disk_used.unwrap() <= load.disk_total.unwrap(), "{load:?}");
        assert!(load.up_s > 0);
        assert!(sampler.capacity("amd64").cores > 0);
    }

    #[test]
    fn a_disk_that_cannot_be_asked_is_not_known() {
        let sampler = Sampler::new("/does/not/exist".into()).unwrap();
        assert_eq!(sampler.disk(), None);
    }

    #[test]
    fn a_share_of_the_disk_is_rounded_up() {
        assert_eq!(Disk { used_bytes: 691, total_bytes: 1000 }.used_percent(), 70);
        assert_eq!(Disk { used_bytes: 0, total_bytes: 0 }.used_percent(), 0);
    }
}
