//! A process that serves in place of our child: a proxy that somebody started with `--take-over`. It is not ours to start
//! again, but while it answers a second one would be refused; at the end it ends with us.

use std::path::Path;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::io::AsyncReadExt as _;
use tokio::net::UnixStream;

/// Between SIGTERM and SIGKILL.
const END_WITHIN: Duration = Duration::from_secs(5);

/// A connection to it, which tells when it ends.
#[derive(Debug)]
pub(super) struct Successor {
    connection: UnixStream,
    pid: Option<Pid>,
}

impl Successor {
    /// Whoever answers on this socket.
    pub(super) async fn at(socket: &Path) -> Option<Self> {
        let connection = UnixStream::connect(socket).await.ok()?;
        let pid = connection.peer_cred().ok()?.pid().map(Pid::from_raw);
        Some(Self { connection, pid })
    }

    /// Its process, where the system tells.
    pub(super) fn pid(&self) -> Option<i32> {
        self.pid.map(Pid::as_raw)
    }

    /// Returns when it has ended: it says nothing unasked, so whatever comes is the end of the connection.
    pub(super) async fn ended(&mut self) {
        let _ = self.connection.read_u8().await;
    }

    /// Ends it: SIGTERM, and SIGKILL where that does not help.
    pub(super) async fn end(mut self) {
        let Some(pid) = self.pid else { return };
        // One that has ended meanwhile has closed the connection.
        let _ = kill(pid, Signal::SIGTERM);
        if tokio::time::timeout(END_WITHIN, self.ended()).await.is_err() {
            let _ = kill(pid, Signal::SIGKILL);
        }
    }
}
