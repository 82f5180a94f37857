//! How to speak to each registry: `registries.toml` of the data folder ([`protocol::registries`]), then
//! `~/.docker/config.json`.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use protocol::registries::{self, Registry};
use serde::Deserialize;

/// Docker's name for its Hub in `config.json`.
const HUB_KEY: &str = "https://index.docker.io/v1/";

/// Every registry that something is known of.
#[derive(Debug, Clone, Default)]
pub struct Registries {
    known: BTreeMap<String, Access>,
}

/// How to speak to one registry.
#[derive(Clone, Default)]
pub struct Access {
    /// Plain HTTP.
    pub http: bool,
    /// An authority of its own, PEM.
    pub ca_file: Option<PathBuf>,
    /// User and password.
    pub login: Option<(String, String)>,
}

impl std::fmt::Debug for Access {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let user = self.login.as_ref().map(|(user, _)| user);
        f.debug_struct("Access")
            .field("http", &self.http)
            .field("user", &user)
            .finish_non_exhaustive()
    }
}

/// Why a file of registries cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{path}: {reason}")]
pub struct RegistriesError {
    path: PathBuf,
    reason: String,
}

#[derive(Debug, Default, Deserialize)]
struct DockerConfig {
    #[serde(default)]
    auths: BTreeMap<String, DockerAuth>,
}

#[derive(Debug, Deserialize)]
struct DockerAuth {
    auth: Option<String>,
}

impl Registries {
    /// Reads both files; a missing one says nothing.
    ///
    /// # Errors
    /// Where one is there and cannot be read.
    pub fn load(own: &Path, docker_config: Option<&Path>) -> Result<Self, RegistriesError> {
        let mut known = BTreeMap::new();
        if let Some(path) = docker_config.filter(|path| path.exists()) {
            let failed = |reason: String| RegistriesError { path: path.to_owned(), reason };
            let text = fs::read_to_string(path).map_err(|e| failed(e.to_string()))?;
            let config: DockerConfig =
                serde_json::from_str(&text).map_err(|e| failed(e.to_string()))?;
            for (host, auth) in config.auths {
                let Some(login) = auth.auth.as_deref().and_then(decode_login) else { continue };
                let access = Access { login: Some(login), ..Access::default() };
                known.insert(plain_host(&host), access);
            }
        }
        if own.exists() {
            let failed = |reason: String| RegistriesError { path: own.to_owned(), reason };
            let text = fs::read_to_string(own).map_err(|e| failed(e.to_string()))?;
            let beside = own.parent().unwrap_or(Path::new("."));
            for registry in registries::parse(&text).map_err(failed)? {
                let host = registry.host.clone();
                known.insert(host, access(registry, beside).map_err(failed)?);
            }
        }
        Ok(Self { known })
    }

    /// How to speak to `host`. Without an entry: HTTPS, but plain HTTP on this machine, as Docker does.
    #[must_use]
    pub fn access(&self, host: &str) -> Access {
        let known = self.known.get(host).cloned().unwrap_or_default();
        Access { http: known.http || is_loopback(host), ..known }
    }
}

fn access(registry: Registry, beside: &Path) -> Result<Access, String> {
    let read = |path: &Path| {
        let path = beside.join(path);
        fs::read_to_string(&path).map_err(|e| format!("{}: {e}", path.display()))
    };
    let login = match registry.login {
        Some(login) => Some((login.username, login.password.reveal(read)?)),
        None => None,
    };
    Ok(Access { http: registry.http, ca_file: registry.ca_file, login })
}

/// Whether a registry's host is this machine, where Docker accepts plain HTTP.
#[must_use]
pub fn is_loopback(host: &str) -> bool {
    let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
    let name = name.trim_start_matches('[').trim_end_matches(']');
    name == "localhost"
        || name.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

fn decode_login(text: &str) -> Option<(String, String)> {
    let decoded = String::from_utf8(BASE64.decode(text).ok()?).ok()?;
    let (user, password) = decoded.split_once(':')?;
    Some((user.to_owned(), password.to_owned()))
}

fn plain_host(key: &str) -> String {
    if key == HUB_KEY {
        return super::reference::DOCKER_HUB.to_owned();
    }
    let host = key.trim_start_matches("https://").trim_start_matches("http://");
    host.split('/').next().unwrap_or(host).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_files_are_read_and_ours_wins() {
        let dir = tempfile::tempdir().unwrap();
        let docker = dir.path().join("config.json");
        let auth = BASE64.encode("anna:one");
        let text = format!(
            r#"{{"auths": {{"{HUB_KEY}": {{"auth": "{auth}"}}, "r.io": {{"auth": "{auth}"}}, "x.io": {{}}}}}}"#
        );
        fs::write(&docker, text).unwrap();
        let own = dir.path().join("registries.toml");
        fs::write(
            &own,
            "[[registry]]\nhost = \"r.io\"\nhttp = true\nusername = \"bob\"\npassword = \"two\"\n",
        )
        .unwrap();
        let registries = Registries::load(&own, Some(&docker)).unwrap();
        assert_eq!(registries.access("docker.io").login.unwrap().0, "anna");
        let ours = registries.access("r.io");
        assert!(ours.http);
        assert_eq!(ours.login.unwrap(), ("bob".to_owned(), "two".to_owned()));
        assert!(registries.access("x.io").login.is_none());
    }

    #[test]
    fn a_wrong_key_names_file_and_line() {
        let dir = tempfile::tempdir().unwrap();
        let own = dir.path().join("registries.toml");
        fs::write(&own, "[[registry]]\nhost = \"r.io\"\nhtpp = true\n").unwrap();
        let error = Registries::load(&own, None).unwrap_err().to_string();
        assert!(error.contains("registries.toml") && error.contains("htpp"), "{error}");
    }

    #[test]
    fn plain_http_is_the_default_on_this_machine_only() {
        let none = Registries::default();
        for host in ["localhost:5000", "127.0.0.1:5000", "[::1]:5000", "127.0.0.9"] {
            assert!(none.access(host).http, "{host}");
        }
        for host in ["registry.local:5000", "10.0.0.1:5000", "docker.io"] {
            assert!(!none.access(host).http, "{host}");
        }
    }
}
