//! `coordinator.toml`, and what `serve` and `dev` share as long-running processes: logging and signals.

use std::collections::BTreeMap;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use protocol::id::EnvironmentName;
use serde::Deserialize;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::link::LinkConfig;
use crate::local::BrokerChoice;
use crate::state::Policy;

const DEFAULT_LISTEN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 1883);
const DEFAULT_PORT: u16 = 1883;

/// How far the coordinator may be reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// From this machine.
    Loopback,
    /// From anywhere, unprotected, because somebody said so.
    InsecureLab,
}

/// `coordinator.toml`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ServeConfig {
    /// The fleet's folder, instead of `--data`.
    pub data: Option<PathBuf>,
    broker: BrokerTable,
    environments: BTreeMap<EnvironmentName, EnvironmentTable>,
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
    /// Reachable from outside without anybody having said so.
    #[error(
        "[broker] listen = \"{0}\" can be reached from other machines, and nothing protects it yet; \
         use 127.0.0.1, or say --insecure-lab in a lab of your own"
    )]
    NotLoopback(SocketAddr),
    /// Both brokers at once.
    #[error(
        "[broker] listen is for the embedded broker and external for another one; keep one of the two"
    )]
    TwoBrokers,
    /// Not `host:port`.
    #[error("[broker] external = \"{0}\" is not host:port")]
    Address(String),
    /// User without password or the other way round.
    #[error("[broker] user and password_file belong together, with external")]
    HalfLogin,
}

impl ServeConfig {
    /// Reads a file.
    ///
    /// # Errors
    /// With file, line and key.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let failed = |reason: String| ConfigError::File { path: path.to_owned(), reason };
        let text = fs::read_to_string(path).map_err(|e| failed(e.to_string()))?;
        toml::from_str(&text).map_err(|e| failed(e.to_string()))
    }

    /// What each environment takes.
    #[must_use]
    pub fn policy(&self) -> Policy {
        let only_from = self.environments.iter();
        let only_from =
            only_from.filter_map(|(to, table)| Some((to.clone(), table.only_from.clone()?)));
        Policy { only_from: only_from.collect() }
    }

    /// The broker it asks for.
    ///
    /// # Errors
    /// Where the table contradicts itself, or would listen beyond `reach`.
    pub fn broker(&self, reach: Reach) -> Result<BrokerChoice, ConfigError> {
        let table = &self.broker;
        let Some(external) = &table.external else {
            if table.user.is_some() || table.password_file.is_some() {
                return Err(ConfigError::HalfLogin);
            }
            let listen = table.listen.unwrap_or(DEFAULT_LISTEN);
            if reach == Reach::Loopback && !listen.ip().is_loopback() {
                return Err(ConfigError::NotLoopback(listen));
            }
            return Ok(BrokerChoice::Embedded { listen });
        };
        if table.listen.is_some() {
            return Err(ConfigError::TwoBrokers);
        }
        let (host, port) = match external.rsplit_once(':') {
            Some((host, port)) => {
                let port = port.parse().map_err(|_| ConfigError::Address(external.clone()))?;
                (host.trim_start_matches('[').trim_end_matches(']').to_owned(), port)
            }
            None => (external.clone(), DEFAULT_PORT),
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
        Ok(BrokerChoice::External(LinkConfig { host, port, credentials }))
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
    fn check(text: &str, reach: Reach, expected: &str) {
        let config: ServeConfig = toml::from_str(text).unwrap();
        let shown = match config.broker(reach) {
            Ok(BrokerChoice::Embedded { listen }) => format!("embedded {listen}"),
            Ok(BrokerChoice::External(link)) => format!("external {} {}", link.host, link.port),
            Err(error) => error.to_string(),
        };
        assert!(shown.contains(expected), "{shown}");
    }

    #[test]
    fn the_embedded_broker_listens_on_this_machine_unless_somebody_says_otherwise() {
        check("", Reach::Loopback, "embedded 127.0.0.1:1883");
        let open = "[broker]\nlisten = \"0.0.0.0:1883\"";
        check(open, Reach::Loopback, "--insecure-lab");
        check(open, Reach::InsecureLab, "embedded 0.0.0.0:1883");
    }

    #[test]
    fn an_external_broker_is_named_by_host_and_port() {
        check(
            "[broker]\nexternal = \"mq.example:1884\"",
            Reach::Loopback,
            "external mq.example 1884",
        );
        check("[broker]\nexternal = \"mq.example\"", Reach::Loopback, "external mq.example 1883");
        check("[broker]\nexternal = \"[::1]:1883\"", Reach::Loopback, "external ::1 1883");
        check("[broker]\nexternal = \"a:b\"", Reach::Loopback, "not host:port");
        let both = "[broker]\nexternal = \"a:1\"\nlisten = \"127.0.0.1:1\"";
        check(both, Reach::Loopback, "one of the two");
        check("[broker]\nexternal = \"a:1\"\nuser = \"x\"", Reach::Loopback, "belong together");
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
    fn an_unknown_key_names_its_line() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("coordinator.toml");
        fs::write(&path, "[broker]\nlissen = \"127.0.0.1:1\"\n").unwrap();
        let error = ServeConfig::load(&path).unwrap_err().to_string();
        assert!(error.contains("coordinator.toml") && error.contains("line 2"), "{error}");
    }
}
