//! Stable reason codes: why something waits, was refused, failed or went back. A person reads the message beside it; a
//! script reads the code, which never changes its meaning.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Why a service on a node, or a rollout, is where it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    // Waiting
    /// The image is on its way.
    PullingImage,
    /// The registry cannot be reached or moves no bytes; it is tried again.
    RegistryUnreachable,
    /// Files of the image are damaged on this board, as by a power cut: it is fetched again. As a failure: that was no help, or
    /// cannot be done.
    ImageDamaged,
    /// The board's disk takes no writes, as one that fails and was remounted read-only: what runs goes on and nothing else is done.
    DiskFailed,
    /// Docker does not answer; the clocks of rollouts stand still.
    EngineUnavailable,
    /// An instance has started and is not ready yet.
    WaitingForReady,
    /// An instance is ready and must stay so for `min_ready`.
    WaitingForMinReady,
    /// Old instances finish what they have.
    WaitingForConnections,
    /// An instance has been told to stop.
    WaitingForStop,
    /// A service in `depends_on` is not ready.
    WaitingForDependency,
    /// A secret that it needs is not sealed to this node: `pith secret sync`.
    WaitingForSecret,
    /// A crashed or killed instance starts again after a pause.
    WaitingForBackoff,
    /// The stable release, or a dependency, is unhealthy too: the new one is not blamed.
    StableUnhealthy,
    /// The node has not been heard of.
    NodeOffline,
    /// The node has seen a manifest that this coordinator did not sign: it is left alone until `pith fleet reconcile`.
    Conflict,
    /// The node runs something else first.
    WaitingForOtherNodes,
    /// Root of the node holds the service at what it runs: `pith-agent release` there lets go.
    HeldLocally,
    /// An operator holds the rollout.
    Paused,
    /// A person decides whether it goes on: `pith rollout promote` or `abort`.
    WaitingForPromotion,
    /// A canary's step, or a gate between batches, takes its time.
    Holding,
    /// The canary got too few requests to be judged.
    Inconclusive,
    /// Running well, and watched until the soak time is over.
    Soaking,
    /// A one-shot container of the deploy runs.
    WaitingForHook,

    // Failures of a release
    /// The registry knows no such image.
    ImageNotFound,
    /// The registry refuses the credentials.
    RegistryDenied,
    /// The image has no variant for the node's processor.
    WrongPlatform,
    /// The disk has no room for the image.
    NoSpace,
    /// The image could not be pulled for another reason that trying again does not mend.
    PullFailed,
    /// Docker refused to create the container.
    CreateFailed,
    /// Docker could not start the container.
    StartFailed,
    /// Exited three times before it was ready.
    CrashLoop,
    /// Killed by the kernel for its memory before it was ready.
    OutOfMemory,
    /// Not ready within `progress_deadline`.
    NotReadyInTime,
    /// The node has not enough free memory for a second set beside what runs.
    NotEnoughMemory,
    /// Another program or container holds the port.
    PortTaken,
    /// An address to listen on is not on this node.
    AddressNotAvailable,
    /// The node's policy does not allow it.
    PolicyDenied,
    /// The release needs something this agent cannot do.
    NeedsNewerAgent,
    /// The canary answered with more errors than allowed, and than the stable release.
    ErrorRate,
    /// The canary answered more slowly than allowed, and than the stable release.
    Latency,
    /// The canary's instances ended or failed their probes, and those of the stable release did not.
    Unstable,
    /// The canary is near its memory limit, and the stable release is not.
    MemoryPressure,
    /// It failed within its soak time.
    FailedInSoak,
    /// A hook of the deploy failed.
    HookFailed,
    /// More nodes went back than `error_threshold` allows.
    TooManyNodesFailed,

    // Ends
    /// This release went back on a node, and the rollout with it.
    RolledBackOnNode,
    /// An operator asked for it.
    Requested,
    /// A newer revision took its place.
    Superseded,
    /// No node fits the placement.
    NoNodeFits,
    /// The time given was over.
    Timeout,

    // Refusals of what is signed
    /// See [`crate::envelope::Rejected`]; its own code is in the message.
    ManifestRefused,
    /// A trust root was: see [`crate::envelope::Rejected`] too.
    RootRefused,
    /// A signed time was, for another reason than being late.
    TimeRefused,
    /// Addresses of the coordinator were.
    AddressesRefused,
    /// A release of the agent on the node's topic was refused.
    AgentReleaseRefused,
    /// A command was.
    CommandRefused,

    // Freshness: a node may not have what it should
    /// The signed time names a manifest that did not come: something between coordinator and node keeps it back.
    Withheld,
    /// No signed time comes, although the session with the broker stands.
    NoTime,
}

impl Reason {
    /// The code as it stands in JSON.
    #[must_use]
    pub fn code(self) -> String {
        serde_json::to_value(self)
            .ok()
            .and_then(|v| v.as_str().map(str::to_owned))
            .expect("a unit variant serialises to a string")
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.code())
    }
}
