//! The first trust root of this node: read from its file and verified under its own root role. Newer ones stand in the
//! ledger.

use std::path::{Path, PathBuf};

use protocol::envelope::{Envelope, Rejected, Verified};
use protocol::keys::Root;
use protocol::succession;

/// Why there is nothing to trust.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    /// The file cannot be read.
    #[error(
        "{path}: {source}; `pith-agent join` writes it, or `trust_root` names the one that `pith init` wrote"
    )]
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

/// Follows roots upwards: each signed under the one before and under itself. The first is taken as it is where nothing is
/// `held`. The newest; none where there is none newer than what is held.
///
/// # Errors
/// The first that does not follow.
pub fn follow(chain: &[Envelope], held: Option<&Root>) -> Result<Option<Root>, Rejected> {
    let mut newest: Option<Root> = None;
    for envelope in chain {
        let next = by_itself(envelope)?;
        if let Some(before) = newest.as_ref().or(held) {
            if next.version <= before.version {
                continue;
            }
            succession::succeed(before, envelope)?;
        }
        newest = Some(next);
    }
    Ok(newest)
}

fn verify(bytes: &[u8]) -> Result<Root, Rejected> {
    by_itself(&Envelope::from_bytes(bytes)?)
}

fn by_itself(envelope: &Envelope) -> Result<Root, Rejected> {
    succession::first(envelope).map(Verified::into_inner)
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
    fn roots_are_followed_one_by_one_under_the_one_before() {
        let (first, key) = (testing::root(), testing::root_key());
        let second = Root { version: 2, epoch: 2, ..first.clone() };
        let third = Root { version: 3, ..second.clone() };
        let sign = |root: &Root| Envelope::sign(root, &[&key]);
        let all = [sign(&first), sign(&second), sign(&third)];
        assert_eq!(follow(&all, None).unwrap(), Some(third.clone()));
        assert_eq!(follow(&all, Some(&second)).unwrap(), Some(third.clone()));
        assert_eq!(follow(&all[..2], Some(&second)).unwrap(), None);
        assert_eq!(follow(&[], None).unwrap(), None);
        assert!(follow(&[sign(&first), sign(&third)], None).is_err(), "one is left out");
        let stranger = SecretKey::from_seed([9; 32]);
        let mut foreign = second.clone();
        foreign.roles =
            [(protocol::keys::RoleName::Root, protocol::keys::Role::single(stranger.public()))]
                .into();
        let taken = [sign(&first), Envelope::sign(&foreign, &[&stranger])];
        assert!(matches!(follow(&taken, None), Err(Rejected::RootSignature { .. })));
    }

    #[test]
    fn a_root_signed_by_a_stranger_is_refused() {
        let stranger = SecretKey::from_seed([9; 32]);
        let bytes = Envelope::sign(&testing::root(), &[&stranger]).to_bytes();
        assert!(matches!(verify(&bytes), Err(Rejected::BadSignature { .. })));
    }
}
