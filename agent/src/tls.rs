//! What the node has of its joining: its certificate, the fleet's CA, where the coordinator is, when to renew. And the
//! floor, the one time at which a node looks at certificates.
//!
//! Must not connect; `join`, `renew` and `link` do. What is read here was checked before it was written.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use mqtt::{InvalidTls, Own, Tls, VerifyAt};
use protocol::id::{EnvironmentName, FleetId, NodeName};
use protocol::join::{
    ADDRESSES_FILE, CA_FILE, CERTIFICATE_DAYS, CERTIFICATE_FILE, Coordinators, TIMES_FILE,
    TLS_KEY_FILE, Times, server_name,
};
use protocol::keys::Root;
use protocol::manifest::Manifest;
use rustls::pki_types::CertificateDer;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::bundle::{self, Bundle};
use crate::config::{Config, ConfigError};
use crate::ledger::Ledger;

/// How the fleet knows the node, from the coordinator's answer.
pub const PLACEMENT_FILE: &str = "placement.json";
/// This program is not older: 2026, or when its builder says.
const BUILT_S: u64 = match option_env!("SOURCE_DATE_EPOCH") {
    Some(text) => number(text),
    None => 1_767_225_600,
};

const fn number(text: &str) -> u64 {
    let (mut value, mut at) = (0, 0);
    while at < text.len() {
        let digit = text.as_bytes()[at];
        assert!(digit.is_ascii_digit(), "SOURCE_DATE_EPOCH is not a number of seconds");
        value = value * 10 + (digit - b'0') as u64;
        at += 1;
    }
    value
}

/// What the operator decided about the node when it joined; `agent.toml` may add labels and must not contradict.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Placement {
    /// Its name.
    pub name: NodeName,
    /// Its one environment.
    pub environment: EnvironmentName,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// `host:port` of the broker, where it is another one than the coordinator's own port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub broker: Option<String>,
}

/// A node's joining, read from its files.
#[derive(Debug)]
pub struct Joined {
    /// Where the coordinator is.
    pub coordinators: Coordinators,
    /// What was decided about the node; none where others wrote the files.
    pub placement: Option<Placement>,
    /// None: to be renewed at the next chance.
    pub times: Option<Times>,
    /// PEM: see [`Bundle`].
    pub ca: Vec<u8>,
    chain: Vec<u8>,
    key: Vec<u8>,
}

/// A file of the joining that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum JoinedError {
    /// It cannot be read.
    #[error("{path}: {source}")]
    Io {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// It holds something else.
    #[error("{path} is damaged: {source}; `pith-agent join TOKEN --again` makes it anew")]
    Damaged {
        /// Which.
        path: PathBuf,
        /// Why.
        source: serde_json::Error,
    },
}

impl Joined {
    /// Reads what is in `state_dir`; none where the node has not joined.
    ///
    /// # Errors
    /// Files that are there and cannot be used.
    pub fn load(state_dir: &Path) -> Result<Option<Self>, JoinedError> {
        let Some(chain) = read(&state_dir.join(CERTIFICATE_FILE))? else { return Ok(None) };
        let must = |name: &str| {
            let path = state_dir.join(name);
            std::fs::read(&path).map_err(|source| JoinedError::Io { path, source })
        };
        let coordinators = json(&state_dir.join(ADDRESSES_FILE))?;
        Ok(Some(Self {
            chain,
            key: must(TLS_KEY_FILE)?,
            ca: must(CA_FILE)?,
            coordinators: coordinators.unwrap_or_default(),
            placement: json(&state_dir.join(PLACEMENT_FILE))?,
            times: json(&state_dir.join(TIMES_FILE))?,
        }))
    }

    /// Where the broker is: the coordinator's own port, or the one that it named.
    #[must_use]
    pub fn brokers(&self) -> &[String] {
        let named = self.placement.as_ref().and_then(|placement| placement.broker.as_ref());
        named.map_or(&self.coordinators.addresses[..], std::slice::from_ref)
    }

    /// Whether the broker is the coordinator's own.
    #[must_use]
    pub fn is_at_coordinator(&self) -> bool {
        self.placement.as_ref().is_none_or(|placement| placement.broker.is_none())
    }

    /// Whom the node believes.
    ///
    /// # Errors
    /// When the file holds something else.
    pub fn bundle(&self) -> io::Result<Bundle> {
        Bundle::read(&self.ca).map_err(io::Error::other)
    }

    /// The node's certificate; none where the file holds something else.
    #[must_use]
    pub fn certificate(&self) -> Option<CertificateDer<'static>> {
        bundle::leaf(&self.chain)
    }

    /// Whether it has followed a coordinator that was made anew, and has no certificate of it yet.
    #[must_use]
    pub fn is_awaiting(&self) -> bool {
        let bundle = self.bundle();
        bundle.is_ok_and(|bundle| bundle::is_awaiting(&bundle, self.certificate().as_ref()))
    }

    /// For the session with the broker, which is believed under the first CA alone.
    ///
    /// # Errors
    /// When certificate, key and CA cannot be used together.
    pub fn session(&self, fleet: &FleetId, floor: &VerifyAt) -> Result<Tls, InvalidTls> {
        let own = Own { chain: &self.chain, key: &self.key };
        // What is no PEM is named by TLS.
        let first = self.bundle().map(|bundle| bundle.without_before().to_pem().into_bytes());
        let ca = first.as_ref().unwrap_or(&self.ca);
        Tls::new(ca, Some(own), &server_name(fleet), floor.clone())
    }
}

/// The newest time that somebody has vouched for, seconds since 1970: this program's making, the floor and the manifest in
/// the ledger, and the making of the node's certificate. Never the machine's clock, which may say 1970 or 2099; a signed answer to
/// a hello raises it further.
#[must_use]
pub fn floor(ledger: &Ledger, root: &Root, times: Option<Times>) -> VerifyAt {
    let floor = VerifyAt::new(BUILT_S);
    let contents = ledger.contents();
    floor.raise(contents.floor_s());
    if let Some(manifest) = contents.manifest().and_then(|one| one.verify::<Manifest>(root).ok()) {
        floor.raise(manifest.issued_at);
    }
    if let Some(times) = times {
        floor.raise(made_at(times));
    }
    floor
}

/// Before a node has joined.
#[must_use]
pub fn first_floor() -> VerifyAt {
    VerifyAt::new(BUILT_S)
}

/// When the coordinator made the certificate.
#[must_use]
pub fn made_at(times: Times) -> u64 {
    times.expires_at.saturating_sub(CERTIFICATE_DAYS * 86_400)
}

/// What was decided about the node; none where it has not joined, or where that is damaged: then joining again mends it,
/// and what `agent.toml` says is used.
#[must_use]
pub fn placement(state_dir: &Path) -> Option<Placement> {
    json(&state_dir.join(PLACEMENT_FILE)).ok().flatten()
}

/// `agent.toml` with what was decided about the node.
///
/// # Errors
/// What is wrong with the file, or contradicts the decision.
pub fn config(path: &Path) -> Result<Config, ConfigError> {
    let mut config = Config::load(path)?;
    if let Some(placement) = placement(&config.state_dir) {
        config.take(path, &placement)?;
    }
    Ok(config)
}

fn read(path: &Path) -> Result<Option<Vec<u8>>, JoinedError> {
    match std::fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(JoinedError::Io { path: path.to_owned(), source }),
    }
}

fn json<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, JoinedError> {
    let Some(bytes) = read(path)? else { return Ok(None) };
    let damaged = |source| JoinedError::Damaged { path: path.to_owned(), source };
    serde_json::from_slice(&bytes).map(Some).map_err(damaged)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;
    use planner::Now;

    #[test]
    fn the_floor_is_the_newest_time_that_somebody_vouched_for() {
        let dir = tempfile::tempdir().unwrap();
        let ledger = Ledger::open(dir.path(), "boot", Now(0)).unwrap();
        assert_eq!(floor(&ledger, &testing::root(), None).unix_s(), BUILT_S);
        let expires_at = BUILT_S + (CERTIFICATE_DAYS + 5) * 86_400;
        let times = Times { renew_at: 0, expires_at };
        let raised = floor(&ledger, &testing::root(), Some(times));
        assert_eq!(raised.unix_s(), BUILT_S + 5 * 86_400);
        assert_eq!(number("1767225600"), 1_767_225_600);
    }

    #[test]
    fn nothing_is_joined_in_an_empty_folder() {
        let dir = tempfile::tempdir().unwrap();
        assert!(Joined::load(dir.path()).unwrap().is_none());
    }
}
