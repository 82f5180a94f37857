//! What the command line and `pith dev` ask of the local Docker: a few GETs and DELETEs over its socket. Containers are
//! run by agents alone.

use std::path::PathBuf;
use std::time::Duration;

use reqwest::{Method, StatusCode};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::client::chain;

/// Docker answers a list or an inspect in milliseconds; removing a container that hangs takes its kill.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// A large image over a slow link to the coordinator.
const SAVE_TIMEOUT: Duration = Duration::from_secs(24 * 3600);
const DEFAULT_SOCKET: &str = "/var/run/docker.sock";

/// Why Docker gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum DockerError {
    /// No engine.
    #[error(
        "Docker does not answer on {socket}: {reason}; start it, or name its socket in DOCKER_HOST=unix://…"
    )]
    Unreachable {
        /// Where it was looked for.
        socket: PathBuf,
        /// Why.
        reason: String,
    },
    /// It said no.
    #[error("Docker: {message}")]
    Refused {
        /// HTTP status.
        status: u16,
        /// What it said.
        message: String,
    },
    /// Docker over TCP is somebody else's machine.
    #[error("DOCKER_HOST={0} is not a unix socket; only the local Docker is used")]
    NotLocal(String),
}

/// The local Docker.
#[derive(Debug, Clone)]
pub struct Docker {
    http: reqwest::Client,
    socket: PathBuf,
}

/// An image as `docker image inspect` shows it.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct LocalImage {
    /// `sha256:…` of its configuration.
    pub id: String,
    /// `name@sha256:…` for each registry it came from.
    #[serde(default)]
    pub repo_digests: Option<Vec<String>>,
}

/// What the engine says of itself.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Info {
    /// `Docker Desktop`, `Debian GNU/Linux 12`.
    pub operating_system: String,
    /// `name=rootless` among them.
    pub security_options: Option<Vec<String>>,
    /// Which registries may speak plain HTTP.
    pub registry_config: RegistryConfig,
}

/// Which registries may speak plain HTTP.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct RegistryConfig {
    /// By host.
    pub index_configs: std::collections::BTreeMap<String, IndexConfig>,
}

/// One registry as the engine is configured for it.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct IndexConfig {
    /// False: plain HTTP is allowed.
    pub secure: bool,
}

/// A container or network, by its id.
#[derive(Debug, Clone, Deserialize)]
pub struct Listed {
    /// Its id.
    #[serde(rename = "Id")]
    pub id: String,
}

/// A volume.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Volume {
    /// Its name.
    pub name: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Volumes {
    volumes: Option<Vec<Volume>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Network {
    #[serde(rename = "IPAM")]
    ipam: Ipam,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Ipam {
    config: Option<Vec<Subnet>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Subnet {
    subnet: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Message {
    message: String,
}

impl Docker {
    /// The engine of `DOCKER_HOST`, or the usual socket; nothing is sent yet.
    ///
    /// # Errors
    /// Where `DOCKER_HOST` names another machine.
    pub fn local() -> Result<Self, DockerError> {
        let socket = match std::env::var("DOCKER_HOST") {
            Ok(host) => match host.strip_prefix("unix://") {
                Some(path) => PathBuf::from(path),
                None => return Err(DockerError::NotLocal(host)),
            },
            Err(_) => PathBuf::from(DEFAULT_SOCKET),
        };
        Self::at(socket)
    }

    /// The engine behind this socket.
    ///
    /// # Errors
    /// Where no HTTP client can be made.
    pub fn at(socket: PathBuf) -> Result<Self, DockerError> {
        let http = reqwest::Client::builder()
            .unix_socket(socket.as_path())
            // Nobody shows a certificate on a socket file, and reading the machine's authorities takes tens of milliseconds.
            .tls_certs_only([])
            .timeout(ANSWER_TIMEOUT)
            .build()
            .map_err(|e| DockerError::Unreachable { socket: socket.clone(), reason: chain(&e) })?;
        Ok(Self { http, socket })
    }

    /// Its socket, as agents are told it.
    #[must_use]
    pub fn url(&self) -> String {
        format!("unix://{}", self.socket.display())
    }

    /// What it says of itself.
    ///
    /// # Errors
    /// See [`DockerError`]; so for all that follow.
    pub async fn info(&self) -> Result<Info, DockerError> {
        self.get("info", &[]).await
    }

    /// An image by reference or id; none where there is no such.
    ///
    /// # Errors
    /// See [`DockerError`].
    pub async fn image(&self, reference: &str) -> Result<Option<LocalImage>, DockerError> {
        match self.get(&format!("images/{reference}/json"), &[]).await {
            Ok(image) => Ok(Some(image)),
            Err(DockerError::Refused { status: 400 | 404, .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// An image as an archive, to be read as it comes; Docker may take its time.
    ///
    /// # Errors
    /// See [`DockerError`].
    pub async fn save(&self, reference: &str) -> Result<reqwest::Response, DockerError> {
        let url = format!("http://docker/images/{reference}/get");
        let answer = self.http.get(url).timeout(SAVE_TIMEOUT).send().await;
        refusal(answer.map_err(|e| self.unreachable(&e))?).await
    }

    /// Containers with this label, running or not.
    ///
    /// # Errors
    /// See [`DockerError`].
    pub async fn containers(&self, label: &str) -> Result<Vec<Listed>, DockerError> {
        let filters = label_filter(label);
        self.get("containers/json", &[("all", "1"), ("filters", &filters)]).await
    }

    /// Networks with this label.
    ///
    /// # Errors
    /// See [`DockerError`].
    pub async fn networks(&self, label: &str) -> Result<Vec<Listed>, DockerError> {
        self.get("networks", &[("filters", &label_filter(label))]).await
    }

    /// Volumes with this label.
    ///
    /// # Errors
    /// See [`DockerError`].
    pub async fn volumes(&self, label: &str) -> Result<Vec<Volume>, DockerError> {
        let found: Volumes = self.get("volumes", &[("filters", &label_filter(label))]).await?;
        Ok(found.volumes.unwrap_or_default())
    }

    /// Subnets of every network, as `172.17.0.0/16`.
    ///
    /// # Errors
    /// See [`DockerError`].
    pub async fn subnets(&self) -> Result<Vec<String>, DockerError> {
        let networks: Vec<Network> = self.get("networks", &[]).await?;
        let configs = networks.into_iter().filter_map(|network| network.ipam.config).flatten();
        Ok(configs.filter_map(|config| config.subnet).collect())
    }

    /// Kills and removes a container with its anonymous volumes; one that is gone is fine.
    ///
    /// # Errors
    /// See [`DockerError`].
    pub async fn remove_container(&self, id: &str) -> Result<(), DockerError> {
        self.delete(&format!("containers/{id}"), &[("force", "1"), ("v", "1")]).await
    }

    /// Removes a network; one that is gone is fine.
    ///
    /// # Errors
    /// See [`DockerError`].
    pub async fn remove_network(&self, id: &str) -> Result<(), DockerError> {
        self.delete(&format!("networks/{id}"), &[]).await
    }

    async fn get<T: DeserializeOwned>(
        &self,
        path: &str,
        query: &[(&str, &str)],
    ) -> Result<T, DockerError> {
        let answer = self.send(Method::GET, path, query).await?;
        answer.json().await.map_err(|e| self.unreachable(&e))
    }

    async fn delete(&self, path: &str, query: &[(&str, &str)]) -> Result<(), DockerError> {
        match self.send(Method::DELETE, path, query).await {
            Ok(_) | Err(DockerError::Refused { status: 404, .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Unversioned, so that the engine answers in its own version, old or new.
    async fn send(
        &self,
        method: Method,
        path: &str,
        query: &[(&str, &str)],
    ) -> Result<reqwest::Response, DockerError> {
        let mut url = reqwest::Url::parse(&format!("http://docker/{path}"))
            .map_err(|e| DockerError::Refused { status: 400, message: e.to_string() })?;
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        let answer = self.http.request(method, url).send().await;
        let answer = answer.map_err(|e| self.unreachable(&e))?;
        refusal(answer).await
    }

    fn unreachable(&self, error: &reqwest::Error) -> DockerError {
        DockerError::Unreachable { socket: self.socket.clone(), reason: chain(error) }
    }
}

impl Info {
    /// Why container addresses cannot be reached from this machine, with the mend; none where they can.
    #[must_use]
    pub fn unreachable_containers(&self) -> Option<&'static str> {
        if self.operating_system.contains("Docker Desktop") {
            return Some(
                "Docker Desktop runs containers inside a virtual machine, whose addresses cannot be reached from here. \
                 Install Docker Engine in Linux (https://docs.docker.com/engine/install/), or run pith inside a Linux \
                 virtual machine",
            );
        }
        let options = self.security_options.iter().flatten();
        let rootless = options.into_iter().any(|option| option.contains("rootless"));
        rootless.then_some(
            "this Docker runs rootless: container addresses live in its own network namespace and cannot be reached \
             from here. Use a Docker that the system runs: DOCKER_HOST=unix:///var/run/docker.sock",
        )
    }

    /// Whether the engine would pull over plain HTTP from this registry; it always does on 127.0.0.0/8.
    #[must_use]
    pub fn allows_http(&self, host: &str) -> bool {
        self.registry_config.index_configs.get(host).is_some_and(|config| !config.secure)
    }
}

/// The answer, unless it is a refusal.
async fn refusal(answer: reqwest::Response) -> Result<reqwest::Response, DockerError> {
    let status = answer.status();
    if status.is_success() || status == StatusCode::NOT_MODIFIED {
        return Ok(answer);
    }
    let text = answer.text().await.unwrap_or_default();
    let message = serde_json::from_str::<Message>(&text).map_or(text, |body| body.message);
    Err(DockerError::Refused { status: status.as_u16(), message })
}

fn label_filter(label: &str) -> String {
    serde_json::json!({ "label": [label] }).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn desktop_and_rootless_are_told_with_the_mend() {
        let desktop = Info { operating_system: "Docker Desktop".into(), ..Info::default() };
        assert!(desktop.unreachable_containers().unwrap().contains("Docker Engine"));
        let rootless =
            Info { security_options: Some(vec!["name=rootless".into()]), ..Info::default() };
        assert!(rootless.unreachable_containers().unwrap().contains("DOCKER_HOST"));
        assert_eq!(Info::default().unreachable_containers(), None);
    }

    #[test]
    fn an_engine_says_which_registries_may_speak_plain_http() {
        let text = r#"{"RegistryConfig": {"IndexConfigs": {"pi.local:5000": {"Secure": false}, "docker.io": {"Secure": true}}}}"#;
        let info: Info = serde_json::from_str(text).unwrap();
        assert!(info.allows_http("pi.local:5000"));
        assert!(!info.allows_http("docker.io"));
        assert!(!info.allows_http("other:5000"));
    }
}
