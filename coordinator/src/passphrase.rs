//! Where a passphrase comes from: `PITH_PASSPHRASE`, else a person at the terminal, who does not see what is typed.

use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Write as _};

use nix::sys::termios::{LocalFlags, SetArg, tcgetattr, tcsetattr};

/// For scripts and CI.
pub const PASSPHRASE_VARIABLE: &str = "PITH_PASSPHRASE";
const TERMINAL: &str = "/dev/tty";

/// Why there is none.
#[derive(Debug, thiserror::Error)]
pub enum PassphraseError {
    /// Nobody can be asked.
    #[error(
        "{what} needs a passphrase: {PASSPHRASE_VARIABLE} is not set, and there is no terminal to ask at"
    )]
    NobodyToAsk {
        /// What it is for.
        what: String,
    },
    /// The terminal.
    #[error("the terminal: {0}")]
    Terminal(#[from] io::Error),
    /// Nothing was typed.
    #[error("an empty passphrase protects nothing")]
    Empty,
    /// Typed twice, and not the same.
    #[error("the two passphrases differ; nothing was written")]
    Differ,
}

/// Asks at most once for everything that one command opens and once for everything that it seals.
#[derive(Debug, Default)]
pub struct Passphrases {
    known: Option<String>,
}

impl Passphrases {
    /// The one given before, else that of the environment.
    #[must_use]
    pub fn known(&mut self) -> Option<String> {
        let of_environment = || std::env::var(PASSPHRASE_VARIABLE).ok().filter(|p| !p.is_empty());
        if self.known.is_none() {
            self.known = of_environment();
        }
        self.known.clone()
    }

    /// To open `what`: asks a person.
    ///
    /// # Errors
    /// Where nobody can be asked.
    pub fn ask(&mut self, what: &str) -> Result<String, PassphraseError> {
        let typed = typed(what, &format!("passphrase of {what}: "))?;
        self.known = Some(typed.clone());
        Ok(typed)
    }

    /// To seal `what`: that of the environment, else typed twice.
    ///
    /// # Errors
    /// Where nobody can be asked, or what was typed differs.
    pub fn fresh(&mut self, what: &str) -> Result<String, PassphraseError> {
        if let Some(known) = self.known() {
            return Ok(known);
        }
        let once = typed(what, &format!("new passphrase for {what}: "))?;
        if typed(what, "once more: ")? != once {
            return Err(PassphraseError::Differ);
        }
        self.known = Some(once.clone());
        Ok(once)
    }
}

/// Reads a line from the terminal itself, so that stdin may be something else, with the echo off.
pub(crate) fn typed(what: &str, prompt: &str) -> Result<String, PassphraseError> {
    let nobody = |_| PassphraseError::NobodyToAsk { what: what.to_owned() };
    let mut terminal = File::options().read(true).write(true).open(TERMINAL).map_err(nobody)?;
    let before = tcgetattr(&terminal).map_err(io::Error::from)?;
    let mut silent = before.clone();
    silent.local_flags.remove(LocalFlags::ECHO);
    // Before the prompt: what somebody types at once must neither be shown nor be flushed away.
    tcsetattr(&terminal, SetArg::TCSAFLUSH, &silent).map_err(io::Error::from)?;
    let mut line = String::new();
    let read = terminal
        .write_all(prompt.as_bytes())
        .and_then(|()| BufReader::new(&terminal).read_line(&mut line));
    tcsetattr(&terminal, SetArg::TCSAFLUSH, &before).map_err(io::Error::from)?;
    terminal.write_all(b"\n")?;
    read?;
    let typed = line.trim_end_matches(['\r', '\n']).to_owned();
    if typed.is_empty() { Err(PassphraseError::Empty) } else { Ok(typed) }
}
