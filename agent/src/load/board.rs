//! What the board does: its processor, sensors, disks and network cards. Memory is `sysinfo`'s to read ([`crate::sampler`]).

use protocol::load::{BoardLoad, Pressure};

use super::proc::{self, Memory, Shares, Stat};
use super::{MAX_CORES, MAX_ZONES, Root, round, shortened};
use crate::doctor::heat;

const THERMAL: &str = "/sys/class/thermal";
const HWMON: &str = "/sys/class/hwmon";
const FREQUENCY: &str = "/sys/devices/system/cpu/cpufreq";
/// What a sensor says outside of these, in thousandths of a degree, it does not know.
const PLAUSIBLE_MILLI: std::ops::Range<i64> = -60_000..150_000;

/// Looks at the board.
#[derive(Debug)]
pub struct Board {
    root: Root,
    /// Its processor at the last look.
    before: Option<Stat>,
    sensors: Vec<Sensor>,
    /// Folders of cores that change their frequency together.
    policies: Vec<String>,
    mhz_max: Option<u32>,
}

/// A sensor of temperature.
#[derive(Debug)]
struct Sensor {
    name: String,
    /// The file that says thousandths of a degree.
    file: String,
    /// From here on the kernel slows the board down; none: it does not by this one.
    slows_milli: Option<i64>,
}

/// The processor since the last look.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Processor {
    /// All cores; none where that was just now.
    pub all: Option<Shares>,
    /// Busy share of each; empty: not known.
    pub cores: Vec<f32>,
}

/// What one sensor says.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Warmth<'a> {
    name: &'a str,
    milli: i64,
    slows_milli: Option<i64>,
}

impl Board {
    /// Looks for sensors, and at the processor for the first time. None where there is no `/proc`.
    #[must_use]
    pub fn new(root: Root) -> Option<Self> {
        let before = Some(Stat::of(&root.text("/proc/stat")?)?);
        let policies = root.names(FREQUENCY).into_iter().filter(|name| name.starts_with("policy"));
        let policies: Vec<String> = policies.map(|name| format!("{FREQUENCY}/{name}")).collect();
        let mhz_max = mhz(&root, &policies, "cpuinfo_max_freq");
        Some(Self { sensors: sensors(&root), before, policies, mhz_max, root })
    }

    /// The processor since the last call.
    pub fn processor(&mut self) -> Processor {
        let Some(stat) = self.root.text("/proc/stat").as_deref().and_then(Stat::of) else {
            return Processor::default();
        };
        let Some(before) = self.before.replace(stat.clone()) else { return Processor::default() };
        let cores = stat.cores_since(&before);
        let cores = if cores.len() > MAX_CORES { Vec::new() } else { cores };
        Processor { all: stat.all.since(before.all), cores }
    }

    /// What each sensor says that can say it.
    #[must_use]
    pub fn warmth(&self) -> Vec<Warmth<'_>> {
        let read = |sensor: &'_ Sensor| self.root.number::<i64>(&sensor.file);
        let known = self.sensors.iter().filter_map(|sensor| Some((sensor, read(sensor)?)));
        known
            .filter(|(_, milli)| PLAUSIBLE_MILLI.contains(milli))
            .map(|(sensor, milli)| {
                let (name, slows_milli) = (sensor.name.as_str(), sensor.slows_milli);
                Warmth { name, milli, slows_milli }
            })
            .collect()
    }

    /// All there is beside the least; `inodes`: in use and in all.
    #[must_use]
    pub fn tell(
        &self,
        engine: &str,
        processor: Processor,
        memory: Option<Memory>,
        warmth: &[Warmth<'_>],
        inodes: Option<(u64, u64)>,
    ) -> BoardLoad {
        let text = |path: &str| self.root.text(path);
        let swap = memory.map(|memory| memory.swap);
        let diskstats = text("/proc/diskstats");
        let disks = diskstats.as_deref().and_then(proc::disks);
        let zram = diskstats.as_deref().and_then(|text| self.zram(text));
        let is_card = |name: &str| self.root.has(&format!("/sys/class/net/{name}/device"));
        let cards = text("/proc/net/dev").and_then(|text| proc::cards(&text, is_card));
        let kernel = text("/proc/sys/kernel/osrelease");
        BoardLoad {
            kernel: kernel.map(|text| shortened(text.trim_end())),
            engine: Some(engine).filter(|engine| !engine.is_empty()).map(shortened),
            cores: processor.cores,
            iowait: processor.all.map(|all| all.iowait),
            steal: processor.all.map(|all| all.steal),
            swap_used: swap.map(|(used, _)| used),
            swap_total: swap.map(|(_, total)| total),
            zram_stored: zram.map(|(stored, _)| stored),
            zram_used: zram.map(|(_, used)| used),
            pressure: self.pressure(),
            // A file system that makes them as it needs them does not count them.
            inodes_used: inodes.filter(|(_, total)| *total > 0).map(|(used, _)| used),
            inodes_total: inodes.map(|(_, total)| total),
            disk_read: disks.map(|(read, _)| read),
            disk_written: disks.map(|(_, written)| written),
            net_in: cards.map(|(received, _)| received),
            net_out: cards.map(|(_, sent)| sent),
            zones: zones(warmth),
            mhz: mhz(&self.root, &self.policies, "scaling_cur_freq"),
            mhz_max: self.mhz_max,
            throttled: self.is_throttled(warmth),
        }
    }

    fn zram(&self, diskstats: &str) -> Option<(u64, u64)> {
        let of = |name: &str| proc::zram(&self.root.text(&format!("/sys/block/{name}/mm_stat"))?);
        let all = proc::zrams(diskstats).filter_map(of);
        all.reduce(|one, other| (one.0 + other.0, one.1 + other.1))
    }

    fn pressure(&self) -> Option<Pressure> {
        let of = |what: &str| proc::pressure(&self.root.text(&format!("/proc/pressure/{what}"))?);
        Some(Pressure { cpu: of("cpu")?, memory: of("memory")?, io: of("io")? })
    }

    /// The firmware knows best; else the kernel's own points, from which on it slows the board down.
    fn is_throttled(&self, warmth: &[Warmth<'_>]) -> Option<bool> {
        let told = self.root.text(heat::THROTTLED);
        if let Some(bits) = told.as_deref().and_then(heat::firmware_bits) {
            return Some(heat::is_slowed(bits));
        }
        let beyond = warmth.iter().filter_map(|one| Some(one.milli >= one.slows_milli?));
        beyond.reduce(|one, other| one || other)
    }
}

/// The hottest of them, degrees Celsius.
#[must_use]
pub fn hottest(warmth: &[Warmth<'_>]) -> Option<f32> {
    warmth.iter().map(|one| one.milli).max().map(celsius)
}

fn celsius(milli: i64) -> f32 {
    round(milli as f32 / 1000.0, 10.0)
}

/// By names that differ.
fn zones(warmth: &[Warmth<'_>]) -> Vec<(String, f32)> {
    let mut zones: Vec<(String, f32)> = Vec::new();
    for one in warmth.iter().take(MAX_ZONES) {
        let name = shortened(one.name);
        let number = 1 + warmth[..zones.len()].iter().filter(|o| o.name == one.name).count();
        let name = if number > 1 { format!("{name} {number}") } else { name };
        zones.push((name, celsius(one.milli)));
    }
    zones
}

/// The highest of the policies' frequencies; the kernel says kHz.
fn mhz(root: &Root, policies: &[String], file: &str) -> Option<u32> {
    let all = policies.iter().filter_map(|policy| root.number::<u32>(&format!("{policy}/{file}")));
    all.max().map(|khz| khz / 1000)
}

/// The kernel's thermal zones, and what its drivers measure beside them: disks, radios.
fn sensors(root: &Root) -> Vec<Sensor> {
    let mut found = Vec::new();
    let zones = root.names(THERMAL).into_iter().filter(|name| name.starts_with("thermal_zone"));
    for folder in zones.map(|name| format!("{THERMAL}/{name}")) {
        let Some(name) = root.text(&format!("{folder}/type")) else { continue };
        found.push(Sensor {
            name: name.trim().to_owned(),
            file: format!("{folder}/temp"),
            slows_milli: heat::slows_from(&trips(root, &folder)),
        });
    }
    let zones: Vec<String> = found.iter().map(|sensor| sensor.name.replace('-', "_")).collect();
    for folder in root.names(HWMON).into_iter().map(|name| format!("{HWMON}/{name}")) {
        let Some(driver) = root.text(&format!("{folder}/name")) else { continue };
        // A zone stands here again, under a name that may have no dash.
        if zones.iter().any(|zone| zone == driver.trim()) {
            continue;
        }
        for file in root.names(&folder) {
            let Some(input) = file.strip_suffix("_input").filter(|name| name.starts_with("temp"))
            else {
                continue;
            };
            let label = root.text(&format!("{folder}/{input}_label")).unwrap_or_default();
            let name = format!("{} {}", driver.trim(), label.trim()).trim().to_owned();
            found.push(Sensor { name, file: format!("{folder}/{file}"), slows_milli: None });
        }
    }
    found
}

/// The points of a zone at which the kernel does something: what, and at how many thousandths of a degree.
fn trips(root: &Root, folder: &str) -> Vec<(String, i64)> {
    let points = root.names(folder).into_iter().filter(|name| name.starts_with("trip_point_"));
    let kinds = points.filter_map(|name| Some(name.strip_suffix("_type")?.to_owned()));
    let of = |point: String| {
        let kind = root.text(&format!("{folder}/{point}_type"))?;
        Some((kind.trim().to_owned(), root.number(&format!("{folder}/{point}_temp"))?))
    };
    kinds.filter_map(of).collect()
}

#[cfg(test)]
mod tests;
