//! Where a program runs: in the machine's own network, or in that of a private engine.

use std::ffi::OsStr;
use std::path::PathBuf;
use std::process::Command;

/// A network to run programs in; the default is the machine's.
#[derive(Debug, Clone, Default)]
pub struct Inside {
    prefix: Vec<String>,
}

impl Inside {
    /// Behind a command that runs its last arguments there and becomes them.
    #[must_use]
    pub fn behind(prefix: Vec<String>) -> Self {
        Self { prefix }
    }

    /// `program`, not started yet.
    #[must_use]
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let Some((first, rest)) = self.prefix.split_first() else { return Command::new(program) };
        let mut command = Command::new(first);
        command.args(rest).arg(program);
        command
    }

    /// Runs `program` to its end and gives its standard output.
    ///
    /// # Panics
    /// When it cannot be run or fails; shows what it said.
    #[track_caller]
    pub fn run(&self, program: impl AsRef<OsStr>, args: &[&str]) -> String {
        let output = self.command(&program).args(args).output();
        let output = output.expect("the program can be run");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{:?} {args:?}: {said}", program.as_ref());
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }
}

/// A script of `tests/setup`.
#[must_use]
pub fn setup(script: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("setup").join(script)
}
