//! The fleet's trust root on this node: read from its file and verified under its own root role.

use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use protocol::envelope::{Envelope, Rejected, Verified};
use protocol::keys::Root;

/// Why there is nothing to trust.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    /// The file cannot be read.
    #[error("{path}: {source}; `trust_root` names the root.json that `pith init` wrote")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file is not a trust root signed by its own keys.
    #[error("{path} is not a trust root: {source}")]
    Refused {
        /// The file.
        path: PathBuf,
        /// Why.
        source: Rejected,
    },
}

/// Reads a trust root. Whoever placed the file decides whom the node trusts; the signature shows that it is whole.
///
/// # Errors
/// When it cannot be read or is not signed by the root role that it names itself.
pub fn load(path: &Path) -> Result<Root, TrustError> {
    let bytes = std::fs::read(path)
        .map_err(|source| TrustError::Unreadable { path: path.to_owned(), source })?;
    verify(&bytes).map_err(|source| TrustError::Refused { path: path.to_owned(), source })
}

fn verify(bytes: &[u8]) -> Result<Root, Rejected> {
    let envelope = Envelope::from_bytes(bytes)?;
    let payload =
        BASE64.decode(&envelope.payload).map_err(|_| Rejected::BadBase64 { part: "payload" })?;
    let claimed: Root =
        serde_json::from_slice(&payload).map_err(|e| Rejected::BadPayload(e.to_string()))?;
    let verified: Verified<Root> = envelope.verify(&claimed)?;
    Ok(verified.into_inner())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;
    use protocol::keys::SecretKey;

    #[test]
    fn a_root_signed_by_its_own_role_is_trusted() {
        let root = testing::root();
        let bytes = Envelope::sign(&root, &[&testing::root_key()]).to_bytes();
        assert_eq!(verify(&bytes), Ok(root));
    }

    #[test]
    fn a_root_signed_by_a_stranger_is_refused() {
        let stranger = SecretKey::from_seed([9; 32]);
        let bytes = Envelope::sign(&testing::root(), &[&stranger]).to_bytes();
        assert!(matches!(verify(&bytes), Err(Rejected::BadSignature { .. })));
    }
}
