//! The page's server: the guard before everything, the files, and what a page asks of the coordinator.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{DefaultBodyLimit, Path as UrlPath, Query, Request, State as Shared};
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse as _, Json, Response};
use axum::routing::{get, post};
use futures_util::stream;
use protocol::id::{EnvironmentName, ServiceId, ServiceName};
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use super::files::{FILES, INDEX};
use super::guard::{Guard, POLICY, Pass, Refusal, Token, Wanted};
use crate::api::{Peer, Problem};
use crate::client::{Client, ClientError, Events};
use crate::front::http;
use crate::state::requests::{SteerRequest, Undo};

/// Connections at once: a browser makes six.
const MAX_CONNECTIONS: usize = 64;
/// After an accept that failed, most often for want of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
const MAX_BODY_BYTES: usize = 16 * 1024;
const END_PATIENCE: Duration = Duration::from_secs(1);
/// Of what the browser is told whatever it asks for.
const HEADERS: [(header::HeaderName, &str); 6] = [
    (header::CONTENT_SECURITY_POLICY, POLICY),
    (header::X_FRAME_OPTIONS, "DENY"),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::REFERRER_POLICY, "no-referrer"),
    (header::CACHE_CONTROL, "no-store"),
    (header::HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
];

/// A page for one person and one fleet.
#[derive(Debug)]
pub struct Page {
    /// Asks the coordinator with what the person has.
    pub client: Client,
    /// Who that is, for histories; of somebody from afar the coordinator knows it better.
    pub by: String,
}

type Of = UrlPath<(EnvironmentName, ServiceName)>;
type Answer = Result<Response, Failed>;

/// A refusal as the page reads it.
#[derive(Debug)]
struct Failed(StatusCode, Problem);

impl From<ClientError> for Failed {
    fn from(error: ClientError) -> Self {
        match error {
            ClientError::Refused(problem) => match problem.code.as_str() {
                "role" | "no_role" | "no_certificate" | "not_an_operator" => {
                    Self(StatusCode::FORBIDDEN, problem)
                }
                _ => Self(StatusCode::CONFLICT, problem),
            },
            ClientError::Unreachable { .. }
            | ClientError::Denied { .. }
            | ClientError::Away { .. }
            | ClientError::Distrust { .. }
            | ClientError::Broken(_) => {
                let (code, message) = ("unreachable".to_owned(), error.to_string());
                Self(StatusCode::BAD_GATEWAY, Problem { code, message })
            }
        }
    }
}

impl axum::response::IntoResponse for Failed {
    fn into_response(self) -> Response {
        (self.0, Json(self.1)).into_response()
    }
}

/// Serves the page on this listener to whoever has the token, until `end` is there.
///
/// # Errors
/// Where the listener has no address.
pub async fn serve(
    listener: TcpListener,
    token: Token,
    page: Page,
    end: impl Future<Output = ()>,
) -> io::Result<()> {
    let port = listener.local_addr()?.port();
    let router = router(Guard::new(port, token), page);
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let mut end = std::pin::pin!(end);
    loop {
        // Cancel-safe: accepting loses nothing when dropped.
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = end.as_mut() => return Ok(()),
        };
        let (Ok((stream, _)), Ok(place)) = (accepted, Arc::clone(&places).try_acquire_owned())
        else {
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        let router = router.clone();
        tokio::spawn(async move {
            let _place = place;
            // Who it is, the guard finds out: the kernel names nobody on TCP.
            let peer = Peer::Local { uid: u32::MAX, name: None, role: None };
            let who = http::Who { peer, shown: None };
            http::serve(stream, who, router, std::future::pending(), END_PATIENCE).await;
        });
    }
}

fn router(guard: Guard, page: Page) -> Router {
    let mut router = Router::new()
        .route("/v1/live", get(live))
        .route("/v1/rollouts/{env}/{service}/history", get(history))
        .route("/v1/rollouts/{env}/{service}/diff", get(difference))
        .route("/v1/rollouts/{env}/{service}/steer", post(steer))
        .route("/v1/rollouts/{env}/{service}/undo", post(undo))
        .route(INDEX.path, get(|| async { file(&INDEX) }));
    for one in &FILES {
        router = router.route(one.path, get(move || async move { file(one) }));
    }
    let nothing = || async { (StatusCode::NOT_FOUND, "nothing is here") };
    router
        .fallback(nothing)
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
        .layer(from_fn_with_state(Arc::new(guard), pass))
        .with_state(Arc::new(page))
}

/// Before everything; its headers go with every answer, refusals included.
async fn pass(Shared(guard): Shared<Arc<Guard>>, request: Request, next: Next) -> Response {
    let path = request.uri().path();
    let wanted = match path {
        path if path == INDEX.path => Wanted::Document,
        path if FILES.iter().any(|file| file.path == path) => Wanted::File,
        _ => Wanted::Coordinator,
    };
    let asked = (request.method(), wanted);
    let passed = guard.check(asked, request.uri().query(), request.headers());
    let (mut response, cookie) = match passed {
        Ok(Pass::Opens(cookie)) => (next.run(request).await, Some(cookie)),
        Ok(Pass::Known) => (next.run(request).await, None),
        Err(refusal) => (refused(refusal), None),
    };
    let headers = response.headers_mut();
    for (name, value) in HEADERS {
        headers.insert(name, HeaderValue::from_static(value));
    }
    let cookie = cookie.and_then(|cookie| HeaderValue::try_from(cookie).ok());
    headers.extend(cookie.map(|cookie| (header::SET_COOKIE, cookie)));
    response
}

fn refused(refusal: Refusal) -> Response {
    (StatusCode::FORBIDDEN, format!("{refusal}\n")).into_response()
}

fn file(file: &super::files::File) -> Response {
    ([(header::CONTENT_TYPE, file.kind)], file.text).into_response()
}

fn ok(value: impl Serialize) -> Answer {
    Ok(Json(value).into_response())
}

fn id(UrlPath((environment, name)): Of) -> ServiceId {
    ServiceId { environment, name }
}

/// The coordinator's events as they come; the answer breaks off where theirs does.
async fn live(Shared(page): Shared<Arc<Page>>) -> Answer {
    let events = page.client.live().await?;
    let pieces = stream::unfold(Some(events), |events: Option<Events>| async move {
        let mut events = events?;
        match events.piece().await {
            Ok(Some(piece)) => Some((Ok(piece), Some(events))),
            Ok(None) => None,
            Err(error) => Some((Err(io::Error::other(error)), None)),
        }
    });
    Ok(([(header::CONTENT_TYPE, "text/event-stream")], Body::from_stream(pieces)).into_response())
}

async fn history(Shared(page): Shared<Arc<Page>>, of: Of) -> Answer {
    ok(page.client.history(&id(of)).await?)
}

#[derive(Debug, Deserialize)]
struct Between {
    from: u64,
    to: u64,
}

async fn difference(
    Shared(page): Shared<Arc<Page>>,
    of: Of,
    Query(Between { from, to }): Query<Between>,
) -> Answer {
    ok(page.client.difference(&id(of), from, to).await?)
}

async fn steer(Shared(page): Shared<Arc<Page>>, of: Of, Json(asked): Json<SteerRequest>) -> Answer {
    ok(page.client.steer(&id(of), &asked).await?)
}

async fn undo(Shared(page): Shared<Arc<Page>>, of: Of, Json(undo): Json<Undo>) -> Answer {
    let undo = Undo { by: page.by.clone(), ..undo };
    ok(page.client.undo(&id(of), &undo).await?)
}
