//! `agent.toml`: read once, checked before anything starts.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};

use protocol::id::{EnvironmentName, NodeName};
use protocol::join::ROOT_FILE;
use protocol::units::Bytes;
use serde::Deserialize;

use crate::network::Ipv4Net;
use crate::tls::Placement;

/// Everything that is the board's own.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The node's name among people; default: the one it joined with, else the host's.
    #[serde(default)]
    pub name: Option<String>,
    /// The node's one environment; default: the one it joined.
    #[serde(default)]
    pub environment: Option<String>,
    /// Labels that placements select by.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// Durable state: the key and the ledger.
    #[serde(default = "default_state_dir")]
    pub state_dir: PathBuf,
    /// Sockets and what may be lost at a reboot.
    #[serde(default = "default_runtime_dir")]
    pub runtime_dir: PathBuf,
    /// Where secrets lie while containers use them, on tmpfs; default: `secrets` in `runtime_dir`.
    #[serde(default)]
    pub secrets_dir: Option<PathBuf>,
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
    /// The fleet's trust root; default: the one that joining wrote.
    #[serde(default)]
    pub trust_root: Option<PathBuf>,
    /// The broker; default: the coordinator that the node joined.
    #[serde(default)]
    pub broker: Option<Broker>,
    /// Credentials and peculiarities of registries.
    #[serde(default)]
    pub registries: Option<PathBuf>,
    /// What containers may have of the board; a file of root's own, which no signature overrides.
    #[serde(default = "default_policy")]
    pub policy: PathBuf,
    /// Whether images that services left behind may be removed; never on a machine that is also used otherwise.
    #[serde(default = "default_true")]
    pub remove_images: bool,
    /// Whether the link to the coordinator is paid by the byte: the node says less then.
    #[serde(default)]
    pub metered: bool,
    /// How images come.
    #[serde(default)]
    pub pull: PullTable,
}

/// How images come; those of registries are pulled by Docker, as its own daemon.json says.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PullTable {
    /// At most so many bytes of archives in a second, such as `"2Mi"`; none: as fast as they come.
    #[serde(default)]
    pub rate: Option<String>,
}

/// How to reach the broker.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Broker {
    /// `host:port`.
    pub address: String,
    /// A file with the password, for a broker that is spoken to in clear; the user is the node's id. Without it: TLS with the
    /// certificate of the node's joining.
    #[serde(default)]
    pub token_file: Option<PathBuf>,
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
        match std::fs::read_to_string(path) {
            Ok(text) => Self::parse(path, &text),
            // A node that has joined needs none.
            Err(error)
                if error.kind() == std::io::ErrorKind::NotFound
                    && path == Path::new(crate::cli::DEFAULT_CONFIG) =>
            {
                Self::parse(path, "")
            }
            Err(source) => Err(ConfigError::Unreadable { path: path.to_owned(), source }),
        }
    }

    /// Takes what was decided when the node joined.
    ///
    /// # Errors
    /// Where the file contradicts it.
    pub fn take(&mut self, path: &Path, placement: &Placement) -> Result<(), ConfigError> {
        let joined = &placement.environment;
        if self.environment.as_ref().is_some_and(|own| own != joined.as_str()) {
            let problem = format!(
                "this node joined the environment `{joined}`: remove the line, or revoke the node and join with a token \
                 of the other one"
            );
            return Err(ConfigError::Invalid {
                path: path.to_owned(),
                key: "environment",
                problem,
            });
        }
        self.environment = Some(joined.to_string());
        self.name.get_or_insert_with(|| placement.name.to_string());
        let decided = placement.labels.iter().map(|(key, value)| (key.clone(), value.clone()));
        self.labels.extend(decided);
        Ok(())
    }

    /// Reads and checks the text of the file at `path`.
    ///
    /// # Errors
    /// Malformed or invalid; each names the place.
    pub fn parse(path: &Path, text: &str) -> Result<Self, ConfigError> {
        let config: Self = toml::from_str(text).map_err(|source| ConfigError::Malformed {
            path: path.to_owned(),
            source: Box::new(source),
        })?;
        let invalid =
            |key, problem: String| ConfigError::Invalid { path: path.to_owned(), key, problem };
        config.own_name().parse::<NodeName>().map_err(|e| invalid("name", e.to_string()))?;
        config
            .own_environment()
            .parse::<EnvironmentName>()
            .map_err(|e| invalid("environment", e.to_string()))?;
        if config.listen.is_empty() {
            return Err(invalid(
                "listen",
                "at least one address, such as [\"0.0.0.0\", \"::\"]".into(),
            ));
        }
        if let Some(broker) = &config.broker {
            broker
                .address
                .parse::<mqtt::BrokerAddress>()
                .map_err(|e| invalid("broker.address", e.to_string()))?;
            if broker.backoff_ms == 0 {
                return Err(invalid("broker.backoff_ms", "at least 1".into()));
            }
        }
        if let Err(error) = config.network_pool.parse::<Ipv4Net>() {
            return Err(invalid("network_pool", error.to_string()));
        }
        if let Some(Err(problem)) = config.pull.rate.as_deref().map(rate) {
            return Err(invalid("pull.rate", problem));
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

    /// The checked rate of archives, bytes in a second.
    #[must_use]
    pub fn pull_rate(&self) -> Option<u64> {
        self.pull.rate.as_deref().and_then(|text| rate(text).ok())
    }

    /// The checked name.
    ///
    /// # Panics
    /// Never: [`Config::load`] has checked it.
    #[must_use]
    pub fn node_name(&self) -> NodeName {
        self.own_name().parse().expect("checked when it was read")
    }

    /// The checked environment.
    ///
    /// # Panics
    /// Never: [`Config::load`] has checked it.
    #[must_use]
    pub fn environment(&self) -> EnvironmentName {
        self.own_environment().parse().expect("checked when it was read")
    }

    fn own_name(&self) -> String {
        self.name.clone().unwrap_or_else(host_name)
    }

    fn own_environment(&self) -> &str {
        self.environment.as_deref().unwrap_or("default")
    }

    /// The trust root's file.
    #[must_use]
    pub fn root_file(&self) -> PathBuf {
        self.trust_root.clone().unwrap_or_else(|| self.state_dir.join(ROOT_FILE))
    }

    /// The folder of secrets in clear.
    #[must_use]
    pub fn secrets_dir(&self) -> PathBuf {
        self.secrets_dir.clone().unwrap_or_else(|| self.runtime_dir.join("secrets"))
    }

    /// The socket on which root asks the agent.
    #[must_use]
    pub fn agent_socket(&self) -> PathBuf {
        self.runtime_dir.join("agent.sock")
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

fn rate(text: &str) -> Result<u64, String> {
    match text.parse::<Bytes>() {
        Ok(Bytes(0)) => Err("at least 1; without the line there is no limit".to_owned()),
        Ok(Bytes(bytes)) => Ok(bytes),
        Err(error) => Err(error.to_string()),
    }
}

fn host_name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    name.trim().to_ascii_lowercase()
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

/// First pause after a lost connection.
pub(crate) const DEFAULT_BACKOFF_MS: u64 = 1_000;

fn default_policy() -> PathBuf {
    "/etc/pith/policy.toml".into()
}

fn default_backoff_ms() -> u64 {
    DEFAULT_BACKOFF_MS
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
    fn a_node_that_has_joined_needs_no_line_and_may_not_contradict() {
        let path = Path::new("agent.toml");
        let placement = Placement {
            name: "opi-7".parse().unwrap(),
            environment: "staging".parse().unwrap(),
            labels: BTreeMap::from([("zone".into(), "edge".into())]),
            broker: None,
        };
        let mut config = Config::parse(path, "labels = { zone = \"a\", disk = \"ssd\" }").unwrap();
        config.take(path, &placement).unwrap();
        assert_eq!(
            (config.node_name().as_str(), config.environment().as_str()),
            ("opi-7", "staging")
        );
        let labels: Vec<&str> = config.labels.values().map(String::as_str).collect();
        assert_eq!(labels, ["ssd", "edge"], "what the token says wins");
        assert_eq!(config.root_file(), Path::new("/var/lib/pith/root.json"));
        let mut other = Config::parse(path, "environment = \"production\"").unwrap();
        let error = other.take(path, &placement).unwrap_err().to_string();
        assert!(error.contains("`environment`") && error.contains("`staging`"), "{error}");
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
        check(&format!("{LEAST}[pull]\nrate = \"fast\"\n"), &["`pull.rate`"]);
        check(&format!("{LEAST}[pull]\nrate = \"0\"\n"), &["`pull.rate`", "no limit"]);
        let error = Config::load(Path::new("/does/not/exist.toml")).unwrap_err().to_string();
        assert!(error.contains("/does/not/exist.toml"), "{error}");
    }
}
