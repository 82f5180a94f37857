//! `pith run-child`: becomes another program that the kernel ends when `pith dev` does, however that happens.

use std::ffi::OsString;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use nix::sys::prctl;
use nix::sys::signal::Signal;
use nix::unistd::getppid;

use super::CliError;

/// Replaces this process; returns only what went wrong. The wish survives `execve` (prctl(2), `PR_SET_PDEATHSIG`).
pub(super) fn run(parent: i32, command: &[OsString]) -> CliError {
    if let Err(error) = prctl::set_pdeathsig(Signal::SIGKILL) {
        return CliError::failed(format_args!("prctl: {error}"));
    }
    // The parent may have died before the wish was told.
    if getppid().as_raw() != parent {
        return CliError::failed("the parent is gone");
    }
    let Some((program, arguments)) = command.split_first() else {
        return CliError::usage("no command");
    };
    let error = Command::new(program).args(arguments).exec();
    CliError::failed(format_args!("{}: {error}", program.display()))
}
