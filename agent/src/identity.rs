//! The node's own key: made on the node at its first start, never leaves it.

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use protocol::join::IDENTITY_KEY_FILE as KEY_FILE;
use protocol::keys::SecretKey;

use crate::durable::{self, Readers};

/// Why there is no key.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The file cannot be read or written.
    #[error("{path}: {source}")]
    Io {
        /// The key file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file is not a key.
    #[error("{0} is not a node key; a node that lost its key joins anew: remove the file")]
    NotAKey(PathBuf),
    /// Others may read it.
    #[error("{0} can be read by others; `chmod 600 {0}`")]
    TooOpen(PathBuf),
    /// The system gives no randomness.
    #[error("the system gives no randomness: {0}")]
    NoRandomness(getrandom::Error),
}

/// Reads the node's key, or makes one.
///
/// # Errors
/// When the file is not readable, not private, not a key, or cannot be made.
pub fn load_or_create(state_dir: &Path) -> Result<SecretKey, IdentityError> {
    match load(state_dir) {
        Err(IdentityError::Io { path, source }) if source.kind() == ErrorKind::NotFound => {
            create(&path)
        }
        loaded => loaded,
    }
}

/// Reads the node's key.
///
/// # Errors
/// When the file is not there, not readable, not private or not a key.
pub fn load(state_dir: &Path) -> Result<SecretKey, IdentityError> {
    let path = state_dir.join(KEY_FILE);
    let io = |source| IdentityError::Io { path: path.clone(), source };
    let mut file = File::open(&path).map_err(io)?;
    let mode = file.metadata().map_err(io)?.permissions().mode();
    if mode & 0o077 != 0 {
        return Err(IdentityError::TooOpen(path));
    }
    let mut text = String::new();
    file.read_to_string(&mut text).map_err(io)?;
    SecretKey::from_base64(&text).map_err(|_| IdentityError::NotAKey(path))
}

fn create(path: &Path) -> Result<SecretKey, IdentityError> {
    let mut seed = [0u8; 32];
    getrandom::fill(&mut seed).map_err(IdentityError::NoRandomness)?;
    let key = SecretKey::from_seed(seed);
    durable::write(path, format!("{}\n", key.to_base64()).as_bytes(), Readers::Owner)
        .map_err(|source| IdentityError::Io { path: path.to_owned(), source })?;
    Ok(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_is_made_once_and_private() {
        let dir = tempfile::tempdir().unwrap();
        let first = load_or_create(dir.path()).unwrap();
        let again = load_or_create(dir.path()).unwrap();
        assert_eq!(first.public(), again.public());
        let mode = std::fs::metadata(dir.path().join(KEY_FILE)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn a_key_that_others_can_read_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        load_or_create(dir.path()).unwrap();
        let path = dir.path().join(KEY_FILE);
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        assert!(matches!(load_or_create(dir.path()), Err(IdentityError::TooOpen(_))));
    }
}
