//! Follows a coordinator that was lost and made anew: who is believed, and what is written, so that the node can renew there.
//!
//! ```text
//! refused as a stranger -> `unverified` asks it what it has to say for itself -> believed for root's signatures alone
//!   -> fleet.key, fleet.crt: copies of node.*, unless they are there; then ca.crt: the new CA, and the one before
//! ```
//! Each file is durable before the next. After a power cut the node either asks again or renews under the new CA. Must not decide who may
//! be followed: `protocol::recovery` does.

pub(crate) mod unverified;

use std::io;
use std::path::{Path, PathBuf};

use protocol::id::sha256_hex;
use protocol::join::{
    CA_FILE, CERTIFICATE_FILE, FLEET_CERTIFICATE_FILE, FLEET_KEY_FILE, TLS_KEY_FILE,
};
use protocol::keys::Root;
use protocol::recovery::{self, NotRecovered, RecoveryBody};
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;

use crate::bundle::{self, Bundle};
use crate::durable::{self, Readers};

/// Why a node does not follow what it was sent.
#[derive(Debug, thiserror::Error)]
pub enum NotFollowed {
    /// The signatures do not lead there.
    #[error(transparent)]
    NotRecovered(#[from] NotRecovered),
    /// Not one certificate.
    #[error("its CA is not one certificate in PEM")]
    NoCa,
    /// Another than the signed one.
    #[error("its CA is not the one that the director signed")]
    OtherCa,
}

impl NotFollowed {
    /// What a person does about it.
    #[must_use]
    pub fn mend(&self) -> &'static str {
        match self {
            Self::NotRecovered(NotRecovered::Refused(_) | NotRecovered::NoNewerRoot { .. }) => {
                "where the coordinator was lost and made anew, it lacks a trust root that this board holds: \
                 `pith-agent root` here prints what `pith fleet recover --root` needs"
            }
            Self::NotRecovered(NotRecovered::SameEpoch(_)) => {
                "where the coordinator was lost, `pith fleet recover` makes it anew; otherwise check the address"
            }
            Self::NotRecovered(NotRecovered::SameDirector) | Self::NoCa | Self::OtherCa => {
                "check the address, and who answers there"
            }
        }
    }
}

/// The CA that is to be believed from now on, and the version of the trust root that vouches for it.
///
/// # Errors
/// Why none is.
pub fn read(
    sent: &RecoveryBody,
    held: &Root,
) -> Result<(CertificateDer<'static>, u64), NotFollowed> {
    let recovered = recovery::accept(sent, held)?;
    let mut all = authorities(&sent.ca).ok_or(NotFollowed::NoCa)?;
    let ca = all.pop().filter(|_| all.is_empty()).ok_or(NotFollowed::NoCa)?;
    if sha256_hex(&ca) != recovered.ca_sha256 {
        return Err(NotFollowed::OtherCa);
    }
    let version = recovered.roots.last().map_or(held.version, |signed| signed.root.version);
    Ok((ca, version))
}

/// None where one of them cannot be a CA.
fn authorities(text: &str) -> Option<Vec<CertificateDer<'static>>> {
    use rustls::pki_types::pem::PemObject as _;
    let all =
        CertificateDer::pem_slice_iter(text.as_bytes()).collect::<Result<Vec<_>, _>>().ok()?;
    let mut roots = RootCertStore::empty();
    all.iter().all(|ca| roots.add(ca.clone()).is_ok()).then_some(all)
}

/// One file.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Write {
    name: &'static str,
    bytes: Vec<u8>,
    readers: Readers,
}

/// Follows a CA: from the first file on other boards see what they saw, from the last on the coordinator must be of this CA. Whether it was
/// news.
///
/// # Errors
/// The file that cannot be read or written.
pub fn follow(
    state_dir: &Path,
    ca: &CertificateDer<'static>,
) -> Result<bool, (PathBuf, io::Error)> {
    let writes = writes(state_dir, ca)?;
    for write in &writes {
        let path = state_dir.join(write.name);
        durable::write(&path, &write.bytes, write.readers).map_err(|error| (path, error))?;
    }
    Ok(!writes.is_empty())
}

/// In this order; none where it is followed already.
fn writes(
    state_dir: &Path,
    ca: &CertificateDer<'static>,
) -> Result<Vec<Write>, (PathBuf, io::Error)> {
    let read = |name: &str| {
        let path = state_dir.join(name);
        std::fs::read(&path).map_err(|error| (path, error))
    };
    let known = Bundle::read(&read(CA_FILE)?)
        .map_err(|error| (state_dir.join(CA_FILE), io::Error::other(error)))?;
    if known.first() == ca {
        return Ok(Vec::new());
    }
    let mut writes = Vec::new();
    let shown = match std::fs::read(state_dir.join(FLEET_CERTIFICATE_FILE)) {
        Ok(shown) => shown,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            // The certificate last: both count once it is there.
            let (name, bytes) = (FLEET_KEY_FILE, read(TLS_KEY_FILE)?);
            writes.push(Write { name, bytes, readers: Readers::Owner });
            let (name, bytes) = (FLEET_CERTIFICATE_FILE, read(CERTIFICATE_FILE)?);
            writes.push(Write { name, bytes: bytes.clone(), readers: Readers::All });
            bytes
        }
        Err(error) => return Err((state_dir.join(FLEET_CERTIFICATE_FILE), error)),
    };
    let both = known.follow(ca.clone(), bundle::leaf(&shown).as_ref());
    let bytes = both.to_pem().into_bytes();
    writes.push(Write { name: CA_FILE, bytes, readers: Readers::All });
    Ok(writes)
}

/// From now on other boards are shown the node's own certificate.
///
/// # Errors
/// The system's.
pub(crate) fn show_own(state_dir: &Path) -> io::Result<()> {
    for name in [FLEET_CERTIFICATE_FILE, FLEET_KEY_FILE] {
        durable::remove(&state_dir.join(name))?;
    }
    Ok(())
}

/// Whether other boards are shown another certificate than the node's own.
pub(crate) fn shows_another(state_dir: &Path) -> bool {
    state_dir.join(FLEET_CERTIFICATE_FILE).exists()
}

/// Shows other boards a copy of the node's own certificate where what they are shown is about to end: see [`bundle::is_worn`].
///
/// # Errors
/// The system's.
pub(crate) fn replace_worn(state_dir: &Path, now_s: u64) -> io::Result<bool> {
    let path = state_dir.join(FLEET_CERTIFICATE_FILE);
    let Ok(shown) = std::fs::read(&path) else { return Ok(false) };
    let own = std::fs::read(state_dir.join(CERTIFICATE_FILE))?;
    let known = Bundle::read(&std::fs::read(state_dir.join(CA_FILE))?).map_err(io::Error::other)?;
    let (Some(own_leaf), Some(shown)) = (bundle::leaf(&own), bundle::leaf(&shown)) else {
        return Ok(false);
    };
    if !bundle::is_worn(&known, &own_leaf, &shown, now_s) {
        return Ok(false);
    }
    let key = std::fs::read(state_dir.join(TLS_KEY_FILE))?;
    durable::write(&state_dir.join(FLEET_KEY_FILE), &key, Readers::Owner)?;
    durable::write(&path, &own, Readers::All)?;
    Ok(true)
}

#[cfg(test)]
mod tests;
