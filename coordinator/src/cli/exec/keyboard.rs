//! This side's terminal: what is typed on it, its size, and giving it back as it was.

use std::convert::Infallible;
use std::io::{self, IsTerminal as _, Read as _};

use protocol::command::{MAX_PART_BYTES, Terminal};
use ratatui::crossterm::terminal;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;
use tokio::time::MissedTickBehavior;

use crate::cli::CliError;
use crate::client::{ALIVE_EVERY, ClientError, Keys};

/// Keys go on as they are pressed, Ctrl-C among them, and nothing is shown that does not come back; until this is dropped.
#[derive(Debug)]
pub(super) struct Raw;

impl Raw {
    pub(super) fn enter() -> Result<Self, CliError> {
        terminal::enable_raw_mode().map_err(on_terminal)?;
        Ok(Self)
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        // A terminal that is gone needs nothing back.
        let _ = terminal::disable_raw_mode();
    }
}

/// The size of the terminal.
///
/// # Errors
/// Where input or output is none.
pub(super) fn size() -> Result<Terminal, CliError> {
    if !io::stdin().is_terminal() || !io::stdout().is_terminal() {
        return Err(CliError::usage(
            "-t wants a terminal on both sides, and standard input or output is none; leave it out (-i alone passes on what comes on standard \
             input)",
        ));
    }
    let (columns, rows) = terminal::size().map_err(on_terminal)?;
    Ok(Terminal { rows, columns })
}

fn on_terminal(error: io::Error) -> CliError {
    CliError::failed(format_args!("the terminal: {error}"))
}

/// Passes on what is typed, and sizes of the terminal. Why nothing more can be passed on is known from the answer, which ends.
pub(super) async fn type_all(mut keys: Keys, has_input: bool, has_terminal: bool) -> Infallible {
    let _ = try_type_all(&mut keys, has_input, has_terminal).await;
    std::future::pending().await
}

async fn try_type_all(
    keys: &mut Keys,
    has_input: bool,
    has_terminal: bool,
) -> Result<(), ClientError> {
    let mut typed = has_input.then(read_all);
    let mut sizes = if has_terminal { signal(SignalKind::window_change()).ok() } else { None };
    let mut alive = tokio::time::interval(ALIVE_EVERY);
    alive.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        // Cancel-safe: each takes a whole event from its queue, or nothing.
        tokio::select! {
            bytes = of(&mut typed) => match bytes {
                Some(bytes) => keys.input(&bytes).await?,
                None => {
                    typed = None;
                    keys.last().await?;
                }
            },
            _ = alive.tick() => keys.alive().await?,
            () = resized(&mut sizes) => {
                if let Ok(terminal) = size() {
                    keys.resize(terminal).await?;
                }
            }
        }
    }
}

async fn of(typed: &mut Option<mpsc::Receiver<Vec<u8>>>) -> Option<Vec<u8>> {
    match typed {
        Some(typed) => typed.recv().await,
        None => std::future::pending().await,
    }
}

async fn resized(sizes: &mut Option<Signal>) {
    let size = match sizes {
        Some(sizes) => sizes.recv().await,
        None => None,
    };
    if size.is_none() {
        std::future::pending().await
    }
}

/// Standard input, on a thread of its own, which ends with the program: a read of it cannot be given up.
fn read_all() -> mpsc::Receiver<Vec<u8>> {
    let (tell, typed) = mpsc::channel(1);
    std::thread::spawn(move || {
        let mut bytes = vec![0; MAX_PART_BYTES];
        while let Ok(count @ 1..) = io::stdin().read(&mut bytes) {
            if tell.blocking_send(bytes[..count].to_vec()).is_err() {
                return;
            }
        }
    });
    typed
}
