//! The first trust root of this node: read from its file and verified under its own root role. Newer ones stand in the
//! ledger.

use std::path::{Path, PathBuf};

use protocol::envelope::{Envelope, Rejected, Verified};
use protocol::keys::Root;
use protocol::succession::{self, Chain};

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
    read(path).map(|(root, _)| root)
}

/// The same with the envelope that proves it.
///
/// # Errors
/// As [`load`].
pub fn read(path: &Path) -> Result<(Root, Envelope), TrustError> {
    let bytes = std::fs::read(path)
        .map_err(|source| TrustError::Unreadable { path: path.to_owned(), source })?;
    verify(&bytes).map_err(|source| TrustError::Refused { path: path.to_owned(), source })
}

/// The trust roots that lead to `newest`, each following the one before, as far back as they are among these envelopes: that of
/// the file, and the proofs of the ledger. None where `newest` itself is not among them.
#[must_use]
pub fn chain<'a>(
    envelopes: impl IntoIterator<Item = &'a Envelope>,
    newest: &Root,
) -> Option<Chain> {
    let known =
        envelopes.into_iter().filter_map(|envelope| Some((by_itself(envelope).ok()?, envelope)));
    let mut known: Vec<_> = known.filter(|(root, _)| root.fleet == newest.fleet).collect();
    known.sort_by_key(|(root, _)| root.version);
    known.dedup_by(|(a, _), (b, _)| a == b);
    let mut led: Vec<(Root, &Envelope)> = Vec::new();
    for (root, envelope) in known {
        let follows = |(before, _): &(Root, _)| succession::succeed(before, envelope).is_ok();
        if !led.last().is_some_and(follows) {
            led.clear();
        }
        led.push((root, envelope));
        if led.last().is_some_and(|(root, _)| root == newest) {
            let roots = led.into_iter().map(|(_, envelope)| envelope.clone()).collect();
            return Some(Chain { roots });
        }
    }
    None
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

fn verify(bytes: &[u8]) -> Result<(Root, Envelope), Rejected> {
    let envelope = Envelope::from_bytes(bytes)?;
    Ok((by_itself(&envelope)?, envelope))
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
        assert_eq!(verify(&bytes).unwrap().0, root);
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
    fn a_board_shows_the_roots_that_lead_to_the_newest_that_it_trusts() {
        let key = testing::root_key();
        let root = |version| testing::root_with(version, 20 + version as u8);
        let all: Vec<Envelope> = (1..=4).map(|v| Envelope::sign(&root(v), &[&key])).collect();
        let lead = |known: &[usize], newest| {
            let chain = chain(known.iter().map(|at| &all[*at]), &root(newest))?;
            Some(chain.roots.iter().map(|e| by_itself(e).unwrap().version).collect::<Vec<_>>())
        };
        assert_eq!(lead(&[0], 1), Some(vec![1]), "as it joined");
        assert_eq!(lead(&[0, 1, 2], 3), Some(vec![1, 2, 3]));
        assert_eq!(lead(&[2, 2, 0, 1], 3), Some(vec![1, 2, 3]), "the file is one of them");
        assert_eq!(lead(&[0, 2, 3], 4), Some(vec![3, 4]), "what leads nowhere is left out");
        assert_eq!(lead(&[0, 1, 3], 2), Some(vec![1, 2]), "not beyond what is trusted");
        assert_eq!(lead(&[0], 2), None, "followed by an agent that kept no proof");
        let mut foreign = root(2);
        foreign.fleet = protocol::id::FleetId::from_random([8; 16]);
        let foreign = Envelope::sign(&foreign, &[&key]);
        let ours = chain([&all[0], &foreign, &all[1]], &root(2)).unwrap();
        assert_eq!(ours.roots, all[..2], "the board came from another fleet");
    }

    #[test]
    fn a_root_signed_by_a_stranger_is_refused() {
        let stranger = SecretKey::from_seed([9; 32]);
        let bytes = Envelope::sign(&testing::root(), &[&stranger]).to_bytes();
        assert!(matches!(verify(&bytes), Err(Rejected::BadSignature { .. })));
    }
}
