//! `pith-agent uninstall` as it is written.

use std::ffi::OsString;
use std::path::PathBuf;

use super::{Command, UsageError};
use crate::uninstall::Wish;

/// Reads what follows the word.
pub(super) fn parse(
    arguments: impl IntoIterator<Item = OsString>,
    mut config: PathBuf,
) -> Result<Command, UsageError> {
    let mut arguments = arguments.into_iter();
    let mut wish = Wish::default();
    while let Some(argument) = arguments.next() {
        match argument.to_str() {
            Some("--help" | "-h") => return Ok(Command::Help),
            Some("--yes" | "-y") => wish.yes = true,
            Some("--volumes") => wish.volumes = true,
            Some("--config") => config = arguments.next().ok_or(UsageError::MissingFile)?.into(),
            Some("--compose") => {
                let file =
                    arguments.next().ok_or(UsageError::MissingValue("--compose", "a file"))?;
                wish.compose = Some(file.into());
            }
            Some("-o") => match arguments.next().as_deref().and_then(|word| word.to_str()) {
                Some("json") => wish.json = true,
                Some(_) | None => return Err(UsageError::MissingValue("-o", "`json`")),
            },
            Some(_) | None => {
                let text = argument.to_string_lossy().escape_debug().to_string();
                return Err(UsageError::Unknown(text));
            }
        }
    }
    Ok(Command::Uninstall { config, wish })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{self, DEFAULT_CONFIG};

    fn check(line: &str) -> Result<Command, UsageError> {
        cli::parse(line.split_whitespace().map(OsString::from))
    }

    #[test]
    fn nothing_is_done_and_no_volume_goes_unless_it_is_said() {
        let config = PathBuf::from(DEFAULT_CONFIG);
        let plain = Command::Uninstall { config: config.clone(), wish: Wish::default() };
        assert_eq!(check("uninstall"), Ok(plain));
        let wish = Wish { yes: true, volumes: true, compose: Some("c.yaml".into()), json: true };
        let all = "uninstall --yes --volumes --compose c.yaml -o json";
        assert_eq!(check(all), Ok(Command::Uninstall { config, wish }));
        assert_eq!(check("uninstall --force"), Err(UsageError::Unknown("--force".into())));
        assert!(check("uninstall --compose").is_err() && check("uninstall -o yaml").is_err());
    }
}
