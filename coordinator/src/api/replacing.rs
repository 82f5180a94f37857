//! `pith node replace`: what it would do, and doing it.

use std::sync::Arc;

use axum::Extension;
use axum::extract::{Path as UrlPath, State as Shared};
use axum::response::Json;

use super::Api;
use super::problem::{Answer, ok};
use super::write::{Turn, offer};
use crate::state::answers::Secrecy;
use crate::state::requests::Replace;
use crate::state::shown::{ReplacementShown, TokenShown};

/// Changes nothing.
pub(super) async fn look(Shared(api): Shared<Arc<Api>>, UrlPath(who): UrlPath<String>) -> Answer {
    ok(api.fleet.ask(move |state, _| state.show_replacement(&who)).await??)
}

pub(super) async fn replace(
    Shared(api): Shared<Arc<Api>>,
    Extension(turn): Extension<Turn>,
    UrlPath(who): UrlPath<String>,
    Json(wish): Json<Replace>,
) -> Answer {
    let wish = match wish {
        Replace::Node(by) => {
            let replace =
                move |state: &mut crate::state::State, at| state.replace_by_node(&who, &by, at);
            return api.act(turn, Secrecy::Open, replace).await;
        }
        Replace::Token(wish) => wish,
    };
    let (joining, addresses) = api.joining(&wish.addresses)?;
    let offer = offer()?;
    let token = joining.token(&offer, addresses)?;
    api.act(turn, Secrecy::Secret, move |state, at| {
        let (shown, kept) = state.replace_by_token(&who, &wish, &offer, at)?;
        Ok(ReplacementShown { token: Some(TokenShown::of(&kept, token)), ..shown })
    })
    .await
}
