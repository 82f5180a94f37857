//! Requests that change something: each once, however often it is sent under one key.

use std::sync::Arc;

use axum::Extension;
use axum::extract::{FromRequest, Path as UrlPath, Request, State as Shared};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse as _, Json, Response};
use protocol::envelope::Envelope;
use protocol::id::{EnvironmentName, ServiceId, ServiceName};
use protocol::join::{Offer, Token};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::caller::Caller;
use super::problem::{Answer, Failed, ok, ok_once, outcome};
use super::{Api, Joining};
use crate::backup::{self, Asked, Database};
use crate::data_dir::random;
use crate::front::own_addresses;
use crate::state::answers::{Repeatable, Secrecy};
use crate::state::reconcile::Reconcile;
use crate::state::requests::{
    AddAgentRelease, AddCopies, Deploy, NewToken, Promote, Refused, RestartOn, Retire, RollAgent,
    Scale, SetSecret, SteerRequest, Undo,
};
use crate::state::shown::{Removed, TokenShown};
use crate::state::whereabouts::Moving;
use crate::state::{At, State};

pub(super) type Of = UrlPath<(EnvironmentName, ServiceName)>;

/// A request that has passed the gate.
#[derive(Debug, Clone)]
pub(super) struct Turn {
    pub(super) caller: Caller,
    /// Under which key; none: it is done as often as it is sent.
    pub(super) repeatable: Option<Repeatable>,
}

/// A body that names who asks. Of somebody from afar the certificate says it, whatever the body does.
#[derive(Debug)]
pub(super) struct By<T>(pub(super) T);

impl<S: Send + Sync, T: SaysWho> FromRequest<S> for By<T> {
    type Rejection = Response;

    async fn from_request(request: Request, state: &S) -> Result<Self, Response> {
        let turn = request.extensions().get::<Turn>().cloned();
        let Some(Turn { caller, .. }) = turn else {
            return Err(Failed::internal("no_turn", &"it has not passed the gate").into_response());
        };
        let body = Json::<T>::from_request(request, state).await;
        let mut body = body.map_err(axum::response::IntoResponse::into_response)?.0;
        let said = std::mem::take(body.by());
        *body.by() = caller.by(said);
        Ok(Self(body))
    }
}

/// A body of [`By`].
pub(super) trait SaysWho: DeserializeOwned {
    /// Who asks.
    fn by(&mut self) -> &mut String;
}

macro_rules! says_who {
    ($($body:ty),+) => {$(
        impl SaysWho for $body {
            fn by(&mut self) -> &mut String {
                &mut self.by
            }
        }
    )+};
}

says_who!(AddAgentRelease, AddCopies, Deploy, Promote, Retire, RollAgent, SetSecret, Undo);

impl Api {
    /// Does something, unless it was done under the same key before.
    pub(super) async fn act<T: Serialize>(
        &self,
        turn: Turn,
        secrecy: Secrecy,
        request: impl FnOnce(&mut State, At) -> Result<T, Refused> + Send + 'static,
    ) -> Answer {
        let once = move |state: &mut State, at| {
            let act = |state: &mut State, at| outcome(request(state, at));
            state.once(turn.repeatable.as_ref(), secrecy, at, act)
        };
        ok_once(self.fleet.ask(once).await?)
    }

    /// What every token says, and the addresses of this one.
    pub(super) fn joining(&self, given: &[String]) -> Result<(&Joining, Vec<String>), Failed> {
        let Some(joining) = &self.joining else {
            let message = "this coordinator opens no port to come in at: set [broker] listen in coordinator.toml; a node is let \
                           in by its id too: `pith node approve ID`";
            return Err(Failed::new(StatusCode::CONFLICT, "no_port", message));
        };
        let addresses = match given {
            [] => own_addresses(joining.port),
            given => given.to_vec(),
        };
        Ok((joining, addresses))
    }
}

impl Joining {
    /// A new token, fit to be pasted.
    ///
    /// # Errors
    /// Whatever would be refused where it is pasted is refused here, where it can be mended.
    pub(super) fn token(&self, offer: &Offer, addresses: Vec<String>) -> Result<Token, Failed> {
        let token = Token {
            fleet: self.fleet.clone(),
            addresses,
            ca_sha256: self.ca_sha256.clone(),
            id: offer.id.clone(),
            secret: offer.secret.clone(),
        };
        match token.encode().parse::<Token>() {
            Ok(token) => Ok(token),
            Err(error) => {
                Err(Failed::new(StatusCode::BAD_REQUEST, "bad_address", error.to_string()))
            }
        }
    }
}

/// Random bytes for a token.
pub(super) fn offer() -> Result<Offer, Failed> {
    Ok(Offer::from_random(random().map_err(|error| Failed::internal("token", &error))?))
}

/// A root is signed where its keys are; here it is only verified, kept and told to the nodes.
pub(super) async fn succeed(
    Shared(api): Shared<Arc<Api>>,
    Extension(turn): Extension<Turn>,
    Json(envelope): Json<Envelope>,
) -> Answer {
    let held = api.data.signing_keys().map_err(|error| Failed::internal("keys", &error))?;
    api.act(turn, Secrecy::Open, move |state, at| state.succeed(envelope, held, at)).await
}

pub(super) async fn token(
    Shared(api): Shared<Arc<Api>>,
    Extension(turn): Extension<Turn>,
    Json(wish): Json<NewToken>,
) -> Answer {
    let (joining, addresses) = api.joining(&wish.addresses)?;
    let offer = offer()?;
    let token = joining.token(&offer, addresses)?;
    api.act(turn, Secrecy::Secret, move |state, at| {
        let kept = state.new_token(&wish, &offer, at)?;
        Ok(TokenShown::of(&kept, token))
    })
    .await
}

pub(super) async fn approve(
    Shared(api): Shared<Arc<Api>>,
    Extension(turn): Extension<Turn>,
    UrlPath(who): UrlPath<String>,
) -> Answer {
    api.act(turn, Secrecy::Open, move |state, at| state.approve(&who, at)).await
}

pub(super) async fn revoke(
    Shared(api): Shared<Arc<Api>>,
    Extension(turn): Extension<Turn>,
    UrlPath(who): UrlPath<String>,
) -> Answer {
    api.act(turn, Secrecy::Open, move |state, at| state.revoke(&who, at)).await
}

pub(super) async fn deploy(
    Shared(api): Shared<Arc<Api>>,
    Extension(turn): Extension<Turn>,
    By(request): By<Deploy>,
) -> Answer {
    api.act(turn, Secrecy::Open, move |state, at| state.deploy(request, at)).await
}

pub(super) async fn promote(
    Shared(api): Shared<Arc<Api>>,
    Extension(turn): Extension<Turn>,
    By(request): By<Promote>,
) -> Answer {
    api.act(turn, Secrecy::Open, move |state, at| state.promote(request, at)).await
}

pub(super) async fn retire(
    Shared(api): Shared<Arc<Api>>,
    Extension(turn): Extension<Turn>,
    By(request): By<Retire>,
) -> Answer {
    api.act(turn, Secrecy::Open, move |state, at| state.retire(request, at)).await
}

pub(super) async fn undo(
    Shared(api): Shared<Arc<Api>>,
    Extension(turn): Extension<Turn>,
    UrlPath(of): Of,
    By(request): By<Undo>,
) -> Answer {
    let id = service_id(of);
    api.act(turn, Secrecy::Open, move |state, at| state.undo(&id, request, at)).await
}

pub(super) async fn restart(
    Shared(api): Shared<Arc<Api>>,
    Extension(turn): Extension<Turn>,
    UrlPath(of): Of,
    By(request): By<Undo>,
) -> Answer {
    let id = service_id(of);
    api.act(turn, Secrecy::Open, move |state, at| state.restart(&id, request, at)).await
}

pub(super) async fn restart_on(
    Shared(api): Shared<Arc<Api>>,
    Extension(turn): Extension<Turn>,
    UrlPath(of): Of,
    Json(RestartOn { node }): Json<RestartOn>,
) -> Answer {
    let (id, by) = (service_id(of), turn.caller.who.clone());
    api.act(turn, Secrecy::Open, move |state, at| state.restart_on(&id, &node, &by, at)).await
}

pub(super) async fn steer(
    Shared(api): Shared<Arc<Api>>,
    Extension(turn): Extension<Turn>,
    UrlPath(of): Of,
    Json(request): Json<SteerRequest>,
) -> Answer {
    let id = service_id(of);
    api.act(turn, Secrecy::Open, move |state, at| state.steer(&id, request, at)).await
}

pub(super) async fn scale(
    Shared(api): Shared<Arc<Api>>,
    Extension(turn): Extension<Turn>,
    UrlPath(of): Of,
    Json(request): Json<Scale>,
) -> Answer {
    let id = service_id(of);
    api.act(turn, Secrecy::Open, move |state, at| state.scale(&id, request.count, at)).await
}

pub(super) async fn remove(
    Shared(api): Shared<Arc<Api>>,
    Extension(turn): Extension<Turn>,
    UrlPath(of): Of,
) -> Answer {
    let id = service_id(of);
    let remove = move |state: &mut State, at| Ok(Removed { volumes: state.remove(&id, at)? });
    api.act(turn, Secrecy::Open, remove).await
}

/// Lets nodes in conflict drop services that only they know of.
pub(super) async fn reconcile(
    Shared(api): Shared<Arc<Api>>,
    Extension(turn): Extension<Turn>,
    Json(confirmed): Json<Reconcile>,
) -> Answer {
    api.act(turn, Secrecy::Open, move |state, at| Ok(state.reconcile(&confirmed, at))).await
}

/// Where nodes look for this coordinator from now on.
pub(super) async fn tell_addresses(
    Shared(api): Shared<Arc<Api>>,
    Extension(turn): Extension<Turn>,
    Json(moving): Json<Moving>,
) -> Answer {
    api.act(turn, Secrecy::Open, move |state, at| state.tell_addresses(&moving, at)).await
}

/// For whoever writes it where only they can. It is sealed already.
pub(super) async fn backup(Shared(api): Shared<Arc<Api>>) -> Answer {
    let made = backup::make(&api.data, Database::Running(&api.fleet), api.at().unix_ms).await?;
    let sealed = [(CONTENT_TYPE, "application/octet-stream")];
    Ok((sealed, made.bytes).into_response())
}

/// Into the folder; twice is one more.
pub(super) async fn keep_backup(Shared(api): Shared<Arc<Api>>) -> Answer {
    let made = backup::make(&api.data, Database::Running(&api.fleet), api.at().unix_ms).await?;
    ok(backup::keep(&api.data, made, Asked::ByHand).await?)
}

pub(super) fn service_id((environment, name): (EnvironmentName, ServiceName)) -> ServiceId {
    ServiceId { environment, name }
}
