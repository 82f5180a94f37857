//! What a container, or a command in it, writes: bytes as they come, and how it ended.

use std::future::Future;

use protocol::command::{Channel, Logs, MAX_LINES, Terminal};
use tokio::sync::{mpsc, watch};

use super::pull::AbortOnDrop;

/// Pieces not read yet; more wait in the engine.
const MAX_QUEUED: usize = 2;

/// What is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// The log of a container.
    Logs {
        /// Its last lines.
        lines: u32,
        /// Not older than so many seconds.
        since_s: Option<u64>,
        /// And what is written from now on.
        follow: bool,
    },
    /// What a command writes that is run in it, once.
    Exec {
        /// The program and its arguments.
        command: Vec<String>,
        /// It runs on a terminal of this size.
        terminal: Option<Terminal>,
    },
}

/// What is passed on to a command, or to a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Typed {
    /// Bytes; each is answered by [`Wrote::Took`] once it is written.
    Bytes(Vec<u8>),
    /// Nothing more comes. Answered as bytes are.
    Last,
}

/// Where what is typed comes from.
#[derive(Debug)]
pub struct Typing {
    /// Over without a [`Typed::Last`]: whoever typed is gone.
    pub typed: mpsc::Receiver<Typed>,
    /// The newest size of the terminal, once it is another than at the start.
    pub sizes: watch::Receiver<Option<Terminal>>,
}

impl Source {
    /// The log of one of the instances that are asked for.
    #[must_use]
    pub fn logs(of: &Logs) -> Self {
        Self::Logs { lines: of.lines.min(MAX_LINES), since_s: of.since_s, follow: of.follow }
    }
}

/// What comes of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wrote {
    /// Bytes.
    Bytes(Channel, Vec<u8>),
    /// One more of what was typed is written.
    Took,
    /// The end; the code of a command.
    Ended(Option<i64>),
    /// It could not be read, or not further.
    Failed(String),
}

/// A reading under way; dropping it ends it. A command that runs goes on without its reader.
#[derive(Debug)]
pub struct Written {
    pieces: mpsc::Receiver<Wrote>,
    _task: AbortOnDrop,
}

impl Written {
    /// Runs `read` as a local task; what it returns is the last piece.
    pub(crate) fn spawn<F, P>(read: P) -> Self
    where
        P: FnOnce(mpsc::Sender<Wrote>) -> F,
        F: Future<Output = Wrote> + 'static,
    {
        let (sender, pieces) = mpsc::channel(MAX_QUEUED);
        let reading = read(sender.clone());
        let task = tokio::task::spawn_local(async move {
            let last = reading.await;
            // Nobody listens any more: nothing to tell.
            let _ = sender.send(last).await;
        });
        Self { pieces, _task: AbortOnDrop(task.abort_handle()) }
    }

    /// The next piece; `None` after the last. Cancel-safe.
    pub async fn next(&mut self) -> Option<Wrote> {
        self.pieces.recv().await
    }
}
