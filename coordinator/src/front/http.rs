//! HTTP/1.1 on one connection: who is at its other end goes along with every request.

use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};

use super::blobs::Shown;
use crate::api::Peer;

/// A head larger than this is refused.
const MAX_HEAD_BYTES: usize = 16 * 1024;
/// For a head, and between two requests. Clients of ours close a connection that rests before that.
const HEAD_WITHIN: Duration = Duration::from_secs(30);

/// Who is at the other end.
#[derive(Debug, Clone)]
pub(crate) struct Who {
    pub(crate) peer: Peer,
    pub(crate) shown: Option<Shown>,
}

/// Serves a connection to its end; once `end` is there, what is being answered gets `grace`, and nothing new is taken.
pub(crate) async fn serve(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    who: Who,
    router: axum::Router,
    end: impl Future<Output = ()>,
    grace: Duration,
) {
    let router = TowerToHyperService::new(router);
    let service = service_fn(move |mut request: hyper::Request<hyper::body::Incoming>| {
        request.extensions_mut().insert(who.peer.clone());
        if let Some(shown) = &who.shown {
            request.extensions_mut().insert(shown.clone());
        }
        router.call(request)
    });
    let serving = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_WITHIN)
        .max_buf_size(MAX_HEAD_BYTES)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    let mut serving = std::pin::pin!(serving);
    let ended = tokio::select! {
        // Both are only polled here; the connection goes on being polled below.
        ended = serving.as_mut() => ended,
        () = end => {
            serving.as_mut().graceful_shutdown();
            tokio::time::timeout(grace, serving).await.unwrap_or(Ok(()))
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "an HTTP connection ended");
    }
}
