//! `pith completions SHELL`, `pith man FOLDER`: what the command line says of itself, for other programs.

use std::path::Path;

use clap::CommandFactory as _;

use crate::cli::{Arguments, CliError, Exit};

pub(in crate::cli) fn completions(shell: clap_complete::Shell) -> Exit {
    let mut command = Arguments::command();
    clap_complete::generate(shell, &mut command, "pith", &mut std::io::stdout());
    Exit::Done
}

/// `pith.1`, `pith-deploy.1` ...
pub(in crate::cli) fn manual(folder: &Path) -> Result<Exit, CliError> {
    let failed =
        |error: std::io::Error| CliError::usage(format_args!("{}: {error}", folder.display()));
    std::fs::create_dir_all(folder).map_err(failed)?;
    clap_mangen::generate_to(Arguments::command().name("pith"), folder).map_err(failed)?;
    Ok(Exit::Done)
}
