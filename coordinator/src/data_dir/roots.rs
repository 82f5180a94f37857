//! The trust roots on disk: the newest, and the chain of those since version 2; of a recovered fleet also those before that were found.

use std::fs;
use std::path::PathBuf;

use protocol::envelope::{Envelope, Rejected};
use protocol::keys::Root;
use protocol::succession::{self, Chain, SignedRoot};

use super::{DataDir, DataDirError, Fleet, FleetFile, check_socket_path, read};

const CHAIN: &str = "roots.json";
const FIRST: &str = "root-1.json";

impl DataDir {
    /// The newest root and the chain to it. The chain is written first: where a stop came between, it leads further.
    pub(super) fn newest_root(&self) -> Result<(Root, Chain), DataDirError> {
        let path = self.root_file();
        let damaged = |reason: Rejected| DataDirError::Damaged {
            path: path.clone(),
            reason: reason.to_string(),
        };
        let envelope = Envelope::from_bytes(&read(&path)?).map_err(damaged)?;
        let root = succession::first(&envelope).map_err(damaged)?.into_inner();
        let chain = self.chain()?;
        let mut walked = succession::walk(&root, &chain);
        if let Some(reason) = walked.refused {
            let path = self.path().join(CHAIN);
            return Err(DataDirError::Damaged { path, reason: reason.to_string() });
        }
        let newest = walked.roots.pop().map_or(root, |signed| signed.root);
        Ok((newest, chain))
    }

    /// Keeps a root that was verified as the next one.
    ///
    /// # Errors
    /// Where the folder cannot be written.
    pub fn keep_root(&self, envelope: &Envelope, version: u64) -> Result<(), DataDirError> {
        let mut chain = self.chain()?;
        chain.roots.push(envelope.clone());
        let bytes = serde_json::to_vec(&chain).expect("envelopes of strings serialise");
        self.write(CHAIN, &bytes)?;
        self.write("root.json", &envelope.to_bytes())?;
        self.forget_unsigned(version);
        Ok(())
    }

    /// What was waiting for signatures has them.
    pub fn forget_unsigned(&self, version: u64) {
        let _ = fs::remove_file(self.unsigned_root(version));
    }

    /// Where a root waits for signatures.
    #[must_use]
    pub fn unsigned_root(&self, version: u64) -> PathBuf {
        self.path().join(format!("root-{version}.json"))
    }

    /// Makes this folder a fleet with its first root, which has all its signatures.
    ///
    /// # Errors
    /// Where it has not, or the folder cannot be written.
    pub fn finish_first(&self, envelope: &Envelope) -> Result<Fleet, DataDirError> {
        let path = self.path().join(FIRST);
        let refused = |reason: Rejected| DataDirError::Damaged {
            path: path.clone(),
            reason: reason.to_string(),
        };
        let root = succession::first(envelope).map_err(refused)?.into_inner();
        root.check().map_err(refused)?;
        self.write("root.json", &envelope.to_bytes())?;
        let file =
            serde_json::to_vec(&FleetFile { fleet: root.fleet.clone() }).expect("plain data");
        // Last: with it the folder counts as a fleet.
        self.write("fleet.json", &file)?;
        let _ = fs::remove_file(&path);
        Ok(Fleet { id: root.fleet.clone(), root, chain: Chain::default() })
    }

    /// Begins to make this folder one of a fleet whose folder was lost: what is in it before [`DataDir::finish_recovery`] counts for nothing.
    ///
    /// # Errors
    /// Where a fleet is there, or the folder cannot be written.
    pub fn begin_recovery(&self, roots: &[SignedRoot]) -> Result<(), DataDirError> {
        if self.holds_fleet() {
            return Err(DataDirError::Exists(self.path().to_owned()));
        }
        if let unfinished @ DataDirError::Unfinished(..) = self.why_no_fleet() {
            return Err(unfinished);
        }
        check_socket_path(&self.socket())?;
        for folder in ["", "keys", "tokens"] {
            self.create_folder(folder)?;
        }
        let chain = Chain { roots: roots.iter().map(|one| one.envelope.clone()).collect() };
        let bytes = serde_json::to_vec(&chain).expect("envelopes of strings serialise");
        self.write(CHAIN, &bytes)?;
        Ok(())
    }

    /// The fleet as far as its trust roots tell (oldest first, at least one), with the next one beside it, which may lack signatures. The director's
    /// key and the CA are there already: a folder that counts as a fleet has all that it needs.
    ///
    /// # Errors
    /// Where the folder cannot be written.
    pub fn finish_recovery(
        &self,
        next: u64,
        envelope: &Envelope,
        roots: &[SignedRoot],
    ) -> Result<Fleet, DataDirError> {
        let Some(newest) = roots.last() else { return Err(self.why_no_fleet()) };
        self.write(&format!("root-{next}.json"), &envelope.to_bytes())?;
        self.finish_first(&newest.envelope)
    }

    /// The first root of a fleet that is not finished.
    #[must_use]
    pub fn unfinished(&self) -> Option<Envelope> {
        let bytes = fs::read(self.path().join(FIRST)).ok().filter(|_| !self.holds_fleet())?;
        Envelope::from_bytes(&bytes).ok()
    }

    pub(super) fn why_no_fleet(&self) -> DataDirError {
        let path = self.path().to_owned();
        match self.unfinished() {
            Some(_) => DataDirError::Unfinished(path, self.unsigned_root(1)),
            None => DataDirError::Missing(path),
        }
    }

    /// Not bounded as what travels is: the folder keeps all.
    fn chain(&self) -> Result<Chain, DataDirError> {
        let path = self.path().join(CHAIN);
        if !path.exists() {
            return Ok(Chain::default());
        }
        serde_json::from_slice(&read(&path)?)
            .map_err(|e| DataDirError::Damaged { path, reason: e.to_string() })
    }
}
