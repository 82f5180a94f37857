//! The keys in `DIR/keys`. Their names are for people: what a key may sign is what the trust root says of it.

use std::fs;
use std::path::PathBuf;

use protocol::keys::{PublicKey, RoleName, Root, SecretKey};

use super::{DataDir, DataDirError};
use crate::key_file::{Holds, KeyFile, secret_text};
use crate::passphrase::Passphrases;

const FOLDER: &str = "keys";

impl DataDir {
    /// Every key file, by name.
    ///
    /// # Errors
    /// Where one is no key.
    pub fn keys(&self) -> Result<Vec<KeyFile>, DataDirError> {
        let folder = self.path().join(FOLDER);
        let Ok(entries) = fs::read_dir(&folder) else { return Ok(Vec::new()) };
        let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
        paths.retain(|path| path.extension().is_some_and(|ending| ending == "key"));
        paths.sort();
        paths.iter().map(|path| Ok(KeyFile::read(path)?)).collect()
    }

    /// The keys of a role that can sign here, those first that need no passphrase.
    ///
    /// # Errors
    /// Where a file is no key.
    pub fn keys_of(&self, role: RoleName, root: &Root) -> Result<Vec<KeyFile>, DataDirError> {
        let Some(role) = root.roles.get(&role) else { return Ok(Vec::new()) };
        let mut keys = self.keys()?;
        keys.retain(|key| key.signs() && role.keys.contains(&key.public()));
        keys.sort_by_key(|key| key.holds() == Holds::Encrypted);
        Ok(keys)
    }

    /// The key that the coordinator signs with. It starts unattended: an encrypted one does not count, unless
    /// `PITH_PASSPHRASE` opens it.
    ///
    /// # Errors
    /// Where there is none.
    pub fn director_key(&self, root: &Root) -> Result<SecretKey, DataDirError> {
        if let Some(key) = self.keys_of(RoleName::Director, root)?.first() {
            return Ok(key.open(&mut Passphrases::default())?);
        }
        let waiting = self.unsigned_root(root.version.saturating_add(1));
        if waiting.exists() {
            let folder = self.path().join(FOLDER);
            return Err(DataDirError::DirectorWaits { folder, waiting });
        }
        let named = root.roles.get(&RoleName::Director);
        let named = named.map(|role| role.keys.iter().map(|key| key.id().to_string()).collect());
        let named: Vec<String> = named.unwrap_or_default();
        Err(DataDirError::NoDirectorKey {
            folder: self.path().join(FOLDER),
            version: root.version,
            named: named.join(", "),
        })
    }

    /// Every key that signs without a person: what a running coordinator may find its own among.
    ///
    /// # Errors
    /// Where a file is no key.
    pub fn signing_keys(&self) -> Result<Vec<SecretKey>, DataDirError> {
        let keys = self.keys()?;
        let plain = keys.iter().filter(|key| key.holds() == Holds::Plain);
        plain.map(|key| Ok(key.open(&mut Passphrases::default())?)).collect()
    }

    /// Writes a new key for a role, beside those that are there, and gives the file.
    ///
    /// # Errors
    /// Where it cannot be written.
    pub fn keep_key(
        &self,
        role: RoleName,
        secret: &SecretKey,
        passphrase: Option<&str>,
    ) -> Result<PathBuf, DataDirError> {
        self.create_folder(FOLDER)?;
        let name = format!("{FOLDER}/{role}-{}.key", secret.public().id());
        self.write(&name, secret_text(secret, passphrase)?.as_bytes())
    }

    /// Whether a key of `role` lies here encrypted: what takes its place will too.
    #[must_use]
    pub fn is_encrypted(&self, role: RoleName, root: &Root) -> bool {
        let keys = self.keys_of(role, root).unwrap_or_default();
        keys.iter().any(|key| key.holds() == Holds::Encrypted)
    }

    /// The file that holds a public key's secret here.
    #[must_use]
    pub fn file_of<'a>(&self, keys: &'a [KeyFile], public: &PublicKey) -> Option<&'a KeyFile> {
        keys.iter().find(|key| key.signs() && key.public() == *public)
    }
}
