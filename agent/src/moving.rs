//! Keeps where the coordinator is: in the file that joining wrote, and in the session that looks for it.
//!
//! Must not decide what counts: `protocol::whereabouts` does, and the loop asks it.

use std::io;
use std::path::{Path, PathBuf};

use mqtt::{BrokerAddress, Handle};
use protocol::join::{ADDRESSES_FILE, Coordinators};
use tracing::{info, warn};

use crate::durable::{self, Readers};

/// The file, and who is told.
#[derive(Debug, Clone)]
pub struct Keeper {
    /// `coordinator.json`.
    file: PathBuf,
    /// None: the broker is another one than the coordinator's own port, or `agent.toml` says where it is.
    session: Option<Handle>,
}

impl Keeper {
    /// Of a node with this `state_dir`.
    #[must_use]
    pub fn of(state_dir: &Path, session: Option<Handle>) -> Self {
        Self { file: state_dir.join(ADDRESSES_FILE), session }
    }

    /// Makes it durable, then lets the session look there from its next connect on. Renewals read the file by themselves.
    ///
    /// # Errors
    /// The system's. Nothing has changed then.
    pub fn keep(&self, known: &Coordinators) -> io::Result<()> {
        let bytes = serde_json::to_vec(known).expect("plain data serialises");
        durable::write(&self.file, &bytes, Readers::All)?;
        info!(addresses = known.addresses.join(" "), "the coordinator said where it is");
        let Some(session) = &self.session else { return Ok(()) };
        let parsed: Result<Vec<BrokerAddress>, _> =
            known.addresses.iter().map(|address| address.parse()).collect();
        match parsed {
            Ok(addresses) => session.set_addresses(addresses),
            // Only what joining left can be none: what is signed was looked at.
            Err(error) => warn!(%error, "the session looks where it looked before"),
        }
        Ok(())
    }
}
