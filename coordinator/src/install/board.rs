//! Does on a board what was decided: each act is one script over ssh. Chooses nothing.

use std::path::Path;
use std::time::Duration;

use protocol::id::{NodeId, NodeName};

use super::facts::{Facts, NotRead, Root};
use super::package::VERSION;
use super::ssh::{Elevation, Said, Ssh, SshError};

/// Scripts that look or write a file.
const SHORT: Duration = Duration::from_secs(90);
/// Packages over a slow link, on a slow card.
const LONG: Duration = Duration::from_secs(20 * 60);
/// package.sh, for a file that is not what it should be.
const OTHER_PACKAGE: i32 = 3;

/// Why an act was not done.
#[derive(Debug, thiserror::Error)]
pub enum BoardError {
    /// The connection.
    #[error(transparent)]
    Ssh(#[from] SshError),
    /// What it said of itself.
    #[error(transparent)]
    NotRead(#[from] NotRead),
    /// sudo.
    #[error("sudo on the board refuses: {0}")]
    Sudo(String),
    /// The file that was named.
    #[error("--package {path}: {problem}")]
    Package {
        /// Which.
        path: String,
        /// What is wrong with it.
        problem: String,
    },
    /// A script.
    #[error("{what} failed on the board: {said}")]
    Failed {
        /// What was done.
        what: &'static str,
        /// Its last words.
        said: String,
    },
    /// `pith-agent join`, by its exit code.
    #[error("the board did not join: {said}")]
    NotJoined {
        /// 5: refused; 6: no coordinator.
        code: i32,
        /// Its last words.
        said: String,
    },
}

/// Whether an address of the coordinator is reached from the board.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reached {
    /// `host:port`
    pub address: String,
    /// Why not; none: it is.
    pub why_not: Option<String>,
}

/// A board that one is logged in to.
#[derive(Debug)]
pub struct Board {
    ssh: Ssh,
    elevation: Elevation,
}

impl std::fmt::Debug for Elevation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Root => "Root",
            Self::Sudo => "Sudo",
            Self::SudoPassword(_) => "SudoPassword(…)",
            Self::IfFree => "IfFree",
        })
    }
}

impl Board {
    /// Over this connection; nothing is asked yet.
    #[must_use]
    pub fn new(ssh: Ssh) -> Self {
        Self { ssh, elevation: Elevation::IfFree }
    }

    /// What it is, as root where that costs nobody a password; how root is reached from now on.
    ///
    /// # Errors
    /// Where it does not say it.
    pub async fn look(&mut self) -> Result<Facts, BoardError> {
        let facts = self.look_again().await?;
        // Whoever answered as root got there by sudo, or is root.
        if facts.root == Root::Is && self.elevation == Elevation::IfFree {
            self.elevation = match facts.user.as_str() {
                "root" => Elevation::Root,
                _ => Elevation::Sudo,
            };
        }
        Ok(facts)
    }

    /// What it is now.
    ///
    /// # Errors
    /// Where it does not say it.
    pub async fn look_again(&self) -> Result<Facts, BoardError> {
        let said = self.run(include_str!("look.sh"), &[], b"", SHORT).await?;
        Ok(Facts::parse(&said.out)?)
    }

    /// From now on by sudo with this password.
    ///
    /// # Errors
    /// Where sudo does not take it.
    pub async fn elevate(&mut self, password: String) -> Result<(), BoardError> {
        let elevation = Elevation::SudoPassword(password);
        let said = self.ssh.run("true", &[], b"", &elevation, SHORT).await?;
        if said.code != 0 {
            return Err(BoardError::Sudo(last_words(&said)));
        }
        self.elevation = elevation;
        Ok(())
    }

    /// Which addresses of the coordinator take a connection from there, in their order.
    ///
    /// # Errors
    /// Where the board does not say it.
    pub async fn reach(&self, addresses: &[String]) -> Result<Vec<Reached>, BoardError> {
        let parts: Vec<(&str, &str)> =
            addresses.iter().filter_map(|address| address.rsplit_once(':')).collect();
        let bare = |host: &str| host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let hosts: Vec<String> = parts.iter().map(|(host, _)| bare(host)).collect();
        let arguments: Vec<&str> =
            hosts.iter().zip(&parts).flat_map(|(host, (_, port))| [host.as_str(), *port]).collect();
        let said = self.run(include_str!("reach.sh"), &arguments, b"", SHORT).await?;
        let lines = said.out.lines().chain(std::iter::repeat("down ? ? no word of it"));
        let reached = |(address, line): (&String, &str)| {
            // `up HOST PORT`, or `down HOST PORT WHY`: anything else is no proof.
            let why = line.splitn(4, ' ').nth(3).unwrap_or("no word of it");
            let why = why.chars().filter(|c| !c.is_control()).collect();
            let why_not = (!line.starts_with("up ")).then_some(why);
            Reached { address: address.clone(), why_not }
        };
        Ok(addresses.iter().zip(lines).map(reached).collect())
    }

    /// Installs the package, and Docker with it where that is missing.
    ///
    /// # Errors
    /// Why it is not installed.
    pub async fn install(
        &self,
        package: &Path,
        architecture: &str,
        with_docker: bool,
    ) -> Result<(), BoardError> {
        let path = package.display().to_string();
        let bytes = std::fs::read(package).map_err(|error| BoardError::Package {
            path: path.clone(),
            problem: error.to_string(),
        })?;
        let fetch = if with_docker { "yes" } else { "no" };
        let said = self
            .run(include_str!("package.sh"), &[VERSION, architecture, fetch], &bytes, LONG)
            .await?;
        match said.code {
            0 => Ok(()),
            OTHER_PACKAGE => Err(BoardError::Package { path, problem: last_words(&said) }),
            _ => Err(BoardError::Failed { what: "installing the package", said: words(&said) }),
        }
    }

    /// Writes the policy.
    ///
    /// # Errors
    /// Why it is not written.
    pub async fn write_policy(&self, text: &str) -> Result<(), BoardError> {
        self.act("writing /etc/pith/policy.toml", include_str!("policy.sh"), &[], text.as_bytes())
            .await
    }

    /// Writes Docker's configuration and has Docker take it.
    ///
    /// # Errors
    /// Why it did not; the one before is back then.
    pub async fn tune_docker(&self, text: &str) -> Result<(), BoardError> {
        self.act("--tune-docker", include_str!("tune.sh"), &[], text.as_bytes()).await
    }

    /// Makes it a node; who it is then.
    ///
    /// # Errors
    /// What `pith-agent join` says.
    pub async fn join(&self, name: &NodeName, token: &str) -> Result<Option<NodeId>, BoardError> {
        let line = format!("{token}\n");
        let said =
            self.run(include_str!("join.sh"), &[name.as_str()], line.as_bytes(), LONG).await?;
        if said.code != 0 {
            return Err(BoardError::NotJoined { code: said.code, said: last_words(&said) });
        }
        Ok(joined_as(&said.out))
    }

    /// Starts the units.
    ///
    /// # Errors
    /// Why they are not started.
    pub async fn enable(&self) -> Result<(), BoardError> {
        self.act("starting the units", include_str!("enable.sh"), &[], b"").await
    }

    /// What the units say of themselves.
    pub async fn evidence(&self) -> String {
        let said = self.run(include_str!("evidence.sh"), &[], b"", SHORT).await;
        said.map_or_else(|error| error.to_string(), |said| printable(&said.out))
    }

    async fn act(
        &self,
        what: &'static str,
        script: &str,
        arguments: &[&str],
        stdin: &[u8],
    ) -> Result<(), BoardError> {
        let said = self.run(script, arguments, stdin, LONG).await?;
        match said.code {
            0 => Ok(()),
            _ => Err(BoardError::Failed { what, said: words(&said) }),
        }
    }

    async fn run(
        &self,
        script: &str,
        arguments: &[&str],
        stdin: &[u8],
        patience: Duration,
    ) -> Result<Said, SshError> {
        self.ssh.run(script, arguments, stdin, &self.elevation, patience).await
    }
}

/// The id in `joined fleet F as NAME (ID), …`.
fn joined_as(said: &str) -> Option<NodeId> {
    let line = said.lines().find(|line| line.starts_with("joined fleet "))?;
    line.split_once('(')?.1.split_once(')')?.0.parse().ok()
}

fn last_words(said: &Said) -> String {
    let line = |text: &str| text.lines().rev().find(|line| !line.trim().is_empty()).map(printable);
    let words = line(&said.err).or_else(|| line(&said.out));
    let words = words.unwrap_or_else(|| format!("it said nothing and ended with {}", said.code));
    words.trim_start_matches("pith-agent: ").to_owned()
}

fn words(said: &Said) -> String {
    let all = printable(&said.err);
    if all.trim().is_empty() { last_words(said) } else { format!("\n{}", all.trim_end()) }
}

/// What comes from outside reaches a terminal without control characters.
fn printable(text: &str) -> String {
    text.chars().filter(|c| !c.is_control() || *c == '\n').collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_node_that_joined_is_in_the_agents_words() {
        let id = "ab".repeat(16);
        let said = format!(
            "in the lobby as x\njoined fleet f as opi-1 ({id}), environment default; start the agent\n"
        );
        assert_eq!(joined_as(&said).unwrap().to_string(), id);
        assert_eq!(joined_as("opi-1 is a node of fleet f already"), None);
    }

    #[test]
    fn the_last_words_are_those_of_the_agent_without_its_name() {
        let said = |out: &str, err: &str| Said { code: 5, out: out.into(), err: err.into() };
        assert_eq!(last_words(&said("a\n", "pith-agent: no\u{1b}[31m\n\n")), "no[31m");
        assert_eq!(last_words(&said("a\n", "")), "a");
        assert!(last_words(&said("", "")).contains("ended with 5"));
    }
}
