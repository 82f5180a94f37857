//! What of releases stands on the board, for people who look at it: nothing is decided by it.

use protocol::id::ServiceName;
use protocol::release::Release;

use super::{Contents, KeptEntry, payload};

/// A release that the board keeps, and what for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptHere {
    /// Of which service.
    pub service: ServiceName,
    /// What it is kept for.
    pub kept_as: KeptAs,
    /// Under which revision it was begun.
    pub revision: u64,
    /// It. It was verified when it came.
    pub release: Release,
}

/// What a release is kept for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeptAs {
    /// It runs, or is moved to.
    Running,
    /// What the service goes back to.
    LastGood,
}

impl KeptAs {
    /// The word for people.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::LastGood => "last-good",
        }
    }
}

impl Contents {
    /// What each service runs and would go back to, by service.
    #[must_use]
    pub fn kept_here(&self) -> Vec<KeptHere> {
        let mut here = Vec::new();
        for (service, entry) in &self.services {
            let both = [(KeptAs::Running, &entry.running), (KeptAs::LastGood, &entry.last_good)];
            for (kept_as, kept) in both {
                let Some(kept) = kept else { continue };
                if let Some(release) = self.release_of(kept) {
                    let (service, revision) = (service.clone(), kept.revision);
                    here.push(KeptHere { service, kept_as, revision, release });
                }
            }
        }
        here
    }

    fn release_of(&self, kept: &KeptEntry) -> Option<Release> {
        serde_json::from_slice(&payload(self.releases.get(&kept.release)?)?).ok()
    }
}
