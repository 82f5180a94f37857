//! Archives: pushed, looked at, removed.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Path as UrlPath, Query, State as Shared};
use axum::http::StatusCode;
use protocol::id::Digest;
use serde::Deserialize;

use super::Api;
use super::problem::{Answer, Failed, ok};
use crate::archives::ShelfError;

/// Characters of an image's name.
const MAX_NAME_CHARS: usize = 256;

/// What is pushed.
#[derive(Debug, Deserialize)]
pub(super) struct Pushed {
    #[serde(default)]
    image: String,
}

/// The body is taken as it comes: the gate has not read it.
pub(super) async fn push(
    Shared(api): Shared<Arc<Api>>,
    Query(pushed): Query<Pushed>,
    body: Body,
) -> Answer {
    let image: String =
        pushed.image.chars().filter(|c| !c.is_control()).take(MAX_NAME_CHARS).collect();
    ok(api.archives.receive(body.into_data_stream(), image, api.at().unix_ms).await?)
}

pub(super) async fn list(Shared(api): Shared<Arc<Api>>) -> Answer {
    let archives = Arc::clone(&api.archives);
    let all = tokio::task::spawn_blocking(move || archives.all()).await;
    ok(all.map_err(|error| Failed::internal("archives", &error))?)
}

pub(super) async fn remove(
    Shared(api): Shared<Arc<Api>>,
    UrlPath(sha256): UrlPath<String>,
) -> Answer {
    let Ok(digest) = format!("sha256:{sha256}").parse::<Digest>() else {
        let message = "an archive is named by the 64 digits that `pith push --ls` shows";
        return Err(Failed::new(StatusCode::BAD_REQUEST, "bad_sha256", message));
    };
    let wanted = digest.clone();
    let used = api.fleet.ask(move |state, _| state.users_of_archive(&wanted)).await?;
    if !used.is_empty() {
        let message = format!(
            "{} needs this archive: a node that joins, or whose disk is lost, could not get it; deploy another \
             release first",
            used.join(", ")
        );
        return Err(Failed::new(StatusCode::CONFLICT, "archive_used", message));
    }
    ok(api.archives.remove(&digest)?)
}

impl From<ShelfError> for Failed {
    fn from(error: ShelfError) -> Self {
        let (status, code) = match &error {
            ShelfError::NoRoom { .. } => (StatusCode::INSUFFICIENT_STORAGE, "no_room"),
            ShelfError::TooLarge => (StatusCode::PAYLOAD_TOO_LARGE, "too_large"),
            ShelfError::Broken(_) => (StatusCode::REQUEST_TIMEOUT, "broken_off"),
            ShelfError::Archive(_) => (StatusCode::UNPROCESSABLE_ENTITY, "not_an_image"),
            ShelfError::Missing(_) => (StatusCode::NOT_FOUND, "no_archive"),
            ShelfError::Io { .. } => (StatusCode::INTERNAL_SERVER_ERROR, "disk"),
        };
        Self::new(status, code, error.to_string())
    }
}
