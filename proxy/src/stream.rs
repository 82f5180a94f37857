//! A connection as sessions see it: in clear, or TLS with another node's proxy.
//!
//! Everything a client or an instance of this node sends is in clear, and costs one branch here. Must not know how TLS
//! was agreed on; `trust` does that.

use crate::limits::TLS_RECORD_BYTES;
use socket2::SockRef;
use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsStream;

/// See the file's head.
#[derive(Debug)]
pub(crate) enum Stream {
    /// Bytes as they are.
    Clear(TcpStream),
    /// With another node's proxy. On the heap, so that its size is not every connection's.
    Secure(Box<TlsStream<TcpStream>>),
}

/// How sure one wants to be that nothing came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Look {
    /// By what the runtime knows; costs no system call.
    Known,
    /// The system is asked.
    Asked,
}

impl Stream {
    /// Whether an idle connection is alive and said nothing, as far as can be seen without waiting.
    pub(crate) fn is_quiet(&mut self, look: Look) -> bool {
        match self {
            Self::Clear(socket) => match look {
                Look::Known => would_block(socket.try_read(&mut [0])),
                Look::Asked => nothing_arrived(socket),
            },
            // A session ticket is no answer and is read here; an end or stray bytes make it unfit.
            Self::Secure(stream) => {
                let mut cx = Context::from_waker(Waker::noop());
                let mut byte = [0];
                let mut buffer = ReadBuf::new(&mut byte);
                let quiet = Pin::new(&mut **stream).poll_read(&mut cx, &mut buffer).is_pending();
                quiet && (look == Look::Known || nothing_arrived(stream.get_ref().0))
            }
        }
    }
}

fn nothing_arrived(socket: &TcpStream) -> bool {
    would_block(SockRef::from(socket).peek(&mut [MaybeUninit::uninit()]))
}

fn would_block(read: io::Result<usize>) -> bool {
    read.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
}

impl AsyncRead for Stream {
    #[inline]
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Clear(stream) => Pin::new(stream).poll_read(cx, buffer),
            Self::Secure(stream) => Pin::new(&mut **stream).poll_read(cx, buffer),
        }
    }
}

impl AsyncWrite for Stream {
    /// TLS: at most one record at a time, so that a write that failed is one of which the other side could read nothing.
    #[inline]
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Clear(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Secure(stream) => {
                let record = &bytes[..bytes.len().min(TLS_RECORD_BYTES)];
                Pin::new(&mut **stream).poll_write(cx, record)
            }
        }
    }

    /// TLS keeps what the socket did not take at once; in clear there is nothing to do.
    #[inline]
    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Clear(_) => Poll::Ready(Ok(())),
            Self::Secure(stream) => Pin::new(&mut **stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Clear(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Secure(stream) => Pin::new(&mut **stream).poll_shutdown(cx),
        }
    }
}
