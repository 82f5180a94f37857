//! `registries.toml`, which the coordinator (to resolve tags) and each node (to pull) read in the same form.
//!
//! ```toml
//! [[registry]]
//! host = "registry.local:5000"
//! http = true                       # plain HTTP; the coordinator's business, dockerd has its own setting
//! ca_file = "/etc/pith/registry.pem"
//! username = "pi"
//! password_file = "token"           # or password = "…"
//! ```

use std::fmt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// Docker's own registry, for references without one.
pub const DEFAULT_REGISTRY: &str = "docker.io";

/// What is sealed of a login for pulls. The registry stands in it, so that nobody who hands it on can send it to another.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RegistryLogin {
    /// As image references name it.
    pub registry: String,
    /// The user.
    pub username: String,
    /// Its password or token.
    pub password: String,
}

impl fmt::Debug for RegistryLogin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RegistryLogin({}@{})", self.username, self.registry)
    }
}

/// The registry of a reference: its first part when that looks like a host, as Docker decides it.
#[must_use]
pub fn registry_of(reference: &str) -> &str {
    let Some((first, _)) = reference.split_once('/') else { return DEFAULT_REGISTRY };
    let is_host = first == "localhost" || first.contains(['.', ':']);
    if is_host { first } else { DEFAULT_REGISTRY }
}

/// One registry as the file describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registry {
    /// As image references name it: `registry.local:5000`.
    pub host: String,
    /// Plain HTTP.
    pub http: bool,
    /// An authority of its own, PEM.
    pub ca_file: Option<PathBuf>,
    /// Who we are to it.
    pub login: Option<Login>,
}

/// A user and where its password is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Login {
    /// The user.
    pub username: String,
    /// Its password or token.
    pub password: Password,
}

/// A password, or where it is.
#[derive(Clone, PartialEq, Eq)]
pub enum Password {
    /// The password itself.
    Given(String),
    /// A file that holds it; a relative path is beside `registries.toml`.
    File(PathBuf),
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Given(_) => f.write_str("Given(…)"),
            Self::File(path) => write!(f, "File({})", path.display()),
        }
    }
}

impl Password {
    /// The password; `read` is asked for the text of a file.
    ///
    /// # Errors
    /// That of `read`.
    pub fn reveal<E>(self, read: impl FnOnce(&Path) -> Result<String, E>) -> Result<String, E> {
        match self {
            Self::Given(password) => Ok(password),
            Self::File(path) => Ok(read(&path)?.trim_end().to_owned()),
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    registry: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    host: String,
    #[serde(default)]
    http: bool,
    ca_file: Option<PathBuf>,
    username: Option<String>,
    password: Option<String>,
    password_file: Option<PathBuf>,
}

/// Reads the text of `registries.toml`.
///
/// # Errors
/// What is wrong, with its line and key, or the registry's host and the mend.
pub fn parse(text: &str) -> Result<Vec<Registry>, String> {
    let file: File = toml::from_str(text).map_err(|error| error.to_string())?;
    file.registry.into_iter().map(Entry::checked).collect()
}

impl Entry {
    fn checked(self) -> Result<Registry, String> {
        let Self { host, http, ca_file, username, password, password_file } = self;
        let password = match (password, password_file) {
            (Some(password), None) => Some(Password::Given(password)),
            (None, Some(path)) => Some(Password::File(path)),
            (None, None) => None,
            (Some(_), Some(_)) => {
                return Err(format!("{host}: password and password_file exclude each other"));
            }
        };
        let login = match (username, password) {
            (Some(username), Some(password)) => Some(Login { username, password }),
            (None, None) => None,
            (Some(_), None) => {
                return Err(format!("{host}: username without password or password_file"));
            }
            (None, Some(_)) => return Err(format!("{host}: a password without a username")),
        };
        Ok(Registry { host, http, ca_file, login })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
    fn a_sealed_password_is_never_printed() {
        let (registry, username) = ("r".to_owned(), "u".to_owned());
        let login = RegistryLogin { registry, username, password: "s3cret".to_owned() };
        assert!(!format!("{login:?}").contains("s3cret"));
    }

    fn error(lines: &str) -> String {
        parse(&format!("[[registry]]\nhost = \"a.local\"\n{lines}")).unwrap_err()
    }

    #[test]
    fn an_entry_is_read_whole() {
        let text = "[[registry]]\nhost = \"a.local:5000\"\nhttp = true\nca_file = \"/ca.pem\"\n\
            username = \"pi\"\npassword_file = \"token\"\n[[registry]]\nhost = \"b.local\"\n";
        let [one, other] = parse(text).unwrap().try_into().unwrap();
        assert!(one.http && one.ca_file == Some("/ca.pem".into()));
        let login = one.login.unwrap();
        let read = |path: &Path| Ok::<_, ()>(format!("s3cret of {}\n", path.display()));
        assert_eq!(login.password.reveal(read), Ok("s3cret of token".to_owned()));
        assert!(!other.http && other.login.is_none());
    }

    #[test]
    fn an_incomplete_or_unknown_entry_is_refused_by_name() {
        let found = error("username = \"u\"\n");
        assert!(found.contains("a.local") && found.contains("password_file"), "{found}");
        assert!(error("password = \"p\"\n").contains("without a username"));
        let both = "username = \"u\"\npassword = \"p\"\npassword_file = \"f\"\n";
        assert!(error(both).contains("exclude each other"));
        let found = error("user = \"u\"\n");
        assert!(found.contains("user") && found.contains("line 3"), "{found}");
    }

    #[test]
    fn a_password_is_never_printed() {
        let text = "[[registry]]\nhost = \"a\"\nusername = \"u\"\npassword = \"s3cret\"\n";
        assert!(!format!("{:?}", parse(text).unwrap()).contains("s3cret"));
    }
}
