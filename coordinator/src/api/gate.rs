//! What stands before every handler.
//!
//! ```text
//! who -> how much (429) -> may they (401, 403: written down) -> body (413, 408) -> key (400)
//!   looks:   handler -> still the same role? -> answer
//!   changes: written down, on disk (else 503) -> handler, to its end whatever becomes of the connection -> what became of it
//! ```

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{Request, State as Shared};
use axum::http::{HeaderMap, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use protocol::id::sha256_hex;

use super::caller::{Caller, Peer};
use super::problem::{Answer, Code, Failed};
use super::routes::{Kind, Least, Route};
use super::write::Turn;
use super::{Api, KEY_HEADER, REPEATED_HEADER, target};
use crate::audit::{Draft, Event};
use crate::state::answers::Repeatable;
use crate::state::records::AnswerKey;

/// From the first byte of a body to its last.
const BODY_WITHIN: Duration = Duration::from_secs(20);
/// Of what is said beside a streamed body.
const MAX_TARGET_CHARS: usize = 160;
const KEY_CHARS: std::ops::RangeInclusive<usize> = 8..=64;
/// Too many in work: some of them end soon.
const TRY_AGAIN: Duration = Duration::from_secs(1);

pub(super) async fn pass(
    Shared((api, route)): Shared<(Arc<Api>, &'static Route)>,
    request: Request,
    next: Next,
) -> Response {
    let answer = passed(&api, route, request, next).await;
    let answer = answer.unwrap_or_else(Failed::into_response);
    api.answered.count(answer.status());
    answer
}

async fn passed(api: &Arc<Api>, route: &'static Route, request: Request, next: Next) -> Answer {
    let Some(peer) = request.extensions().get::<Peer>().cloned() else {
        return Err(Failed::internal("no_peer", &"nobody said who asks"));
    };
    let caller = Caller::of(&peer, api).await?;
    api.rates
        .take(&caller.identity, caller.known(), api.at().now)
        .map_err(|after| Failed::later(&format!("{} asks too much", caller.who), after))?;
    let Some(_place) = api.places.take(&caller.identity) else {
        let message = format!("{} has too many requests in work", caller.who);
        return Err(Failed::later(&message, TRY_AGAIN));
    };
    let path = request.uri().path().to_owned();
    if let Err(denied) = caller.may(route) {
        // Of somebody who is known, what they wanted is worth reading.
        let body = match caller.role {
            Some(_) if !route.is_streamed => {
                read_whole(request, route).await.map_or_else(|_| Bytes::new(), |read| read.1)
            }
            Some(_) | None => Bytes::new(),
        };
        let target = target::of(&path, &body);
        return Err(refuse(api, route, &caller, target, denied).await);
    }
    match route.kind {
        Kind::Read => {
            let request = read_whole(request, route).await?.0;
            let response = next.run(request).await;
            // Revoked while it waited for news: there is none for them.
            if let (Peer::Remote { .. }, Least::Role(_)) = (&peer, route.least) {
                Caller::of(&peer, api).await?.may(route)?;
            }
            Ok(response)
        }
        Kind::Change => {
            let key = match key(request.headers()) {
                Ok(key) => key,
                Err(bad) => return Err(refuse(api, route, &caller, String::new(), bad).await),
            };
            if route.is_streamed {
                let target = streamed(&path, &request);
                let asked = Draft { key, ..draft(api, Event::Asked, route, &caller, target) };
                return change(api, asked, (caller, None, String::new()), request, next).await;
            }
            let (request, body) = match read_whole(request, route).await {
                Ok(read) => read,
                Err(bad) => return Err(refuse(api, route, &caller, String::new(), bad).await),
            };
            let target = target::of(&path, &body);
            let digest = digest(&request, &body);
            let asked = Draft {
                request: Some(digest.clone()),
                key: key.clone(),
                ..draft(api, Event::Asked, route, &caller, target)
            };
            change(api, asked, (caller, key, digest), request, next).await
        }
    }
}

/// Written down, done, and what became of it written down. A client that goes away stops none of it.
async fn change(
    api: &Arc<Api>,
    asked: Draft,
    (caller, key, digest): (Caller, Option<String>, String),
    mut request: Request,
    next: Next,
) -> Answer {
    let head = api.audit.write(asked.clone()).await.map_err(|error| {
        tracing::error!(%error, "a change is refused");
        Failed::new(StatusCode::SERVICE_UNAVAILABLE, "audit_unwritable", error.to_string())
    })?;
    let repeatable = key.map(|key| Repeatable {
        of: AnswerKey { identity: caller.identity.clone(), key },
        request: digest,
    });
    request.extensions_mut().insert(Turn { caller, repeatable });
    let api = Arc::clone(api);
    let done = tokio::spawn(async move {
        let response = next.run(request).await;
        let is_repeated = response.headers().contains_key(REPEATED_HEADER);
        let code = response.extensions().get::<Code>().map(|code| code.0.clone());
        let outcome = Draft {
            at_ms: api.at().unix_ms,
            event: if has_done(response.status()) { Event::Done } else { Event::Failed },
            of: Some(head.n),
            request: None,
            key: None,
            status: Some(response.status().as_u16()),
            code: code.or_else(|| is_repeated.then(|| "repeated".to_owned())),
            ..asked
        };
        if let Err(error) = api.audit.write(outcome).await {
            tracing::error!(%error, of = head.n, "what became of a change is not in the audit log");
        }
        response
    });
    done.await.map_err(|error| Failed::internal("panicked", &error))
}

/// What goes on without HTTP has begun well.
fn has_done(status: StatusCode) -> bool {
    status.is_success() || status == StatusCode::SWITCHING_PROTOCOLS
}

/// Writes a refusal down. Where it cannot be, it is refused all the same.
async fn refuse(
    api: &Api,
    route: &Route,
    caller: &Caller,
    target: String,
    failed: Failed,
) -> Failed {
    let refused = Draft {
        status: Some(failed.status()),
        code: Some(failed.code().to_owned()),
        ..draft(api, Event::Refused, route, caller, target)
    };
    if let Err(error) = api.audit.write(refused).await {
        tracing::error!(%error, "a refusal is not in the audit log");
    }
    failed
}

fn draft(api: &Api, event: Event, route: &Route, caller: &Caller, target: String) -> Draft {
    Draft {
        at_ms: api.at().unix_ms,
        event,
        of: None,
        who: caller.who.clone(),
        role: caller.role,
        verb: route.verb.to_owned(),
        target,
        request: None,
        key: None,
        status: None,
        code: None,
    }
}

/// What is said beside a body that is not read yet.
fn streamed(path: &str, request: &Request) -> String {
    match target::of(path, &[]) {
        named if !named.is_empty() => named,
        _ => request.uri().query().unwrap_or_default().chars().take(MAX_TARGET_CHARS).collect(),
    }
}

/// The request with its whole body, and the body.
async fn read_whole(request: Request, route: &Route) -> Result<(Request, Bytes), Failed> {
    let (parts, body) = request.into_parts();
    let reading = tokio::time::timeout(BODY_WITHIN, to_bytes(body, route.max_bytes)).await;
    let body = reading.map_err(|_| {
        let message = format!("the body did not come within {} s", BODY_WITHIN.as_secs());
        Failed::new(StatusCode::REQUEST_TIMEOUT, "too_slow", message)
    })?;
    let body = body.map_err(|error| {
        let message = format!(
            "the body of `{}` is not readable within its {} bytes: {error}",
            route.verb, route.max_bytes
        );
        Failed::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", message)
    })?;
    Ok((Request::from_parts(parts, Body::from(body.clone())), body))
}

fn key(headers: &HeaderMap) -> Result<Option<String>, Failed> {
    let Some(value) = headers.get(KEY_HEADER) else { return Ok(None) };
    let is_fine = |text: &&str| {
        let fits = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
        KEY_CHARS.contains(&text.len()) && text.bytes().all(fits)
    };
    match value.to_str().ok().filter(is_fine) {
        Some(text) => Ok(Some(text.to_owned())),
        None => Err(Failed::new(
            StatusCode::BAD_REQUEST,
            "bad_key",
            "an idempotency key has 8 to 64 letters, digits, - and _",
        )),
    }
}

fn digest(request: &Request, body: &[u8]) -> String {
    let path = request.uri().path_and_query().map_or("", |path| path.as_str());
    let mut text = format!("{}\n{path}\n", request.method()).into_bytes();
    text.extend_from_slice(body);
    sha256_hex(&text)
}
