//! What can be written after `pith top` and `pith node top`.

use clap::{Args, ValueEnum};

use crate::render::top::Sort;

#[derive(Debug, Args)]
pub(in crate::cli) struct TopArgs {
    /// Print one frame as plain text and end; also where stdout is no terminal.
    #[arg(long)]
    pub(in crate::cli) once: bool,
    /// What nodes are ordered by at first; figures with the largest first.
    #[arg(long, value_enum, value_name = "BY", default_value_t = SortBy::Name)]
    pub(in crate::cli) sort: SortBy,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct NodeTopArgs {
    /// This node alone, whole: each core, zones, instances. Its name or id.
    #[arg(value_name = "NAME|ID")]
    pub(in crate::cli) who: Option<String>,
    /// What nodes are ordered by; figures with the largest first.
    #[arg(long, value_enum, value_name = "BY", default_value_t = SortBy::Name, conflicts_with = "who")]
    pub(in crate::cli) sort: SortBy,
    /// Again every two seconds, until Ctrl-C.
    #[arg(short, long)]
    pub(in crate::cli) watch: bool,
}

/// What nodes are ordered by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(in crate::cli) enum SortBy {
    /// By name, node-2 before node-10.
    Name,
    /// Busy share of all cores.
    Cpu,
    /// Share of memory in use.
    Memory,
    /// Share of the disk in use.
    Disk,
    /// The hottest zone.
    Temp,
}

impl From<SortBy> for Sort {
    fn from(by: SortBy) -> Self {
        match by {
            SortBy::Name => Self::Name,
            SortBy::Cpu => Self::Cpu,
            SortBy::Memory => Self::Memory,
            SortBy::Disk => Self::Disk,
            SortBy::Temp => Self::Temp,
        }
    }
}
