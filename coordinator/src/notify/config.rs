//! `[[notify]]` and `[heartbeat]` of coordinator.toml.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use protocol::id::EnvironmentName;
use protocol::units::Millis;
use reqwest::Url;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};

use crate::state::notices::{Notice, NoticeKind};

const NODE_LOST_AFTER: Millis = Millis(2 * 60_000);
const HEARTBEAT_EVERY: Millis = Millis(60_000);
const HEARTBEAT_LEAST: Millis = Millis(1_000);
/// Targets of one coordinator.
const MAX_TARGETS: usize = 32;

/// One `[[notify]]`, as it stands in the file.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NotifyTable {
    name: String,
    url: Option<String>,
    url_file: Option<PathBuf>,
    #[serde(default)]
    format: Format,
    on: Option<BTreeSet<NoticeKind>>,
    environments: Option<BTreeSet<EnvironmentName>>,
    secret_file: Option<PathBuf>,
    #[serde(default, deserialize_with = "time")]
    node_lost_after: Option<Millis>,
}

/// `[heartbeat]`, as it stands in the file.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HeartbeatTable {
    url: Option<String>,
    url_file: Option<PathBuf>,
    #[serde(default, deserialize_with = "time")]
    every: Option<Millis>,
}

/// How a notice is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// One JSON object of ours (docs/notifications.md).
    #[default]
    Json,
    /// `{"text": …}`, as Slack, Mattermost, Rocket.Chat and Discord's `/slack` take it.
    Slack,
    /// Text with headers, as ntfy takes it.
    Ntfy,
}

/// Where notices go.
#[derive(Debug, Clone)]
pub struct Target {
    /// Among people.
    pub name: String,
    /// Where to.
    pub url: Url,
    /// How.
    pub format: Format,
    /// Signs each message.
    pub secret: Option<Vec<u8>>,
    /// A node that is back within this is not said to be lost.
    pub node_lost_after: Duration,
    on: Option<BTreeSet<NoticeKind>>,
    environments: Option<BTreeSet<EnvironmentName>>,
}

/// Who is told that the coordinator lives.
#[derive(Debug, Clone)]
pub struct Heartbeat {
    /// Asked with GET.
    pub url: Url,
    /// So often.
    pub every: Duration,
}

/// `2m`, `30s`.
fn time<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Millis>, D::Error> {
    let text = String::deserialize(from)?;
    text.parse().map(Some).map_err(D::Error::custom)
}

/// Why a table is not usable.
#[derive(Debug, thiserror::Error)]
pub enum NotifyError {
    /// Neither or both.
    #[error(
        "{0}: one of url and url_file, which keeps an address that is a secret out of this file"
    )]
    NoUrl(String),
    /// Not http or https.
    #[error("{of}: {url:?} is no address: http://HOST/… or https://HOST/…")]
    BadUrl {
        /// Which table.
        of: String,
        /// What stands there.
        url: String,
    },
    /// A file that is named.
    #[error("{of}: {path}: {reason}")]
    File {
        /// Which table.
        of: String,
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// An empty list.
    #[error(
        "[[notify]] {0:?} has an empty list and would be told nothing; leave it out for everything"
    )]
    Nothing(String),
    /// Two targets are called so.
    #[error("two [[notify]] are called {0:?}: names tell them apart in logs and `pith notify ls`")]
    Twice(String),
    /// Too many.
    #[error("{0} [[notify]], and {MAX_TARGETS} are the most")]
    TooMany(usize),
    /// Too often.
    #[error("[heartbeat] every = \"{0}\": at least a second")]
    TooOften(Millis),
}

/// Checks what stands in the file.
///
/// # Errors
/// With the table, and the mend.
pub fn targets(tables: &[NotifyTable]) -> Result<Vec<Target>, NotifyError> {
    if tables.len() > MAX_TARGETS {
        return Err(NotifyError::TooMany(tables.len()));
    }
    let mut names = BTreeSet::new();
    for table in tables {
        if !names.insert(&table.name) {
            return Err(NotifyError::Twice(table.name.clone()));
        }
    }
    tables.iter().map(target).collect()
}

fn target(table: &NotifyTable) -> Result<Target, NotifyError> {
    let of = format!("[[notify]] {:?}", table.name);
    let is_empty = table.on.as_ref().is_some_and(BTreeSet::is_empty)
        || table.environments.as_ref().is_some_and(BTreeSet::is_empty);
    if is_empty {
        return Err(NotifyError::Nothing(table.name.clone()));
    }
    let secret = table.secret_file.as_ref().map(|path| read(&of, path)).transpose()?;
    Ok(Target {
        url: url(&of, table.url.as_deref(), table.url_file.as_deref())?,
        name: table.name.clone(),
        format: table.format,
        secret: secret.map(String::into_bytes),
        node_lost_after: table.node_lost_after.unwrap_or(NODE_LOST_AFTER).duration(),
        on: table.on.clone(),
        environments: table.environments.clone(),
    })
}

/// Checks what stands in the file.
///
/// # Errors
/// With the mend.
pub fn heartbeat(table: &HeartbeatTable) -> Result<Heartbeat, NotifyError> {
    let every = table.every.unwrap_or(HEARTBEAT_EVERY);
    if every < HEARTBEAT_LEAST {
        return Err(NotifyError::TooOften(every));
    }
    let url = url("[heartbeat]", table.url.as_deref(), table.url_file.as_deref())?;
    Ok(Heartbeat { url, every: every.duration() })
}

fn url(of: &str, url: Option<&str>, file: Option<&Path>) -> Result<Url, NotifyError> {
    let text = match (url, file) {
        (Some(url), None) => url.to_owned(),
        (None, Some(path)) => read(of, path)?,
        (None, None) | (Some(_), Some(_)) => return Err(NotifyError::NoUrl(of.to_owned())),
    };
    // What is secret is not repeated in a message.
    let shown = || if file.is_some() { "(of url_file)".to_owned() } else { text.clone() };
    let bad = || NotifyError::BadUrl { of: of.to_owned(), url: shown() };
    let url = Url::parse(&text).map_err(|_| bad())?;
    let is_http = matches!(url.scheme(), "http" | "https") && url.host().is_some();
    is_http.then_some(url).ok_or_else(bad)
}

fn read(of: &str, path: &Path) -> Result<String, NotifyError> {
    let failed =
        |reason: String| NotifyError::File { of: of.to_owned(), path: path.to_owned(), reason };
    let text = fs::read_to_string(path).map_err(|error| failed(error.to_string()))?;
    let text = text.trim();
    if text.is_empty() { Err(failed("it is empty".to_owned())) } else { Ok(text.to_owned()) }
}

impl Target {
    /// Whether it is to be told of this kind, of some environment.
    #[must_use]
    pub fn wants_kind(&self, kind: NoticeKind) -> bool {
        match &self.on {
            Some(on) => on.contains(&kind) || kind == NoticeKind::Test,
            None => kind.is_told_unasked(),
        }
    }

    /// Whether it is to be told this.
    #[must_use]
    pub fn wants(&self, notice: &Notice) -> bool {
        // What is of no environment concerns everybody.
        let of_environment = self.environments.as_ref().zip(notice.environment.as_ref());
        self.wants_kind(notice.kind)
            && of_environment.is_none_or(|(wanted, of_it)| wanted.contains(of_it))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_all(text: &str) -> Result<Vec<Target>, NotifyError> {
        #[derive(Deserialize)]
        struct File {
            notify: Vec<NotifyTable>,
        }
        targets(&toml::from_str::<File>(text).unwrap().notify)
    }

    fn notice(kind: NoticeKind, environment: Option<&str>) -> Notice {
        Notice {
            kind,
            at_ms: 0,
            environment: environment.map(|name| name.parse().unwrap()),
            service: None,
            revision: None,
            node: None,
            reason: None,
            message: String::new(),
        }
    }

    #[test]
    fn what_cannot_be_meant_names_its_table_and_the_mend() {
        let check = |text: &str, expected: &str| {
            let error = read_all(text).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        };
        check("[[notify]]\nname = \"a\"", "[[notify]] \"a\": one of url and url_file");
        check("[[notify]]\nname = \"a\"\nurl = \"ftp://x\"", "is no address");
        check("[[notify]]\nname = \"a\"\nurl_file = \"/not/there\"", "/not/there");
        check("[[notify]]\nname = \"a\"\nurl = \"http://x\"\non = []", "told nothing");
        let twice = "[[notify]]\nname = \"a\"\nurl = \"http://x\"\n".repeat(2);
        check(&twice, "two [[notify]] are called \"a\"");
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("url");
        fs::write(&file, "secret-and-no-address\n").unwrap();
        let text = format!("[[notify]]\nname = \"a\"\nurl_file = {file:?}");
        let error = read_all(&text).unwrap_err().to_string();
        assert!(!error.contains("secret"), "{error}");
    }

    #[test]
    fn a_target_gets_what_it_asks_for_and_whatever_concerns_the_coordinator() {
        let text = "[[notify]]\nname = \"all\"\nurl = \"http://x\"\n\
                    [[notify]]\nname = \"some\"\nurl = \"http://x\"\non = [\"rolled_back\", \"backup_failed\"]\n\
                    environments = [\"production\"]";
        let targets = read_all(text).unwrap();
        let told = |kind, environment: Option<&str>| {
            let notice = notice(kind, environment);
            targets.iter().map(|target| target.wants(&notice)).collect::<Vec<bool>>()
        };
        assert_eq!(told(NoticeKind::RolledBack, Some("production")), [true, true]);
        assert_eq!(told(NoticeKind::RolledBack, Some("staging")), [true, false]);
        assert_eq!(told(NoticeKind::NodeLost, Some("production")), [true, false]);
        assert_eq!(told(NoticeKind::BackupFailed, None), [true, true]);
        assert_eq!(told(NoticeKind::RolloutSucceeded, Some("production")), [false, false]);
        assert_eq!(told(NoticeKind::Test, None), [true, true]);
    }

    #[test]
    fn a_heartbeat_comes_each_minute_and_not_in_a_rush() {
        let read = |text: &str| heartbeat(&toml::from_str::<HeartbeatTable>(text).unwrap());
        assert_eq!(read("url = \"https://x/\"").unwrap().every, Duration::from_secs(60));
        assert!(
            read("url = \"https://x/\"\nevery = \"10ms\"")
                .unwrap_err()
                .to_string()
                .contains("a second")
        );
    }
}
