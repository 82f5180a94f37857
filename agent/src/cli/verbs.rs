//! The verbs that root of a board asks its own agent: `ps`, `logs`, `hold`, `undo`, `release`, `root`, `doctor`.

use std::ffi::OsString;
use std::path::PathBuf;

use protocol::command::{Logs, MAX_LINES};
use protocol::id::ServiceName;

use super::{Command, UsageError};
use crate::local::Change;

/// Lines of a log unless told otherwise.
const DEFAULT_LINES: u32 = 100;

/// What is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verb {
    /// What runs here.
    Ps,
    /// What a service writes.
    Logs(Logs),
    /// Leave a service at what runs now.
    Hold(Change),
    /// Back to the release before, and hold it there.
    Undo(Change),
    /// The newest manifest counts again.
    Release(Change),
    /// The trust roots that the board holds, with what proves them.
    Root,
    /// What is odd about the board.
    Doctor,
}

const VERBS: [&str; 7] = ["ps", "logs", "hold", "undo", "release", "root", "doctor"];

pub(super) fn is_verb(word: &str) -> bool {
    VERBS.contains(&word)
}

/// Reads what follows a verb.
pub(super) fn parse(
    word: &str,
    arguments: impl IntoIterator<Item = OsString>,
    mut config: PathBuf,
) -> Result<Command, UsageError> {
    let mut arguments = arguments.into_iter();
    let (mut service, mut reason, mut json) = (None, None, false);
    let (mut lines, mut follow) = (None, false);
    let takes_reason = matches!(word, "hold" | "undo");
    let takes_service = !matches!(word, "ps" | "root" | "doctor");
    while let Some(argument) = arguments.next() {
        let unknown = || UsageError::Unknown(argument.to_string_lossy().escape_debug().to_string());
        let text = argument.to_str().ok_or_else(unknown)?;
        let mut value = |option, what| {
            let next = arguments.next().ok_or(UsageError::MissingValue(option, what))?;
            Ok::<_, UsageError>(next.to_string_lossy().into_owned())
        };
        match text {
            "--help" | "-h" => return Ok(Command::Help),
            "--config" => config = arguments.next().ok_or(UsageError::MissingFile)?.into(),
            "-o" => match value("-o", "`json`")?.as_str() {
                "json" => json = true,
                other => return Err(UsageError::Unknown(format!("-o {}", other.escape_debug()))),
            },
            "--reason" if takes_reason => reason = Some(value("--reason", "a sentence")?),
            "-f" | "--follow" if word == "logs" => follow = true,
            "-n" if word == "logs" => {
                let given = value("-n", "a number of lines")?;
                let number = given.parse().ok().filter(|lines| *lines <= MAX_LINES);
                lines = Some(number.ok_or(UsageError::MissingValue("-n", "a number of lines"))?);
            }
            name if service.is_none() && takes_service && !name.starts_with('-') => {
                let not = |error: protocol::id::InvalidId| {
                    UsageError::NotAService(name.escape_debug().to_string(), error.to_string())
                };
                service = Some(name.parse::<ServiceName>().map_err(not)?);
            }
            _ => return Err(unknown()),
        }
    }
    let of = |verb: &'static str| service.ok_or(UsageError::MissingService(verb));
    let verb = match word {
        "logs" => Verb::Logs(Logs {
            service: of("logs")?,
            instance: None,
            lines: lines.unwrap_or(DEFAULT_LINES),
            since_s: None,
            follow,
            previous: false,
        }),
        "hold" => Verb::Hold(Change { service: of("hold")?, reason }),
        "undo" => Verb::Undo(Change { service: of("undo")?, reason }),
        "release" => Verb::Release(Change { service: of("release")?, reason }),
        "root" => Verb::Root,
        "doctor" => Verb::Doctor,
        _ => Verb::Ps,
    };
    Ok(Command::Local { config, verb, json })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli;

    fn check(line: &str) -> Result<Verb, UsageError> {
        let command = cli::parse(line.split_whitespace().map(OsString::from))?;
        let Command::Local { verb, .. } = command else { panic!("{command:?}") };
        Ok(verb)
    }

    fn change(reason: Option<&str>) -> Change {
        Change { service: "web".parse().unwrap(), reason: reason.map(str::to_owned) }
    }

    #[test]
    fn the_boards_own_verbs_are_read() {
        assert_eq!(check("ps"), Ok(Verb::Ps));
        let logs = |lines, follow| {
            let service = "web".parse().unwrap();
            let (instance, since_s, previous) = (None, None, false);
            Verb::Logs(Logs { service, instance, lines, since_s, follow, previous })
        };
        assert_eq!(check("logs -n 5 web -f"), Ok(logs(5, true)));
        assert_eq!(check("--config a.toml logs web"), Ok(logs(DEFAULT_LINES, false)));
        assert_eq!(check("hold web --reason disk"), Ok(Verb::Hold(change(Some("disk")))));
        assert_eq!(check("undo web"), Ok(Verb::Undo(change(None))));
        assert_eq!(check("release web --config a.toml"), Ok(Verb::Release(change(None))));
        assert_eq!(check("root"), Ok(Verb::Root));
        assert_eq!(check("doctor"), Ok(Verb::Doctor));
        let line = "ps -o json --config b.toml".split_whitespace().map(OsString::from);
        let command = Command::Local { config: "b.toml".into(), verb: Verb::Ps, json: true };
        assert_eq!(cli::parse(line), Ok(command));
    }

    #[test]
    fn mistakes_are_named() {
        assert_eq!(check("hold"), Err(UsageError::MissingService("hold")));
        assert!(matches!(check("undo We_b"), Err(UsageError::NotAService(..))));
        assert_eq!(check("ps web"), Err(UsageError::Unknown("web".into())));
        assert_eq!(check("root web"), Err(UsageError::Unknown("web".into())));
        assert_eq!(check("doctor --quiet"), Err(UsageError::Unknown("--quiet".into())));
        assert_eq!(check("release web -f"), Err(UsageError::Unknown("-f".into())));
        assert_eq!(
            check("hold web --reason"),
            Err(UsageError::MissingValue("--reason", "a sentence"))
        );
        assert_eq!(
            check("logs web -n x"),
            Err(UsageError::MissingValue("-n", "a number of lines"))
        );
        assert_eq!(check("ps -o yaml"), Err(UsageError::Unknown("-o yaml".into())));
    }
}
