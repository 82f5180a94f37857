//! Who the node is to registries: the credentials of `registries.toml` ([`protocol::registries`]). Certificates and plain
//! HTTP are the engine's business (its own daemon.json), since it pulls.
//!
//! The file is read again for each pull: credentials that are added or renewed need no restart.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use protocol::registries::{self, RegistryLogin, registry_of};
use tracing::warn;

/// Credentials of all registries known; without a file of none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Registries {
    file: Option<PathBuf>,
}

/// Why `registries.toml` cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RegistriesError {
    /// The file or a password file cannot be read.
    #[error("{path}: {source}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file is not what is expected.
    #[error("{path}: {message}")]
    Invalid {
        /// The file.
        path: PathBuf,
        /// Line, key and mend.
        message: String,
    },
}

impl Registries {
    /// The registries of a file, which may come later; relative password files are beside it.
    ///
    /// # Errors
    /// When it is there, and it or a password file cannot be read, or an entry is incomplete.
    pub fn read(path: &Path) -> Result<Self, RegistriesError> {
        read_all(path)?;
        Ok(Self { file: Some(path.to_owned()) })
    }

    /// The credentials for an image reference as a person writes it, as the file says now.
    #[must_use]
    pub fn login_for(&self, reference: &str) -> Option<RegistryLogin> {
        match read_all(self.file.as_deref()?) {
            Ok(mut by_registry) => by_registry.remove(registry_of(reference)),
            Err(error) => {
                warn!(%error, reference, "pulled without credentials");
                None
            }
        }
    }
}

fn read_all(path: &Path) -> Result<BTreeMap<String, RegistryLogin>, RegistriesError> {
    if !path.exists() {
        return Ok(BTreeMap::new());
    }
    let invalid = |message| RegistriesError::Invalid { path: path.to_owned(), message };
    let beside = path.parent().unwrap_or(Path::new("."));
    let mut by_registry = BTreeMap::new();
    for registry in registries::parse(&read(path)?).map_err(invalid)? {
        let Some(login) = registry.login else { continue };
        let password = login.password.reveal(|file| read(&beside.join(file)))?;
        let (registry, username) = (registry.host, login.username);
        by_registry.insert(registry.clone(), RegistryLogin { registry, username, password });
    }
    Ok(by_registry)
}

fn read(path: &Path) -> Result<String, RegistriesError> {
    std::fs::read_to_string(path)
        .map_err(|source| RegistriesError::Unreadable { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads the text as a file and gives user and password for an image.
    fn check(text: &str, reference: &str) -> Result<Option<(String, String)>, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("registries.toml");
        std::fs::write(&path, text).unwrap();
        std::fs::write(folder.path().join("token"), "s3cret\n").unwrap();
        let registries = Registries::read(&path).map_err(|error| error.to_string())?;
        Ok(registries.login_for(reference).map(|c| (c.username, c.password)))
    }

    #[test]
    fn a_password_comes_from_the_file_or_from_one_beside_it() {
        let text = "[[registry]]\nhost = \"a.local:5000\"\nusername = \"u\"\npassword = \"p\"\n\
            [[registry]]\nhost = \"b.local\"\nusername = \"u\"\npassword_file = \"token\"\n\
            [[registry]]\nhost = \"c.local\"\nhttp = true\nca_file = \"/etc/ca.pem\"\n";
        let login = |password: &str| Ok(Some(("u".to_owned(), password.to_owned())));
        assert_eq!(check(text, "a.local:5000/web:v1"), login("p"));
        assert_eq!(check(text, "b.local/web"), login("s3cret"));
        assert_eq!(check(text, "c.local/web"), Ok(None));
        assert_eq!(check(text, "web"), Ok(None));
    }

    #[test]
    fn credentials_that_come_later_are_used_without_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("registries.toml");
        let registries = Registries::read(&path).unwrap();
        assert_eq!(registries.login_for("a.local/web"), None);
        let text = "[[registry]]\nhost = \"a.local\"\nusername = \"u\"\npassword = \"p\"\n";
        std::fs::write(&path, text).unwrap();
        assert_eq!(registries.login_for("a.local/web").unwrap().password, "p");
    }

    #[test]
    fn an_incomplete_entry_names_the_file() {
        let error = check("[[registry]]\nhost = \"a.local\"\nusername = \"u\"\n", "x");
        let error = error.unwrap_err();
        assert!(error.contains("registries.toml: a.local"), "{error}");
    }
}
