//! `coordinator.toml`, and what `serve` and `dev` share as long-running processes: logging and signals.

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use protocol::id::EnvironmentName;
use serde::Deserialize;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::api::{Group, Limits};
use crate::front::DEFAULT_LISTEN;
use crate::local::{ApiSettings, BrokerChoice, External};
use crate::notify::config::{self, Heartbeat, HeartbeatTable, NotifyError, NotifyTable, Target};
use crate::state::Policy;

const PLAIN_PORT: u16 = 1883;
const TLS_PORT: u16 = 8883;

/// `coordinator.toml`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ServeConfig {
    /// The fleet's folder, instead of `--data`.
    pub data: Option<PathBuf>,
    broker: BrokerTable,
    api: ApiTable,
    backup: BackupTable,
    environments: BTreeMap<EnvironmentName, EnvironmentTable>,
    notify: Vec<NotifyTable>,
    heartbeat: Option<HeartbeatTable>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct BackupTable {
    nightly: bool,
    folder: Option<PathBuf>,
}

impl Default for BackupTable {
    fn default() -> Self {
        Self { nightly: true, folder: None }
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct ApiTable {
    group: Option<String>,
    socket: Option<PathBuf>,
    requests_per_second: Option<u32>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct EnvironmentTable {
    only_from: Option<EnvironmentName>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct BrokerTable {
    listen: Option<SocketAddr>,
    external: Option<String>,
    user: Option<String>,
    password_file: Option<PathBuf>,
    tls: bool,
}

/// Why a configuration is not usable.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// Not there, or not TOML of this form.
    #[error("{path}: {reason}")]
    File {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// Not `host:port`.
    #[error("[broker] external = \"{0}\" is not host:port")]
    Address(String),
    /// User without password or the other way round.
    #[error("[broker] user and password_file belong together, with external")]
    HalfLogin,
    /// Group without socket or the other way round.
    #[error(
        "[api] group and socket belong together: `socket` is a path in a folder that the group can reach, such as /run/pith/api.sock"
    )]
    HalfGroup,
    /// Nobody knows the group.
    #[error("[api] group = \"{0}\": this machine has no such group; `groupadd {0}` makes it")]
    NoGroup(String),
    /// Nothing could be asked.
    #[error("[api] requests_per_second = 0 would let nobody ask anything; leave it out for {default}", default = Limits::default().requests_per_second)]
    NoRequests,
    /// TLS of the embedded broker cannot be switched.
    #[error("[broker] tls is for an external broker; the coordinator's own port always speaks TLS")]
    OwnTls,
}

impl ServeConfig {
    /// Reads a file.
    ///
    /// # Errors
    /// With file, line and key.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let failed = |reason: String| ConfigError::File { path: path.to_owned(), reason };
        let text = fs::read_to_string(path).map_err(|e| failed(e.to_string()))?;
        Self::parse(path, &text)
    }

    /// Reads the text of the file at `path`.
    ///
    /// # Errors
    /// As [`ServeConfig::load`].
    pub fn parse(path: &Path, text: &str) -> Result<Self, ConfigError> {
        toml::from_str(text)
            .map_err(|e| ConfigError::File { path: path.to_owned(), reason: e.to_string() })
    }

    /// What each environment takes.
    #[must_use]
    pub fn policy(&self) -> Policy {
        let only_from = self.environments.iter();
        let only_from =
            only_from.filter_map(|(to, table)| Some((to.clone(), table.only_from.clone()?)));
        Policy { only_from: only_from.collect() }
    }

    /// Who may use the API beside root and this user.
    ///
    /// # Errors
    /// Where the table contradicts itself, or names a group that is not there.
    pub fn api(&self) -> Result<ApiSettings, ConfigError> {
        let ApiTable { group, socket, requests_per_second } = &self.api;
        let group = match (group, socket) {
            (None, None) => None,
            (Some(name), Some(socket)) => {
                let known = nix::unistd::Group::from_name(name).ok().flatten();
                let known = known.ok_or_else(|| ConfigError::NoGroup(name.clone()))?;
                let group = Group { name: name.clone(), gid: known.gid.as_raw() };
                Some((group, socket.clone()))
            }
            (Some(_), None) | (None, Some(_)) => return Err(ConfigError::HalfGroup),
        };
        let limits = match requests_per_second {
            None => Limits::default(),
            Some(0) => return Err(ConfigError::NoRequests),
            Some(rate) => Limits {
                requests_per_second: *rate,
                burst: rate.saturating_mul(5),
                ..Limits::default()
            },
        };
        Ok(ApiSettings { group, limits })
    }

    /// Whether a backup is made every night.
    #[must_use]
    pub fn is_backed_up(&self) -> bool {
        self.backup.nightly
    }

    /// Where backups are kept, unless in the fleet's folder.
    #[must_use]
    pub fn backups(&self) -> Option<PathBuf> {
        self.backup.folder.clone()
    }

    /// Who is told what happens, and that the coordinator lives.
    ///
    /// # Errors
    /// Where a table cannot be meant, or a file that it names cannot be read.
    pub fn notify(&self) -> Result<(Vec<Target>, Option<Heartbeat>), NotifyError> {
        let heartbeat = self.heartbeat.as_ref().map(config::heartbeat).transpose()?;
        Ok((config::targets(&self.notify)?, heartbeat))
    }

    /// The broker it asks for.
    ///
    /// # Errors
    /// Where the table contradicts itself.
    pub fn broker(&self) -> Result<BrokerChoice, ConfigError> {
        let table = &self.broker;
        let Some(external) = &table.external else {
            if table.user.is_some() || table.password_file.is_some() {
                return Err(ConfigError::HalfLogin);
            }
            if table.tls {
                return Err(ConfigError::OwnTls);
            }
            return Ok(BrokerChoice::Embedded { listen: table.listen.unwrap_or(DEFAULT_LISTEN) });
        };
        let (host, port) = match external.rsplit_once(':') {
            Some((host, port)) => {
                let port = port.parse().map_err(|_| ConfigError::Address(external.clone()))?;
                (host.trim_start_matches('[').trim_end_matches(']').to_owned(), port)
            }
            None => (external.clone(), if table.tls { TLS_PORT } else { PLAIN_PORT }),
        };
        let credentials = match (&table.user, &table.password_file) {
            (None, None) => None,
            (Some(user), Some(path)) => {
                let secret = fs::read_to_string(path)
                    .map_err(|e| ConfigError::File { path: path.clone(), reason: e.to_string() })?;
                Some((user.clone(), secret.trim().to_owned()))
            }
            (Some(_), None) | (None, Some(_)) => return Err(ConfigError::HalfLogin),
        };
        let (tls, listen) = (table.tls, table.listen);
        Ok(BrokerChoice::External(External { host, port, credentials, tls, listen }))
    }
}

/// Logs to stderr; `PITH_LOG=debug` or `coordinator=debug,mqtt=trace` says more.
pub fn start_logging() {
    let wish = std::env::var("PITH_LOG").unwrap_or_default();
    let quiet = Targets::new()
        .with_default(tracing::Level::WARN)
        .with_target("coordinator", tracing::Level::INFO)
        .with_target("mqtt", tracing::Level::INFO);
    let targets = if wish.is_empty() { quiet } else { wish.parse().unwrap_or(quiet) };
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .with_ansi(std::env::var_os("NO_COLOR").is_none() && is_terminal());
    // A second start in one process keeps the first.
    let _ = tracing_subscriber::registry().with(targets).with(lines).try_init();
}

fn is_terminal() -> bool {
    use std::io::IsTerminal as _;
    std::io::stderr().is_terminal()
}

/// Ends at Ctrl-C or SIGTERM. They are caught from this call on, not from the first look at what it returns.
pub fn asked_to_end() -> impl Future<Output = ()> {
    let handlers = (signal(SignalKind::interrupt()), signal(SignalKind::terminate()));
    async move {
        let (Ok(mut interrupt), Ok(mut terminate)) = handlers else {
            // Without handlers the signals end the process by themselves.
            return std::future::pending().await;
        };
        tokio::select! {
            // Cancel-safe: a signal that comes after the first is not needed.
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: &str) {
        let config: ServeConfig = toml::from_str(text).unwrap();
        let shown = match config.broker() {
            Ok(BrokerChoice::Embedded { listen }) => format!("embedded {listen}"),
            Ok(BrokerChoice::External(link)) => {
                format!("external {} {} tls {} {:?}", link.host, link.port, link.tls, link.listen)
            }
            Err(error) => error.to_string(),
        };
        assert!(shown.contains(expected), "{shown}");
    }

    #[test]
    fn the_coordinators_own_port_is_8883_on_every_address_unless_it_is_said() {
        check("", "embedded [::]:8883");
        check("[broker]\nlisten = \"127.0.0.1:1\"", "embedded 127.0.0.1:1");
        check("[broker]\ntls = true", "always speaks TLS");
    }

    #[test]
    fn an_external_broker_is_named_by_host_and_port() {
        check(
            "[broker]\nexternal = \"mq.example:1884\"",
            "external mq.example 1884 tls false None",
        );
        check("[broker]\nexternal = \"mq.example\"", "external mq.example 1883");
        check(
            "[broker]\nexternal = \"mq.example\"\ntls = true",
            "external mq.example 8883 tls true",
        );
        check("[broker]\nexternal = \"[::1]:1883\"", "external ::1 1883");
        check("[broker]\nexternal = \"a:b\"", "not host:port");
        let joining = "[broker]\nexternal = \"a:1\"\nlisten = \"127.0.0.1:1\"";
        check(joining, "external a 1 tls false Some(127.0.0.1:1)");
        check("[broker]\nexternal = \"a:1\"\nuser = \"x\"", "belong together");
    }

    #[test]
    fn a_group_has_a_socket_and_is_known_to_the_machine() {
        let api = |text: &str| toml::from_str::<ServeConfig>(text).unwrap().api();
        assert!(api("").unwrap().group.is_none());
        let text = |text: &str| api(text).unwrap_err().to_string();
        assert!(text("[api]\ngroup = \"root\"").contains("belong together"));
        assert!(text("[api]\nrequests_per_second = 0").contains("nobody"));
        let unknown = "[api]\ngroup = \"no-such-group\"\nsocket = \"/run/x.sock\"";
        assert!(text(unknown).contains("groupadd no-such-group"));
        let settings =
            api("[api]\ngroup = \"root\"\nsocket = \"/run/x.sock\"\nrequests_per_second = 5");
        let settings = settings.unwrap();
        assert_eq!(settings.limits.burst, 25);
        assert_eq!(settings.group.unwrap().0.gid, 0);
    }

    #[test]
    fn an_environment_may_take_only_what_another_ran() {
        let text = "[environments.production]\nonly_from = \"staging\"\n[environments.staging]\n";
        let config: ServeConfig = toml::from_str(text).unwrap();
        let only_from = config.policy().only_from;
        assert_eq!(only_from.len(), 1);
        assert_eq!(only_from[&"production".parse().unwrap()].as_str(), "staging");
    }

    #[test]
    fn a_backup_is_made_every_night_unless_it_is_switched_off() {
        let config: ServeConfig = toml::from_str("").unwrap();
        assert!(config.is_backed_up() && config.backups().is_none());
        let text = "[backup]\nfolder = \"/mnt/usb/pith\"";
        let config: ServeConfig = toml::from_str(text).unwrap();
        assert!(config.is_backed_up());
        assert_eq!(config.backups(), Some(PathBuf::from("/mnt/usb/pith")));
        let config: ServeConfig = toml::from_str("[backup]\nnightly = false").unwrap();
        assert!(!config.is_backed_up());
    }

    #[test]
    fn an_unknown_key_names_its_line() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("coordinator.toml");
        fs::write(&path, "[broker]\nlissen = \"127.0.0.1:1\"\n").unwrap();
        let error = ServeConfig::load(&path).unwrap_err().to_string();
        assert!(error.contains("coordinator.toml") && error.contains("line 2"), "{error}");
    }
}
