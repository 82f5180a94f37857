//! What was seen of a board, before anybody judges it.

use std::collections::BTreeMap;
use std::path::PathBuf;

use protocol::id::{EnvironmentName, NodeName};

use crate::config::Config;
use crate::engine::Survey;
use crate::ledger::KeptHere;
use crate::network::Ipv4Net;

/// Which board is looked at, as `agent.toml` and its joining say.
#[derive(Debug, Clone)]
pub struct Subject {
    /// The node's name.
    pub name: NodeName,
    /// Its environment.
    pub environment: EnvironmentName,
    /// Durable state: keys and ledger.
    pub state_dir: PathBuf,
    /// The trust root's file.
    pub root_file: PathBuf,
    /// The agent's socket.
    pub agent_socket: PathBuf,
    /// Where the proxies of other nodes come in; 0: nowhere.
    pub fleet_port: u16,
    /// Whether services listen for other machines unless they narrow it.
    pub listens_outside: bool,
    /// Where the networks of services are cut from.
    pub pool: Ipv4Net,
}

/// Everything that was seen.
#[derive(Debug)]
pub struct Facts {
    /// Of which board.
    pub subject: Subject,
    /// Whether root looked.
    pub as_root: bool,
    /// What the machine's clock says, seconds since 1970.
    pub unix_s: u64,
    /// The newest time that somebody signed, seconds since 1970.
    pub floor_s: u64,
    /// Texts of files, by absolute path; what is not there is not in it.
    pub files: BTreeMap<String, Result<String, Unread>>,
    /// What programs printed, by command line.
    pub programs: BTreeMap<String, Ran>,
    /// File systems that matter.
    pub volumes: Vec<Volume>,
    /// The container engine.
    pub engine: Result<Survey, EngineAway>,
    /// What services run and would go back to, and whether the image is here; none: the engine did not say.
    pub kept: Vec<(KeptHere, Option<bool>)>,
    /// Interfaces of the services' networks.
    pub bridges: Vec<String>,
    /// What stands in the state folder.
    pub state: StateFolder,
}

/// The engine did not answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EngineAway {
    /// Its own words.
    pub message: String,
    /// The socket is not this user's.
    pub is_denied: bool,
}

/// What is known of the node's own folder.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct StateFolder {
    /// Whether it has a certificate or a key, and so is a node.
    pub has_joined: bool,
    /// Why the ledger could not be read.
    pub trouble: Option<String>,
    /// What [`super::BOARD_FILE`] says.
    pub board: Option<String>,
    /// Whether its agent answers.
    pub agent_answers: bool,
}

/// Why a file is not known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unread {
    /// There is none.
    Missing,
    /// It is another user's.
    Denied,
    /// The system says so.
    Broken,
}

/// What came of a program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ran {
    /// It printed this, and ended well.
    Printed(String),
    /// It is not installed.
    Missing,
    /// It ended otherwise, or not in time; its own words.
    Failed(String),
}

/// A file system, and what is on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Volume {
    /// `the state folder`, `the engine's images`.
    pub what: &'static str,
    /// Where.
    pub path: String,
    /// Bytes in all, without what is reserved for root.
    pub total_bytes: u64,
    /// Bytes free.
    pub free_bytes: u64,
    /// Inodes in all; 0: the file system does not count them.
    pub inodes: u64,
    /// Inodes free.
    pub free_inodes: u64,
}

impl Subject {
    /// As configured.
    #[must_use]
    pub fn of(config: &Config) -> Self {
        Self {
            name: config.node_name(),
            environment: config.environment(),
            state_dir: config.state_dir.clone(),
            root_file: config.root_file(),
            agent_socket: config.agent_socket(),
            fleet_port: config.fleet_port,
            listens_outside: config.listen.iter().any(|address| !address.is_loopback()),
            pool: config.pool(),
        }
    }
}

impl Facts {
    /// The text of a file.
    pub(super) fn file(&self, path: &str) -> Result<&str, Unread> {
        match self.files.get(path) {
            Some(Ok(text)) => Ok(text),
            Some(Err(unread)) => Err(*unread),
            None => Err(Unread::Missing),
        }
    }

    /// The text of a file without its ends; none where it is not known.
    pub(super) fn text(&self, path: &str) -> Option<&str> {
        Some(self.file(path).ok()?.trim_matches(|c: char| c.is_whitespace() || c == '\0'))
    }

    /// Files that were read, below a folder, by path.
    pub(super) fn below<'a>(&'a self, folder: &str) -> impl Iterator<Item = (&'a str, &'a str)> {
        let read = self.files.iter().filter_map(|(p, t)| Some((p.as_str(), t.as_deref().ok()?)));
        let folder = folder.to_owned();
        read.filter(move |(path, _)| path.starts_with(&folder))
    }

    /// What a program printed; none where that is not known.
    pub(super) fn printed(&self, command: &str) -> Option<&str> {
        match self.programs.get(command)? {
            Ran::Printed(text) => Some(text),
            Ran::Missing | Ran::Failed(_) => None,
        }
    }
}
