//! Where a rollout and its nodes stand: names that scripts read.

use std::fmt;

/// Where a rollout stands (DESIGN §8).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum RolloutState {
    /// Nothing was asked of any node yet.
    Pending,
    /// Nodes move.
    InProgress,
    /// Stands still until a person decides.
    Paused,
    /// A manual gate is open.
    AwaitingPromotion,
    /// Nodes go back.
    RollingBack,
    /// Every node that is heard of runs the new revision.
    Succeeded,
    /// Every node that is heard of runs the old revision again.
    RolledBack,
    /// A newer revision took its place.
    Superseded,
    /// An operator ended it, and it went back.
    Aborted,
    /// It failed and there is nothing to go back to.
    Failed,
}

impl RolloutState {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::Pending,
        Self::InProgress,
        Self::Paused,
        Self::AwaitingPromotion,
        Self::RollingBack,
        Self::Succeeded,
        Self::RolledBack,
        Self::Superseded,
        Self::Aborted,
        Self::Failed,
    ];

    /// Its name in JSON and on screen.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::InProgress => "in_progress",
            Self::Paused => "paused",
            Self::AwaitingPromotion => "awaiting_promotion",
            Self::RollingBack => "rolling_back",
            Self::Succeeded => "succeeded",
            Self::RolledBack => "rolled_back",
            Self::Superseded => "superseded",
            Self::Aborted => "aborted",
            Self::Failed => "failed",
        }
    }

    /// The state of that name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == name)
    }

    /// Whether it will not change any more by itself or by reports.
    #[must_use]
    pub const fn is_final(self) -> bool {
        match self {
            Self::Pending
            | Self::InProgress
            | Self::Paused
            | Self::AwaitingPromotion
            | Self::RollingBack => false,
            Self::Succeeded
            | Self::RolledBack
            | Self::Superseded
            | Self::Aborted
            | Self::Failed => true,
        }
    }
}

impl fmt::Display for RolloutState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// Where one node stands in a rollout.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum NodeState {
    /// Its turn has not come. Moves on to `Trying`, `Moving` or `Away`.
    Waiting,
    /// Was told to bring the new release up beside the old one. Moves on to `Standing` or `WentBack`.
    Trying,
    /// The new release is complete beside the old one, with the share of this moment. Moves on to `Moving`.
    Standing,
    /// Was told; its report says the rest. Moves on to `Done`, `WentBack`, `Held` or `Away`.
    Moving,
    /// Runs the new revision, complete.
    Done,
    /// Was told, and is not heard of; converges when it returns.
    Away,
    /// Was told, and root of the node holds the service at something else; converges when it is released there.
    Held,
    /// Gave the new release up and runs, or moves to, the old one.
    WentBack,
    /// Was told to run the old release again. Moves on to `Reverted`, `Held` or `Stuck`.
    Reverting,
    /// Runs the old release again, complete.
    Reverted,
    /// Was told to run the old release again and gave that up too.
    Stuck,
}

impl NodeState {
    /// All of them.
    pub const ALL: [Self; 11] = [
        Self::Waiting,
        Self::Trying,
        Self::Standing,
        Self::Moving,
        Self::Done,
        Self::Away,
        Self::Held,
        Self::WentBack,
        Self::Reverting,
        Self::Reverted,
        Self::Stuck,
    ];

    /// Its name in JSON, in the store and on screen.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Trying => "trying",
            Self::Standing => "standing",
            Self::Moving => "updating",
            Self::Done => "updated",
            Self::Away => "offline",
            Self::Held => "held_locally",
            Self::WentBack => "rolled_back",
            Self::Reverting => "reverting",
            Self::Reverted => "reverted",
            Self::Stuck => "failed",
        }
    }

    /// The state of that name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == name)
    }
}
