//! `agent.toml`: read once, checked before anything starts.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};

use protocol::id::{EnvironmentName, NodeName};
use serde::Deserialize;

use crate::network::Ipv4Net;

/// Everything that is the board's own.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The node's name among people; default: the host's name.
    #[serde(default = "host_name")]
    pub name: String,
    /// The node's one environment.
    #[serde(default = "default_environment")]
    pub environment: String,
    /// Labels that placements select by.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// Durable state: the key and the ledger.
    #[serde(default = "default_state_dir")]
    pub state_dir: PathBuf,
    /// Sockets and what may be lost at a reboot.
    #[serde(default = "default_runtime_dir")]
    pub runtime_dir: PathBuf,
    /// Addresses that services listen on, unless they narrow it.
    #[serde(default = "default_listen")]
    pub listen: Vec<IpAddr>,
    /// The address people and other nodes reach this node by; none: the first of
    /// `listen`, or where that is all of them the one it has towards the broker or the outside.
    #[serde(default)]
    pub address: Option<IpAddr>,
    /// The port on which the proxies of other nodes reach this one's; 0: nothing is served to them nor asked of them.
    #[serde(default = "default_fleet_port")]
    pub fleet_port: u16,
    /// Where the networks of services are cut from.
    #[serde(default = "default_network_pool")]
    pub network_pool: String,
    /// Docker's socket.
    #[serde(default = "default_docker")]
    pub docker: String,
    /// The fleet's trust root, as `pith init` wrote it.
    pub trust_root: PathBuf,
    /// The broker.
    pub broker: Broker,
    /// Credentials and peculiarities of registries.
    #[serde(default)]
    pub registries: Option<PathBuf>,
    /// Whether images that services left behind may be removed; never on a machine that is also used otherwise.
    #[serde(default = "default_true")]
    pub remove_images: bool,
}

/// How to reach the broker.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Broker {
    /// `host:port`.
    pub address: String,
    /// A file with the password; the user is the node's id.
    pub token_file: PathBuf,
    /// First pause after a lost connection, milliseconds.
    #[serde(default = "default_backoff_ms")]
    pub backoff_ms: u64,
}

/// Why a configuration cannot be used; names file, line, key and mend.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("{path}: {source}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file's text is off; the source shows the line.
    #[error("{path}: {source}")]
    Malformed {
        /// The file.
        path: PathBuf,
        /// Line, column and what was expected.
        source: Box<toml::de::Error>,
    },
    /// A value is off.
    #[error("{path}: `{key}`: {problem}")]
    Invalid {
        /// The file.
        path: PathBuf,
        /// The key.
        key: &'static str,
        /// What is wrong and what would be right.
        problem: String,
    },
}

impl Config {
    /// Reads and checks a file.
    ///
    /// # Errors
    /// Unreadable, malformed or invalid; each names the place.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| ConfigError::Unreadable { path: path.to_owned(), source })?;
        Self::parse(path, &text)
    }

    fn parse(path: &Path, text: &str) -> Result<Self, ConfigError> {
        let config: Self = toml::from_str(text).map_err(|source| ConfigError::Malformed {
            path: path.to_owned(),
            source: Box::new(source),
        })?;
        let invalid =
            |key, problem: String| ConfigError::Invalid { path: path.to_owned(), key, problem };
        config.name.parse::<NodeName>().map_err(|e| invalid("name", e.to_string()))?;
        config
            .environment
            .parse::<EnvironmentName>()
            .map_err(|e| invalid("environment", e.to_string()))?;
        if config.listen.is_empty() {
            return Err(invalid(
                "listen",
                "at least one address, such as [\"0.0.0.0\", \"::\"]".into(),
            ));
        }
        if config
            .broker
            .address
            .rsplit_once(':')
            .is_none_or(|(_, port)| port.parse::<u16>().is_err())
        {
            let problem =
                format!("`{}` is not host:port, such as \"10.0.0.2:1883\"", config.broker.address);
            return Err(invalid("broker.address", problem));
        }
        if let Err(error) = config.network_pool.parse::<Ipv4Net>() {
            return Err(invalid("network_pool", error.to_string()));
        }
        let is_socket = |text: &str| text.starts_with("unix:///") || text.starts_with('/');
        if !is_socket(&config.docker) {
            let problem = format!(
                "`{}` is not a unix socket, such as \"unix:///var/run/docker.sock\"; \
                 Docker over the network is not supported",
                config.docker
            );
            return Err(invalid("docker", problem));
        }
        if config.broker.backoff_ms == 0 {
            return Err(invalid("broker.backoff_ms", "at least 1".into()));
        }
        Ok(config)
    }

    /// The checked pool.
    ///
    /// # Panics
    /// Never: [`Config::load`] has checked it.
    #[must_use]
    pub fn pool(&self) -> Ipv4Net {
        self.network_pool.parse().expect("checked when it was read")
    }

    /// The checked name.
    ///
    /// # Panics
    /// Never: [`Config::load`] has checked it.
    #[must_use]
    pub fn node_name(&self) -> NodeName {
        self.name.parse().expect("checked when it was read")
    }

    /// The checked environment.
    ///
    /// # Panics
    /// Never: [`Config::load`] has checked it.
    #[must_use]
    pub fn environment(&self) -> EnvironmentName {
        self.environment.parse().expect("checked when it was read")
    }

    /// The proxy's control socket.
    #[must_use]
    pub fn proxy_socket(&self) -> PathBuf {
        self.runtime_dir.join("proxy.sock")
    }

    /// The proxy's copy of its table.
    #[must_use]
    pub fn proxy_state(&self) -> PathBuf {
        self.runtime_dir.join("routes.json")
    }
}

fn host_name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    name.trim().to_ascii_lowercase()
}

fn default_environment() -> String {
    "default".to_owned()
}

fn default_state_dir() -> PathBuf {
    "/var/lib/pith".into()
}

fn default_runtime_dir() -> PathBuf {
    "/run/pith".into()
}

fn default_listen() -> Vec<IpAddr> {
    vec![Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()]
}

/// On a telephone's keys it spells PITH. Nobody is known to use it: not assigned by IANA, below the range of outgoing
/// connections, and not Docker Swarm's 7946.
fn default_fleet_port() -> u16 {
    7484
}

fn default_network_pool() -> String {
    "10.213.0.0/16".to_owned()
}

fn default_docker() -> String {
    "unix:///var/run/docker.sock".to_owned()
}

fn default_backoff_ms() -> u64 {
    1_000
}

fn default_true() -> bool {
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEAST: &str = "trust_root = \"/etc/pith/root.json\"\n[broker]\naddress = \"127.0.0.1:1883\"\ntoken_file = \"/etc/pith/token\"\n";

    fn check(text: &str, says: &[&str]) {
        let error = Config::parse(Path::new("agent.toml"), text).unwrap_err().to_string();
        for part in says {
            assert!(error.contains(part), "`{part}` is not in: {error}");
        }
    }

    #[test]
    fn the_least_file_is_enough() {
        let text = format!("name = \"opi-1\"\n{LEAST}");
        let config = Config::parse(Path::new("agent.toml"), &text).unwrap();
        assert_eq!(config.environment().as_str(), "default");
        assert_eq!(config.proxy_socket(), Path::new("/run/pith/proxy.sock"));
    }

    #[test]
    fn mistakes_name_file_line_and_key() {
        check(&format!("lables = {{}}\n{LEAST}"), &["agent.toml", "line 1", "lables"]);
        check(&format!("name = \"Opi_1\"\n{LEAST}"), &["agent.toml", "`name`", "lower-case"]);
        check(&format!("name = \"a\"\nlisten = []\n{LEAST}"), &["`listen`", "0.0.0.0"]);
        check(
            &format!("name = \"a\"\n{}", LEAST.replace(":1883", "")),
            &["broker.address", "host:port"],
        );
        check(
            &format!("name = \"a\"\nnetwork_pool = \"10.0.0.0\"\n{LEAST}"),
            &["`network_pool`", "10.213.0.0/16"],
        );
        check(
            &format!("name = \"a\"\ndocker = \"tcp://10.0.0.1\"\n{LEAST}"),
            &["`docker`", "unix:///var/run/docker.sock"],
        );
        check("name = \"a\"\n", &["agent.toml", "trust_root"]);
        let error = Config::load(Path::new("/does/not/exist.toml")).unwrap_err().to_string();
        assert!(error.contains("/does/not/exist.toml"), "{error}");
    }
}
