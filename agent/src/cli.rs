//! The command line of `pith-agent`: three commands, no parser crate on the board.

use std::ffi::OsString;
use std::path::PathBuf;

use proxy::TakeOver;

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
    /// Print the version.
    Version,
    /// Print the help.
    Help,
}

/// Where the configuration is unless told otherwise.
pub const DEFAULT_CONFIG: &str = "/etc/pith/agent.toml";

/// What `--help` prints.
pub const HELP: &str = "\
pith-agent: runs what the fleet's coordinator signed for this board

pith-agent [--config FILE]                      run the agent
pith-agent proxy [--config FILE] [--take-over]  run the proxy that owns the services' ports;
                                                --take-over replaces one that runs, without closing a port
pith-agent --version | --help

--config FILE   default: /etc/pith/agent.toml
PITH_LOG        what is logged, such as `info` (default) or `info,agent=debug`
";

/// Why the arguments were not understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UsageError {
    /// An argument that does not exist.
    #[error("unknown argument `{0}`; pith-agent --help shows them")]
    Unknown(String),
    /// `--config` at the end.
    #[error("--config needs a file")]
    MissingFile,
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
    let (mut is_proxy, mut take_over) = (false, None);
    while let Some(argument) = arguments.next() {
        match argument.to_str() {
            Some("--version" | "-V") => return Ok(Command::Version),
            Some("--help" | "-h") => return Ok(Command::Help),
            Some("--config") => config = arguments.next().ok_or(UsageError::MissingFile)?.into(),
            Some("--take-over") => take_over = Some(TakeOver::FromRunning),
            Some("proxy") if !is_proxy => is_proxy = true,
            Some(_) | None => {
                let text = argument.to_string_lossy().escape_debug().to_string();
                return Err(UsageError::Unknown(text));
            }
        }
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
    fn the_three_commands_are_read() {
        let config = PathBuf::from("a.toml");
        assert_eq!(check("--config a.toml"), Ok(Command::Run { config: config.clone() }));
        let proxy = Command::Proxy { config, take_over: TakeOver::FromRunning };
        assert_eq!(check("proxy --config a.toml --take-over"), Ok(proxy));
        assert_eq!(check("--version"), Ok(Command::Version));
        assert_eq!(check(""), Ok(Command::Run { config: DEFAULT_CONFIG.into() }));
    }

    #[test]
    fn nonsense_is_named() {
        assert_eq!(check("--confg a"), Err(UsageError::Unknown("--confg".into())));
        assert_eq!(check("--config"), Err(UsageError::MissingFile));
        assert_eq!(check("--take-over"), Err(UsageError::TakeOverWithoutProxy));
        assert_eq!(check("proxy proxy"), Err(UsageError::Unknown("proxy".into())));
    }
}
