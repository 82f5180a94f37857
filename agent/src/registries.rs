//! Who the node is to registries: `registries.toml`, credentials by registry. Certificates and plain HTTP are the
//! engine's business (its own daemon.json), since it pulls.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use serde::Deserialize;

/// Docker's own registry, for references without one.
pub const DEFAULT_REGISTRY: &str = "docker.io";

/// What a registry is told.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// The registry, as references name it.
    pub registry: String,
    /// The user.
    pub username: String,
    /// The password or token; never logged.
    pub password: String,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Credentials({}@{})", self.username, self.registry)
    }
}

/// Credentials of all registries known.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Registries {
    by_registry: BTreeMap<String, Credentials>,
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

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    registry: BTreeMap<String, Entry>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    username: Option<String>,
    password: Option<String>,
    password_file: Option<PathBuf>,
    /// Read by the coordinator, which asks registries itself; accepted here so that one file serves both.
    #[serde(rename = "ca_file")]
    _ca_file: Option<PathBuf>,
    /// As `ca_file`.
    #[serde(rename = "plain_http")]
    _plain_http: Option<bool>,
}

impl Registries {
    /// Reads `registries.toml`; relative password files are beside it.
    ///
    /// # Errors
    /// When it or a password file cannot be read, or an entry is incomplete.
    pub fn read(path: &Path) -> Result<Self, RegistriesError> {
        let text = read(path)?;
        let invalid = |message: String| RegistriesError::Invalid { path: path.to_owned(), message };
        let file: File = toml::from_str(&text).map_err(|error| invalid(error.to_string()))?;
        let mut by_registry = BTreeMap::new();
        for (registry, entry) in file.registry {
            let Some(username) = entry.username else { continue };
            let password = match (entry.password, entry.password_file) {
                (Some(password), None) => password,
                (None, Some(file)) => {
                    let beside = path.parent().unwrap_or(Path::new("."));
                    read(&beside.join(file))?.trim_end().to_owned()
                }
                (None, None) | (Some(_), Some(_)) => {
                    let keys = "give exactly one of password and password_file";
                    return Err(invalid(format!("registry.\"{registry}\": {keys}")));
                }
            };
            let credentials = Credentials { registry: registry.clone(), username, password };
            by_registry.insert(registry, credentials);
        }
        Ok(Self { by_registry })
    }

    /// The credentials for an image reference as a person writes it.
    #[must_use]
    pub fn credentials_for(&self, reference: &str) -> Option<&Credentials> {
        self.by_registry.get(registry_of(reference))
    }
}

fn read(path: &Path) -> Result<String, RegistriesError> {
    std::fs::read_to_string(path)
        .map_err(|source| RegistriesError::Unreadable { path: path.to_owned(), source })
}

/// The registry of a reference: its first part when that looks like a host, as Docker decides it.
#[must_use]
pub fn registry_of(reference: &str) -> &str {
    let Some((first, _)) = reference.split_once('/') else { return DEFAULT_REGISTRY };
    let is_host = first == "localhost" || first.contains(['.', ':']);
    if is_host { first } else { DEFAULT_REGISTRY }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str) -> Result<Registries, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("registries.toml");
        std::fs::write(&path, text).unwrap();
        std::fs::write(folder.path().join("token"), "s3cret\n").unwrap();
        Registries::read(&path).map_err(|error| error.to_string())
    }

    #[test]
    fn the_registry_of_a_reference_is_found_as_docker_finds_it() {
        let cases = [
            ("web:v1", "docker.io"),
            ("library/web", "docker.io"),
            ("registry.local/web", "registry.local"),
            ("127.0.0.1:5000/team/web:v1", "127.0.0.1:5000"),
            ("localhost/web", "localhost"),
        ];
        for (reference, registry) in cases {
            assert_eq!(registry_of(reference), registry);
        }
    }

    #[test]
    fn a_password_comes_from_the_file_or_from_one_beside_it_and_is_never_printed() {
        let text = "[registry.\"a.local:5000\"]\nusername = \"u\"\npassword = \"p\"\n\
            [registry.\"b.local\"]\nusername = \"u\"\npassword_file = \"token\"\n\
            [registry.\"c.local\"]\nplain_http = true\n";
        let registries = check(text).unwrap();
        assert_eq!(registries.credentials_for("a.local:5000/web:v1").unwrap().password, "p");
        assert_eq!(registries.credentials_for("b.local/web").unwrap().password, "s3cret");
        assert_eq!(registries.credentials_for("c.local/web"), None);
        assert!(!format!("{registries:?}").contains("s3cret"));
    }

    #[test]
    fn an_incomplete_or_unknown_entry_is_refused_by_name() {
        let error = check("[registry.\"a.local\"]\nusername = \"u\"\n").unwrap_err();
        assert!(error.contains("a.local") && error.contains("password_file"), "{error}");
        let error = check("[registry.\"a.local\"]\nuser = \"u\"\n").unwrap_err();
        assert!(error.contains("user") && error.contains("line 2"), "{error}");
    }
}
