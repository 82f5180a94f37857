//! Moves bytes from one socket to another through one buffer per thread, so that a connection at rest
//! holds no buffer. What the receiver does not take at once is kept, and nothing more is read until it did.

use crate::framing::Framing;
use crate::limits::SCRATCH_BYTES;
use crate::stream::Stream;
use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

thread_local! {
    static SCRATCH: RefCell<Vec<u8>> = RefCell::new(vec![0; SCRATCH_BYTES]);
}

/// Why a pump stopped before the end of the body.
#[derive(Debug)]
pub(crate) enum PumpError {
    /// The sender ended or failed.
    Read,
    /// The receiver failed.
    Write,
    /// The body is malformed.
    Malformed,
}

/// Reads once and gives the bytes to `take`. `Ready(Ok(0))` is the end.
pub(crate) fn poll_read_once<T>(
    cx: &mut Context<'_>,
    reader: &mut (impl AsyncRead + Unpin),
    take: impl FnOnce(&[u8]) -> T,
) -> Poll<io::Result<T>> {
    SCRATCH.with_borrow_mut(|scratch| {
        let mut buffer = ReadBuf::new(scratch);
        ready!(Pin::new(reader).poll_read(cx, &mut buffer))?;
        Poll::Ready(Ok(take(buffer.filled())))
    })
}

/// Bytes read and not yet written.
#[derive(Debug, Default)]
pub(crate) struct Pending {
    bytes: Vec<u8>,
    written: usize,
}

impl Pending {
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// Where bytes to be written are composed. Only while nothing of it is written yet.
    pub(crate) fn compose(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    /// Writes until nothing is left.
    pub(crate) fn poll_flush(
        &mut self,
        cx: &mut Context<'_>,
        writer: &mut (impl AsyncWrite + Unpin),
    ) -> Poll<io::Result<()>> {
        while self.written < self.bytes.len() {
            let count = ready!(Pin::new(&mut *writer).poll_write(cx, &self.bytes[self.written..]))?;
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.written += count;
        }
        // What was written may still wait in a record of TLS.
        ready!(Pin::new(writer).poll_flush(cx))?;
        self.written = 0;
        self.bytes.clear();
        self.bytes.shrink_to(crate::limits::KEPT_BUFFER_BYTES);
        Poll::Ready(Ok(()))
    }

    /// Writes `bytes` as far as the receiver takes them and keeps the rest. Nothing may be pending.
    fn pass(
        &mut self,
        cx: &mut Context<'_>,
        writer: &mut (impl AsyncWrite + Unpin),
        bytes: &[u8],
    ) -> io::Result<()> {
        let count = match Pin::new(writer).poll_write(cx, bytes) {
            Poll::Ready(count) => count?,
            Poll::Pending => 0,
        };
        self.push(&bytes[count..]);
        Ok(())
    }
}

/// Passes a body on until its end and until the receiver took it all. Each piece goes to `seen` before it
/// is written; bytes after the body's end go to `beyond`.
pub(crate) fn poll_pump(
    cx: &mut Context<'_>,
    reader: &mut (impl AsyncRead + Unpin),
    writer: &mut (impl AsyncWrite + Unpin),
    body: (&mut Framing, &mut Pending),
    mut seen: impl FnMut(&[u8]),
    mut beyond: impl FnMut(&[u8]),
) -> Poll<Result<(), PumpError>> {
    let (framing, pending) = body;
    loop {
        ready!(pending.poll_flush(cx, writer)).map_err(|_| PumpError::Write)?;
        if framing.is_done() {
            return Poll::Ready(Ok(()));
        }
        // The buffer is borrowed within the closure, so the write happens there too.
        let step = SCRATCH.with_borrow_mut(|scratch| {
            let mut buffer = ReadBuf::new(scratch);
            if ready!(Pin::new(&mut *reader).poll_read(cx, &mut buffer)).is_err() {
                return Poll::Ready(Err(PumpError::Read));
            }
            let bytes = buffer.filled();
            if bytes.is_empty() {
                return match framing {
                    Framing::UntilClose => {
                        *framing = Framing::Done;
                        Poll::Ready(Ok(()))
                    }
                    Framing::Done | Framing::Length(_) | Framing::Chunked(_) => {
                        Poll::Ready(Err(PumpError::Read))
                    }
                };
            }
            let used = framing.advance(bytes).map_err(|_| PumpError::Malformed)?;
            seen(&bytes[..used]);
            beyond(&bytes[used..]);
            pending.pass(cx, writer, &bytes[..used]).map_err(|_| PumpError::Write)?;
            Poll::Ready(Ok(()))
        });
        ready!(step)?;
    }
}

/// Copies both ways until both ends have ended, each end passed on as a half-close.
///
/// # Errors
/// When either side broke off; the other is closed by dropping it.
pub(crate) async fn tunnel(
    left: &mut Stream,
    right: &mut Stream,
    mut to_left: Pending,
    mut to_right: Pending,
) -> Result<(), PumpError> {
    let (mut leftward, mut rightward) = (Way::Open, Way::Open);
    std::future::poll_fn(|cx| {
        leftward.poll(cx, right, left, &mut to_left)?;
        rightward.poll(cx, left, right, &mut to_right)?;
        match (&leftward, &rightward) {
            (Way::Done, Way::Done) => Poll::Ready(Ok(())),
            (Way::Open | Way::Ending, _) | (_, Way::Open | Way::Ending) => Poll::Pending,
        }
    })
    .await
}

/// One direction of a tunnel.
#[derive(Debug)]
enum Way {
    /// Bytes pass, until the sender ended: then ending.
    Open,
    /// The end is being passed on: then done.
    Ending,
    /// Nothing follows.
    Done,
}

impl Way {
    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut Stream,
        to: &mut Stream,
        pending: &mut Pending,
    ) -> Result<(), PumpError> {
        if matches!(self, Self::Open) {
            let body = (&mut Framing::UntilClose, pending);
            if let Poll::Ready(result) = poll_pump(cx, from, to, body, |_| (), |_| ()) {
                result?;
                *self = Self::Ending;
            }
        }
        // Whether it could be passed on or not.
        if matches!(self, Self::Ending) && Pin::new(to).poll_shutdown(cx).is_ready() {
            *self = Self::Done;
        }
        Ok(())
    }
}
