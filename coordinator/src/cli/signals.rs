//! What ends a program from outside, for verbs that have something to give back first.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::Exit;

/// As a shell reports a program that SIGTERM has ended.
const TERMINATED: u8 = 128 + 15;
/// The same of SIGHUP: the terminal is gone.
pub(super) const HUNG_UP: u8 = 128 + 1;

/// Heard from when this is made on.
#[derive(Debug)]
pub(super) struct Signals {
    terminate: Signal,
    hang_up: Signal,
    interrupt: Signal,
}

impl Signals {
    /// # Errors
    /// Where signals cannot be heard.
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            hang_up: signal(SignalKind::hangup())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    /// The next one, as the code to end with. Cancel-safe.
    pub(super) async fn any(&mut self) -> Exit {
        tokio::select! {
            _ = self.terminate.recv() => Exit::Of(TERMINATED),
            _ = self.hang_up.recv() => Exit::Of(HUNG_UP),
            _ = self.interrupt.recv() => Exit::Interrupted,
        }
    }
}
