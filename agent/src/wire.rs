//! HTTP/1.1 as a client: what it is spoken over, and what is sent. One kind of both in the whole program, since another kind would be
//! another client in its machine code.
//!
//! Must not know who is asked, nor what an answer means.

use std::io;
use std::pin::Pin;

use bytes::Bytes;
use futures_util::Stream;
use http_body_util::{Either, Full, StreamBody};
use hyper::body::Frame;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::task::AbortHandle;

/// What HTTP is spoken over.
pub trait Wire: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send {}
impl<T: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send> Wire for T {}

/// Bytes that come while they are sent.
pub type Coming = Pin<Box<dyn Stream<Item = io::Result<Frame<Bytes>>> + Send>>;

/// What a request carries; Docker's client library has it so.
pub type Sent = Either<Full<Bytes>, StreamBody<Coming>>;

/// A request that carries these bytes.
#[must_use]
pub fn whole(bytes: Bytes) -> Sent {
    Either::Left(Full::new(bytes))
}

/// Ready to be asked. A task drives the connection, which ends with its last answer; or by what is returned beside.
///
/// # Errors
/// As hyper says it.
pub async fn open(stream: Box<dyn Wire>) -> hyper::Result<(SendRequest<Sent>, AbortHandle)> {
    let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    // How it ends is known from the answer, or from what becomes of it.
    let driving = tokio::spawn(async move { drop(connection.with_upgrades().await) });
    Ok((sender, driving.abort_handle()))
}
