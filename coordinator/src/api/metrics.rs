//! `/metrics`.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::body::Body;
use axum::extract::{Extension, State as Shared};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::IntoResponse as _;
use futures_util::stream;

use super::Api;
use super::caller::Peer;
use super::problem::Answer;
use crate::metrics::{self, CLASSES, Format, Own};

/// How often nodes tell their load in detail while somebody scrapes.
const EVERY_MS: u32 = 60_000;

/// Requests answered since the start, by the class of their status.
#[derive(Debug, Default)]
pub(super) struct Answered([AtomicU64; CLASSES.len()]);

impl Answered {
    pub(super) fn count(&self, status: StatusCode) {
        let class = usize::from(status.as_u16() / 100).wrapping_sub(1);
        if let Some(count) = self.0.get(class) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn now(&self) -> [u64; CLASSES.len()] {
        std::array::from_fn(|class| self.0[class].load(Ordering::Relaxed))
    }
}

pub(super) async fn show(
    Shared(api): Shared<Arc<Api>>,
    Extension(peer): Extension<Peer>,
    headers: HeaderMap,
) -> Answer {
    api.watch(Some(EVERY_MS)).await?;
    let certificate = match peer {
        Peer::Local { .. } => None,
        Peer::Remote { certificate, .. } => certificate,
    };
    let (fleet, scraper) = api
        .fleet
        .ask(move |state, at| {
            let scraper = certificate.and_then(|sha256| state.certificate_end(&sha256));
            (state.measured(at), scraper)
        })
        .await?;
    let own = Own {
        certificate_until: api.ca.served_until(),
        scraper: scraper.map(|(name, until)| (name.to_string(), until)),
        answered: api.answered.now(),
    };
    let accept = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok());
    let format = accept.map_or(Format::Text, Format::wanted);
    let pieces = metrics::text(&fleet, &own, format).into_iter().map(Ok::<_, Infallible>);
    let body = Body::from_stream(stream::iter(pieces));
    Ok(([(header::CONTENT_TYPE, format.content_type())], body).into_response())
}
