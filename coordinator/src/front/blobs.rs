//! Archives of images and programs of agents for nodes: an admitted node, known by its certificate, gets their bytes, from where it
//! stopped.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{Extension, Path, State as Shared};
use axum::http::header::{
    ACCEPT_RANGES, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG, IF_RANGE, RANGE, RETRY_AFTER,
};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use bytes::Bytes;
use futures_util::stream;
use protocol::archive::{BLOBS_PATH, NODE_HEADER};
use protocol::id::{Digest, NodeId};
use rustls::pki_types::CertificateDer;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::{Door, tls};
use crate::archives::Archives;
use crate::programs::Programs;

/// Downloads at once; the others come again.
const MAX_AT_ONCE: usize = 64;
const PIECE_BYTES: usize = 256 * 1024;

/// The certificate that the other end has shown.
#[derive(Debug, Clone)]
pub(crate) struct Shown(pub(crate) Arc<CertificateDer<'static>>);

/// What there is, by its sha256.
#[derive(Debug)]
pub struct Kept {
    /// Images that operators pushed.
    pub archives: Arc<Archives>,
    /// What boards may run as their agent.
    pub programs: Programs,
}

#[derive(Debug)]
struct Shelf {
    kept: Kept,
    door: Door,
    at_once: Arc<Semaphore>,
}

/// What nodes ask.
pub fn router(kept: Kept, door: Door) -> Router {
    let shelf = Shelf { kept, door, at_once: Arc::new(Semaphore::new(MAX_AT_ONCE)) };
    Router::new().route(&format!("{BLOBS_PATH}{{sha256}}"), get(give)).with_state(Arc::new(shelf))
}

async fn give(
    Shared(shelf): Shared<Arc<Shelf>>,
    shown: Option<Extension<Shown>>,
    Path(sha256): Path<String>,
    headers: HeaderMap,
) -> Response {
    if !is_let_in(&shelf, shown.as_deref(), &headers) {
        return (StatusCode::FORBIDDEN, "this is for the nodes of this fleet\n").into_response();
    }
    let Ok(digest) = format!("sha256:{sha256}").parse::<Digest>() else {
        return StatusCode::NOT_FOUND.into_response();
    };
    let Ok(turn) = Arc::clone(&shelf.at_once).try_acquire_owned() else {
        return (StatusCode::SERVICE_UNAVAILABLE, [(RETRY_AFTER, "5")]).into_response();
    };
    let archive = shelf.kept.archives.open(&digest);
    let (file, bytes) = match archive.or_else(|why| shelf.kept.programs.open(&digest).ok_or(why)) {
        Ok(found) => found,
        Err(error) => return (StatusCode::NOT_FOUND, format!("{error}\n")).into_response(),
    };
    answer(file, bytes, &sha256, &headers, turn)
}

/// A node of the fleet that was admitted and not revoked.
fn is_let_in(shelf: &Shelf, shown: Option<&Shown>, headers: &HeaderMap) -> bool {
    let node = headers.get(NODE_HEADER).and_then(|value| value.to_str().ok());
    let Some(node) = node.and_then(|text| text.parse::<NodeId>().ok()) else { return false };
    let is_its = shown.is_some_and(|shown| tls::is_of_node(&shown.0, shelf.door.fleet(), &node));
    is_its && shelf.door.is_admitted(&node)
}

fn answer(
    mut file: File,
    bytes: u64,
    sha256: &str,
    headers: &HeaderMap,
    turn: OwnedSemaphorePermit,
) -> Response {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let etag = format!("\"{sha256}\"");
    let is_same = text(IF_RANGE).is_none_or(|wanted| wanted == etag);
    let from = text(RANGE).filter(|_| is_same).and_then(first_byte);
    let (status, from) = match from {
        Some(from) if from >= bytes => {
            let range = format!("bytes */{bytes}");
            return (StatusCode::RANGE_NOT_SATISFIABLE, [(CONTENT_RANGE, range)]).into_response();
        }
        Some(from) => (StatusCode::PARTIAL_CONTENT, from),
        None => (StatusCode::OK, 0),
    };
    if let Err(error) = file.seek(SeekFrom::Start(from)) {
        return (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response();
    }
    let head = [
        (CONTENT_TYPE, "application/octet-stream".to_owned()),
        (ACCEPT_RANGES, "bytes".to_owned()),
        (ETAG, etag),
        (CONTENT_LENGTH, (bytes - from).to_string()),
    ];
    let mut response = (status, head, Body::from_stream(pieces(file, turn))).into_response();
    if status == StatusCode::PARTIAL_CONTENT
        && let Ok(range) = format!("bytes {from}-{}/{bytes}", bytes.saturating_sub(1)).parse()
    {
        response.headers_mut().insert(CONTENT_RANGE, range);
    }
    response
}

/// `bytes=5-`; any other range gets the whole, as RFC 9110 §14.2 allows.
fn first_byte(range: &str) -> Option<u64> {
    range.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok()
}

/// To the end of the file; the turn is over with it.
fn pieces(
    file: File,
    turn: OwnedSemaphorePermit,
) -> impl futures_util::Stream<Item = io::Result<Bytes>> + Send {
    stream::unfold(Some((file, turn)), |rest| async move {
        let (mut file, turn) = rest?;
        let reading = tokio::task::spawn_blocking(move || {
            let mut piece = vec![0; PIECE_BYTES];
            let count = file.read(&mut piece)?;
            piece.truncate(count);
            Ok((piece, file))
        });
        match reading.await.map_err(io::Error::other).flatten() {
            Ok((piece, _)) if piece.is_empty() => None,
            Ok((piece, file)) => Some((Ok(piece.into()), Some((file, turn)))),
            Err(error) => Some((Err(error), None)),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_to_the_end_is_understood_and_any_other_gets_the_whole() {
        assert_eq!(first_byte("bytes=5-"), Some(5));
        for other in ["bytes=5-9", "bytes=-5", "bytes=5-,7-", "items=5-", "bytes=x-"] {
            assert_eq!(first_byte(other), None, "{other}");
        }
    }
}
