//! What the texts of `/proc` say (proc(5)). Pure.

use std::net::Ipv4Addr;

use super::round;

/// Ticks of a core, or of all, since the boot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Times {
    busy: u64,
    idle: u64,
    iowait: u64,
    steal: u64,
}

/// Shares of the time between two looks, 0 to 1.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Shares {
    /// Something ran.
    pub busy: f32,
    /// Nothing ran, and a disk was waited for.
    pub iowait: f32,
    /// A hypervisor took it.
    pub steal: f32,
}

/// `/proc/stat`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stat {
    /// Of all cores.
    pub all: Times,
    /// Of each core that is on, by its number.
    pub cores: Vec<(u32, Times)>,
}

/// Bytes of the board's memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Memory {
    /// In all.
    pub total: u64,
    /// Could be used without swapping.
    pub available: u64,
    /// Swap in use and in all.
    pub swap: (u64, u64),
}

/// Bytes there and back since the boot: read and written, received and sent.
pub type Bytes = (u64, u64);

impl Times {
    /// `user nice system idle iowait irq softirq steal`; time of guests is in `user` and `nice` already.
    fn of(fields: &str) -> Option<Self> {
        let mut fields = fields.split_ascii_whitespace().map_while(|field| field.parse().ok());
        let mut next = || fields.next();
        let [user, nice, system, idle] = [next()?, next()?, next()?, next()?];
        let [iowait, irq, softirq, steal] = [(); 4].map(|()| next().unwrap_or(0));
        let busy: u64 = user + nice + system + irq + softirq;
        Some(Self { busy, idle, iowait, steal })
    }

    /// None where no tick has passed.
    #[must_use]
    pub fn since(self, before: Self) -> Option<Shares> {
        // The kernel may take back a little of idle and iowait.
        let busy = self.busy.saturating_sub(before.busy);
        let iowait = self.iowait.saturating_sub(before.iowait);
        let steal = self.steal.saturating_sub(before.steal);
        let total = busy + iowait + steal + self.idle.saturating_sub(before.idle);
        let share = |ticks: u64| round(ticks as f32 / total as f32, 1000.0);
        (total > 0).then(|| Shares {
            busy: share(busy),
            iowait: share(iowait),
            steal: share(steal),
        })
    }
}

impl Stat {
    /// None where it does not say what all cores did.
    #[must_use]
    pub fn of(text: &str) -> Option<Self> {
        let mut lines = text.lines();
        let all = Times::of(lines.next()?.strip_prefix("cpu ")?)?;
        let core = |line: &str| {
            let (number, fields) = line.strip_prefix("cpu")?.split_once(' ')?;
            Some((number.parse().ok()?, Times::of(fields)?))
        };
        Some(Self { all, cores: lines.map_while(core).collect() })
    }

    /// The busy share of each core; empty where one is new, or no tick of it has passed.
    #[must_use]
    pub fn cores_since(&self, before: &Self) -> Vec<f32> {
        let share = |(number, times): &(u32, Times)| {
            let (_, before) = before.cores.iter().find(|(known, _)| known == number)?;
            Some(times.since(*before)?.busy)
        };
        self.cores.iter().map(share).collect::<Option<_>>().unwrap_or_default()
    }
}

/// Share of the last ten seconds in which something waited, from a file of `/proc/pressure`, 0 to 1.
#[must_use]
pub fn pressure(text: &str) -> Option<f32> {
    let some = text.lines().find_map(|line| line.strip_prefix("some "))?;
    let percent = some.split(' ').find_map(|field| field.strip_prefix("avg10="))?;
    Some(round(percent.parse::<f32>().ok()? / 100.0, 10_000.0))
}

/// Bytes read from and written to whole disks, from `/proc/diskstats`; none where there is no disk.
#[must_use]
pub fn disks(text: &str) -> Option<Bytes> {
    // Whatever a disk's own sectors are (Documentation/block/stat.rst).
    const SECTOR_BYTES: u64 = 512;
    let of_line = |line: &str| {
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        let sectors = |at: usize| fields.get(at)?.parse::<u64>().ok();
        is_disk(fields.get(2)?).then_some(())?;
        Some((sectors(5)? * SECTOR_BYTES, sectors(9)? * SECTOR_BYTES))
    };
    text.lines().filter_map(of_line).reduce(sum)
}

/// A whole disk of its own: no partition, nothing that lies on another disk, in memory or in a file.
fn is_disk(name: &str) -> bool {
    let letters =
        |rest: &str| !rest.is_empty() && rest.bytes().all(|byte| byte.is_ascii_lowercase());
    let digits = |rest: &str| !rest.is_empty() && rest.bytes().all(|byte| byte.is_ascii_digit());
    if let Some(rest) = name.strip_prefix("sd").or_else(|| name.strip_prefix("vd")) {
        return letters(rest);
    }
    if let Some(rest) = name.strip_prefix("mmcblk") {
        return digits(rest);
    }
    let nvme = name.strip_prefix("nvme").and_then(|rest| rest.split_once('n'));
    nvme.is_some_and(|(controller, space)| digits(controller) && digits(space))
}

/// Devices of compressed memory that `/proc/diskstats` names.
pub fn zrams(text: &str) -> impl Iterator<Item = &str> {
    let names = text.lines().filter_map(|line| line.split_ascii_whitespace().nth(2));
    names.filter(|name| name.starts_with("zram"))
}

/// Bytes that lie in one of them, as they were before and as they lie there, from its `mm_stat`.
#[must_use]
pub fn zram(text: &str) -> Option<Bytes> {
    let mut fields = text.split_ascii_whitespace().map(str::parse);
    Some((fields.next()?.ok()?, fields.nth(1)?.ok()?))
}

/// Bytes received and sent by the interfaces that `counts`, from `/proc/net/dev`; none where there is none of them.
pub fn cards(text: &str, counts: impl Fn(&str) -> bool) -> Option<Bytes> {
    let of_line = |line: &str| {
        let (name, fields) = line.split_once(':')?;
        let mut fields = fields.split_ascii_whitespace().map(str::parse);
        let bytes = (fields.next()?.ok()?, fields.nth(7)?.ok()?);
        counts(name.trim_start()).then_some(bytes)
    };
    text.lines().filter_map(of_line).reduce(sum)
}

/// The hardware's address of a neighbour and the interface behind which it is, from `/proc/net/arp`; none where nobody has spoken to
/// it lately.
#[must_use]
pub fn neighbour(text: &str, address: Ipv4Addr) -> Option<([u8; 6], &str)> {
    // Known for sure, by a bit of the flags (if_arp.h).
    const COMPLETE: u32 = 2;
    let address = address.to_string();
    text.lines().find_map(|line| {
        let mut fields = line.split_ascii_whitespace();
        (fields.next()? == address).then_some(())?;
        let flags = u32::from_str_radix(fields.nth(1)?.trim_start_matches("0x"), 16).ok()?;
        (flags & COMPLETE != 0).then_some(())?;
        let mut bytes = fields.next()?.split(':').map(|byte| u8::from_str_radix(byte, 16));
        let mut hardware = [0; 6];
        for byte in &mut hardware {
            *byte = bytes.next()?.ok()?;
        }
        Some((hardware, fields.nth(1)?))
    })
}

fn sum(one: Bytes, other: Bytes) -> Bytes {
    (one.0 + other.0, one.1 + other.1)
}

#[cfg(test)]
mod tests;
