//! Secrets over the API. What comes in is sealed already, and nothing goes out in clear.

use std::sync::Arc;

use axum::Extension;
use axum::extract::{Path as UrlPath, State as Shared};
use protocol::id::{EnvironmentName, SecretName};

use super::Api;
use super::problem::{Answer, ok};
use super::write::{By, Turn};
use crate::state::State;
use crate::state::answers::Secrecy;
use crate::state::requests::{AddCopies, SetSecret};

pub(super) async fn show(
    Shared(api): Shared<Arc<Api>>,
    UrlPath(environment): UrlPath<EnvironmentName>,
) -> Answer {
    ok(api.fleet.ask(move |state, _| state.show_secrets(&environment)).await?)
}

pub(super) async fn unsynced(
    Shared(api): Shared<Arc<Api>>,
    UrlPath(environment): UrlPath<EnvironmentName>,
) -> Answer {
    ok(api.fleet.ask(move |state, _| state.show_unsynced(&environment)).await?)
}

pub(super) async fn add(
    Shared(api): Shared<Arc<Api>>,
    Extension(turn): Extension<Turn>,
    UrlPath(environment): UrlPath<EnvironmentName>,
    By(copies): By<AddCopies>,
) -> Answer {
    let add = move |state: &mut State, at| state.add_copies(&environment, copies, at);
    api.act(turn, Secrecy::Open, add).await
}

pub(super) async fn set(
    Shared(api): Shared<Arc<Api>>,
    Extension(turn): Extension<Turn>,
    UrlPath((environment, name)): UrlPath<(EnvironmentName, SecretName)>,
    By(set): By<SetSecret>,
) -> Answer {
    let set = move |state: &mut State, at| state.set_secret(&environment, &name, set, at);
    api.act(turn, Secrecy::Open, set).await
}

pub(super) async fn remove(
    Shared(api): Shared<Arc<Api>>,
    Extension(turn): Extension<Turn>,
    UrlPath((environment, name)): UrlPath<(EnvironmentName, SecretName)>,
) -> Answer {
    let remove = move |state: &mut State, at| state.remove_secret(&environment, &name, at);
    api.act(turn, Secrecy::Open, remove).await
}
