//! Requests that look.

use std::sync::Arc;

use axum::extract::{Path as UrlPath, Query, State as Shared};
use axum::response::Json;
use protocol::envelope::Envelope;
use protocol::id::{CommandId, EnvironmentName, NodeName, ServiceName};
use serde::Deserialize;

use super::problem::{Answer, Failed, ok};
use super::write::{Of, service_id};
use super::{Api, LONG_POLL};
use crate::data_dir::random;
use crate::state::State;
use crate::state::requests::PlanRequest;
use crate::state::shown::RevokedCertificates;
use crate::state::views::EventFilter;

/// Events in one answer.
const MAX_EVENTS_SHOWN: usize = 1000;

/// What a reader may ask for beside the path.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Wanted {
    environment: Option<EnvironmentName>,
    service: Option<ServiceName>,
    revision: Option<u64>,
    after: Option<u64>,
    newer_than: Option<u64>,
    limit: Option<usize>,
    from: Option<u64>,
    to: Option<u64>,
    node: Option<NodeName>,
    since_ms: Option<u64>,
    /// Somebody looks: nodes tell their load in detail for a while.
    #[serde(default)]
    watch: bool,
}

impl Api {
    pub(super) async fn wait(&self, wanted: &Wanted) {
        if let Some(after) = wanted.after {
            self.fleet.newer_than(after, LONG_POLL).await;
        }
    }

    /// Has nodes tell their load in detail: every so many milliseconds, or as often as the fleet's size allows.
    pub(super) async fn watch(&self, every_ms: Option<u32>) -> Result<(), Failed> {
        let look = move |state: &mut State, at| {
            let mut new_id = || random().map(CommandId::from_random).ok();
            state.watch(every_ms, &mut new_id, at);
        };
        Ok(self.fleet.ask(look).await?)
    }
}

pub(super) async fn fleet(Shared(api): Shared<Arc<Api>>) -> Answer {
    ok(api.fleet.ask(|state, _| state.show_fleet()).await?)
}

pub(super) async fn root(Shared(api): Shared<Arc<Api>>) -> Answer {
    ok(api.fleet.ask(|state, _| state.show_root()).await?)
}

pub(super) async fn reconciliation(Shared(api): Shared<Arc<Api>>) -> Answer {
    ok(api.fleet.ask(|state, _| state.show_reconcile()).await?)
}

/// The signed document itself: what a release is signed for, where the fleet's folder is elsewhere.
pub(super) async fn root_document(Shared(api): Shared<Arc<Api>>) -> Answer {
    let data = api.data.clone();
    let bytes = tokio::task::spawn_blocking(move || std::fs::read(data.root_file())).await;
    let envelope = bytes.map_err(|error| Failed::internal("root", &error)).and_then(|bytes| {
        let bytes = bytes.map_err(|error| Failed::internal("root", &error))?;
        Envelope::from_bytes(&bytes).map_err(|error| Failed::internal("root", &error))
    })?;
    ok(envelope)
}

pub(super) async fn nodes(Shared(api): Shared<Arc<Api>>, Query(wanted): Query<Wanted>) -> Answer {
    if wanted.watch {
        api.watch(None).await?;
    }
    api.wait(&wanted).await;
    ok(api.fleet.ask(move |state, at| state.show_nodes(wanted.environment.as_ref(), at)).await?)
}

pub(super) async fn addresses(
    Shared(api): Shared<Arc<Api>>,
    Query(wanted): Query<Wanted>,
) -> Answer {
    api.wait(&wanted).await;
    ok(api.fleet.ask(|state, _| state.show_addresses()).await?)
}

pub(super) async fn revoked_certificates(Shared(api): Shared<Arc<Api>>) -> Answer {
    let serials = api.fleet.ask(|state, _| state.revoked_serials()).await?;
    ok(RevokedCertificates { serials })
}

pub(super) async fn services(
    Shared(api): Shared<Arc<Api>>,
    Query(wanted): Query<Wanted>,
) -> Answer {
    api.wait(&wanted).await;
    ok(api
        .fleet
        .ask(move |state, at| state.show_services(wanted.environment.as_ref(), at.unix_ms))
        .await?)
}

pub(super) async fn deployed(
    Shared(api): Shared<Arc<Api>>,
    UrlPath(environment): UrlPath<EnvironmentName>,
) -> Answer {
    ok(api.fleet.ask(move |state, _| state.show_deployed(&environment)).await?)
}

pub(super) async fn plan(
    Shared(api): Shared<Arc<Api>>,
    Json(request): Json<PlanRequest>,
) -> Answer {
    ok(api.fleet.ask(move |state, at| state.plan(&request, at)).await??)
}

pub(super) async fn rollout(
    Shared(api): Shared<Arc<Api>>,
    UrlPath(of): Of,
    Query(wanted): Query<Wanted>,
) -> Answer {
    api.wait(&wanted).await;
    let id = service_id(of);
    ok(api.fleet.ask(move |state, _| state.show_rollout(&id, wanted.revision)).await??)
}

pub(super) async fn history(Shared(api): Shared<Arc<Api>>, UrlPath(of): Of) -> Answer {
    let id = service_id(of);
    ok(api.fleet.ask(move |state, _| state.show_history(&id)).await??)
}

pub(super) async fn difference(
    Shared(api): Shared<Arc<Api>>,
    UrlPath(of): Of,
    Query(wanted): Query<Wanted>,
) -> Answer {
    let id = service_id(of);
    let (from, to) = (wanted.from.unwrap_or(0), wanted.to.unwrap_or(0));
    ok(api.fleet.ask(move |state, _| state.difference(&id, from, to)).await??)
}

pub(super) async fn removal(
    Shared(api): Shared<Arc<Api>>,
    UrlPath(of): Of,
    Query(wanted): Query<Wanted>,
) -> Answer {
    api.wait(&wanted).await;
    let id = service_id(of);
    ok(api.fleet.ask(move |state, _| state.show_removal(&id)).await?)
}

pub(super) async fn events(Shared(api): Shared<Arc<Api>>, Query(wanted): Query<Wanted>) -> Answer {
    api.wait(&wanted).await;
    let service = wanted.environment.zip(wanted.service);
    let filter = EventFilter {
        after: wanted.newer_than.unwrap_or(0),
        service: service.map(service_id),
        node: wanted.node,
        since_ms: wanted.since_ms.unwrap_or(0),
        limit: wanted.limit.unwrap_or(MAX_EVENTS_SHOWN).min(MAX_EVENTS_SHOWN),
    };
    ok(api.fleet.ask(move |state, _| state.show_events(&filter)).await?)
}
