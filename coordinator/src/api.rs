//! The API: HTTP/JSON on a unix socket that only its owner can open. Reads requests, asks the loop, writes answers.
//!
//! ```text
//! GET  /v1/fleet                              GET  /v1/rollouts/{env}/{service}[?revision=&after=]
//! GET  /v1/nodes[?environment=]               GET  /v1/rollouts/{env}/{service}/history
//! POST /v1/nodes/{id}/token                   POST /v1/rollouts/{env}/{service}/undo
//! GET  /v1/services[?environment=&after=]     POST /v1/deploys      POST /v1/plans
//! GET  /v1/environments/{env}/deployed        POST /v1/services/{env}/{service}/scale
//! GET  /v1/events[?newer_than=&after=…]       DELETE /v1/services/{env}/{service}
//! POST /v1/rollouts/{env}/{service}/steer     POST /v1/rollouts/{env}/{service}/restart
//! POST /v1/promotions                         GET  /v1/rollouts/{env}/{service}/diff?from=&to=
//! GET  /healthz                               GET  /v1/removals/{env}/{service}[?after=]
//! ```
//! `after` is the `version` of an earlier answer: the answer then waits until there is something newer, at most
//! [`LONG_POLL`].

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Path as UrlPath, Query, State as Shared};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Json, Response};
use axum::routing::{delete, get, post};
use protocol::id::{EnvironmentName, NodeId, ServiceId, ServiceName};
use serde::{Deserialize, Serialize};
use tokio::net::UnixListener;
use tokio::sync::watch;

use crate::broker::Credentials;
use crate::data_dir::DataDir;
use crate::event_loop::{Fleet, Stopped};
use crate::state::Refused;
use crate::state::requests::{Deploy, PlanRequest, Promote, Scale, Steer, Undo};
use crate::state::views::EventFilter;

/// The longest that an answer waits for news.
pub const LONG_POLL: Duration = Duration::from_secs(25);
/// A request's body: an envelope and its service file, with room.
const MAX_BODY_BYTES: usize = 1024 * 1024;
/// Events in one answer.
const MAX_EVENTS_SHOWN: usize = 1000;

/// What the API serves.
#[derive(Debug)]
pub struct Api {
    /// The fleet.
    pub fleet: Fleet,
    /// For broker tokens.
    pub data: DataDir,
    /// Of the embedded broker, where there is one.
    pub credentials: Option<Credentials>,
}

/// The body of every error.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// Stable.
    pub code: String,
    /// For a person.
    pub message: String,
}

/// The answer to a request for a broker token.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Token {
    /// The node's id: user and client id at the broker.
    pub user: String,
    /// Its password.
    pub token: String,
}

/// A socket that is being served; it goes with this value.
#[derive(Debug)]
pub struct Serving {
    path: PathBuf,
    stop: watch::Sender<bool>,
}

/// Why the API cannot be served.
#[derive(Debug, thiserror::Error)]
#[error("the API cannot be served on {path}: {source}")]
pub struct ServeError {
    path: PathBuf,
    source: io::Error,
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.stop.send_replace(true);
        let _ = fs::remove_file(&self.path);
    }
}

/// Serves the API in a task; requests are accepted when this returns.
///
/// # Errors
/// Where the socket cannot be made.
pub fn serve(api: Api, path: &Path) -> Result<Serving, ServeError> {
    let failed = |source| ServeError { path: path.to_owned(), source };
    // The database's lock says that no other coordinator runs: what lies here is left over.
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
        Ok(()) | Err(_) => {}
    }
    // Bound under a name nobody knows, and renamed once its mode is right: never open to others, not for a moment.
    let hidden = path.with_extension("new");
    let _ = fs::remove_file(&hidden);
    let listener = UnixListener::bind(&hidden).map_err(failed)?;
    fs::set_permissions(&hidden, fs::Permissions::from_mode(0o600)).map_err(failed)?;
    fs::rename(&hidden, path).map_err(failed)?;
    let (stop, mut stopped) = watch::channel(false);
    let app = router(api);
    tokio::spawn(async move {
        let ended = axum::serve(listener, app).with_graceful_shutdown(async move {
            let _ = stopped.wait_for(|stop| *stop).await;
        });
        if let Err(error) = ended.await {
            tracing::error!(%error, "API ended");
        }
    });
    Ok(Serving { path: path.to_owned(), stop })
}

type Of = UrlPath<(EnvironmentName, ServiceName)>;
type Answer = Result<Response, Failed>;

fn router(api: Api) -> Router {
    Router::new()
        .route("/healthz", get(|| async { "ok" }))
        .route("/v1/fleet", get(fleet))
        .route("/v1/nodes", get(nodes))
        .route("/v1/nodes/{id}/token", post(token))
        .route("/v1/services", get(services))
        .route("/v1/services/{environment}/{service}", delete(remove))
        .route("/v1/services/{environment}/{service}/scale", post(scale))
        .route("/v1/environments/{environment}/deployed", get(deployed))
        .route("/v1/deploys", post(deploy))
        .route("/v1/plans", post(plan))
        .route("/v1/rollouts/{environment}/{service}", get(rollout))
        .route("/v1/rollouts/{environment}/{service}/history", get(history))
        .route("/v1/rollouts/{environment}/{service}/undo", post(undo))
        .route("/v1/rollouts/{environment}/{service}/restart", post(restart))
        .route("/v1/rollouts/{environment}/{service}/steer", post(steer))
        .route("/v1/rollouts/{environment}/{service}/diff", get(difference))
        .route("/v1/promotions", post(promote))
        .route("/v1/removals/{environment}/{service}", get(removal))
        .route("/v1/events", get(events))
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
        .with_state(Arc::new(api))
}

/// What a reader may ask for beside the path.
#[derive(Debug, Default, Deserialize)]
struct Wanted {
    environment: Option<EnvironmentName>,
    service: Option<ServiceName>,
    revision: Option<u64>,
    after: Option<u64>,
    newer_than: Option<u64>,
    limit: Option<usize>,
    from: Option<u64>,
    to: Option<u64>,
}

impl Api {
    async fn wait(&self, wanted: &Wanted) {
        if let Some(after) = wanted.after {
            self.fleet.newer_than(after, LONG_POLL).await;
        }
    }
}

async fn fleet(Shared(api): Shared<Arc<Api>>) -> Answer {
    ok(api.fleet.ask(|state, _| state.show_fleet()).await?)
}

async fn nodes(Shared(api): Shared<Arc<Api>>, Query(wanted): Query<Wanted>) -> Answer {
    api.wait(&wanted).await;
    ok(api.fleet.ask(move |state, _| state.show_nodes(wanted.environment.as_ref())).await?)
}

async fn token(Shared(api): Shared<Arc<Api>>, UrlPath(id): UrlPath<NodeId>) -> Answer {
    let Some(credentials) = &api.credentials else {
        let message = "the broker is an external one: its operator gives out passwords, to a user named as the node's id".to_owned();
        return Err(Failed(StatusCode::CONFLICT, "external_broker", message));
    };
    let failed = |error: &dyn std::error::Error| {
        Failed(StatusCode::INTERNAL_SERVER_ERROR, "token", error.to_string())
    };
    let token = api.data.token(id.as_str()).map_err(|e| failed(&e))?;
    credentials.admit(&id, &token).map_err(|e| failed(&e))?;
    ok(Token { user: id.to_string(), token })
}

async fn services(Shared(api): Shared<Arc<Api>>, Query(wanted): Query<Wanted>) -> Answer {
    api.wait(&wanted).await;
    ok(api
        .fleet
        .ask(move |state, at| state.show_services(wanted.environment.as_ref(), at.unix_ms))
        .await?)
}

async fn deployed(
    Shared(api): Shared<Arc<Api>>,
    UrlPath(environment): UrlPath<EnvironmentName>,
) -> Answer {
    ok(api.fleet.ask(move |state, _| state.show_deployed(&environment)).await?)
}

async fn deploy(Shared(api): Shared<Arc<Api>>, Json(request): Json<Deploy>) -> Answer {
    ok(api.fleet.ask(move |state, at| state.deploy(request, at)).await??)
}

async fn plan(Shared(api): Shared<Arc<Api>>, Json(request): Json<PlanRequest>) -> Answer {
    ok(api.fleet.ask(move |state, at| state.plan(&request, at)).await??)
}

async fn rollout(
    Shared(api): Shared<Arc<Api>>,
    UrlPath(of): Of,
    Query(wanted): Query<Wanted>,
) -> Answer {
    api.wait(&wanted).await;
    let id = service_id(of);
    ok(api.fleet.ask(move |state, _| state.show_rollout(&id, wanted.revision)).await??)
}

async fn history(Shared(api): Shared<Arc<Api>>, UrlPath(of): Of) -> Answer {
    let id = service_id(of);
    ok(api.fleet.ask(move |state, _| state.show_history(&id)).await??)
}

async fn undo(Shared(api): Shared<Arc<Api>>, UrlPath(of): Of, Json(request): Json<Undo>) -> Answer {
    let id = service_id(of);
    ok(api.fleet.ask(move |state, at| state.undo(&id, request, at)).await??)
}

async fn restart(
    Shared(api): Shared<Arc<Api>>,
    UrlPath(of): Of,
    Json(request): Json<Undo>,
) -> Answer {
    let id = service_id(of);
    ok(api.fleet.ask(move |state, at| state.restart(&id, request, at)).await??)
}

async fn steer(
    Shared(api): Shared<Arc<Api>>,
    UrlPath(of): Of,
    Json(request): Json<Steer>,
) -> Answer {
    let id = service_id(of);
    ok(api.fleet.ask(move |state, at| state.steer(&id, request, at)).await??)
}

async fn difference(
    Shared(api): Shared<Arc<Api>>,
    UrlPath(of): Of,
    Query(wanted): Query<Wanted>,
) -> Answer {
    let id = service_id(of);
    let (from, to) = (wanted.from.unwrap_or(0), wanted.to.unwrap_or(0));
    ok(api.fleet.ask(move |state, _| state.difference(&id, from, to)).await??)
}

async fn promote(Shared(api): Shared<Arc<Api>>, Json(request): Json<Promote>) -> Answer {
    ok(api.fleet.ask(move |state, at| state.promote(request, at)).await??)
}

async fn scale(
    Shared(api): Shared<Arc<Api>>,
    UrlPath(of): Of,
    Json(request): Json<Scale>,
) -> Answer {
    let id = service_id(of);
    ok(api.fleet.ask(move |state, at| state.scale(&id, request.count, at)).await??)
}

async fn remove(Shared(api): Shared<Arc<Api>>, UrlPath(of): Of) -> Answer {
    let id = service_id(of);
    let volumes = api.fleet.ask(move |state, at| state.remove(&id, at)).await??;
    ok(crate::state::shown::Removed { volumes })
}

async fn removal(
    Shared(api): Shared<Arc<Api>>,
    UrlPath(of): Of,
    Query(wanted): Query<Wanted>,
) -> Answer {
    api.wait(&wanted).await;
    let id = service_id(of);
    ok(api.fleet.ask(move |state, _| state.show_removal(&id)).await?)
}

async fn events(Shared(api): Shared<Arc<Api>>, Query(wanted): Query<Wanted>) -> Answer {
    api.wait(&wanted).await;
    let service = wanted.environment.zip(wanted.service);
    let filter = EventFilter {
        after: wanted.newer_than.unwrap_or(0),
        service: service.map(service_id),
        limit: wanted.limit.unwrap_or(MAX_EVENTS_SHOWN).min(MAX_EVENTS_SHOWN),
    };
    ok(api.fleet.ask(move |state, _| state.show_events(&filter)).await?)
}

fn service_id((environment, name): (EnvironmentName, ServiceName)) -> ServiceId {
    ServiceId { environment, name }
}

fn ok(value: impl Serialize) -> Answer {
    Ok(Json(value).into_response())
}

/// Status, code and sentence of an error.
struct Failed(StatusCode, &'static str, String);

impl From<Stopped> for Failed {
    fn from(stopped: Stopped) -> Self {
        Self(StatusCode::SERVICE_UNAVAILABLE, "stopping", stopped.to_string())
    }
}

impl From<Refused> for Failed {
    fn from(refused: Refused) -> Self {
        let status = match refused {
            Refused::NoService(_) | Refused::NoRevision { .. } => StatusCode::NOT_FOUND,
            Refused::Release(_) | Refused::OnlyFrom { .. } => StatusCode::FORBIDDEN,
            Refused::OldCounter { .. }
            | Refused::NoNodeFits(_)
            | Refused::NothingToUndo(_)
            | Refused::Busy { .. }
            | Refused::RevisionChanged { .. }
            | Refused::NothingToPromote(_)
            | Refused::NotUnderWay(_)
            | Refused::CannotSteer { .. }
            | Refused::ManifestTooLarge { .. }
            | Refused::PortUsed { .. } => StatusCode::CONFLICT,
        };
        Self(status, refused.code(), refused.to_string())
    }
}

impl IntoResponse for Failed {
    fn into_response(self) -> Response {
        let Self(status, code, message) = self;
        (status, Json(Problem { code: code.to_owned(), message })).into_response()
    }
}
