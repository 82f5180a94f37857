//! What somebody far away types, passed on to a command or to a connection: each piece in its turn, and each answered once it is written.
//!
//! Must not know what is typed, nor how it came here.

use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::time::Duration;

use protocol::command::{Channel, MAX_PART_BYTES, Terminal};
use tokio::io::{AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::mpsc::{self, WeakSender};

use crate::engine::{Typed, Typing, Written, Wrote};

/// A container is on the same board.
const CONNECT_WITHIN: Duration = Duration::from_secs(5);
/// How soon one who is gone is noticed while nothing can be written.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// Between the keys of a farewell, and after them: what a terminal's program interrupts gives the terminal back first, and each is to be read.
const FAREWELL_PAUSE: Duration = Duration::from_millis(500);
const FAREWELL_WITHIN: Duration = Duration::from_secs(4);
/// Ctrl-D: a terminal gives it to what reads as the end of its input.
const END_OF_INPUT: &[u8] = b"\x04";
/// Ctrl-C, before the end of input: what runs is interrupted, and the shell that waited for it reads a line.
const INTERRUPT: &[u8] = b"\x03";

/// What is at the other end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Other {
    /// A terminal: bytes alone steer it.
    Terminal,
    /// Something that sees the end of what is written.
    Pipe,
}

/// Passes on what is typed until whoever typed is gone, or nobody reads what comes of it any more.
pub(crate) async fn pass_on(
    (mut to, other): (impl AsyncWrite + Unpin, Other),
    mut typing: Typing,
    pieces: WeakSender<Wrote>,
    mut resize: impl AsyncFnMut(Terminal),
) {
    loop {
        // Cancel-safe: what is typed is taken whole, and of sizes the newest counts.
        let typed = tokio::select! {
            typed = typing.typed.recv() => typed,
            Ok(()) = typing.sizes.changed() => {
                let size = *typing.sizes.borrow_and_update();
                if let Some(terminal) = size {
                    resize(terminal).await;
                }
                continue;
            }
        };
        let Some(typed) = typed else { break };
        let written = match (typed, other) {
            (Typed::Bytes(bytes), _) => write(&mut to, &bytes, &pieces).await,
            (Typed::Last, Other::Terminal) => write(&mut to, END_OF_INPUT, &pieces).await,
            (Typed::Last, Other::Pipe) => to.shutdown().await,
        };
        // What ended, or takes no input, is told by its end; what is not passed on is said again in vain.
        if written.is_err() {
            break;
        }
        let Some(pieces) = pieces.upgrade() else { break };
        let _ = pieces.send(Wrote::Took).await;
    }
    if other == Other::Terminal {
        let _ = tokio::time::timeout(FAREWELL_WITHIN, hang_up(&mut to)).await;
    }
    let _ = to.shutdown().await;
}

/// Docker hangs a terminal up by itself only when the container ends.
async fn hang_up(to: &mut (impl AsyncWrite + Unpin)) -> io::Result<()> {
    for keys in [INTERRUPT, END_OF_INPUT] {
        to.write_all(keys).await?;
        to.flush().await?;
        tokio::time::sleep(FAREWELL_PAUSE).await;
    }
    Ok(())
}

/// A command may read its input whenever it likes, or never.
async fn write(
    to: &mut (impl AsyncWrite + Unpin),
    bytes: &[u8],
    pieces: &WeakSender<Wrote>,
) -> io::Result<()> {
    let mut writing = pin!(async {
        to.write_all(bytes).await?;
        to.flush().await
    });
    loop {
        match tokio::time::timeout(LOOK_EVERY, writing.as_mut()).await {
            Ok(written) => return written,
            Err(_) if pieces.strong_count() == 0 => {
                return Err(io::ErrorKind::ConnectionAborted.into());
            }
            Err(_) => {}
        }
    }
}

/// A connection to a port, and what comes on it; its end is the end of what comes.
pub(crate) fn connect(address: SocketAddr, typing: Typing) -> Written {
    Written::spawn(move |pieces| async move {
        let connecting = tokio::time::timeout(CONNECT_WITHIN, TcpStream::connect(address)).await;
        let stream = match connecting {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => return failed(address, &error.to_string()),
            Err(_) => return failed(address, "no answer within 5 s"),
        };
        // Small pieces, each of which somebody waits for.
        let _ = stream.set_nodelay(true);
        let (mut from, to) = stream.into_split();
        let passing = pass_on((to, Other::Pipe), typing, pieces.downgrade(), async |_| {});
        tokio::task::spawn_local(passing);
        loop {
            match read(&mut from, &pieces).await {
                Ok(true) => {}
                Ok(false) => return Wrote::Ended(None),
                Err(error) => return failed(address, &error.to_string()),
            }
        }
    })
}

fn failed(address: SocketAddr, why: &str) -> Wrote {
    Wrote::Failed(format!("port {} inside the instance: {why}", address.port()))
}

/// Passes one piece of what comes on to whoever reads; false: there is nothing more.
///
/// # Errors
/// As the connection says it.
pub(crate) async fn read(
    from: &mut (impl tokio::io::AsyncRead + Unpin),
    pieces: &mpsc::Sender<Wrote>,
) -> io::Result<bool> {
    let mut bytes = Vec::with_capacity(MAX_PART_BYTES);
    if from.take(MAX_PART_BYTES as u64).read_buf(&mut bytes).await? == 0 {
        return Ok(false);
    }
    // Nobody reads any more: this task is being ended.
    let _ = pieces.send(Wrote::Bytes(Channel::Stdout, bytes)).await;
    Ok(true)
}

#[cfg(test)]
mod tests;
