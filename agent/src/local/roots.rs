//! The trust roots that a board holds, with what proves them: an operator who has lost the coordinator's folder finds them here.

use std::io;
use std::path::{Path, PathBuf};

use protocol::succession::Chain;

use crate::ledger;
use crate::trust::{self, TrustError};

/// Why they cannot be shown.
#[derive(Debug, thiserror::Error)]
pub enum NotShown {
    /// The first one.
    #[error(transparent)]
    First(#[from] TrustError),
    /// The ledger.
    #[error("{path}: {source}")]
    Ledger {
        /// The folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// What was followed without keeping what proves it.
    #[error(
        "this board trusts root {0}, and an older agent kept nothing that proves it: ask another board, or bring root.json \
         and roots.json of the coordinator's folder"
    )]
    NoProof(u64),
}

/// Those that lead to the newest, oldest first.
///
/// # Errors
/// Where a file cannot be read, or the newest is not proven by any.
pub fn held(state_dir: &Path, root_file: &Path) -> Result<Chain, NotShown> {
    let (first, envelope) = trust::read(root_file)?;
    let contents = ledger::look(state_dir)
        .map_err(|source| NotShown::Ledger { path: state_dir.to_owned(), source })?;
    let newest = contents.trust(&first).root;
    let known = std::iter::once(&envelope).chain(contents.proofs());
    trust::chain(known, &newest).ok_or(NotShown::NoProof(newest.version))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::ledger::{Contents, Ledger};
    use crate::testing;
    use planner::Now;
    use protocol::envelope::Envelope;
    use protocol::succession;

    #[tokio::test]
    async fn a_board_shows_its_roots_while_its_agent_runs_and_after() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("root.json");
        let sign = |root| Envelope::sign(root, &[&testing::root_key()]);
        let (first, second) = (testing::root(), testing::root_with(2, 21));
        std::fs::write(&file, sign(&first).to_bytes()).unwrap();
        assert_eq!(held(dir.path(), &file).unwrap().roots, [sign(&first)], "as it joined");
        let mut ledger = Ledger::open(dir.path(), "boot", Now(0)).unwrap();
        let unproven = Contents::default().succeed(&second, &first);
        ledger.write(&Arc::new(unproven.clone())).await.unwrap();
        let error = held(dir.path(), &file).unwrap_err();
        assert!(error.to_string().contains("trusts root 2"), "{error}");
        ledger.write(&Arc::new(unproven.prove(&[sign(&second)]))).await.unwrap();
        let chain = held(dir.path(), &file).unwrap();
        let walked = succession::walk(&first, &chain);
        assert_eq!((walked.roots.len(), chain.roots.len()), (1, 2));
        assert_eq!(walked.roots[0].root, second);
        drop(ledger);
        assert_eq!(held(dir.path(), &file).unwrap(), chain);
    }
}
