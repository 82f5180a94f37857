//! What a board and its instances do at one moment, in detail: said while somebody looks, while something changes, and once after
//! each hello. What cannot be known is left out, never 0.
//!
//! ```text
//! coordinator --Act::Watch (somebody looks)--> node --Load { board, instances }, every so often--> coordinator -> views, metrics
//! ```

use serde::{Deserialize, Serialize};

use crate::id::ServiceName;

/// A watch lasts as long at most; whoever still looks then asks again.
pub const MAX_WATCH_S: u32 = 120;
/// A watched node says its load as often at most.
pub const MIN_WATCH_EVERY_MS: u32 = 1_000;

/// A load is as long at most, bytes: a longer one is not read.
pub const MAX_LOAD_BYTES: usize = 16 * 1024;

/// Of the board. Counters are since its boot.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct BoardLoad {
    /// The kernel's release, as `uname -r` says it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kernel: Option<String>,
    /// The container engine's version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub engine: Option<String>,
    /// Busy share of each core since the last sample, 0 to 1 (proc(5), `/proc/stat`).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cores: Vec<f32>,
    /// Share of all cores that was idle while a disk was waited for, 0 to 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub iowait: Option<f32>,
    /// Share of all cores that a hypervisor took, 0 to 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub steal: Option<f32>,
    /// Swap in use, bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub swap_used: Option<u64>,
    /// Swap in all, bytes; 0: there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub swap_total: Option<u64>,
    /// Bytes that lie in zram, as they were before (`/sys/block/zram*/mm_stat`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zram_stored: Option<u64>,
    /// Bytes of memory that they take there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zram_used: Option<u64>,
    /// Share of the last ten seconds in which something waited (`/proc/pressure`); none: the kernel does not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pressure: Option<Pressure>,
    /// Inodes in use where Docker keeps images.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inodes_used: Option<u64>,
    /// Inodes in all there; 0: its file system makes them as it needs them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inodes_total: Option<u64>,
    /// Bytes read from disks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk_read: Option<u64>,
    /// Bytes written to disks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk_written: Option<u64>,
    /// Bytes received by the network cards, those of containers left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub net_in: Option<u64>,
    /// Bytes sent by them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub net_out: Option<u64>,
    /// Degrees Celsius of each zone, by its name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub zones: Vec<(String, f32)>,
    /// The fastest core's frequency now, MHz.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mhz: Option<u32>,
    /// What it could be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mhz_max: Option<u32>,
    /// Whether the processor is slowed down for heat or voltage; none: nobody says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub throttled: Option<bool>,
}

/// Shares of time, 0 to 1, in which at least one task waited.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Pressure {
    /// For a core.
    pub cpu: f32,
    /// For memory.
    pub memory: f32,
    /// For a disk.
    pub io: f32,
}

/// Of one instance. Counters are since its container's start.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct InstanceLoad {
    /// The service.
    pub service: ServiceName,
    /// The container's name.
    pub instance: String,
    /// Cores in use since the last sample: 1 is one of them, whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu: Option<f32>,
    /// Memory in use, bytes, without files that the kernel can drop, as `docker stats` counts it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mem_used: Option<u64>,
    /// Its limit; none: it has none, or it is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mem_max: Option<u64>,
    /// Bytes received.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub net_in: Option<u64>,
    /// Bytes sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub net_out: Option<u64>,
    /// Times that it ended by itself or failed its liveness, since it was last ready for long, as the agent saw since its own start.
    pub restarts: u64,
    /// Times that the kernel ended something in it for its memory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ooms: Option<u64>,
}
