//! What the engine is and who else uses it, for whoever looks at the board as a whole.

use super::EngineInfo;

/// The engine, with what only matters to an examination.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Survey {
    /// What it is.
    pub info: EngineInfo,
    /// Whether limits of memory with swap are enforced.
    pub limits_swap: bool,
    /// Whether limits of processes are enforced.
    pub limits_pids: bool,
    /// The log driver of containers that name none.
    pub log_driver: String,
    /// Whether it is part of a Swarm.
    pub is_swarm: bool,
    /// What it warns of itself, in its own words.
    pub warnings: Vec<String>,
    /// Containers that no agent made.
    pub neighbours: Vec<Neighbour>,
}

/// A container that is not ours: nobody here touches it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Neighbour {
    /// Its name.
    pub name: String,
    /// As it was named when it was made.
    pub image: String,
    /// Whether it runs.
    pub runs: bool,
}
