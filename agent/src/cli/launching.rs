//! What units and programs ask, not people: `launch` and `self-test`.

use std::ffi::OsString;
use std::path::PathBuf;

use super::{Command, UsageError};
use crate::launch::Unit;

pub(super) fn is_word(word: &str) -> bool {
    matches!(word, "launch" | "self-test")
}

/// Reads what follows the word.
pub(super) fn parse(
    word: &str,
    arguments: impl IntoIterator<Item = OsString>,
    mut config: PathBuf,
) -> Result<Command, UsageError> {
    let mut arguments = arguments.into_iter();
    let (mut unit, mut takes_over, mut is_apart) = (Unit::Agent, false, false);
    let is_launch = word == "launch";
    while let Some(argument) = arguments.next() {
        match argument.to_str() {
            Some("--config") => config = arguments.next().ok_or(UsageError::MissingFile)?.into(),
            Some("proxy") if is_launch => unit = Unit::Proxy,
            Some("--take-over") if is_launch => takes_over = true,
            Some("--apart") if is_launch => is_apart = true,
            Some("--help" | "-h") => return Ok(Command::Help),
            Some(_) | None => {
                let text = argument.to_string_lossy().escape_debug().to_string();
                return Err(UsageError::Unknown(text));
            }
        }
    }
    match (is_launch, unit, takes_over) {
        (false, _, _) => Ok(Command::SelfTest { config }),
        (true, Unit::Agent, true) => Err(UsageError::TakeOverWithoutProxy),
        (true, _, _) => Ok(Command::Launch { config, unit, takes_over, is_apart }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli;

    fn check(line: &str) -> Result<Command, UsageError> {
        cli::parse(line.split_whitespace().map(OsString::from))
    }

    #[test]
    fn what_units_and_programs_ask_is_read() {
        let config = PathBuf::from("a.toml");
        let launch = |unit, takes_over, is_apart| Command::Launch {
            config: "a.toml".into(),
            unit,
            takes_over,
            is_apart,
        };
        assert_eq!(check("launch --config a.toml"), Ok(launch(Unit::Agent, false, false)));
        assert_eq!(check("launch proxy --config a.toml"), Ok(launch(Unit::Proxy, false, false)));
        let apart = check("launch --apart proxy --take-over --config a.toml");
        assert_eq!(apart, Ok(launch(Unit::Proxy, true, true)));
        assert_eq!(check("self-test --config a.toml"), Ok(Command::SelfTest { config }));
        assert_eq!(check("launch --take-over"), Err(UsageError::TakeOverWithoutProxy));
        assert_eq!(check("self-test proxy"), Err(UsageError::Unknown("proxy".into())));
    }
}
