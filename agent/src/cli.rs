//! The command line of `pith-agent`: no parser crate on the board.

mod launching;
mod uninstall;
mod verbs;

use std::ffi::OsString;
use std::path::PathBuf;

use proxy::TakeOver;

use crate::join::Existing;
use crate::launch::Unit;
pub use verbs::Verb;

/// What the agent was asked to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Run the agent.
    Run {
        /// Its `agent.toml`.
        config: PathBuf,
    },
    /// Run the proxy.
    Proxy {
        /// The same `agent.toml`.
        config: PathBuf,
        /// What to do about a proxy that runs already.
        take_over: TakeOver,
    },
    /// Make this board a node of a fleet.
    Join {
        /// The same `agent.toml`; need not be there.
        config: PathBuf,
        /// What `pith node token` printed; `-`: a line of standard input.
        token: String,
        /// The node's name; none: that of `agent.toml`, else the host's.
        name: Option<String>,
        /// What to do about a joining that is there.
        existing: Existing,
    },
    /// Become the agent or the proxy that this board runs: see [`crate::launch`].
    Launch {
        /// The same `agent.toml`.
        config: PathBuf,
        /// Which of the two.
        unit: Unit,
        /// A proxy that runs is replaced.
        takes_over: bool,
        /// In another process, whose id is printed.
        is_apart: bool,
    },
    /// Show that this program could be the agent of this board.
    SelfTest {
        /// The same `agent.toml`.
        config: PathBuf,
    },
    /// Have the running proxy exchange itself for what the board runs now.
    RenewProxy {
        /// The same `agent.toml`.
        config: PathBuf,
    },
    /// Ask this board's own agent, as root.
    Local {
        /// The same `agent.toml`.
        config: PathBuf,
        /// What.
        verb: Verb,
        /// As JSON.
        json: bool,
    },
    /// Take Pith off this board, or say what that would do.
    Uninstall {
        /// The same `agent.toml`.
        config: PathBuf,
        /// How.
        wish: crate::uninstall::Wish,
    },
    /// Print the version.
    Version,
    /// Print the help.
    Help,
}

/// Where the configuration is unless told otherwise.
pub const DEFAULT_CONFIG: &str = "/etc/pith/agent.toml";

/// What `--help` prints.
pub const HELP: &str = include_str!("cli/help.txt");

/// Why the arguments were not understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UsageError {
    /// An argument that does not exist.
    #[error("unknown argument `{0}`; pith-agent --help shows them")]
    Unknown(String),
    /// `--config` at the end.
    #[error("--config needs a file")]
    MissingFile,
    /// `--name` at the end.
    #[error("--name needs a name")]
    MissingName,
    /// `join` alone.
    #[error("join needs the token that `pith node token` prints; `-` reads it from standard input")]
    MissingToken,
    /// `--name` or `--again` without `join`.
    #[error("{0} belongs to `pith-agent join`")]
    OnlyForJoin(&'static str),
    /// A verb of the board without its service.
    #[error("`pith-agent {0}` needs a service; `pith-agent ps` shows those that are here")]
    MissingService(&'static str),
    /// Not the name of a service.
    #[error("`{0}`: {1}")]
    NotAService(String, String),
    /// An option without what belongs to it.
    #[error("{0} needs {1}")]
    MissingValue(&'static str, &'static str),
    /// `--take-over` without `proxy`.
    #[error("--take-over belongs to `pith-agent proxy`")]
    TakeOverWithoutProxy,
}

/// Reads the arguments after the program's name.
///
/// # Errors
/// The first argument that makes no sense.
pub fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Command, UsageError> {
    let mut arguments = arguments.into_iter();
    let mut config = PathBuf::from(DEFAULT_CONFIG);
    let (mut is_proxy, mut take_over, mut renews) = (false, None, false);
    let (mut is_join, mut token, mut name, mut existing) = (false, None, None, Existing::Keep);
    while let Some(argument) = arguments.next() {
        match argument.to_str() {
            Some("--version" | "-V") => return Ok(Command::Version),
            Some("--help" | "-h") => return Ok(Command::Help),
            Some("--config") => config = arguments.next().ok_or(UsageError::MissingFile)?.into(),
            Some("--take-over") => take_over = Some(TakeOver::FromRunning),
            Some(word) if !is_proxy && !is_join && launching::is_word(word) => {
                return launching::parse(word, arguments, config);
            }
            Some("--renew") if is_proxy => renews = true,
            Some(word) if !is_proxy && !is_join && verbs::is_verb(word) => {
                return verbs::parse(word, arguments, config);
            }
            Some("uninstall") if !is_proxy && !is_join => {
                return uninstall::parse(arguments, config);
            }
            Some("proxy") if !is_proxy && !is_join => is_proxy = true,
            Some("join") if !is_proxy && !is_join => is_join = true,
            Some("--again") => existing = Existing::Replace,
            Some("--name") => {
                let next = arguments.next().ok_or(UsageError::MissingName)?;
                name = Some(next.to_string_lossy().into_owned());
            }
            Some(text) if is_join && token.is_none() && (text == "-" || !text.starts_with('-')) => {
                token = Some(text.to_owned());
            }
            Some(_) | None => {
                let text = argument.to_string_lossy().escape_debug().to_string();
                return Err(UsageError::Unknown(text));
            }
        }
    }
    if is_join {
        let token = token.ok_or(UsageError::MissingToken)?;
        return match take_over {
            Some(_) => Err(UsageError::TakeOverWithoutProxy),
            None => Ok(Command::Join { config, token, name, existing }),
        };
    }
    if name.is_some() {
        return Err(UsageError::OnlyForJoin("--name"));
    }
    if existing == Existing::Replace {
        return Err(UsageError::OnlyForJoin("--again"));
    }
    if renews {
        return Ok(Command::RenewProxy { config });
    }
    match (is_proxy, take_over) {
        (true, take_over) => {
            Ok(Command::Proxy { config, take_over: take_over.unwrap_or(TakeOver::Fresh) })
        }
        (false, Some(_)) => Err(UsageError::TakeOverWithoutProxy),
        (false, None) => Ok(Command::Run { config }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(line: &str) -> Result<Command, UsageError> {
        parse(line.split_whitespace().map(OsString::from))
    }

    #[test]
    fn the_commands_are_read() {
        let config = PathBuf::from("a.toml");
        assert_eq!(check("--config a.toml"), Ok(Command::Run { config: config.clone() }));
        let proxy = Command::Proxy { config, take_over: TakeOver::FromRunning };
        assert_eq!(check("proxy --config a.toml --take-over"), Ok(proxy));
        let join = |name: Option<&str>, existing| Command::Join {
            config: DEFAULT_CONFIG.into(),
            token: "pith1_x".into(),
            name: name.map(str::to_owned),
            existing,
        };
        assert_eq!(check("join pith1_x"), Ok(join(None, Existing::Keep)));
        let both = check("join --name opi-1 pith1_x --again");
        assert_eq!(both, Ok(join(Some("opi-1"), Existing::Replace)));
        let renew = Command::RenewProxy { config: DEFAULT_CONFIG.into() };
        assert_eq!(check("proxy --renew"), Ok(renew));
        assert_eq!(check("--version"), Ok(Command::Version));
        assert_eq!(check(""), Ok(Command::Run { config: DEFAULT_CONFIG.into() }));
    }

    #[test]
    fn nonsense_is_named() {
        assert_eq!(check("--confg a"), Err(UsageError::Unknown("--confg".into())));
        assert_eq!(check("--config"), Err(UsageError::MissingFile));
        assert_eq!(check("--take-over"), Err(UsageError::TakeOverWithoutProxy));
        assert_eq!(check("proxy proxy"), Err(UsageError::Unknown("proxy".into())));
        assert_eq!(check("join"), Err(UsageError::MissingToken));
        assert_eq!(check("join a b"), Err(UsageError::Unknown("b".into())));
        assert_eq!(check("--name a"), Err(UsageError::OnlyForJoin("--name")));
        assert_eq!(check("proxy --again"), Err(UsageError::OnlyForJoin("--again")));
    }
}
