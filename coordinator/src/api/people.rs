//! Requests about people: invitations, logins, and what was done by whom.

use std::sync::Arc;

use axum::Extension;
use axum::extract::{Path as UrlPath, Query, State as Shared};
use axum::response::Json;
use protocol::id::OperatorName;
use protocol::join::{TlsKey, Token};
use serde::Deserialize;

use super::problem::{Answer, Failed, ok};
use super::write::{Turn, offer};
use super::{Api, Peer};
use crate::audit;
use crate::ca::{Ca, OperatorPass};
use crate::login::operator_token;
use crate::state::At;
use crate::state::answers::Secrecy;
use crate::state::records::Operator;
use crate::state::requests::{Login, NewOperator, Refused, RenewLogin};
use crate::state::shown::{AuditShown, InvitationShown, LoggedIn, OperatorsShown};

/// Entries in one answer; whoever wants older ones reads the file.
const MAX_ENTRIES_SHOWN: usize = 10_000;

pub(super) async fn operators(Shared(api): Shared<Arc<Api>>) -> Answer {
    let operators = api.fleet.ask(|state, at| state.show_operators(at)).await?;
    ok(OperatorsShown { operators })
}

pub(super) async fn invite(
    Shared(api): Shared<Arc<Api>>,
    Extension(turn): Extension<Turn>,
    Json(wish): Json<NewOperator>,
) -> Answer {
    let (joining, addresses) = api.joining(&wish.addresses)?;
    let offer = offer()?;
    let token: Token = joining.token(&offer, addresses)?;
    api.act(turn, Secrecy::Secret, move |state, at| {
        let invited = state.invite(&wish, &offer, at)?;
        Ok(InvitationShown {
            name: invited.name,
            role: invited.role,
            token: operator_token(&token),
            expires_ms: invited.invitation.expires_ms,
            addresses: token.addresses,
        })
    })
    .await
}

pub(super) async fn login(
    Shared(api): Shared<Arc<Api>>,
    Extension(turn): Extension<Turn>,
    Json(body): Json<Login>,
) -> Answer {
    let ca = Arc::clone(&api.ca);
    api.act(turn, Secrecy::Open, move |state, at| {
        let issued = state.login(&body, issue(&ca, &body.tls_key, at), at)?;
        Ok(logged_in(&ca, issued))
    })
    .await
}

/// Whoever asks gets a new certificate over the one that they show.
pub(super) async fn renew_login(
    Shared(api): Shared<Arc<Api>>,
    Extension(turn): Extension<Turn>,
    Extension(peer): Extension<Peer>,
    Json(body): Json<RenewLogin>,
) -> Answer {
    let shown = match peer {
        Peer::Remote { certificate, .. } => certificate,
        Peer::Local { .. } => None,
    };
    let ca = Arc::clone(&api.ca);
    api.act(turn, Secrecy::Open, move |state, at| {
        let shown = shown.ok_or(Refused::NotLoggedIn)?;
        let issued = state.renew_login(&shown, issue(&ca, &body.tls_key, at), at)?;
        Ok(logged_in(&ca, issued))
    })
    .await
}

fn issue(
    ca: &Ca,
    key: &TlsKey,
    at: At,
) -> impl FnOnce(&OperatorName) -> Result<OperatorPass, String> {
    move |name| ca.operator(name, key, at.unix_ms / 1000).map_err(|error| error.to_string())
}

fn logged_in(ca: &Ca, (operator, pass): (Operator, OperatorPass)) -> LoggedIn {
    LoggedIn {
        fleet: ca.fleet().clone(),
        name: operator.name,
        role: operator.role,
        certificate: pass.pem,
        ca: ca.pem().to_owned(),
        expires_at: pass.expires_at,
    }
}

pub(super) async fn revoke(
    Shared(api): Shared<Arc<Api>>,
    Extension(turn): Extension<Turn>,
    UrlPath(who): UrlPath<OperatorName>,
) -> Answer {
    api.act(turn, Secrecy::Open, move |state, at| state.revoke_operator(&who, at)).await
}

/// Whoever asks gives their own certificate back.
pub(super) async fn logout(
    Shared(api): Shared<Arc<Api>>,
    Extension(turn): Extension<Turn>,
) -> Answer {
    let Some(own) = turn.caller.operator.clone() else {
        return Err(Failed::role(format!(
            "{} did not log in: on this machine's socket there is nothing to give back",
            turn.caller.who
        )));
    };
    api.act(turn, Secrecy::Open, move |state, at| state.revoke_operator(&own, at)).await
}

/// Which entries.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Which {
    /// Unix milliseconds.
    since_ms: Option<u64>,
}

pub(super) async fn audit(Shared(api): Shared<Arc<Api>>, Query(which): Query<Which>) -> Answer {
    let path = api.audit.path().to_owned();
    let since_ms = which.since_ms.unwrap_or(0);
    let read = move || audit::read_newest(&path, since_ms, MAX_ENTRIES_SHOWN);
    let entries = tokio::task::spawn_blocking(read).await;
    let entries = entries.map_err(|error| Failed::internal("audit", &error))?;
    ok(AuditShown { entries: entries.map_err(|error| Failed::internal("audit", &error))? })
}

pub(super) async fn verify_audit(Shared(api): Shared<Arc<Api>>) -> Answer {
    let (audit, fleet) = (api.audit.clone(), api.ca.fleet().clone());
    let verify = move || audit::verify(audit.path(), &fleet, audit.written().as_ref());
    let verified = tokio::task::spawn_blocking(verify).await;
    let verified = verified.map_err(|error| Failed::internal("audit", &error))?;
    ok(verified.map_err(|error| Failed::internal("audit", &error))?)
}
