//! Hands the programs of agents to nodes that are admitted, each by its certificate; from any byte on, so that a bad link goes on.

use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::sync::Arc;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Extension, Path as UrlPath, State as Shared};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use futures_util::stream;
use protocol::agent_release::PROGRAM_PATH;
use protocol::id::{Digest, NodeId};
use rustls::pki_types::CertificateDer;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::{Door, tls};
use crate::programs::Programs;

/// Programs on their way at once; the others come again.
const MAX_AT_ONCE: usize = 64;
const CHUNK_BYTES: usize = 32 * 1024;

/// The certificate that the handshake has verified.
#[derive(Debug, Clone)]
pub(crate) struct ShownCertificate(pub(crate) CertificateDer<'static>);

#[derive(Debug)]
struct Shelf {
    programs: Programs,
    door: Door,
    at_once: Arc<Semaphore>,
}

/// What admitted nodes may ask over TLS with their certificates.
pub fn router(programs: Programs, door: Door) -> Router {
    let at_once = Arc::new(Semaphore::new(MAX_AT_ONCE));
    Router::new()
        .route(&format!("{PROGRAM_PATH}/{{node}}/{{program}}"), get(program))
        .with_state(Arc::new(Shelf { programs, door, at_once }))
}

async fn program(
    Shared(shelf): Shared<Arc<Shelf>>,
    shown: Option<Extension<ShownCertificate>>,
    UrlPath((node, program)): UrlPath<(NodeId, String)>,
    headers: HeaderMap,
) -> Response {
    let is_its = shown.is_some_and(|Extension(ShownCertificate(certificate))| {
        tls::is_of_node(&certificate, shelf.door.fleet(), &node)
    });
    if !is_its || !shelf.door.is_admitted(&node) {
        return StatusCode::FORBIDDEN.into_response();
    }
    let Ok(digest) = format!("sha256:{program}").parse::<Digest>() else {
        return StatusCode::NOT_FOUND.into_response();
    };
    let Ok(turn) = Arc::clone(&shelf.at_once).try_acquire_owned() else {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    };
    let path = shelf.programs.path(&digest);
    let opened = File::open(path).and_then(|file| Ok((file.metadata()?.len(), file)));
    let Ok((size, file)) = opened else { return StatusCode::NOT_FOUND.into_response() };
    send(file, size, from(&headers), turn)
}

/// The byte that is asked for first.
fn from(headers: &HeaderMap) -> u64 {
    let range = headers.get(header::RANGE).and_then(|range| range.to_str().ok());
    let from =
        range.and_then(|range| range.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok());
    from.unwrap_or(0)
}

fn send(mut file: File, size: u64, from: u64, turn: OwnedSemaphorePermit) -> Response {
    if from > size || file.seek(SeekFrom::Start(from)).is_err() {
        return StatusCode::RANGE_NOT_SATISFIABLE.into_response();
    }
    let rest = size - from;
    let bytes = stream::unfold((file, turn), |(mut file, turn)| async move {
        let mut chunk = vec![0; CHUNK_BYTES];
        // From the page cache, a few times a second per board.
        match file.read(&mut chunk) {
            Ok(0) => None,
            Ok(read) => {
                chunk.truncate(read);
                Some((Ok(Bytes::from(chunk)), (file, turn)))
            }
            Err(error) => Some((Err(error), (file, turn))),
        }
    });
    let range = format!("bytes {from}-{}/{size}", size.saturating_sub(1));
    let kind = (header::CONTENT_TYPE, "application/octet-stream".to_owned());
    let length = (header::CONTENT_LENGTH, rest.to_string());
    let body = Body::from_stream(bytes);
    (StatusCode::PARTIAL_CONTENT, [kind, length, (header::CONTENT_RANGE, range)], body)
        .into_response()
}
